"""Unknown keywords and attributes are refused, with the name that was probably meant."""

from __future__ import annotations

import inspect

import dask
import pytest

import daskperiment
from daskperiment import Experiment


@pytest.fixture
def result(ex):
    a = ex.parameter("a", default=1)
    ex.parameter("alpha", default=1)

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
    (lambda s: s.persist(schedular="threads"), "did you mean 'scheduler'"),
    (lambda s: s.main(arg=[]), "did you mean 'argv'"),
    (lambda s: s.bind(alpa=2), "did you mean 'alpha'"),
    (lambda s: s.sweep({"alpa": [1]}), "did you mean 'alpha'"),
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
    name for name, method in inspect.getmembers(Experiment, inspect.isfunction)
    if not name.startswith("_")
    and name not in ("save_metric", "save_metrics", "set_parameters")
]  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_unknown_keywords_of_methods(ex, name):
    """Every method of an experiment names its nearest keyword for an unknown one."""
    method = getattr(ex, name)
    known = list(inspect.signature(method).parameters)
    hint = f"did you mean '{known[-1]}'" if known else "its arguments are none"
    with pytest.raises(TypeError, match=hint):
        method(**{(known[-1] if known else "force") + "x": 1})


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: daskperiment.list_experiments(bakend=1), "backend"),
        (lambda: daskperiment.register_fingerprint(int, functon=str), "function"),
        (lambda: daskperiment.copy("a", sorce="b", target="c"), "source"),
    ],
)
def test_unknown_keywords_of_functions(call, hint):
    """So does every function of the package itself."""
    with pytest.raises(TypeError, match=f"did you mean '{hint}'"):
        call()


@pytest.mark.parametrize("method", ["compute", "persist"])
@pytest.mark.parametrize("kind", ["step", "parameter"])
def test_unknown_keywords_of_nodes(ex, kind, method):
    """Steps and parameters that are computed alone refuse what Dask would pass over."""
    node = ex.parameter("a", default=1)
    node = ex(lambda a: a)(node) if kind == "step" else node
    with pytest.raises(TypeError, match="did you mean 'scheduler'"):
        getattr(node, method)(schedular="threads")
    with pytest.raises(TypeError, match="'zzz'; all that it takes goes to Dask"):
        getattr(node, method)(zzz=1)
    assert dask.compute(getattr(node, method)(scheduler="synchronous")) == (1,)


def test_unknown_names_of_parameters(ex):
    """A parameter that is not declared is told with the nearest; it is an unknown keyword too."""
    ex.parameter("rate", default=1)
    with pytest.raises(TypeError, match="did you mean 'rate'"):
        ex.set_parameters(rates=2)
    with pytest.raises(ValueError, match=r"'other' in this experiment; declared are: 'rate'\."):
        ex.set_parameters(other=2)
    assert ex.get_parameters() == {"rate": 1}


WRONG_POINTS = [
    (lambda ex: ex.save_metric("loss", 0, 1.0, epoc=0), "'epoc'; did you mean 'epoch'"),
    (lambda ex: ex.save_metric("loss", 0, 1.0, zzz=17), "its arguments are metric_key, epoch"),
    (lambda ex: ex.save_metric("loss", epoc=0, value=1.0), "'epoch'"),
]


@pytest.mark.parametrize("number", range(len(WRONG_POINTS)))
def test_unknown_keywords_in_a_step(ex, number):
    """A point whose call has a wrong keyword is refused with the nearest; nothing is saved."""
    call, expected = WRONG_POINTS[number]
    train = ex.result(lambda: call(ex))
    with pytest.raises(TypeError, match=expected):
        train().compute()
    assert ex.get_metrics() == []


@pytest.mark.parametrize("keyword", ["reus", "perist", "ignor", "versio"])
def test_unknown_keywords_of_decorators(ex, keyword):
    """A decorator with a wrong keyword makes no step."""
    with pytest.raises(TypeError, match="did you mean"):
        ex.result(**{keyword: True})


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
