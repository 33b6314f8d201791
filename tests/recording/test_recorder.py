"""What cannot be recorded never gets in the way of the user's work."""

from __future__ import annotations

import errno
import os
import warnings

import numpy as np
import pytest

from daskperiment.errors import StoreError, StoreWarning
from daskperiment.recording.journal import Journal


@pytest.fixture
def full_disk(monkeypatch):
    """Make every write to a journal fail, as on a full disk."""

    def refuse(*arguments):
        raise StoreError("no space left")

    monkeypatch.setattr(Journal, "write", refuse)
    monkeypatch.setattr(Journal, "point", refuse)


def test_result_survives_a_full_disk(ex, full_disk):
    """A result reaches the user although nothing of its trial can be written."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 1.0)
        return 5

    with pytest.warns(StoreWarning, match="no space left"):
        assert use().compute() == 5


@pytest.mark.parametrize("action", ["default", "error"])
def test_exception_survives_a_full_disk(ex, full_disk, action):
    """A step's exception reaches the user unchanged, even where warnings are errors."""

    @ex.result
    def use():
        raise KeyError("mine")

    with warnings.catch_warnings():
        warnings.simplefilter(action)
        if action == "default":
            with pytest.warns(StoreWarning), pytest.raises(KeyError, match="mine"):
                use().compute(scheduler="synchronous")
        else:
            with pytest.raises(KeyError, match="mine"):
                use().compute(scheduler="synchronous")


def test_object_that_cannot_be_written(ex, monkeypatch):
    """Where a large value cannot be kept, the trial succeeds and its row says why."""

    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @ex.persist
    def make():
        return np.zeros(1_000_000)

    @ex.result
    def use(x):
        return len(x)

    use(make()).compute()
    monkeypatch.setattr("os.replace", refuse)

    @ex.persist
    def other():
        return np.ones(1_000_000)

    assert use(other()).compute() == 1_000_000
    assert ex.get_history()["Success"].tolist() == [True, True]
    with pytest.raises(KeyError, match="No space left"):
        ex.get_persisted("other", 2)


def test_journal_of_a_deleted_experiment(ex):
    """What waits when an experiment is deleted does not come back."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 1.0)
        return 1

    use().compute()
    ex.delete()
    assert ex.get_history().empty
    assert ex.get_metrics() == []
    use().compute()
    assert ex.get_metrics(1) == ["loss"]
