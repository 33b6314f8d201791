"""Trials as one HTML file to send to others: it asks no server, and nothing in it runs."""

from __future__ import annotations

import math
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from daskperiment.history.metrics import load_metrics
from daskperiment.history.stored_values import StoredObject
from daskperiment.history.tables import get_history
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.reports.embedded_artifacts import ArtifactGallery
from daskperiment.reports.line_charts import LOOKS, Line, line_chart, swatch
from daskperiment.reports.markup import Markup, data_table, tag
from daskperiment.reports.trial_sections import (
    differences,
    environments,
    moment,
    trial_section,
)
from daskperiment.store.protocol import Store

__all__ = ["html_report"]

_CHARTS = 40
_Series = dict[str, pd.Series]


def html_report(store: Store, experiment: str, trials: Sequence[int]) -> str:
    """Return a page about some trials of an experiment, the first of which others are compared to.

    All of it stands in the page, which refuses to load or run anything. Nothing is unpickled.
    """
    ids = list(dict.fromkeys(trials))
    parameters = {name for one in ids for name in trial_or_raise(store, one).parameters}
    series = {trial: load_metrics(store, trial) for trial in ids}
    gallery = ArtifactGallery(store)
    body = [
        _heading(experiment, ids),
        _overview(store, ids, parameters),
        _curves(series),
        differences(store, ids),
        [trial_section(store, trial, gallery) for trial in ids],
        list(environments(store, ids)),
    ]
    title = f"{experiment}: {_trials(ids)}"
    return f"<!DOCTYPE html>\n{tag('html', _head(title), _body(body), lang='en')}\n"


def _body(content: Sequence[Any]) -> Markup:
    return tag("body", tag("main", content))


def _head(title: str) -> Markup:
    # This style alone is let in, by its digest: none that a text would smuggle in.
    style = (files("daskperiment.reports") / "report.css").read_text(encoding="utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return tag(
        "head", tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title), tag("style", Markup(style)),
    )  # fmt: skip


def _trials(ids: Sequence[int]) -> str:
    return f"trial {ids[0]}" if len(ids) == 1 else f"{len(ids)} trials"


def _heading(experiment: str, ids: Sequence[int]) -> Markup:
    links = [[tag("a", f"Trial {one}", href=f"#trial-{one}"), " "] for one in ids]
    made = f"Made by daskperiment at {moment(time.time())}."
    return tag("header", tag("h1", experiment), tag("p", made, class_="quiet"),
               tag("nav", links, aria_label="Trials"))  # fmt: skip


# The trials side by side -------------------------------------------------------------------------


def _overview(store: Store, ids: Sequence[int], parameters: set[str]) -> Markup:
    """Return a table of the trials: results and metrics first, then parameters that differ."""
    frame = get_history(store, (), True, True, ids, expand=True, metrics=True)
    frame = frame.reindex(list(ids))
    frame = frame.loc[:, ~frame.columns.duplicated(keep="last")]
    parts = [name for name in frame.columns if str(name).startswith("Result.")]
    results = parts or ["Result"]
    metrics = [name for name in frame.columns if str(name).startswith("metrics.")]
    said = [name for name in ("Name", "Status", "Tags") if name in frame]
    known = [name for name in frame.columns if name in parameters]
    differ = [name for name in known if len(set(map(str, frame[name]))) > 1]
    names = list(dict.fromkeys([*said, *results, *metrics, *differ, "Process Time"]))
    # Column by column: pandas does not look for several names of which one has half a character.
    lines = zip(ids, *(frame[name] for name in names), strict=True)
    rows = [
        [tag("a", str(trial), href=f"#trial-{trial}"), *(_cell(value) for value in line)]
        for trial, *line in lines
    ]
    table = data_table("Trials", ["Trial", *names], rows)
    return tag("section", tag("h2", "Trials"), table)


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, StoredObject):
        return value.repr[:200] if not value.is_secret else repr(value)
    if isinstance(value, pd.Timedelta):
        return f"{value.total_seconds():.3g} s"
    if isinstance(value, float | np.floating):
        return (f"{value:.6g}", repr(float(value))) if not math.isnan(value) else ""
    return "" if value is None or value is pd.NaT or value is pd.NA else str(value)[:200]


# Curves ------------------------------------------------------------------------------------------


def _curves(series: dict[int, _Series]) -> Markup | None:
    names = sorted({name for one in series.values() for name in one})
    if not names:
        return None
    shown = [_chart(name, series) for name in names[:_CHARTS]]
    rest = len(names) - len(shown)
    left = tag("p", f"{rest} more metrics are left out.", class_="quiet") if rest else None
    return tag("section", tag("h2", "Metrics"), _legend(list(series)), shown, left)


def _legend(ids: Sequence[int]) -> Markup:
    items = [tag("li", swatch(at), f" Trial {one}") for at, one in enumerate(ids[:LOOKS])]
    return tag("ul", items, class_="legend")


def _chart(name: str, series: dict[int, _Series]) -> list[Markup]:
    found = {trial: one[name] for trial, one in series.items() if name in one}
    places = {trial: at for at, trial in enumerate(series)}
    is_numbered = all(pd.api.types.is_numeric_dtype(one.index) for one in found.values())
    lines = [_line(trial, places[trial], one, is_numbered) for trial, one in found.items()]
    drawn = [one for one in lines if one.place < LOOKS]
    chart = line_chart(name, drawn, "epoch" if is_numbered else "order of saving")
    headers = ["Trial", "Points", "Last", "Lowest", "Highest", "nan or inf"]
    figures = data_table(f"Figures of {name}", headers, map(_figures, lines))
    words = list(_remarks(lines, drawn))
    return [tag("h3", name), chart, *words,
            tag("details", tag("summary", "Figures"), figures)]  # fmt: skip


def _line(trial: int, place: int, values: pd.Series, is_numbered: bool) -> Line:
    y = pd.to_numeric(values, errors="coerce").to_numpy("float64", na_value=math.nan)
    x = values.index.to_numpy("float64") if is_numbered else np.arange(len(y), dtype="float64")
    return Line(trial, place, x, y)


def _remarks(lines: Sequence[Line], drawn: Sequence[Line]) -> Iterator[Markup]:
    odd = sum(len(one.y) - len(one.finite) for one in lines)
    if odd:
        told = f"{odd} of the points are nan, infinite or no number; there the line is broken."
        yield tag("p", told, class_="quiet")
    if len(drawn) < len(lines):
        told = f"The first {len(drawn)} of {len(lines)} trials are drawn."
        yield tag("p", told, class_="quiet")


def _figures(line: Line) -> list[Any]:
    known = line.finite
    ends = [float(known.min()), float(known.max())] if len(known) else [math.nan, math.nan]
    numbers = [f"{one:.6g}" for one in (float(line.y[-1]) if len(line.y) else math.nan, *ends)]
    return [line.trial, len(line.y), *numbers, len(line.y) - len(known)]
