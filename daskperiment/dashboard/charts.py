"""The charts of selected trials: metrics over epochs or time, and parameters against results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from daskperiment.compare.wording import show
from daskperiment.dashboard.cells import as_number
from daskperiment.dashboard.figures import Curve, Theme, curve_figure, look_of, parallel, scatter
from daskperiment.dashboard.metric_cache import MetricSeries, TrialMetrics
from daskperiment.dashboard.query import differing
from daskperiment.dashboard.table import TrialTable
from daskperiment.dashboard.trial_index import TrialRow
from daskperiment.formatting import shorten
from daskperiment.history.stored_values import MISSING

__all__ = ["CurveStyle", "InfluenceOptions", "curve_columns", "draw_influence", "draw_metrics"]

_MOST_TRIALS = 24
_MOST_POINTS = 1_500
_MOST_CHARTS = 24
_INFLUENCE_TRIALS = 5_000
_INFLUENCE_LINES = 1_000
_INFLUENCE_METRICS = 1_000
"""Trials at most whose metrics are read to be drawn against parameters."""
_FACTORS = 40
_AXES = 12
_KEYS = 20

Floats = np.ndarray[Any, np.dtype[np.float64]]

# Metrics over epochs or time ---------------------------------------------------------------------


class CurveStyle(NamedTuple):
    """How curves are drawn."""

    over: str = "epoch"
    """``epoch`` or ``time``."""
    smooth: float = 0.0
    """From 0, as they are, to below 1."""
    log_x: bool = False
    log_y: bool = False
    theme: Theme = "light"


def draw_metrics(
    table: TrialTable, trials: Sequence[int], names: Sequence[str], style: CurveStyle,
    with_figures: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return a chart for each of these metrics, or for all that the trials have.

    Without figures there is only the data, to put into those that the page has.
    """
    rows = table.trials.rows(dict.fromkeys(trials))
    shown = rows[:_MOST_TRIALS]
    metrics = table.metrics.get([row.trial for row in shown])
    known = sorted({name for each in metrics.values() for name in each.series})
    wanted = [name for name in known if name in names] if names else known
    return {
        "trials": [
            {"trial": row.trial, "status": row.status, "look": look_of(place, style.theme)}
            for place, row in enumerate(shown)
        ],
        "left_out": len(rows) - len(shown),
        "charts_left_out": max(0, len(wanted) - _MOST_CHARTS),
        "missing": [trial for trial in dict.fromkeys(trials) if table.trials.row(trial) is None],
        "known": known,
        "charts": [_chart(n, shown, metrics, style, with_figures) for n in wanted[:_MOST_CHARTS]],
        "running": any(row.status == "running" for row in shown),
    }


def _chart(
    name: str, shown: Sequence[TrialRow], metrics: dict[int, TrialMetrics], style: CurveStyle,
    with_figure: bool,
) -> dict[str, Any]:  # fmt: skip
    drawn: list[Curve] = []
    hidden = 0
    # The place in the selection gives the look, so that a trial has the same in all charts.
    for place, row in enumerate(shown):
        series = metrics[row.trial].series.get(name)
        if series is not None and series.values:
            data = curve_columns(series, row.begun.started, style)
            drawn.append(Curve(row.trial, *look_of(place, style.theme), data))
            hidden += _not_positive(series, row.begun.started, style)
    label = "seconds since the start" if style.over == "time" else "epoch"
    figure = curve_figure(
        drawn, style.theme, x_label=label, log_x=style.log_x, log_y=style.log_y,
        smooth=style.smooth > 0,
    ) if with_figure else None  # fmt: skip
    every = [metrics[curve.trial].series[name] for curve in drawn]
    return {
        "metric": name,
        "label": label,
        "item": figure,
        "data": {f"trial{curve.trial}": _plain(curve) for curve in drawn},
        "summary": [_summary(c.trial, s) for c, s in zip(drawn, every, strict=True)],
        "by_order": style.over == "epoch" and not all(series.is_numbered for series in every),
        "passed_over": sum(series.passed_over for series in every),
        "not_positive": hidden,
    }


def _plain(curve: Curve) -> dict[str, list[float | None]]:
    data = {name: _finite(values) for name, values in curve.data.items()}
    return {**data, "trial": [curve.trial] * len(curve.data["x"])}


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in np.asarray(values).tolist()]


def _summary(trial: int, series: MetricSeries) -> dict[str, Any]:
    values = np.frombuffer(series.values, dtype="float64")
    finite = values[np.isfinite(values)]
    lowest, highest = (finite.min(), finite.max()) if len(finite) else (math.nan, math.nan)
    figures = {"last": values[-1], "lowest": lowest, "highest": highest}
    texts = {name: f"{number:.6g}" for name, number in figures.items()}
    return {"trial": trial, "points": len(values), **texts}


def curve_columns(
    series: MetricSeries, started: float, style: CurveStyle
) -> dict[str, list[float]]:
    """Return the columns ``x``, ``y`` and ``raw`` of a curve; of an epoch saved again, the last."""
    x, raw = _places(series, started, style)
    smoothed = _smoothed(raw, style.smooth)
    if style.log_x:
        x, raw, smoothed = x[x > 0], raw[x > 0], smoothed[x > 0]
    if style.log_y:
        raw, smoothed = np.where(raw > 0, raw, np.nan), np.where(smoothed > 0, smoothed, np.nan)
    chosen = _thinned(raw)
    columns = {"x": x, "y": smoothed, "raw": raw}
    return {name: values[chosen].tolist() for name, values in columns.items()}


def _places(series: MetricSeries, started: float, style: CurveStyle) -> tuple[Floats, Floats]:
    # Copies: the arrays grow while they are followed.
    raw = np.array(series.values, dtype="float64")
    if style.over == "time":
        return np.array(series.times, dtype="float64")[: len(raw)] - started, raw
    x = np.array(series.epochs, dtype="float64")[: len(raw)]
    if len(x) < 2 or (x[1:] > x[:-1]).all():
        return x, raw
    _, last = np.unique(x[::-1], return_index=True)
    kept = len(x) - 1 - last
    return x[kept], raw[kept]


def _not_positive(series: MetricSeries, started: float, style: CurveStyle) -> int:
    """Return the number of points for which a logarithmic axis has no place."""
    x, raw = _places(series, started, style)
    return int(((style.log_x & (x <= 0)) | (style.log_y & (raw <= 0))).sum())


def _smoothed(values: Floats, factor: float) -> Floats:
    """Return the moving average with weights that fall by a factor; the start counts as fully."""
    factor = min(max(factor, 0.0), 0.999)
    if not factor:
        return values
    finite = np.isfinite(values)
    known = pd.Series(np.where(finite, values, np.nan))
    means = known.ewm(alpha=1 - factor, adjust=True, ignore_na=True).mean().to_numpy()
    return np.where(finite, means, values)


def _thinned(values: Floats) -> Any:
    """Return the lowest and the highest place of each stretch, so that no peak is lost."""
    if len(values) <= _MOST_POINTS:
        return slice(None)
    edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    low, high = np.nan_to_num(values, nan=np.inf), np.nan_to_num(values, nan=-np.inf)
    chosen = {0, len(values) - 1}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        chosen.add(start + int(low[start:end].argmin()))
        chosen.add(start + int(high[start:end].argmax()))
    return sorted(chosen)


# Parameters against results ----------------------------------------------------------------------


class InfluenceOptions(NamedTuple):
    """What is to be drawn against what."""

    across: str = ""
    """A parameter; the first that differs if it is none."""
    up: str = ""
    """``result``, ``result:key``, ``duration`` or ``m:metric``."""
    log_x: bool = False
    log_y: bool = False
    theme: Theme = "light"


def draw_influence(
    table: TrialTable, trials: Sequence[int], options: InfluenceOptions
) -> dict[str, Any]:
    """Return both figures of these trials, the latest of them if they are very many."""
    rows = table.trials.rows(sorted(trials)[-_INFLUENCE_TRIALS:])
    names = table.trials.names
    found = differing(rows, names)
    differ = [name for name in names if name in found]
    ups = _ups(table, rows)
    across = next((name for name in (options.across, *differ, *names) if name in names), "")
    up = next((key for key in (options.up, *ups) if key in ups), "")
    heights = ups[up][1] if up else {}
    choices = {
        "parameters": [{"name": name, "differs": name in differ} for name in names],
        "ups": [{"key": key, "title": title} for key, (title, _) in ups.items()],
        "across": across,
        "up": up,
        "trials": len(trials),
        "left_out": len(trials) - len(rows),
    }
    if not across or not heights:
        return {**choices, "scatter": None, "parallel": None, "drawn": 0}
    data = _points(table, rows, across, heights)
    title, theme = ups[up][0], options.theme
    log_x = options.log_x and all(isinstance(x, float) and x > 0 for x in data["x"])
    log_y = options.log_y and all(y > 0 for y in data["y"])
    refused = {"x": options.log_x and not log_x, "y": options.log_y and not log_y}
    axes = differ[:_AXES]
    return {
        **choices,
        "drawn": len(data["x"]),
        "log_refused": [axis for axis, is_refused in refused.items() if is_refused],
        "axes_left_out": len(differ) - len(axes),
        "lines_left_out": max(0, len(heights) - _INFLUENCE_LINES),
        "scatter": scatter(data, theme, names=(across, title), log_x=log_x, log_y=log_y),
        "parallel": _parallel(table, rows, axes, title, heights, theme) if axes else None,
    }


_Ups = dict[str, tuple[str, dict[int, float]]]


def _ups(table: TrialTable, rows: Sequence[TrialRow]) -> _Ups:
    """Return what can be drawn upwards: key -> title, and the value of each trial."""
    found: _Ups = {"result": ("Result", {})}
    for row in rows:
        value = row.result(table.store)
        if isinstance(value, dict):
            for key, part in list(value.items())[:_KEYS]:
                text = shorten(str(key), 40)
                _put(found, f"result:{text}", f"Result: {text}", row.trial, part)
        else:
            # Of a result that is a truth value, True is up.
            number = int(value) if isinstance(value, bool) else value
            _put(found, "result", "Result", row.trial, number)
    if len(rows) <= _INFLUENCE_METRICS:
        for trial, values in table.latest.get([row.trial for row in rows]).items():
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
    table: TrialTable, rows: Sequence[TrialRow], name: str, heights: dict[int, float]
) -> dict[str, list[Any]]:
    drawn = [row for row in rows if row.trial in heights]
    values = [row.parameter(name, table.store) for row in drawn]
    numbers = [as_number(value) for value in values]
    are_finite = all(number is not None and math.isfinite(number) for number in numbers)
    xs: list[Any] = numbers if are_finite else _categories(values)
    return {"x": xs, "y": [heights[row.trial] for row in drawn], "trial": [r.trial for r in drawn]}


def _categories(values: Sequence[Any]) -> list[str]:
    texts = [_word(value) for value in values]
    known = set(list(dict.fromkeys(texts))[: _FACTORS - 1])
    return [text if text in known else "(others)" for text in texts]


def _word(value: Any) -> str:
    if value is MISSING:
        return "(none)"
    return shorten(value if isinstance(value, str) else show(value), 24) or "(empty)"


def _parallel(
    table: TrialTable, rows: Sequence[TrialRow], names: Sequence[str], title: str,
    heights: dict[int, float], theme: Theme,
) -> Any:  # fmt: skip
    drawn = [row for row in rows if row.trial in heights][-_INFLUENCE_LINES:]
    colours = [heights[row.trial] for row in drawn]
    columns = [[row.parameter(name, table.store) for row in drawn] for name in names]
    places, lowest, highest = zip(*map(_scaled, [*columns, colours]), strict=True)
    titles = [shorten(name, 18) for name in (*names, title)]
    axes = list(zip(titles, lowest, highest, strict=True))
    lines = zip((row.trial for row in drawn), zip(*places, strict=True), colours, strict=True)
    return parallel(axes, list(lines), theme)


def _scaled(values: Sequence[Any]) -> tuple[list[float], str, str]:
    """Return values between 0 and 1, and the ends as texts; what is no number stands in order."""
    numbers = [as_number(value) for value in values]
    finite = [n for n in numbers if n is not None and math.isfinite(n)]
    if len(finite) == len(values) and values:
        low, high = min(finite), max(finite)
        places = [(n - low) / (high - low) if high > low else 0.5 for n in finite]
        return places, f"{low:.4g}", f"{high:.4g}"
    words = [_word(value) for value in values]
    different = sorted(set(words)) or [""]
    last = len(different) - 1
    place = {word: i / last if last else 0.5 for i, word in enumerate(different)}
    return [place[word] for word in words], shorten(different[0], 14), shorten(different[-1], 14)
