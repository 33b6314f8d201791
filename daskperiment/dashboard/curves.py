"""Metrics of selected trials over epochs or time, smoothed and thinned out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from daskperiment.dashboard.figures import Curve, Theme, curves, item, look_of
from daskperiment.dashboard.points import Series
from daskperiment.dashboard.table import Desk

__all__ = ["MOST_TRIALS", "Style", "columns", "draw"]

MOST_TRIALS = 24
_MOST_POINTS = 1_500
_MOST_CHARTS = 24

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Style(NamedTuple):
    """How curves are drawn."""

    over: str = "epoch"
    """``epoch`` or ``time``."""
    smooth: float = 0.0
    """From 0, as they are, to below 1."""
    log_x: bool = False
    log_y: bool = False
    theme: Theme = "light"


def draw(
    desk: Desk, trials: Sequence[int], names: Sequence[str], style: Style, with_figures: bool
) -> dict[str, Any]:
    """Make a chart for each metric.

    Parameters
    ----------
    desk : Desk
        The experiment.
    trials : sequence of int
        At most `MOST_TRIALS` of them are drawn.
    names : sequence of str
        Metrics; all that the trials have if there is none.
    with_figures : bool
        Whether to make new figures, or only the data to put into those that are there.
    """
    rows = desk.trials.rows(dict.fromkeys(trials))
    shown = rows[:MOST_TRIALS]
    tracks = desk.tracks.get([row.trial for row in shown])
    known = sorted({name for track in tracks.values() for name in track.series})
    wanted = [name for name in known if name in names] if names else known
    charts = []
    for name in wanted[:_MOST_CHARTS]:
        drawn, hidden = [], 0
        for place, row in enumerate(shown):
            series = tracks[row.trial].series.get(name)
            if series is not None and series.values:
                data = columns(series, row.begun.started, style)
                drawn.append(Curve(row.trial, *look_of(place, style.theme), data))
                hidden += _not_positive(series, row.begun.started, style)
        chart = _chart(name, drawn, tracks, style, with_figures)
        charts.append({**chart, "not_positive": hidden})
    return {
        "trials": [
            {"trial": row.trial, "status": row.status, "look": look_of(place, style.theme)}
            for place, row in enumerate(shown)
        ],
        "left_out": len(rows) - len(shown),
        "charts_left_out": max(0, len(wanted) - _MOST_CHARTS),
        "missing": [trial for trial in dict.fromkeys(trials) if desk.trials.row(trial) is None],
        "known": known,
        "charts": charts,
        "running": any(row.status == "running" for row in shown),
    }


def _chart(
    name: str, drawn: list[Curve], tracks: Any, style: Style, with_figure: bool
) -> dict[str, Any]:
    label = "seconds since the start" if style.over == "time" else "epoch"
    plot = (
        curves(
            drawn, style.theme, x_label=label, log_x=style.log_x, log_y=style.log_y,
            smooth=style.smooth > 0,
        )
        if with_figure
        else None
    )  # fmt: skip
    every = [tracks[curve.trial].series[name] for curve in drawn]
    return {
        "metric": name,
        "label": label,
        "item": item(plot) if plot is not None else None,
        "data": {f"trial{curve.trial}": _plain(curve) for curve in drawn},
        "summary": [_summary(c.trial, s) for c, s in zip(drawn, every, strict=True)],
        "by_order": style.over == "epoch" and not all(series.is_numbered for series in every),
        "passed_over": sum(series.passed_over for series in every),
    }


def _plain(curve: Curve) -> dict[str, list[float | None]]:
    data = {name: _finite(values) for name, values in curve.data.items()}
    return {**data, "trial": [curve.trial] * len(curve.data["x"])}


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in np.asarray(values).tolist()]


def _summary(trial: int, series: Series) -> dict[str, Any]:
    values = np.frombuffer(series.values, dtype="float64")
    finite = values[np.isfinite(values)]
    edge = (finite.min(), finite.max()) if len(finite) else (math.nan, math.nan)
    figures = {"last": values[-1], "lowest": edge[0], "highest": edge[1]}
    return {
        "trial": trial,
        "points": len(values),
        **{name: f"{number:.6g}" for name, number in figures.items()},
    }


def columns(series: Series, started: float, style: Style) -> dict[str, list[float]]:
    """Give the columns ``x``, ``y`` and ``raw`` of a curve; of an epoch saved again, the last."""
    x, raw = _places(series, started, style)
    smoothed = _smoothed(raw, style.smooth)
    if style.log_x:
        x, raw, smoothed = x[x > 0], raw[x > 0], smoothed[x > 0]
    if style.log_y:
        raw, smoothed = np.where(raw > 0, raw, np.nan), np.where(smoothed > 0, smoothed, np.nan)
    chosen = _thinned(raw)
    return {
        "x": x[chosen].tolist(),
        "y": smoothed[chosen].tolist(),
        "raw": raw[chosen].tolist(),
    }


def _places(series: Series, started: float, style: Style) -> tuple[Floats, Floats]:
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


def _not_positive(series: Series, started: float, style: Style) -> int:
    """Count the points for which a logarithmic axis has no place."""
    if not (style.log_x or style.log_y):
        return 0
    x, raw = _places(series, started, style)
    none = np.zeros(len(x), dtype=bool)
    return int(((x <= 0 if style.log_x else none) | (raw <= 0 if style.log_y else none)).sum())


def _smoothed(values: Floats, factor: float) -> Floats:
    """Take the moving average with weights that fall by a factor; the start counts as fully."""
    factor = min(max(factor, 0.0), 0.999)
    if not factor:
        return values
    finite = np.isfinite(values)
    known = pd.Series(np.where(finite, values, np.nan))
    means = known.ewm(alpha=1 - factor, adjust=True, ignore_na=True).mean().to_numpy()
    return np.where(finite, means, values)


def _thinned(values: Floats) -> Any:
    """Choose the lowest and the highest value of each stretch, so that no peak is lost."""
    if len(values) <= _MOST_POINTS:
        return slice(None)
    edges = np.linspace(0, len(values), _MOST_POINTS // 2 + 1).astype(int)
    low, high = np.nan_to_num(values, nan=np.inf), np.nan_to_num(values, nan=-np.inf)
    chosen = {0, len(values) - 1}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        chosen.add(start + int(low[start:end].argmin()))
        chosen.add(start + int(high[start:end].argmax()))
    return sorted(chosen)
