"""Steps that compute trials of other experiments: each draws as if it ran alone."""

from __future__ import annotations

import random
import threading

import dask
import numpy as np
import pytest

import daskperiment
from daskperiment.errors import RandomStateWarning


@pytest.fixture
def other(tmp_path):
    """Make another experiment in the same store."""
    return daskperiment.Experiment("other", backend=tmp_path / "store", seed=2)


def draws(ex):
    return [random.random(), float(np.random.rand()), float(ex.rng.random())]


@pytest.fixture
def inner(other):
    """Make a result of the other experiment, of steps that draw."""

    @other
    def step(number):
        return draws(other)

    @other.result
    def last(*values):
        return [*values, draws(other)]

    return last(step(1), step(2))


def outer(ex, node, **how):
    """Make a result of a step that draws, computes a result if it is given one, and draws."""

    @ex.result(version="draws")
    def outside():
        first = draws(ex)
        found = node.compute(**how) if node is not None else None
        return found, [*first, *draws(ex)]

    return outside()


@pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_trial_within_a_step(ex, other, inner, scheduler):
    """Both draw what they draw alone, without a warning, and can be checked."""
    how = {"scheduler": scheduler, "num_workers": 1}
    expected = inner.compute(**how), outer(ex, None).compute(seed=1)[1]
    for _ in range(2):
        assert outer(ex, inner, **how).compute(seed=1) == expected
    assert ex.get_steps()["Checkable"].all()
    assert other.get_steps()["Checkable"].all()


@pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")
def test_trials_within_trials(ex, other, inner, tmp_path):
    """Three deep, it is the same."""
    third = daskperiment.Experiment("third", backend=tmp_path / "store", seed=3)
    how = {"scheduler": "synchronous"}
    middle = outer(third, inner, **how)
    expected = middle.compute(**how), outer(ex, None).compute(seed=1)[1]
    assert outer(ex, middle, **how).compute(seed=1) == expected
    assert third.get_steps()["Checkable"].all()


def test_reentrant(ex):
    """A step may compute another result of its own experiment; both are trials of it."""
    half = ex.result(lambda: draws(ex))()
    alone = half.compute(seed=4)

    @ex.result
    def whole():
        random.random()
        return half.compute(seed=4, scheduler="synchronous")

    assert whole().compute(seed=1) == alone
    assert ex.get_history(verbose=True)["Status"].tolist() == ["succeeded"] * 3


def test_two_experiments_at_once(inner, tmp_path):
    """Results of two experiments in one computation draw what each draws alone."""
    third = daskperiment.Experiment("third", backend=tmp_path / "store", seed=3)
    mine = outer(third, None)
    expected = inner.compute(scheduler="synchronous"), mine.compute(scheduler="synchronous")
    assert dask.compute(inner, mine, scheduler="synchronous") == expected


def test_step_beside_a_nested_trial_is_told(ex, other):
    """A step that runs beside, and that nobody waits for, disturbs, and that is said."""
    begun, drawn = threading.Event(), threading.Event()

    @other.result
    def inside():
        begun.set()
        assert drawn.wait(30)
        return random.random()

    node = inside()

    @ex
    def waits():
        return node.compute(scheduler="synchronous")

    @ex
    def beside():
        assert begun.wait(30)
        number = random.random()
        drawn.set()
        return number

    @ex.result
    def last(first, second):
        return first, second

    with pytest.warns(RandomStateWarning, match="depends on timing"):
        last(waits(), beside()).compute(scheduler="threads", num_workers=2)
    assert random.random.__self__ is random._inst
