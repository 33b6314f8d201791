"""Which tasks belong to one submission: told by what arrives with them."""

from __future__ import annotations

import pickle

import pytest

from daskperiment.execution.lifecycle import begin, end, join
from daskperiment.recording.registry import recorder_for


@pytest.fixture
def source(ex):
    """Make what stands in the first task of a trial."""

    @ex.result
    def use(a):
        return a

    result = use(ex.parameter("a", default=1))
    planned = result.definition.planner.plan(result.definition.template, result.definition.options)
    return planned.source


def test_one_submission_for_all_that_is_pickled_at_once(source):
    """The tasks of a graph agree on their submission, and keep it from process to process."""
    whole, part = pickle.loads(pickle.dumps([source, source.for_steps("use")]))
    assert whole.request().submission == part.request().submission
    again = pickle.loads(pickle.dumps(whole))
    assert again.request().submission == whole.request().submission
    other = pickle.loads(pickle.dumps(source))
    assert other.request().submission != whole.request().submission
    assert source.request().submission is None


@pytest.mark.parametrize("first", [begin, join])
def test_the_same_submission_is_the_same_trial(ex, source, first):
    """After its end a trial begins again for its own submission; for another one it is a new one.

    Whichever of its tasks came first.
    """
    arrived = pickle.loads(pickle.dumps(source))
    first(arrived)
    trial = begin(arrived)
    end(trial, recorder_for(ex._store), 1)
    assert begin(arrived).trial == trial.trial == 1
    assert begin(pickle.loads(pickle.dumps(source))).trial == 2
