"""Trials grouped by a column: how many, and mean and standard deviation of what is a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from daskperiment.dashboard.cells import Cell, as_number, cell
from daskperiment.errors import FilterError
from daskperiment.history.filtering.language import Path, path_of, path_text
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.table_columns import Column, NumberColumn

__all__ = ["Floats", "grouped", "measured", "measures_of"]

_MOST_GROUPS = 200
_MOST_MEASURES = 30

Floats = np.ndarray[Any, np.dtype[np.float64]]


def grouped(table: HistoryTable, rows: np.ndarray[Any, Any], by: str) -> dict[str, Any]:
    """Return groups of rows by the values of a column, the largest first.

    Each has its value, the number of its trials, a filter that finds them, and for each result
    and metric that is a number its mean, its standard deviation and how many had one.
    """
    path = path_of(by, table.names)
    column = table.column(path).take(rows).coded()
    # After joining columns a value may stand twice: its text tells.
    texts = [cell(value) for value in column.values]
    places: dict[tuple[str, str], int] = {}
    of_value = np.array([places.setdefault(_whole(one), len(places)) for one in texts] + [-1])
    codes = of_value[column.codes]
    first = {int(of_value[code]): code for code in reversed(range(len(texts)))}
    counts = np.bincount(codes[codes >= 0], minlength=len(places))
    measures = list(islice(measured(table, measures_of(table), rows), _MOST_MEASURES))
    order = [int(one) for one in np.argsort(-counts, kind="stable") if counts[one]]
    lines = [
        {
            "value": texts[first[code]],
            "filter": _filter(path, column.values[first[code]]),
            "count": int(counts[code]),
            "cells": [_spread(each[codes == code]) for _, each in measures],
        }
        for code in order[:_MOST_GROUPS]
    ]
    return {
        "by": by,
        "measures": [path_text(path) for path, _ in measures],
        "lines": lines,
        "without": int((codes < 0).sum()),
        "left_out": max(0, len(order) - _MOST_GROUPS),
    }


def _filter(path: Path, value: Any) -> str:
    """Return the filter that finds the trials of a group; empty if the language has none."""
    plain = isinstance(value, str | bool | int) or (isinstance(value, float) and value - value == 0)
    return f"{path_text(path)} == {value!r}" if plain and len(repr(value)) < 500 else ""


def _whole(shown: Cell) -> tuple[str, str]:
    return shown[1], shown[2] if len(shown) > 2 else shown[0]


def measures_of(table: HistoryTable) -> list[Path]:
    """Return what may be a number of each trial: result, its parts, metrics, duration."""
    metrics = [("metrics", name) for name in table.metric_names]
    return [("Result",), *table.paths("Result"), *metrics, ("Process Time",)]


def measured(
    table: HistoryTable, paths: Iterable[Path], rows: np.ndarray[Any, Any]
) -> Iterator[tuple[Path, Floats]]:
    """Yield the numbers of rows in columns, nan for none, of those columns that have any."""
    for path in paths:
        try:
            numbers = _numbers_of(table.column(path).take(rows))
        except FilterError:
            continue
        if np.isfinite(numbers).any():
            yield path, numbers


def _numbers_of(column: Column) -> Floats:
    """Return a column as floats, nan where it holds no number."""
    if isinstance(column, NumberColumn):
        known: Floats = np.where(column.known(), column.values, np.nan).astype("float64")
        return known
    numbers = column.each(lambda value: as_number(value))
    values = [np.nan if number is None else number for number in numbers.values]
    found: Floats = np.array([*values, np.nan], dtype="float64")[numbers.codes]
    return found


def _spread(values: Floats) -> dict[str, Any] | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    deviation = float(finite.std(ddof=1)) if len(finite) > 1 else None
    return {"mean": float(finite.mean()), "sd": deviation, "of": len(finite)}
