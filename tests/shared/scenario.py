"""An experiment with all that is hard to keep, and all the questions that it can be asked."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

import daskperiment

__all__ = ["ID", "VALUES", "answers", "define", "perform"]

ID = "hard_to_keep"

ODD = [
    "lr", "a.b", "$set", "x$y.z", "$", ".", "größe", "学習率", "with spaces", "_id", "$$ROOT",
]  # fmt: skip
"""Names of parameters; those with dots and dollars mean something to MongoDB."""

VALUES: list[Any] = [
    10**400, -(2**63), 2**63, 2**64 - 1, 0.1, -0.0, math.inf, -math.inf, math.nan, None, True,
    "", "text", "nul \0 and \ud800", "😀" * 100, b"\x00\xff", bytearray(b"ab"), (1, (2, "3"), []),
    {1, 2, 3}, frozenset({"a"}), {"$gt": 1, "a.b": {"": 0}, "$": [1]}, {1: "int", "1": "text"},
    {("a", 1): 2}, datetime(2020, 2, 29, 12, 30, 1, 123456), datetime(2020, 2, 29, tzinfo=UTC),
    datetime(2020, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2020, 7, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    date(1, 1, 1), timedelta(days=-1, microseconds=1), Decimal("1.10"), Fraction(1, 3), 1 + 2j,
    PurePosixPath("/a/b"), uuid.UUID(int=7), range(3), np.float32(0.1), np.int8(-1),
    np.datetime64("2020-01-01"), pd.Timestamp("2020-01-01", tz="Asia/Tokyo"), pd.NaT,
    "long " * 100_000,
]  # fmt: skip


class Custom:
    """A value that is no plain data."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return f"Custom({self.number})"


def define(ex: daskperiment.Experiment) -> Any:
    """Declare parameters and steps, and give the result."""
    names = [ex.parameter(name, default=index) for index, name in enumerate(ODD)]
    value = ex.parameter("value", default=None)
    divisor = ex.parameter("divisor", default=1)

    @ex.parameter
    def doubled(divisor):
        return {"twice": 2 * divisor, "$twice": (divisor, divisor)}

    @ex.persist
    def draw(first, second):
        return ex.rng.normal(size=(5, 7)) + first

    @ex.persist
    def wrap(value):
        return {"value": value, "custom": Custom(3)}

    @ex
    def train(array, divisor, doubled):
        for epoch in range(3):
            ex.save_metric("loss", epoch, float(array.sum()) / (epoch + 1))
        for epoch, point in enumerate([math.nan, math.inf, -math.inf, 10**400]):
            ex.save_metric("odd.$metric", epoch, point)
        ex.save_metric("odd.$metric", "last", 1)
        return 10 // divisor

    @ex.result
    def score(trained, wrapped, value):
        return value if trained == 10 else Custom(trained)

    return score(train(draw(names[0], names[1]), divisor, doubled), wrap(value), value)


def perform(ex: daskperiment.Experiment, values: Sequence[Any] = VALUES) -> Any:
    """Compute one trial for each value, one that fails and one whose result is an object."""
    result = define(ex)
    for value in values:
        result.bind(value=value).compute(seed=1, scheduler="synchronous")
    with suppress(ZeroDivisionError):
        result.bind(divisor=0).compute(seed=2, scheduler="synchronous")
    result.bind(**{"a.b": 0.5, "divisor": 2}).compute(seed=3, scheduler="threads")
    return result


TIMES = ["Finished", "Process Time", "Started", "Wall Time", "CPU Time", "Peak Memory", "Thread"]


def table(frame: pd.DataFrame) -> Any:
    """Tell all of a table but times: types, index and values."""
    frame = frame.drop(columns=[name for name in TIMES if name in frame])
    cells = [[repr(cell) for cell in row] for row in frame.itertuples(name=None)]
    return list(frame.columns), [str(kind) for kind in frame.dtypes], frame.index.name, cells


def answers(ex: daskperiment.Experiment) -> dict[str, Any]:
    """Ask everything that an experiment can be asked."""
    trials = range(1, ex.trial_id + 1)
    failed, last = ex.trial_id - 1, ex.trial_id
    return {
        "history": table(ex.get_history()),
        "verbose": table(ex.get_history(verbose=True, running=True)),
        "steps": table(sorted_steps(ex)),
        "steps of one": table(sorted_steps(ex, failed)),
        "loss": table(ex.load_metric("loss", [1, 2, last])),
        "odd": table(ex.load_metric("odd.$metric", list(trials)[: failed - 1])),
        "metrics": [ex.get_metrics(), ex.get_metrics(1)],
        "parameters": [repr(ex.get_parameters(trial)) for trial in trials],
        "drawn": [ex.get_persisted("draw", trial).tolist() for trial in trials],
        "wrapped": [repr(ex.get_persisted("wrap", trial)) for trial in trials if trial != failed],
        "code": [ex.get_code(1), ex.get_code(last)],
        "environment": [ex.get_environment(1), ex.get_environment(last, "requirements")],
        "packages": ex.get_python_packages(1),
        "compare": [untimed(ex.compare(*pair)) for pair in [(1, 2), (1, failed), (1, last)]],
        "result": repr(ex.get_history().loc[last, "Result"].load()),
    }


def untimed(comparison: daskperiment.Comparison) -> str:
    """Give a comparison's text without the lines that tell times."""
    lines = repr(comparison).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("Started", "Wall")))


def sorted_steps(ex: daskperiment.Experiment, trial: int | None = None) -> pd.DataFrame:
    """Give the steps in an order that does not depend on which ran first."""
    return ex.get_steps(trial).sort_values(["Trial ID", "Key"], ignore_index=True)
