"""A store written against the documented contract alone is as good as ours."""

from __future__ import annotations

import pytest

import daskperiment
from daskperiment import experiment
from daskperiment.recording.registry import close_recorders
from daskperiment.testing import StoreConformance
from tests.shared.scenario import ID, answers, perform
from tests.shared.third_party import ThirdPartyStore, library

FEW = [10**400, {"$gt": 1}, {1, 2, 3}]


@pytest.fixture(scope="module")
def place():
    with library() as address:
        yield address


class TestThirdParty(StoreConformance):
    """The contract."""

    @pytest.fixture
    def make_store(self, place):
        made = {}

        def make(name):
            made[name] = ThirdPartyStore(place, name)
            return made[name]

        yield make
        for name in made:
            ThirdPartyStore(place, name).delete()


def test_experiment(place, make_place):
    """An experiment in such a store answers as one in a folder, also when it is copied there."""
    folder = make_place("folder").backend
    perform(daskperiment.Experiment(ID, backend=ThirdPartyStore(place, "own")), FEW)
    perform(daskperiment.Experiment(ID, backend=folder), FEW)
    daskperiment.copy(ID, folder, ThirdPartyStore(place, "copied"))
    close_recorders()
    experiment._EXPERIMENTS.clear()
    expected = answers(daskperiment.Experiment(ID, backend=folder))
    for name in ("own", "copied"):
        ex = daskperiment.Experiment(ID, backend=ThirdPartyStore(place, name))
        assert answers(ex) == expected
