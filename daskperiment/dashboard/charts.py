"""The charts of selected trials: their metrics over epochs or time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from daskperiment.dashboard.figures import (
    Curve,
    Theme,
    band_figure,
    curve_figure,
    look_of,
    shaded_figure,
    shades,
)
from daskperiment.dashboard.metric_cache import MetricSeries, TrialMetrics
from daskperiment.dashboard.table import TrialTable
from daskperiment.history.metric_columns import thinned
from daskperiment.history.stored_values import MISSING
from daskperiment.records import SYSTEM

__all__ = ["CurveStyle", "curve_columns", "draw_metrics"]

_MOST_LINES = 24
"""Curves that colours and dashes tell apart; more are shaded, or shown as mean and band."""
_MOST_TRIALS = 500
_MOST_POINTS = 1_500
_POINTS_OF_ALL = 60_000
_MOST_SUMMARIES = 100
_SIGNS = {"nan": "x", "inf": "triangle", "-inf": "inverted_triangle"}
_MARKS = 200
"""Points without a finite value that are marked in one curve."""
_MOST_CHARTS = 24

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
    many: Literal["shade", "band"] = "shade"
    """What more than 24 trials are: lines in shades, or their mean and a band around it."""
    theme: Theme = "light"


class _DrawnTrial(NamedTuple):
    """A trial whose curves are drawn."""

    trial: int
    status: str
    started: float


def _drawn(table: TrialTable, trials: Sequence[int]) -> list[_DrawnTrial]:
    rows = table.of(list(dict.fromkeys(trials)))
    statuses, started = (rows.column((name,)).to_list() for name in ("Status", "Started"))
    each = zip(rows.columns.trials.tolist(), statuses, started, strict=True)
    return [_DrawnTrial(trial, status, 0.0 if start is MISSING else start)
            for trial, status, start in each]  # fmt: skip


def draw_metrics(
    table: TrialTable, trials: Sequence[int], names: Sequence[str], style: CurveStyle,
    with_figures: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return a chart for each of these metrics, or for all that the trials have.

    Without figures there is only the data, to put into those that the page has.
    """
    rows = _drawn(table, trials)
    shown = rows[:_MOST_TRIALS]
    ids = [row.trial for row in shown]
    sources = table.trials.latest.sources(ids)
    metrics = table.metrics.get(
        {*ids, *(one for each in sources.values() for one in each.values())}, names or None
    )
    series = [_of_trial(row.trial, metrics, sources[row.trial]) for row in shown]
    # What the trials used of the machine stands apart, behind what they saved.
    known = sorted(_names(ids, metrics, sources), key=_apart)
    wanted = [name for name in known if name in names] if names else known
    is_many = len(shown) > _MOST_LINES
    draw = _chart_of_many if is_many else _chart
    return {
        "trials": [] if is_many else [
            {"trial": row.trial, "status": row.status, "look": look_of(place, style.theme)}
            for place, row in enumerate(shown)
        ],
        "count": len(shown),
        "many": style.many if is_many else "",
        "shades": shades(style.theme) if is_many else [],
        "left_out": len(rows) - len(shown),
        "charts_left_out": max(0, len(wanted) - _MOST_CHARTS),
        "missing": [one for one in dict.fromkeys(trials) if one not in {row.trial for row in rows}],
        "known": known,
        "charts": [draw(n, shown, series, style, with_figures) for n in wanted[:_MOST_CHARTS]],
        "running": any(row.status == "running" for row in shown),
    }  # fmt: skip


_Series = dict[str, MetricSeries]


def _apart(name: str) -> tuple[bool, str]:
    return name.startswith(SYSTEM), name


def _names(
    trials: Sequence[int], metrics: dict[int, TrialMetrics], sources: dict[int, dict[str, int]]
) -> set[str]:
    """Return the names of the metrics of trials, and of those that came with what they reused."""
    names = set().union(*(metrics[trial].names for trial in trials))
    for trial in trials:
        names.update(name for name, one in sources[trial].items() if name in metrics[one].names)
    return names


def _of_trial(trial: int, metrics: dict[int, TrialMetrics], sources: dict[str, int]) -> _Series:
    """Return the metrics of a trial, and those that came with what it reused."""
    reused = {
        name: metrics[source].series[name]
        for name, source in sources.items()
        if name in metrics[source].series
    }
    return {**reused, **metrics[trial].series}


def _chart(
    name: str, shown: Sequence[_DrawnTrial], series: Sequence[_Series], style: CurveStyle,
    with_figure: bool,
) -> dict[str, Any]:  # fmt: skip
    drawn: list[Curve] = []
    each = _with_points(name, shown, series)
    for place, row, one in each:
        data = curve_columns(one, row.started, style)
        # The place in the selection gives the look, so that a trial has the same in all charts.
        look = look_of(place, style.theme)
        drawn.append(Curve(row.trial, *look, data, _odd(row, one, style)))
    figure = curve_figure(
        drawn, style.theme, x_label=_label(style), log_x=style.log_x, log_y=style.log_y,
        smooth=style.smooth > 0,
    ) if with_figure else None  # fmt: skip
    lines: dict[str, Any] = {f"trial{curve.trial}": _plain(curve) for curve in drawn}
    odd: dict[str, Any] = {f"odd{curve.trial}": dict(curve.odd) for curve in drawn}
    return {**_told(name, each, style), "item": figure, "data": {**lines, **odd}}


def _chart_of_many(
    name: str, shown: Sequence[_DrawnTrial], series: Sequence[_Series], style: CurveStyle,
    with_figure: bool,
) -> dict[str, Any]:  # fmt: skip
    each = _with_points(name, shown, series)
    most = max(40, _POINTS_OF_ALL // max(1, len(each)))
    columns = [curve_columns(one, row.started, style, most) for _, row, one in each]
    scales: dict[str, Any] = {"x_label": _label(style), "log_x": style.log_x, "log_y": style.log_y}
    data: dict[str, Any]
    if style.many == "band":
        data = {"band": _band(columns, style)}
        figure = band_figure(data["band"], style.theme, **scales) if with_figure else None
    else:
        data = {"many": {
            "xs": [one["x"] for one in columns],
            "ys": [_finite(one["y"]) for one in columns],
            "shade": [place for place, _, _ in each],
            "trial": [row.trial for _, row, _ in each],
        }}  # fmt: skip
        figure = shaded_figure(data["many"], style.theme, **scales) if with_figure else None
    return {**_told(name, each, style), "item": figure, "data": data}


_Points = list[tuple[int, _DrawnTrial, MetricSeries]]


def _with_points(name: str, shown: Sequence[_DrawnTrial], series: Sequence[_Series]) -> _Points:
    pairs = zip(shown, (one.get(name) for one in series), strict=True)
    return [(place, row, one) for place, (row, one) in enumerate(pairs) if one and one.values]


def _label(style: CurveStyle) -> str:
    return "seconds since the start" if style.over == "time" else "epoch"


def _told(name: str, each: _Points, style: CurveStyle) -> dict[str, Any]:
    """Return what is said of a chart beside its figure."""
    values = [np.frombuffer(one.values, dtype="float64") for _, _, one in each]
    every = np.concatenate(values) if values else np.empty(0)
    return {
        "metric": name,
        "system": name.startswith(SYSTEM),
        "label": _label(style),
        "curves": len(each),
        "summary": [_summary(row.trial, one) for _, row, one in each[:_MOST_SUMMARIES]],
        "by_order": style.over == "epoch" and not all(one.is_numbered for _, _, one in each),
        "passed_over": sum(one.passed_over for _, _, one in each),
        "not_positive": sum(_not_positive(one, row.started, style) for _, row, one in each),
        "nan": int(np.isnan(every).sum()),
        "inf": int(np.isinf(every).sum()),
    }


def _odd(row: _DrawnTrial, series: MetricSeries, style: CurveStyle) -> dict[str, list[Any]]:
    """Return where to mark points that are nan or infinite: at the last finite value before."""
    x, raw = _places(series, row.started, style)
    odd = np.flatnonzero(~np.isfinite(raw))[:_MARKS]
    if not len(odd):
        return {"x": [], "y": [], "what": [], "sign": [], "trial": []}
    finite = np.flatnonzero(np.isfinite(raw))
    before = np.searchsorted(finite, odd) - 1
    heights = raw[finite[np.maximum(before, 0)]] if len(finite) else np.zeros(len(odd))
    words = ["nan" if np.isnan(raw[at]) else "inf" if raw[at] > 0 else "-inf" for at in odd]
    return {
        "x": x[odd].tolist(), "y": heights.tolist(), "what": words,
        "sign": [_SIGNS[word] for word in words], "trial": [row.trial] * len(odd),
    }  # fmt: skip


def _band(columns: Sequence[dict[str, list[float]]], style: CurveStyle) -> dict[str, list[Any]]:
    """Return the mean of curves over what they share, their deviation, lowest and highest."""
    import pandas as pd  # noqa: PLC0415  # large, and other curves do without

    x = np.concatenate([np.array(one["x"], dtype="float64") for one in columns] or [np.empty(0)])
    y = np.concatenate([np.array(one["y"], dtype="float64") for one in columns] or [np.empty(0)])
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) and (style.over == "time" or len(np.unique(x)) > _MOST_POINTS):
        edges = np.linspace(x.min(), x.max(), 201)
        x = edges[np.clip(np.searchsorted(edges, x, "right") - 1, 0, 199)]
    by = pd.Series(y).groupby(x)
    mean, deviation = by.mean(), by.std().fillna(0.0)
    columns_of_band = {
        "x": mean.index, "mean": mean, "low": mean - deviation, "high": mean + deviation,
        "lowest": by.min(), "highest": by.max(), "of": by.count(),
    }  # fmt: skip
    return {name: list(map(float, values)) for name, values in columns_of_band.items()}


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
    odd = len(values) - len(finite)
    return {"trial": trial, "points": len(values), "odd": odd, **texts}


def curve_columns(
    series: MetricSeries, started: float, style: CurveStyle, most: int = _MOST_POINTS
) -> dict[str, list[float]]:
    """Return the columns ``x``, ``y`` and ``raw`` of a curve; of an epoch saved again, the last."""
    known = series.drawn
    key = (len(series.values), started, style, most)
    if known is None or known[0] != key:
        # While others grow, a curve that does not is not drawn anew.
        known = series.drawn = key, _columns(series, started, style, most)
    columns: dict[str, list[float]] = known[1]
    return columns


def _columns(
    series: MetricSeries, started: float, style: CurveStyle, most: int
) -> dict[str, list[float]]:
    x, raw = _places(series, started, style)
    smoothed = _smoothed(raw, style.smooth)
    if style.log_x:
        x, raw, smoothed = x[x > 0], raw[x > 0], smoothed[x > 0]
    if style.log_y:
        raw, smoothed = np.where(raw > 0, raw, np.nan), np.where(smoothed > 0, smoothed, np.nan)
    chosen = thinned(raw, most)
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
    import pandas as pd  # noqa: PLC0415  # as above

    finite = np.isfinite(values)
    known = pd.Series(np.where(finite, values, np.nan))
    means = known.ewm(alpha=1 - factor, adjust=True, ignore_na=True).mean().to_numpy()
    return np.where(finite, means, values)
