"""Parameters against results: points and parallel lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from daskperiment.compare.wording import show
from daskperiment.dashboard.figures import Theme, item, parallel, scatter
from daskperiment.dashboard.following import Row
from daskperiment.dashboard.query import differing
from daskperiment.dashboard.table import Desk
from daskperiment.dashboard.texts import as_number
from daskperiment.formatting import shorten
from daskperiment.history.values import MISSING

__all__ = ["Wish", "draw"]

_POINTS = 5_000
_LINES = 1_000
_METRICS = 1_000
_FACTORS = 40
_AXES = 12
_KEYS = 20


class Wish(NamedTuple):
    """What is to be drawn against what."""

    across: str = ""
    """A parameter; the first that differs if it is none."""
    up: str = ""
    """``result``, ``result:key``, ``duration`` or ``m:metric``."""
    log_x: bool = False
    log_y: bool = False
    theme: Theme = "light"


def draw(desk: Desk, trials: Sequence[int], wish: Wish) -> dict[str, Any]:
    """Make both figures of these trials, the latest of them if they are very many."""
    rows = desk.trials.rows(sorted(trials)[-_POINTS:])
    names = desk.trials.names
    differ = differing(rows, names)
    ups = _ups(desk, rows)
    across = wish.across if wish.across in names else next((n for n in names if n in differ), "")
    across = across or (names[0] if names else "")
    up = wish.up if wish.up in ups else next(iter(ups), "")
    heights = ups[up][1] if up else {}
    told = {
        "parameters": [{"name": name, "differs": name in differ} for name in names],
        "ups": [{"key": key, "title": title} for key, (title, _) in ups.items()],
        "across": across,
        "up": up,
        "trials": len(trials),
        "left_out": len(trials) - len(rows),
    }
    if not across or not heights:
        return {**told, "scatter": None, "parallel": None, "drawn": 0}
    data = _points(desk, rows, across, heights)
    title = ups[up][0]
    log_x = wish.log_x and all(isinstance(x, float) and x > 0 for x in data["x"])
    log_y = wish.log_y and all(y > 0 for y in data["y"])
    plot = scatter(data, wish.theme, names=(across, title), log_x=log_x, log_y=log_y)
    axes = [name for name in names if name in differ][:_AXES]
    return {
        **told,
        "drawn": len(data["x"]),
        "log_refused": [n for n, r in (("x", wish.log_x > log_x), ("y", wish.log_y > log_y)) if r],
        "axes_left_out": max(0, len(differ) - _AXES),
        "lines_left_out": max(0, len(heights) - _LINES),
        "scatter": item(plot),
        "parallel": _parallel(desk, rows, axes, title, heights, wish.theme) if axes else None,
    }


_Ups = dict[str, tuple[str, dict[int, float]]]


def _ups(desk: Desk, rows: Sequence[Row]) -> _Ups:
    """Collect what can be drawn upwards: key -> title, and the value of each trial."""
    found: _Ups = {"result": ("Result", {})}
    for row in rows:
        value = row.result(desk.store)
        if isinstance(value, dict):
            for key, part in list(value.items())[:_KEYS]:
                text = shorten(str(key), 40)
                _put(found, f"result:{text}", f"Result: {text}", row.trial, part)
        else:
            # Of a result that is a truth value, True is up.
            _put(
                found,
                "result",
                "Result",
                row.trial,
                int(value) if isinstance(value, bool) else value,
            )
    if len(rows) <= _METRICS:
        for trial, values in desk.lasts.get([row.trial for row in rows]).items():
            for name, value in values.items():
                _put(found, f"m:{name}", f"{shorten(name, 40)} (last)", trial, value)
    for row in rows:
        _put(found, "duration", "Duration in seconds", row.trial, row.ended and row.ended.elapsed)
    return {key: (title, values) for key, (title, values) in found.items() if values}


def _put(found: _Ups, key: str, title: str, trial: int, value: Any) -> None:
    number = as_number(value)
    if number is not None and math.isfinite(number):
        found.setdefault(key, (title, {}))[1][trial] = number


def _points(
    desk: Desk, rows: Sequence[Row], name: str, heights: dict[int, float]
) -> dict[str, list[Any]]:
    drawn = [row for row in rows if row.trial in heights]
    values = [row.parameter(name, desk.store) for row in drawn]
    numbers = [as_number(value) for value in values]
    xs: list[Any]
    if any(number is None or not math.isfinite(number) for number in numbers):
        xs = _factors(values)
    else:
        xs = numbers
    return {"x": xs, "y": [heights[row.trial] for row in drawn], "trial": [r.trial for r in drawn]}


def _factors(values: Sequence[Any]) -> list[str]:
    texts = [_word(value) for value in values]
    known = set(list(dict.fromkeys(texts))[: _FACTORS - 1])
    return [text if text in known else "(others)" for text in texts]


def _word(value: Any) -> str:
    if value is MISSING:
        return "(none)"
    return shorten(value if isinstance(value, str) else show(value), 24) or "(empty)"


def _parallel(
    desk: Desk,
    rows: Sequence[Row],
    names: Sequence[str],
    title: str,
    heights: dict[int, float],
    theme: Theme,
) -> Any:
    drawn = [row for row in rows if row.trial in heights][-_LINES:]
    columns = [_scaled([row.parameter(name, desk.store) for row in drawn]) for name in names]
    last = _scaled([heights[row.trial] for row in drawn])
    axes = [
        (shorten(name, 18), low, high)
        for name, (_, low, high) in zip([*names, title], [*columns, last], strict=True)
    ]
    places = zip(*(column[0] for column in (*columns, last)), strict=True)
    lines = [
        (row.trial, place, heights[row.trial]) for row, place in zip(drawn, places, strict=True)
    ]
    return item(parallel(axes, lines, theme))


def _scaled(values: Sequence[Any]) -> tuple[list[float], str, str]:
    """Put values between 0 and 1, and name the ends; what is no number stands in order."""
    numbers = [as_number(value) for value in values]
    finite = [n for n in numbers if n is not None and math.isfinite(n)]
    if len(finite) == len(values) and values:
        low, high = min(finite), max(finite)
        places = [(n - low) / (high - low) if high > low else 0.5 for n in finite]
        return places, f"{low:.4g}", f"{high:.4g}"
    words = [_word(value) for value in values]
    order = sorted(dict.fromkeys(words))
    place = {word: i / (len(order) - 1) if len(order) > 1 else 0.5 for i, word in enumerate(order)}
    ends = (order[0], order[-1]) if order else ("", "")
    return [place[word] for word in words], shorten(ends[0], 14), shorten(ends[1], 14)
