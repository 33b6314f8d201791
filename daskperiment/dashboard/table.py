"""One page of the table of trials."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from daskperiment.dashboard.following import Row, Trials
from daskperiment.dashboard.points import Lasts, Tracks
from daskperiment.dashboard.query import FIXED, Query, differing, value_of
from daskperiment.dashboard.texts import Cell, cell
from daskperiment.history.values import MISSING
from daskperiment.store.protocol import Store

__all__ = ["Desk"]

_MOST = 200
"""Rows of a page at most."""
_MEASURED = 1_000
"""Trials at most whose metrics are read to sort by them."""
_TIMES = ("started", "finished")
_TITLES = {"step": "Result step", "reproduces": "Reproduces", "description": "Description"}
_HIDDEN = ("finished", "step", "seed", "host", "user", "sweep", "reproduces")


class _View(NamedTuple):
    """The trials that a query found, as long as nothing changed."""

    version: int
    order: list[int]
    counts: dict[str, int]
    differing: set[str]


class Desk:
    """All that a dashboard keeps of one experiment while somebody looks at it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trials = Trials(store)
        self.lasts = Lasts(store)
        self.tracks = Tracks(store)
        self._lock = threading.Lock()
        self._views: dict[Query, _View] = {}
        self._oldest = 0

    def refresh(self) -> int:
        """Read what is new of the trials."""
        version = self.trials.refresh()
        if self.trials.resets != self._oldest:
            self._oldest = self.trials.resets
            self.lasts.clear()
            self.tracks.clear()
        return version

    def found(self, query: Query) -> list[int]:
        """Give the ids of the trials that a query finds, in its order."""
        return self._view(query).order

    def page(self, query: Query, start: int, size: int) -> dict[str, Any]:
        """Give one page of the table as plain data."""
        view = self._view(query)
        size = max(1, min(size, _MOST))
        start = max(0, min(start, (len(view.order) - 1) // size * size))
        rows = self.trials.rows(view.order[start : start + size])
        lasts = self.lasts.get([row.trial for row in rows])
        metrics = sorted({name for values in lasts.values() for name in values})
        columns = self._columns(metrics, view)
        return {
            "version": view.version,
            "total": len(self.trials.ids),
            "found": len(view.order),
            "counts": view.counts,
            "running": len(self.trials.running),
            "damaged": self.trials.damaged,
            "resets": self.trials.resets,
            "deleted": bool(self.trials.resets and not self.trials.ids),
            "start": start,
            "size": size,
            "columns": columns,
            "rows": [
                {
                    "trial": row.trial,
                    "status": row.status,
                    "cells": [self._cell(row, c["key"], lasts[row.trial]) for c in columns],
                }
                for row in rows
            ],
        }

    def _view(self, query: Query) -> _View:
        with self._lock:
            view = self._views.get(query)
            # The metrics of running trials change without a trial that begins or ends.
            moves = query.column.startswith("m:") and bool(self.trials.running)
            if view is None or view.version != self.trials.version or moves:
                self._views = {query: self._look(query)}
                view = self._views[query]
            return view

    def _look(self, query: Query) -> _View:
        trials, names = self.trials, self.trials.names
        version, ids = trials.version, trials.ids
        rows = trials.rows(ids)
        counts: Counter[str] = Counter(row.status for row in rows)
        if query.is_filter:
            rows = [row for row in rows if query.holds(row, names, self.store)]
        if query.column == "trial":
            order = [row.trial for row in rows]
            order = order[::-1] if query.descending else order
        elif query.column.startswith("m:"):
            order = self._by_metric(query, rows)
        else:
            order = query.order(rows, self.store)
        return _View(version, order, dict(counts), differing(rows, names))

    def _by_metric(self, query: Query, rows: list[Row]) -> list[int]:
        ids = [row.trial for row in rows]
        if len(ids) > _MEASURED:
            return ids[::-1]
        lasts, name = self.lasts.get(ids), query.column[2:]
        return query.arrange((trial, lasts[trial].get(name, MISSING)) for trial in ids)

    def _columns(self, metrics: list[str], view: _View) -> list[dict[str, Any]]:
        names = self.trials.names
        columns = [_column("trial", "Trial", "fixed"), _column("status", "Status", "fixed")]
        for name in names:
            one = _column(f"p:{name}", name, "parameter")
            columns.append({**one, "differs": name in view.differing})
        columns.append(_column("result", "Result", "result"))
        sorts = len(view.order) <= _MEASURED
        columns += [{**_column(f"m:{name}", name, "metric"), "sorts": sorts} for name in metrics]
        fixed = ["started", "duration", "description", *_HIDDEN]
        for key in fixed:
            one = _column(key, _TITLES.get(key, key.capitalize()), "fixed")
            columns.append({**one, "hidden": key in _HIDDEN})
        return columns

    def _cell(self, row: Row, column: str, lasts: dict[str, Any]) -> Cell:
        if column.startswith("m:"):
            return cell(lasts.get(column[2:], MISSING))
        if column in _TIMES:
            value = FIXED[column](row)
            return ["", "none"] if value is MISSING or value == float("inf") else [value, "time"]
        if column == "duration":
            return _duration(row)
        return cell(value_of(row, column, self.store))


def _column(key: str, title: str, group: str) -> dict[str, Any]:
    return {
        "key": key,
        "title": title.strip() or "(empty)",
        "group": group,
        "sorts": True,
    }


def _duration(row: Row) -> Cell:
    if row.ended:
        finite = row.ended.elapsed < 1e12
        return [row.ended.elapsed, "duration"] if finite else ["", "none"]
    if row.status == "running":
        return [max(0.0, time.time() - row.begun.started), "duration"]
    return ["", "none"]
