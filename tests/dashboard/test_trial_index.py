"""The trials of an experiment are kept up to date by reading what is new."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from daskperiment.codec import decode, encode
from daskperiment.dashboard import trial_index
from daskperiment.dashboard.api import TrialCounter
from daskperiment.dashboard.cells import TruncatedText
from daskperiment.history.stored_values import MISSING
from daskperiment.records import Begun
from tests.dashboard.stores import look
from tests.history.lab import ELSEWHERE, NOW


def test_what_was_there(lab):
    """Trials have their parameters, computed ones too, and their outcome."""
    first = lab.run(0.5, lr=0.1)
    second = lab.begin({"lr": 0.2})
    lab.compute(second, "batch", 64)
    lab.fail(second, ValueError("bad"))
    trials = look(lab)
    assert trials.ids == [first, second]
    assert trials.names == ["lr", "batch"]
    good, bad = trials.rows([first, second])
    assert (good.status, good.result(lab.store), good.description) == ("succeeded", 0.5, "")
    assert bad.parameter("batch", lab.store) == 64
    assert bad.parameter("other", lab.store) is MISSING
    assert (bad.status, bad.result(lab.store)) == ("failed", MISSING)
    assert bad.description == "ValueError(bad)"


def test_what_is_new(lab):
    """Only records behind the last position are read, and the version tells of a change."""
    trial = lab.begin({"a": 1})
    trials = look(lab)
    seen = trials.version
    assert trials.running == {trial}
    assert trials.refresh() == seen
    lab.succeed(trial, 3)
    assert trials.refresh() > seen
    assert trials.running == set()
    row = trials.row(trial)
    assert row is not None
    assert row.status == "succeeded"


def test_success_outweighs_other_ends(lab):
    """A trial that was called interrupted and then succeeded has succeeded, in any order."""
    for statuses in (["interrupted", "succeeded"], ["succeeded", "interrupted"]):
        trial = lab.begin()
        trials = look(lab)
        for status in statuses:
            if status == "succeeded":
                lab.succeed(trial, 1)
            else:
                lab.fail(trial, KeyboardInterrupt(), status)
            trials.refresh()
        row = trials.row(trial)
        assert row is not None
        assert row.status == "succeeded"


def test_lost_trials(lab, monkeypatch):
    """A trial of a silent host is lost, and found again once it gives a sign of life."""
    monkeypatch.setattr(trial_index, "_JUDGE", 0.0)
    monkeypatch.setattr(trial_index, "_JUDGE_LOST", 0.0)
    trial = lab.begin(origin=ELSEWHERE)
    lab.beat(trial, NOW - 1000)
    trials = look(lab)
    row = trials.row(trial)
    assert row is not None
    assert row.status == "lost"
    assert "another-host" in row.description
    seen = trials.version
    lab.beat(trial, NOW)
    assert trials.refresh() > seen
    assert trials.running == {trial}


def test_deleted_and_begun_anew(lab):
    """An experiment that was deleted and has other trials now shows these alone."""
    lab.run(1, a=1)
    lab.run(2, a=2)
    trials = look(lab)
    first = decode(next(iter(lab.store.read("trials"))).body, Begun)
    lab.store.delete()
    lab.store.allocate("token-x", encode(replace(first, token="token-x")))
    trials.refresh()
    assert trials.ids == [1]
    assert trials.running == {1}
    assert trials.resets == 1


def test_damaged_records(lab):
    """Damaged records are counted and left out; the id of an end still tells how it was."""
    good, ended = lab.run(1, a=1), lab.begin({"a": 2})
    lab.add("trials", ended, "ended-failed-score", b'{"status": 5}')
    trials = look(lab)
    assert trials.damaged == 1
    assert [row.status for row in trials.rows([good, ended])] == ["succeeded", "failed"]


@pytest.mark.parametrize("value", ["x" * 100_000, list(range(50_000))])
def test_large_values_are_not_kept(lab, value):
    """Of a large value only the beginning is remembered for the table."""
    trial = lab.run(value, big=value, small=1)
    row = look(lab).row(trial)
    assert row is not None
    for text in (row.parameter("big", lab.store), row.result(lab.store)):
        assert isinstance(text, TruncatedText)
        assert len(text) < 1000
    assert row.parameter("small", lab.store) == 1


def test_counter(lab):
    """It counts trials by status and follows what is new."""
    counter = TrialCounter(lab.store)
    assert counter.count() == {"trials": 0, "counts": {}, "latest": None}
    lab.run(1)
    trial = lab.begin()
    assert counter.count()["counts"] == {"succeeded": 1, "running": 1}
    lab.fail(trial, ValueError("bad"))
    assert counter.count() == {"trials": 2, "counts": {"succeeded": 1, "failed": 1}, "latest": NOW}
    lab.store.delete()
    assert counter.count()["trials"] == 0
