"""Whatever the store, an experiment gives the same answers."""

from __future__ import annotations

import pytest

import daskperiment
from tests.shared.conftest import KINDS, open_again
from tests.shared.scenario import ID, VALUES, answers, perform


@pytest.fixture(scope="module")
def told():
    """Keep what each kind of store answered."""
    return {}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_answers(kind, make_place, told):
    """Every store gives back equal values of equal types, as the folder does."""
    place = make_place(kind)
    perform(daskperiment.Experiment(ID, backend=place.backend))
    ex = open_again(ID, place.backend)
    assert ex.trial_id == len(VALUES) + 2
    for trial, value in enumerate(VALUES, start=1):
        back = ex.get_parameters(trial)["value"]
        assert type(back) is type(value)
        assert repr(back) == repr(value)
    told[kind] = answers(ex)
    assert told[kind] == told.setdefault("folder", told[kind])
