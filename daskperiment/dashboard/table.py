"""The table of an experiment's trials, page by page."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any, NamedTuple

from daskperiment.dashboard.cells import Cell, cell
from daskperiment.dashboard.metric_cache import LatestMetrics, MetricCache
from daskperiment.dashboard.query import FIXED, Query, differing, value_of
from daskperiment.dashboard.trial_index import TrialIndex, TrialRow
from daskperiment.history.stored_values import MISSING
from daskperiment.store.protocol import Store

__all__ = ["TrialTable"]

_MOST = 200
"""Rows of a page at most."""
_MEASURED = 1_000
"""Trials at most whose metrics are read to sort by them."""
_TIMES = ("started", "finished")
_TITLES = {
    "step": "Result step",
    "reproduces": "Reproduces",
    "resumes": "Goes on from",
    "description": "Description",
}
_HIDDEN = ("finished", "step", "seed", "host", "user", "sweep", "reproduces", "resumes")


class _Selection(NamedTuple):
    """The trials that a query found, as long as nothing changed."""

    version: int
    ids: list[int]
    counts: dict[str, int]
    differing: set[str]


class TrialTable:
    """The trials of one experiment and their metrics, for as long as somebody looks at them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trials = TrialIndex(store)
        self._lock = threading.Lock()
        self._selections: dict[Query, _Selection] = {}
        self._resets = 0
        self._forget_metrics()

    def _forget_metrics(self) -> None:
        self.latest = LatestMetrics(self.store)
        self.metrics = MetricCache(self.store)

    def refresh(self) -> int:
        """Read what is new of the trials, and return the version."""
        version = self.trials.refresh()
        if self.trials.resets != self._resets:
            self._resets = self.trials.resets
            self._forget_metrics()
        return version

    def found(self, query: Query) -> list[int]:
        """Return the ids of the trials that a query finds, sorted as it says."""
        return self._selection(query).ids

    def page(self, query: Query, start: int, size: int) -> dict[str, Any]:
        """Return one page of the table as plain data."""
        selection = self._selection(query)
        size = max(1, min(size, _MOST))
        start = max(0, min(start, (len(selection.ids) - 1) // size * size))
        rows = self.trials.rows(selection.ids[start : start + size])
        latest = self.latest.get([row.trial for row in rows])
        metrics = sorted({name for values in latest.values() for name in values})
        columns = self._columns(metrics, selection)
        return {
            "version": selection.version,
            "total": len(self.trials.ids),
            "found": len(selection.ids),
            "counts": selection.counts,
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
                    "cells": [self._cell(row, c["key"], latest[row.trial]) for c in columns],
                }
                for row in rows
            ],
        }

    def _selection(self, query: Query) -> _Selection:
        with self._lock:
            selection = self._selections.get(query)
            # The metrics of running trials change without a trial that begins or ends.
            moves = query.column.startswith("m:") and bool(self.trials.running)
            if selection is None or selection.version != self.trials.version or moves:
                self._selections = {query: self._select(query)}
                selection = self._selections[query]
            return selection

    def _select(self, query: Query) -> _Selection:
        trials, names = self.trials, self.trials.names
        version = trials.version
        rows = trials.rows(trials.ids)
        counts: Counter[str] = Counter(row.status for row in rows)
        if query.is_filter:
            rows = [row for row in rows if query.holds(row, names, self.store)]
        return _Selection(version, self._sorted(query, rows), dict(counts), differing(rows, names))

    def _sorted(self, query: Query, rows: list[TrialRow]) -> list[int]:
        ids, column = [row.trial for row in rows], query.column
        if column == "trial":
            return ids[::-1] if query.descending else ids
        if not column.startswith("m:"):
            return query.sorted_ids((row.trial, value_of(row, column, self.store)) for row in rows)
        if len(ids) > _MEASURED:
            return ids[::-1]
        latest = self.latest.get(ids)
        return query.sorted_ids((trial, latest[trial].get(column[2:], MISSING)) for trial in ids)

    def _columns(self, metrics: list[str], selection: _Selection) -> list[dict[str, Any]]:
        names = self.trials.names
        columns = [_column("trial", "Trial", "fixed"), _column("status", "Status", "fixed")]
        for name in names:
            one = _column(f"p:{name}", name, "parameter")
            columns.append({**one, "differs": name in selection.differing})
        columns.append(_column("result", "Result", "result"))
        sorts = len(selection.ids) <= _MEASURED
        columns += [{**_column(f"m:{name}", name, "metric"), "sorts": sorts} for name in metrics]
        for key in ("started", "duration", "description", *_HIDDEN):
            one = _column(key, _TITLES.get(key, key.capitalize()), "fixed")
            columns.append({**one, "hidden": key in _HIDDEN})
        return columns

    def _cell(self, row: TrialRow, column: str, latest: dict[str, Any]) -> Cell:
        if column.startswith("m:"):
            return cell(latest.get(column[2:], MISSING))
        if column in _TIMES:
            value = FIXED[column](row)
            return ["", "none"] if value is MISSING or value == float("inf") else [value, "time"]
        if column == "duration":
            return _duration(row)
        return cell(value_of(row, column, self.store))


def _column(key: str, title: str, group: str) -> dict[str, Any]:
    return {"key": key, "title": title.strip() or "(empty)", "group": group, "sorts": True}


def _duration(row: TrialRow) -> Cell:
    if row.ended:
        finite = row.ended.elapsed < 1e12
        return [row.ended.elapsed, "duration"] if finite else ["", "none"]
    if row.status == "running":
        return [max(0.0, time.time() - row.begun.started), "duration"]
    return ["", "none"]
