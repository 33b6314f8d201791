"""The best of the trials, by whatever has a number for each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

from daskperiment.codec.held_numbers import held_number
from daskperiment.errors import FilterError, TrialIDNotFoundError
from daskperiment.formatting import listed, shorten
from daskperiment.history.filtering.language import path_of, path_text
from daskperiment.history.tables import read_table
from daskperiment.store.protocol import Store

__all__ = ["Mode", "Score", "best_of", "best_trial", "scores"]

Mode = Literal["max", "min"]


class Score(NamedTuple):
    """A trial, and its number."""

    trial: int
    value: float


def best_trial(
    store: Store, order: Sequence[str], by: str, mode: Mode = "max", where: str | None = None
) -> int:
    """Return the id of the best trial, see :meth:`Experiment.best`."""
    found = scores(store, order, by, where)
    if not found:
        which = " and that `where` finds" if where else ""
        raise TrialIDNotFoundError(
            f"No trial that succeeded{which} has a number as {by!r}, so there is no best one"
            f"{_others(store, order)}."
        )
    return best_of(found, mode).trial


def _others(store: Store, order: Sequence[str]) -> str:
    """Return by what else trials can be compared; empty if by nothing."""
    table = read_table(store, order).listed()
    names = [path_text(path) for path in table.paths("Result")]
    names = [name for name in names if scores(store, order, name)]
    names += [path_text(("metrics", name)) for name in table.metric_names]
    return f"; they can be compared by {listed(map(repr, names), 5)}" if names else ""


def best_of(found: Collection[Score], mode: Mode) -> Score:
    """Return the best score, of equal ones that of the earliest trial."""
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}; expected 'max' or 'min'.")
    sign = 1 if mode == "min" else -1
    return min(found, key=lambda one: (sign * one.value, one.trial))


def scores(
    store: Store, order: Sequence[str], by: str, where: str | None = None
) -> list[Score]:  # fmt: skip
    """Return the trials that succeeded and have a number under this name, but nan; by id."""
    if not isinstance(by, str):
        raise FilterError(
            f"by is {shorten(repr(by), 60)}; expected what is compared, such as 'Result', "
            "'Result.f1' or 'metrics.loss.min'."
        )
    table = read_table(store, order).listed()
    table = table.take(table.select(where, None))
    values = table.column(path_of(by, table.names)).to_list()
    succeeded = table.column(("Success",)).to_list()
    rows = zip(table.columns.trials.tolist(), values, succeeded, strict=True)
    numbers = [(trial, _number(value)) for trial, value, ended_well in rows if ended_well]
    return [Score(trial, number) for trial, number in numbers if number is not None]


def _number(value: Any) -> float | None:
    """Return a number of any kind as Python's; None for nan, and for what is none."""
    try:
        number = value if isinstance(value, (int, float)) else held_number(value)
    except OverflowError:  # a fraction beyond all floats, which can be compared all the same
        number = value
    return None if number is None or number != number else number
