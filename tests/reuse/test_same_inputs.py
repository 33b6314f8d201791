"""Steps that get now from their own call what they got from other nodes before."""

from __future__ import annotations

import numpy as np
import pytest

import daskperiment
from tests.reuse.work import ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("same", backend=tmp_path / "store", reuse=True, seed=1)


CALLS = {
    "a literal": lambda model, p: model(9),
    "by name, with a default": lambda model, p: model(x=9, scale=2),
    "by a parameter": lambda model, p: model(p),
}


@pytest.fixture
def computed(ex, log):
    """Make a step, run it on what is computed of a parameter, and return how to compute more."""
    p = ex.parameter("p", default=4)

    @ex.persist(ignore=("note",))
    def model(x, scale=2, note=""):
        write(log, "model")
        return np.asarray(x) * scale

    @ex.persist
    def drawing(x):
        write(log, "drawing")
        return float(ex.rng.random())

    @ex.result
    def last(value):
        return np.asarray(value).tolist()

    assert last(model(p * 2 + 1)).compute() == 18
    last(drawing(p * 2 + 1)).compute()
    return lambda call, **values: last(call(model, p)).bind(**values), drawing, last


@pytest.mark.parametrize("way", CALLS)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_same_value_is_the_same_call(ex, computed, log, way, scheduler):
    """However it comes there, a value that the step had is a hit, and is foretold as one."""
    result = computed[0](CALLS[way], p=9)
    assert ex.explain(result)["model"].verdict == "hit"
    assert result.compute(scheduler=scheduler) == 18
    assert ran(log)["model"] == 1
    (reused,) = ex.get_steps(3).set_index("Step")["Reused From"][["model"]]
    assert reused == 1


OTHERS = {
    "another value": lambda model, p: model(8),
    "another type": lambda model, p: model(9.0),
    "another default": lambda model, p: model(9, scale=3),
}


@pytest.mark.parametrize("way", OTHERS)
def test_other_values_run(ex, computed, log, way):
    """What differs in anything that counts is no hit."""
    result = computed[0](OTHERS[way])
    assert ex.explain(result)["model"].verdict == "miss"
    result.compute()
    assert ran(log)["model"] == 2


def test_ignored_arguments_do_not_count(ex, computed, log):
    """An argument that the output does not depend on may be another."""
    result = computed[0](lambda model, p: model(9, note="b"))
    assert result.compute() == 18
    assert ran(log)["model"] == 1


def test_steps_that_draw_depend_on_their_seed(ex, computed, log):
    """Where numbers were drawn, the value alone does not tell what comes out: it runs."""
    _, drawing, last = computed
    assert ex.explain(last(drawing(9)))["drawing"].verdict == "miss"
    last(drawing(9)).compute()
    assert ran(log)["drawing"] == 2
