"""The best trial by a result, a part of it, a parameter or a metric."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

import daskperiment
from daskperiment.errors import FilterError, TrialIDNotFoundError

F1 = [0.5, 0.9, math.nan, 0.9, -math.inf, None, "text"]


@pytest.fixture
def ex(tmp_path):
    """Seven trials, an eighth that fails, and a metric in each but the first."""
    ex = daskperiment.Experiment("best", backend=tmp_path)
    lr = ex.parameter("lr")

    @ex.result
    def score(lr):
        if lr:
            ex.save_metric("loss", 0, float(lr))
            ex.save_metric("loss", 1, float(10 - lr))
        if lr == 7:
            raise ValueError("too high")
        return {"f1": F1[lr], "lr": lr}

    for number in range(8):
        result = score(lr).bind(lr=number)
        if number == 7:
            with pytest.raises(ValueError, match="high"):
                result.compute(scheduler="synchronous")
        else:
            result.compute(scheduler="synchronous")
    return ex


@pytest.mark.parametrize(
    ("arguments", "best"),
    [
        (("Result.f1",), 2),
        (("Result.f1", "min"), 5),
        (("Result.f1", "min", "Result.f1 > 0"), 1),
        (("Result.f1", "max", "lr > 2"), 4),
        (("lr",), 7),
        (("metrics.loss",), 2),
        (("metrics.loss", "min"), 7),
        (("metrics.loss.max", "min"), 6),
        (("metrics.loss.min", "max"), 6),
    ],
)
def test_best(ex, arguments, best):
    """The highest or lowest number of a trial that succeeded; of equal ones the earliest."""
    assert ex.best(*arguments) == best


def test_archived_trials_are_not_the_best(ex):
    """Who archives a trial does not want to be pointed to it."""
    ex.archive(2)
    assert ex.best("Result.f1") == 4
    ex.tag([1, 5], "kept")
    assert ex.best("Result.f1", where='"kept" in tags') == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("Result",), TrialIDNotFoundError, "'Result'"),
        (("Result.f1", "max", "lr > 99"), TrialIDNotFoundError, "`where` finds"),
        (("Reslt",), FilterError, "'Result'"),
        (("Result.f1", "highest"), ValueError, "'highest'"),
        ((3,), FilterError, "by is 3"),
        (("metrics.lss",), FilterError, "'loss'"),
    ],
)
def test_what_has_no_best(ex, arguments, kind, told):
    """No number, no such name, no such mode: the error says which."""
    with pytest.raises(kind, match=told):
        ex.best(*arguments)


def test_fraction_that_is_no_float(tmp_path):
    """A number beyond all floats is the highest or the lowest all the same."""
    ex = daskperiment.Experiment("fractions", backend=tmp_path)
    x = ex.parameter("x")
    score = ex.result(lambda x: x)(x)
    for value in (1.5, Fraction(10**400), -2, Fraction(-(10**400)), Fraction(10**399)):
        score.bind(x=value).compute(scheduler="synchronous")
    assert (ex.best("x"), ex.best("x", "min")) == (2, 4)
    assert [*ex.get_history(sort="-x").index] == [2, 5, 1, 3, 4]
    assert [*ex.get_history(where="x > 1.0").index] == [1, 2, 5]
