"""Curves of a metric as a picture in SVG, without a script and without a style of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from daskperiment.history.metric_columns import thinned
from daskperiment.reports.markup import Markup, tag

__all__ = ["LOOKS", "Line", "line_chart", "swatch"]

_WIDE, _HIGH = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 14, 12, 40
_POINTS = 500
_LEAST = 1e-300
"""Numbers that are nearer to each other are shown as equal."""
_COLOURS = 6
_DASHES = (None, "7 4", "2 3", "9 3 2 3")
LOOKS = _COLOURS * len(_DASHES)
"""Lines that colours and dashes tell apart."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Line(NamedTuple):
    """The curve of one trial."""

    trial: int
    place: int
    """Among the trials of the report: what says how it looks, the same in each chart."""
    x: Floats
    y: Floats

    @property
    def finite(self) -> Floats:
        """The values that are neither nan nor infinite."""
        return self.y[np.isfinite(self.y)]


class _Axis(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def at(self, values: Floats) -> Floats:
        # Halves, because the difference of two floats may be none.
        part = (values / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return np.round(self.start + part * (self.end - self.start), 1)


def line_chart(name: str, lines: Sequence[Line], x_label: str) -> Markup:
    """Return the curves of a metric over what they share, with axes and a name to be read aloud."""
    across = _axis([line.x for line in lines], _LEFT, _WIDE - _RIGHT)
    up = _axis([line.y for line in lines], _HIGH - _BOTTOM, _TOP)
    trials = "1 trial" if len(lines) == 1 else f"{len(lines)} trials"
    label = f"{name} over {x_label} of {trials}; the figures stand below"
    middle = (_LEFT + _WIDE - _RIGHT) / 2
    title = tag("text", x_label, x=middle, y=_HIGH - 5, text_anchor="middle")
    return tag(
        "svg", _grid(across, up), title, [_path(line, across, up) for line in lines],
        viewBox=f"0 0 {_WIDE} {_HIGH}", role="img", aria_label=label, class_="chart",
    )  # fmt: skip


def _axis(values: Sequence[Floats], start: float, end: float) -> _Axis:
    every = np.concatenate([*values, np.empty(0)])
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    if high / 4 - low / 4 < _LEAST:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    return _Axis(low, high, start, end)


def _grid(across: _Axis, up: _Axis) -> list[Markup]:
    """Return lines and numbers of both axes."""
    found = []
    for value in _ticks(up):
        y = float(up.at(np.array(value)))
        found.append(tag("line", x1=_LEFT, x2=_WIDE - _RIGHT, y1=y, y2=y, class_="grid"))
        found.append(tag("text", _number(value), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for value in _ticks(across):
        x = float(across.at(np.array(value)))
        found.append(tag("line", x1=x, x2=x, y1=_TOP, y2=_HIGH - _BOTTOM, class_="grid"))
        y = _HIGH - _BOTTOM + 16
        found.append(tag("text", _number(value), x=x, y=y, text_anchor="middle"))
    return found


def _ticks(axis: _Axis) -> list[float]:
    """Return four to eight round numbers within a axis."""
    span = axis.high / 4 - axis.low / 4  # a quarter: the whole may be no float
    power = 10.0 ** math.floor(math.log10(span))
    step = next((power * one for one in (1, 2, 5) if span <= power * one), power * 10)
    first = math.ceil(axis.low / step)
    found = [(first + i) * step for i in range(9)]
    return [one for one in found if axis.low <= one <= axis.high]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) > _LEAST else "0"


def _path(line: Line, across: _Axis, up: _Axis) -> Markup:
    """Return a line that is broken where a value is nan or infinite; a point alone is a dot."""
    chosen = thinned(line.y, _POINTS)
    x, y = across.at(line.x[chosen]), up.at(line.y[chosen])
    parts, begins = [], True
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            begins = True
            continue
        parts.append(f"{'M' if begins else 'L'}{a:g} {b:g}" + ("h0" if begins else ""))
        begins = False
    return tag("path", d=" ".join(parts), **_look(line.place))


def _look(place: int) -> dict[str, Any]:
    dash = _DASHES[place // _COLOURS % len(_DASHES)]
    return {"class_": f"line c{place % _COLOURS}", "stroke_dasharray": dash}


def swatch(place: int) -> Markup:
    """Return a piece of line as a trial's curves are drawn."""
    piece = tag("path", d="M1 5H33", **_look(place))
    return tag("svg", piece, viewBox="0 0 34 10", class_="swatch", aria_hidden="true")
