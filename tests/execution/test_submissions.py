"""Which tasks belong to one submission: told by what arrives with them."""

from __future__ import annotations

import pickle
import warnings

import dask
import pytest

from daskperiment.execution.lifecycle import begin, end, fail, failure_of, join
from daskperiment.recording.registry import recorder_for


@pytest.fixture
def make(ex):
    """Return what makes what stands in the first task of a trial."""

    @ex.result
    def use(a):
        return a

    result = use(ex.parameter("a", default=1))
    definition = result.definition
    return lambda: definition.planner.plan(definition.template, definition.options).source


@pytest.fixture
def source(make):
    """Make what stands in the first task of a trial."""
    return make()


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


@pytest.mark.parametrize(
    ("tasks", "trials"),
    [
        ([join, fail, begin], [1, 1]),
        ([join, fail, begin, begin], [1, 1, 2]),
        ([join, begin, fail, begin], [1, 1, 2]),
        ([begin, join, fail, begin], [1, 1, 2]),
        ([begin, fail, begin, begin], [1, 2, 2]),
    ],
)
@pytest.mark.parametrize("key", [None, "secret"], ids=["", "signed"])
def test_late_or_another_try(ex, make, tasks, trials, key):
    """A first task that comes after the trial failed in a shared one is no other try of it.

    A busy cluster may bring it that late; when it comes once more, somebody asked for a try.
    """
    with dask.config.set({"daskperiment.signing-key": key}):
        arrived = pickle.loads(pickle.dumps(make()))
        trial, found, error = None, [], ZeroDivisionError("of all")
        for task in tasks:
            if task is fail:
                fail(trial, failure_of(error), error)
            else:
                trial = task(arrived)
                found.append(trial.trial)
            recorder_for(ex._store).settle()
        assert found == trials
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # each record is signed if the trial is
            assert ex.get_history(verbose=True)["Status"].tolist()[0] == "failed"
