"""The charts of parameters against results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from daskperiment.compare.wording import show
from daskperiment.dashboard.cells import finite_numbers
from daskperiment.dashboard.figures import Theme, parallel, scatter
from daskperiment.dashboard.grouping import Floats, measured, measures_of
from daskperiment.dashboard.importance import at_most, importance
from daskperiment.dashboard.table import TrialTable, differing
from daskperiment.formatting import shorten
from daskperiment.history.filtering.language import Path, path_text
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.stored_values import MISSING

__all__ = ["InfluenceOptions", "draw_influence", "rank_parameters"]

_POINTS = 5_000
_LINES = 1_000
"""Trials that are drawn at most; of more the best, and of the others some at regular steps."""
_FACTORS = 40
_AXES = 12
_RESULTS = 60

Rows = np.ndarray[Any, Any]


class InfluenceOptions(NamedTuple):
    """What is to be drawn against what."""

    across: str = ""
    """A parameter, or a result with ``=`` before it; the first parameter that differs if none."""
    up: str = ""
    """A result, a metric or the duration, as the language of filters calls it."""
    colour: str = ""
    """What gives the colours, as for `up`; that one if it is none."""
    best: str = "max"
    """Whether the highest or the lowest of `up` are the best: ``max`` or ``min``."""
    best_across: str = "max"
    """The same of `across`, where that is a result."""
    log_x: bool = False
    log_y: bool = False
    theme: Theme = "light"


class _Measure(NamedTuple):
    """Something of which each trial may have a number."""

    title: str
    numbers: Floats


_Measures = dict[str, _Measure]


def draw_influence(
    table: TrialTable, trials: Sequence[int], options: InfluenceOptions
) -> dict[str, Any]:
    """Return the figures of these trials, of the best of them if they are very many."""
    every = table.of(sorted(trials))
    names, found = list(every.columns.parameters), differing(every, np.arange(len(every)))
    differ = [name for name in names if name in found]
    measures = _measures(every)
    is_result = options.across[:1] == "=" and options.across[1:] in measures
    across = options.across if is_result else _first(options.across, differ, names)
    up = _first(options.up, measures)
    colour = options.colour if options.colour in measures else up
    choices = {
        "parameters": [{"name": name, "differs": name in found} for name in names],
        "ups": [{"key": key, "title": one.title} for key, one in measures.items()],
        "across": across, "up": up, "colour": colour, "best": options.best,
        "best_across": options.best_across, "trials": len(trials),
    }  # fmt: skip
    if not across or not up:
        return {**choices, "scatter": None, "parallel": None, "drawn": 0, "left_out": 0}
    known = np.flatnonzero(np.isfinite(measures[up].numbers))
    axes = [name for name in differ if f"={name}" != across][:_AXES]
    return {
        **choices,
        **_scatter(every, known, measures, across, up, colour, options),
        "axes_left_out": len(differ) - len(axes),
        "lines": min(len(known), _LINES),
        "lines_left_out": max(0, len(known) - _LINES),
        "parallel": _parallel(every, known, axes, measures, up, colour, options) if axes else None,
    }


def rank_parameters(table: TrialTable, trials: Sequence[int], up: str) -> dict[str, Any]:
    """Return how much each parameter that differs matters for a result, by Optuna."""
    every = table.of(sorted(trials))
    measures = _measures(every)
    key = _first(up, measures)
    if not key:
        return {"title": "", "ranks": [], "why": "There is no result that is a number."}
    found = differing(every, np.arange(len(every)))
    known = np.flatnonzero(np.isfinite(measures[key].numbers))
    rows = every.take(known)
    columns = {
        name: rows.parameter(name).to_list() for name in every.columns.parameters if name in found
    }
    return {"title": measures[key].title, **importance(columns, measures[key].numbers[known])}


def _first(wanted: str, *choices: Iterable[str]) -> str:
    known = [one for each in choices for one in each]
    return wanted if wanted in known else next(iter(known), "")


def _measures(table: HistoryTable) -> _Measures:
    paths = measures_of(table)[:_RESULTS]
    found = measured(table, paths, np.arange(len(table)))
    return {
        path_text(path): _Measure(shorten(_title(path), 40), numbers) for path, numbers in found
    }


def _title(path: Path) -> str:
    if path == ("Process Time",):
        return "Duration in seconds"
    return f"{path[1]} (last)" if path[0] == "metrics" else ".".join(path)


def _best(rows: Rows, numbers: Floats, most: int, best: str) -> Rows:
    """Return so many rows: the best half of them, and of the others some at regular steps."""
    if len(rows) <= most:
        return rows
    heights = numbers[rows]
    order = rows[np.argsort(heights if best == "min" else -heights, kind="stable")]
    rest = order[most // 2 :]
    others = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], others]))


# Points -------------------------------------------------------------------------------------------


def _scatter(
    every: HistoryTable, known: Rows, measures: _Measures, across: str, up: str, colour: str,
    options: InfluenceOptions,
) -> dict[str, Any]:  # fmt: skip
    result = across[1:] if across not in every.columns.parameters else ""
    if result:
        known = known[np.isfinite(measures[result].numbers[known])]
    rows = _best(known, measures[up].numbers, _POINTS, options.best)
    xs = measures[result].numbers[rows].tolist() if result else _places(every.take(rows), across)
    data = {
        "x": xs, "y": measures[up].numbers[rows].tolist(),
        "colour": measures[colour].numbers[rows].tolist(),
        "trial": every.columns.trials[rows].tolist(),
    }  # fmt: skip
    log_x = options.log_x and all(isinstance(x, float) and x > 0 for x in xs)
    log_y = options.log_y and all(y > 0 for y in data["y"])
    refused = {"x": options.log_x and not log_x, "y": options.log_y and not log_y}
    front = _front(data, options) if result else []
    names = (measures[result].title if result else across, measures[up].title)
    figure = scatter(
        data, options.theme, names=names, log_x=log_x, log_y=log_y,
        colour=measures[colour].title, front=front,
    )  # fmt: skip
    return {
        "scatter": figure,
        "drawn": len(rows),
        "left_out": len(known) - len(rows),
        "log_refused": [axis for axis, is_refused in refused.items() if is_refused],
        "front": [data["trial"][at] for at in front],
    }


def _front(data: dict[str, list[Any]], options: InfluenceOptions) -> list[int]:
    """Return the places of the trials that no other beats in both results, from left to right."""
    goals = (options.best_across, options.best)
    x, y = (np.array(data[name]) * (-1 if goal == "min" else 1)
            for name, goal in zip("xy", goals, strict=True))  # fmt: skip
    front: list[int] = []
    highest = -np.inf
    for at in np.lexsort((-y, -x)).tolist():
        if y[at] > highest:
            front.append(at)
            highest = y[at]
    return sorted(front, key=lambda at: float(data["x"][at]))


def _places(table: HistoryTable, name: str) -> list[Any]:
    values = table.parameter(name).to_list()
    numbers = finite_numbers(values)
    return at_most(_FACTORS, map(_word, values)) if numbers is None else list(numbers)


def _word(value: Any) -> str:
    if value is MISSING:
        return "(none)"
    return shorten(value if isinstance(value, str) else show(value), 24) or "(empty)"


# Lines --------------------------------------------------------------------------------------------


def _parallel(
    every: HistoryTable, known: Rows, names: Sequence[str], measures: _Measures, up: str,
    colour: str, options: InfluenceOptions,
) -> Any:  # fmt: skip
    rows = _best(known, measures[up].numbers, _LINES, options.best)
    drawn = every.take(rows)
    columns = [drawn.parameter(name).to_list() for name in names]
    columns.append(measures[up].numbers[rows].tolist())
    scales = [_scaled(values, options.log_x) for values in columns]
    titles = [shorten(name, 18) for name in (*names, measures[up].title)]
    axes = [(title, one.lowest, one.highest) for title, one in zip(titles, scales, strict=True)]
    places = zip(*(one.places for one in scales), strict=True)
    colours = measures[colour].numbers[rows].tolist()
    lines = zip(drawn.columns.trials.tolist(), places, colours, strict=True)
    return parallel(axes, list(lines), options.theme)


class _Scale(NamedTuple):
    """Where values stand on an axis, from 0 to 1, and its ends as texts."""

    places: list[float]
    lowest: str
    highest: str


def _scaled(values: Sequence[Any], log: bool) -> _Scale:
    """Return the scale of values; what is no number stands in order."""
    finite = finite_numbers(values)
    if finite:
        low, high = min(finite), max(finite)
        is_log = log and low > 0
        ends = (math.log(low), math.log(high)) if is_log else (low, high)
        at = [math.log(n) for n in finite] if is_log else finite
        span = ends[1] - ends[0]
        places = [(n - ends[0]) / span if span > 0 else 0.5 for n in at]
        return _Scale(places, f"{low:.4g}", f"{high:.4g}{' (log)' if is_log else ''}")
    words = [_word(value) for value in values]
    different = sorted(set(words)) or [""]
    last = len(different) - 1
    place = {word: i / last if last else 0.5 for i, word in enumerate(different)}
    first, final = shorten(different[0], 14), shorten(different[-1], 14)
    return _Scale([place[word] for word in words], first, final)
