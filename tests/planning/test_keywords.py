"""Unknown keywords and attributes are refused, with the name that was probably meant."""

from __future__ import annotations

import inspect

import dask
import pytest

from daskperiment import Experiment


@pytest.fixture
def result(ex):
    a = ex.parameter("a", default=1)

    @ex.result
    def give(a):
        return a

    return give(a)


WRONG = [
    (lambda s: s.compute(sed=7), "'sed'; did you mean 'seed'"),
    (lambda s: s.compute(resue=True), "did you mean 'reuse'"),
    (lambda s: s.compute(schedular="threads"), "did you mean 'scheduler'"),
    (lambda s: s.compute(scheduler="threads", num_worker=2), "did you mean 'num_workers'"),
    (lambda s: s.compute(whatever=1), "its own are seed, reuse, progress"),
    (lambda s: s.sweep({"a": [1, 2]}, n_trails=2), "did you mean 'n_trials'"),
    (lambda s: s.sweep({"a": [1, 2]}, metric="f1"), "'metric'"),
    (lambda s: s.reproduce(1, cod="recorded"), "did you mean 'code'"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_unknown_keywords_of_results(ex, result, number):
    """A misspelt keyword is a TypeError that names the nearest one; nothing is run."""
    result.compute()
    call, expected = WRONG[number]
    with pytest.raises(TypeError, match=expected):
        call(result)
    assert ex.trial_id == 1


def test_keywords_of_dask(result):
    """What Dask or the user's own scheduler knows is handed on."""
    assert result.compute(scheduler="threads", num_workers=1, rerun_exceptions_locally=True) == 1
    assert result.compute(scheduler="processes", num_workers=1, chunksize=1) == 1

    def own(dsk, keys, colour, **kwargs):
        return dask.get(dsk, keys)

    assert result.compute(scheduler=own, colour="red") == 1


METHODS = [
    name for name, method in vars(Experiment).items()
    if inspect.isfunction(method) and not name.startswith("_")
    and name not in ("save_metric", "set_parameters")
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_unknown_keywords_of_methods(ex, name):
    """Every method of an experiment names its nearest keyword for an unknown one."""
    method = getattr(ex, name)
    known = [each for each in inspect.signature(method).parameters if each != "args"]
    if not known:
        pytest.skip("it has no keywords")
    with pytest.raises(TypeError, match=f"did you mean '{known[-1]}'"):
        method(**{known[-1] + "x": 1})


def test_unknown_keywords_of_experiments(tmp_path):
    """So do experiments when they are made, and as decorators; errors of methods stay theirs."""
    with pytest.raises(TypeError, match="did you mean 'seed'"):
        Experiment("one", tmp_path, sed=1)
    ex = Experiment("one", tmp_path)
    with pytest.raises(TypeError, match="did you mean 'nout'"):
        ex(nuot=2)
    with pytest.raises(TypeError, match="name is text"):
        ex.parameter(3)


@pytest.mark.parametrize("name", ["swep", "history", "set_parameters", "real", "visualise", "T"])
def test_attributes_that_no_result_has(result, name):
    """An attribute that no result has is an AttributeError, not a node that does nothing."""
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(result, name)
    assert not hasattr(result, name)


def test_what_makes_nodes_of_results(ex, result):
    """Items and operators of a result are nodes, as of other nodes of Dask."""
    assert (result + 1).compute() == 2
    assert ex.result(lambda: [1, 2])()[1].compute() == 2
    with pytest.raises(AttributeError, match="did you mean 'sweep'"):
        _ = result.swep
