"""The trials of an experiment are kept up to date by reading what is new."""

from __future__ import annotations

import random

from msgspec.structs import replace

from daskperiment.codec import decode, encode
from daskperiment.curation import archive, tag
from daskperiment.dashboard import trial_index
from daskperiment.dashboard.api import TrialCounter
from daskperiment.dashboard.trial_index import TrialIndex
from daskperiment.errors import StoreUnavailableError
from daskperiment.history.stored_values import MISSING
from daskperiment.history.tables import read_table
from daskperiment.records import Begun
from tests.dashboard.stores import look
from tests.history.lab import ELSEWHERE, NOW


def column(trials, *path):
    return trials.table.column(path).to_list()


def test_what_was_there(lab):
    """Trials have their parameters, computed ones too, and their outcome."""
    first = lab.run(0.5, lr=0.1)
    second = lab.begin({"lr": 0.2})
    lab.compute(second, "batch", 64)
    lab.fail(second, ValueError("bad"))
    trials = look(lab)
    assert trials.ids == [first, second]
    assert list(trials.table.columns.parameters) == ["lr", "batch"]
    assert column(trials, "Status") == ["succeeded", "failed"]
    assert column(trials, "Result") == [0.5, MISSING]
    assert column(trials, "batch") == [MISSING, 64]
    assert column(trials, "Description") == [MISSING, "ValueError(bad)"]


def test_what_is_new(lab):
    """Only records behind the last position are read, and the version tells of a change."""
    trial = lab.begin({"a": 1})
    trials = look(lab)
    seen = trials.version
    assert trials.running
    assert trials.refresh() == seen
    lab.succeed(trial, 3)
    assert trials.refresh() > seen
    assert not trials.running
    assert column(trials, "Status") == ["succeeded"]


class Failing:
    """A store that goes away at one of the next calls."""

    def __init__(self, store):
        self._store = store
        self.left = 0

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def ask(*arguments, **given):
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailableError("it is away")
            return found(*arguments, **given)

        return ask


def test_a_store_that_goes_away_between_two_questions(lab):
    """What one question told is in the table also where the next one had no answer."""
    waiting = lab.begin({"a": 0}, origin=ELSEWHERE)
    for call in range(1, 12):
        store = Failing(lab.store)
        trials = TrialIndex(store)
        trials.refresh()
        lab.run(call, a=call)
        tag(lab.store, waiting, [f"tag{call}"])
        archive(lab.store, lab.run(call, a=call))
        store.left = call
        failed = False
        try:
            trials.refresh()
        except StoreUnavailableError:
            failed = True
        store.left = 0
        trials.refresh()
        fresh = look(lab)
        assert trials.ids == fresh.ids
        for name in ("Status", "Result", "a", "Tags", "Archived"):
            assert column(trials, name) == column(fresh, name), (call, name)
        assert failed or call > 4


def test_as_the_history_has_it(lab):
    """Read piece by piece in any steps, the table is what a reader finds who reads all at once."""
    draws = random.Random(3)
    trials = look(lab)
    waiting = []
    for number in range(60):
        waiting.append(lab.begin({"a": number % 7, "b": "xyz"[number % 3]}))
        if draws.random() < 0.8:
            trial = waiting.pop(draws.randrange(len(waiting)))
            lab.succeed(trial, trial / 3) if trial % 4 else lab.fail(trial, ValueError("bad"))
        if draws.random() < 0.4:
            trials.refresh()
    trials.refresh()
    whole = read_table(lab.store, (), True)
    assert trials.ids == whole.columns.trials.tolist()
    for name in ("a", "b", "Result", "Status", "Description", "Started", "Seed"):
        assert column(trials, name) == whole.column((name,)).to_list(), name


def test_success_outweighs_other_ends(lab):
    """A trial that was called interrupted and then succeeded has succeeded, in any order."""
    for statuses in (["interrupted", "succeeded"], ["succeeded", "interrupted"]):
        lab.begin()
        trial = lab.begin()
        trials = look(lab)
        for status in statuses:
            if status == "succeeded":
                lab.succeed(trial, 1)
            else:
                lab.fail(trial, KeyboardInterrupt(), status)
            trials.refresh()
        assert column(trials, "Status")[-1] == "succeeded"


def test_lost_trials(lab, monkeypatch):
    """A trial of a silent host is lost, and found again once it gives a sign of life."""
    monkeypatch.setattr(trial_index, "_JUDGE", 0.0)
    trial = lab.begin(origin=ELSEWHERE)
    lab.beat(trial, NOW - 1000)
    trials = look(lab)
    assert column(trials, "Status") == ["lost"]
    assert "another-host" in column(trials, "Description")[0]
    seen = trials.version
    lab.beat(trial, NOW)
    assert trials.refresh() > seen
    assert trials.running


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
    assert trials.running
    assert trials.resets == 1


def test_damaged_records(lab):
    """Damaged records are counted and left out; the id of an end still tells how it was."""
    good, ended = lab.run(1, a=1), lab.begin({"a": 2})
    lab.add("trials", ended, "ended-failed-score", b'{"status": 5}')
    trials = look(lab)
    assert trials.damaged == 1
    assert trials.ids == [good, ended]
    assert column(trials, "Status") == ["succeeded", "failed"]


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
