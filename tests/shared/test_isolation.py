"""Experiments in one place leave each other, and what is not ours, alone."""

from __future__ import annotations

import numpy as np

import daskperiment
from tests.shared.conftest import open_again

NAMES = ["ab", "a", "a_b", "_a", "A", "a1", "ä"]


def use(name, backend):
    """Compute trials that write to every stream, and ask for them."""
    ex = daskperiment.Experiment(name, backend=backend)

    @ex.persist
    def keep(name):
        ex.save_metric("loss", 0, 1.0)
        return np.full(200_000, len(name))

    @ex.result
    def give(array):
        return list(array[:2])

    result = give(keep(ex.parameter("name", default=name)))
    result.compute()
    result.bind(name=name * 2).compute()
    assert ex.get_history()["name"].tolist() == [name, 2 * name]
    return open_again(name, backend)


def test_delete_removes_its_own(place):
    """`delete` leaves all else as it was to the byte, whatever the names, in any order."""
    place.foreign()
    dumps = [place.dump()]
    for name in NAMES:
        use(name, place.backend)
        open_again(name, place.backend)
        dumps.append(place.dump())
        assert dumps[-1].items() > dumps[-2].items() or place.kind == "redis"
    for name in reversed(NAMES):
        dumps.pop()
        open_again(name, place.backend).delete()
        assert place.dump() == dumps[-1]
    use("ab", place.backend)
    before = place.dump()
    use("a", place.backend).delete()
    assert place.dump() == before
    assert list(daskperiment.list_experiments(place.backend)["Experiment"]) == ["ab"]


def test_deleted_experiment_begins_anew(place):
    """After `delete`, the next trial is number 1 and nothing of before is found."""
    ex = use("again", place.backend)
    ex.delete()
    assert ex.trial_id == 0
    assert len(ex.get_history()) == 0
    assert len(use("again", place.backend).get_steps()) == 4
