"""The charts of selected trials: their metrics over epochs or time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from daskperiment.dashboard.figures import Curve, Theme, curve_figure, look_of
from daskperiment.dashboard.metric_cache import MetricSeries, TrialMetrics
from daskperiment.dashboard.table import TrialTable
from daskperiment.history.stored_values import MISSING

__all__ = ["CurveStyle", "curve_columns", "draw_metrics"]

_MOST_TRIALS = 24
_MOST_POINTS = 1_500
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
        "missing": [one for one in dict.fromkeys(trials) if one not in {row.trial for row in rows}],
        "known": known,
        "charts": [_chart(n, shown, metrics, style, with_figures) for n in wanted[:_MOST_CHARTS]],
        "running": any(row.status == "running" for row in shown),
    }


def _chart(
    name: str, shown: Sequence[_DrawnTrial], metrics: dict[int, TrialMetrics], style: CurveStyle,
    with_figure: bool,
) -> dict[str, Any]:  # fmt: skip
    drawn: list[Curve] = []
    hidden = 0
    # The place in the selection gives the look, so that a trial has the same in all charts.
    for place, row in enumerate(shown):
        series = metrics[row.trial].series.get(name)
        if series is not None and series.values:
            data = curve_columns(series, row.started, style)
            drawn.append(Curve(row.trial, *look_of(place, style.theme), data))
            hidden += _not_positive(series, row.started, style)
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
