"""What cannot be recorded never gets in the way of the user's work."""

from __future__ import annotations

import errno
import os
import warnings

import numpy as np
import pytest

from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.delivery import HeldRecords
from daskperiment.recording.journal import Journal
from daskperiment.recording.registry import recorder_for
from daskperiment.store.protocol import Record


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


@pytest.fixture
def disk(monkeypatch):
    """Make a disk that tests break: writes to journals fail with what is set as its error."""
    state = {"error": None}
    write = os.pwrite

    def pwrite(*arguments):
        if state["error"] is not None:
            raise OSError(state["error"], os.strerror(state["error"]))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return state


def break_in_a_step(ex, disk, error):
    """Run a trial whose disk breaks after its first point."""

    @ex.result
    def use():
        ex.save_metric("loss", 0, 0.0)
        disk["error"] = error
        for epoch in range(1, 50):
            ex.save_metric("loss", epoch, float(epoch))
        return 5

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert use().compute(scheduler="synchronous") == 5
    told = [str(each.message) for each in caught if each.category is StoreWarning]
    assert sum("waits in memory" in text for text in told) == 1


def recorded(ex):
    row = ex.get_history(verbose=True, running=True).loc[1]
    return row["Status"], row["Result"], ex.load_metric("loss", 1)[1].tolist()


WHOLE = ("succeeded", 5, [float(epoch) for epoch in range(50)])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_disk_that_fails_for_a_moment(ex, disk, error):
    """What a disk did not take waits in memory and is written when it does: all of it, once."""
    break_in_a_step(ex, disk, error)
    disk["error"] = None
    ex.flush()
    assert recorded(ex) == WHOLE
    assert len(ex.get_steps(1)) == 1


def test_store_takes_what_the_disk_does_not(ex, disk):
    """A journal that cannot be written is no reason to wait where the store can be reached."""
    break_in_a_step(ex, disk, errno.EROFS)
    assert ex._store.state().latest == 1
    ids = {record.id for record in ex._store.read("trials")}
    assert ids == {"begun", "ended-succeeded"}
    disk["error"] = None
    assert recorded(ex) == WHOLE


def test_neither_disk_nor_store(ex, disk, monkeypatch):
    """While neither takes a record, it waits; the experiment shows how many do."""
    append = type(ex._store).append
    monkeypatch.setattr(type(ex._store), "append", lambda *a: refuse())

    def refuse():
        raise StoreError("no space left")

    break_in_a_step(ex, disk, errno.ENOSPC)
    assert "records for the store" in repr(ex)
    monkeypatch.setattr(type(ex._store), "append", append)
    disk["error"] = None
    ex.flush()
    assert recorded(ex) == WHOLE
    assert "records for the store" not in repr(ex)


def test_limit_of_memory():
    """Beyond its limit memory takes no record, and says so."""
    held = HeldRecords(limit=10)
    assert held.add(Record("trials", 1, "a", b"12345678"))
    assert not held.add(Record("trials", 1, "b", b"123"))
    assert len(held) == 1


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


def test_store_that_stays_away_is_said_once(ex, monkeypatch):
    """As long as a store is away one warning says so, whether anything waits or not."""

    @ex.result
    def use():
        return 1

    use().compute()

    def away(*arguments, **keywords):
        raise StoreUnavailableError("not there")

    recorder = recorder_for(ex._store)
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("state", "append", "put"):
            patch.setattr(type(ex._store), name, away)
        recorder.delivery.lost_contact(StoreUnavailableError("not there"))
        for _ in range(3):
            recorder.tick()
            recorder.delivery.lost_contact(StoreUnavailableError("not there"))
    assert len(caught) == 1
    recorder.flush()
