"""Moving an experiment between stores."""

from __future__ import annotations

import itertools

import pytest

import daskperiment
from daskperiment.errors import StoreError, StoreUnavailableError
from daskperiment.store.opening import open_store
from tests.shared.conftest import KINDS, open_again
from tests.shared.scenario import ID, VALUES, answers, define, perform

PAIRS = [*itertools.permutations(KINDS[:3], 2), ("folder", "mongo-set"), ("mongo-set", "redis")]
FEW = [10**400, {"$gt": 1, "a.b": {"": 0}}, {1, 2, 3}, "nul \0"]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda kind: kind)
def test_copy(source, target, make_place):
    """A copied experiment answers every question as the original does, and can be continued."""
    old, new = make_place(source), make_place(target)
    perform(daskperiment.Experiment(ID, backend=old.backend), FEW)
    expected = answers(open_again(ID, old.backend))
    assert daskperiment.copy(ID, old.backend, new.backend) == len(FEW) + 2
    assert daskperiment.copy(ID, old.backend, new.backend) == len(FEW) + 2
    assert answers(open_again(ID, old.backend)) == expected
    ex = open_again(ID, new.backend)
    assert answers(ex) == expected
    define(ex).compute(seed=4)
    assert ex.trial_id == len(FEW) + 3


class CutOff:
    """A store that goes away after so many writes."""

    def __init__(self, store, writes):
        self._store = store
        self._writes = writes

    def __getattr__(self, name):
        return getattr(self._store, name)

    def allocate(self, token, body):
        self._count()
        return self._store.allocate(token, body)

    def append(self, records):
        self._count()
        return self._store.append(records)

    def put(self, digest, parts):
        self._count()
        self._store.put(digest, parts)

    def _count(self):
        if not self._writes:
            raise StoreUnavailableError("cut off")
        self._writes -= 1


@pytest.mark.parametrize("target", KINDS)
def test_cut_off(target, make_place, monkeypatch):
    """A copy that was cut off, again and again, is complete in the end and has nothing twice."""
    monkeypatch.setattr("daskperiment.copying.BATCH", 5)
    old, new = make_place("folder"), make_place(target)
    perform(daskperiment.Experiment(ID, backend=old.backend), FEW)
    expected = answers(open_again(ID, old.backend))
    done = cuts = 0
    while not done:
        store = CutOff(open_store(new.backend, ID), writes=cuts)
        try:
            done = daskperiment.copy(ID, old.backend, store)
        except StoreUnavailableError:
            cuts += 1
        store.close()
    assert cuts > 10
    assert answers(open_again(ID, new.backend)) == expected


@pytest.mark.parametrize("target", KINDS)
def test_other_trials(target, make_place):
    """A target that has other trials is left as it is."""
    old, new = make_place("folder"), make_place(target)
    perform(daskperiment.Experiment(ID, backend=old.backend), VALUES[:2])
    define(daskperiment.Experiment(ID, backend=new.backend)).compute(seed=7)
    open_again(ID, new.backend)
    before = new.dump()
    with pytest.raises(StoreError, match="trial 1 that is not the source's"):
        daskperiment.copy(ID, old.backend, new.backend)
    assert new.dump() == before


def test_same_store(place):
    """An experiment is not copied onto itself."""
    with pytest.raises(ValueError, match="same store"):
        daskperiment.copy(ID, place.backend, place.backend)


def test_list_experiments(place):
    """The list of a place has a row for each experiment, with its trials."""
    assert len(daskperiment.list_experiments(place.backend)) == 0
    perform(daskperiment.Experiment("first", backend=place.backend), VALUES[:2])
    perform(daskperiment.Experiment("first_1", backend=place.backend), VALUES[:1])
    listed = daskperiment.list_experiments(place.backend)
    columns = ["Experiment", "Trials", "Succeeded", "Running"]
    assert listed[columns].values.tolist() == [["first", 4, 3, 0], ["first_1", 3, 2, 0]]
