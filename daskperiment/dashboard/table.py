"""The table of an experiment's trials, page by page."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from daskperiment.dashboard.cells import Cell, cell
from daskperiment.dashboard.grouping import grouped
from daskperiment.dashboard.metric_cache import MetricCache
from daskperiment.dashboard.short_terms import column_of_page, find, find_assuming
from daskperiment.dashboard.trial_index import LatestTrials, TrialIndex
from daskperiment.errors import FilterError
from daskperiment.history.curated import NOTHING_SAID
from daskperiment.history.filtering.comparing import sorted_rows
from daskperiment.history.filtering.language import Path, path_of, path_text
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import CodedColumn, Column, NumberColumn
from daskperiment.store.protocol import Store

__all__ = ["Look", "TrialTable", "differing"]

_MOST = 200
"""Rows of a page at most."""
_LONG = 20_000
"""Trials of a table from which on the memory is given back that it took to look through them."""
_ID = "Trial ID"
_FIXED: dict[str, tuple[str, bool]] = {
    "Started": ("Started", False), "Process Time": ("Duration", False),
    "Description": ("Description", False), "Finished": ("Finished", True),
    "Step": ("Result step", True), "Seed": ("Seed", True), "Host": ("Host", True),
    "User": ("User", True), "Sweep": ("Sweep", True), "Reproduces": ("Reproduces", True),
    "Resumes": ("Goes on from", True), "Notes": ("Notes", True),
}  # fmt: skip
"""Titles of the columns that stand last, and whether they are hidden until asked for."""

Rows = np.ndarray[Any, Any]


class Look(NamedTuple):
    """Which trials to show, and by which column they are sorted."""

    filter: str = ""
    """In the language of filters, or in short terms."""
    statuses: frozenset[str] = frozenset()
    """None stands for any."""
    sort: str = ""
    """A column; with ``-`` before it the highest come first."""
    archived: bool = False
    """Whether trials that are archived are shown, too."""


class _Selection:
    """The trials that a look finds, as long as nothing changed."""

    def __init__(
        self, version: int, table: HistoryTable, rows: Rows, became: str,
        counts: dict[str, int], archived: int,
    ) -> None:  # fmt: skip
        self.version = version
        self.table = table
        self.rows = rows
        self.became = became
        self.counts = counts
        self.archived = archived

    @cached_property
    def differing(self) -> set[str]:
        """Names of the parameters that are not the same in all of them."""
        return differing(self.table, self.rows)

    @cached_property
    def parts(self) -> list[Path]:
        """Paths to the parts of results."""
        return self.table.paths("Result")


def _give_back() -> None:
    """Have the C library return what is free to the system, for a server goes on for days."""
    with suppress(OSError, AttributeError, TypeError):  # others than GNU's have no such function
        ctypes.CDLL(None).malloc_trim(0)


class TrialTable:
    """The trials of one experiment and their metrics, for as long as somebody looks at them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trials = TrialIndex(store)
        self._lock = threading.Lock()
        self._selections: dict[Look, _Selection] = {}
        self._resets = 0
        self.metrics = MetricCache(store)
        self.asked = time.monotonic()
        """When somebody asked for it last."""

    def is_waited_for(self, since: float) -> bool:
        """Whether all trials are just being read, and somebody asked since then.

        Whoever forgets it would have that begun anew.
        """
        return self.trials.is_reading and self.asked >= since

    def refresh(self) -> int:
        """Read what is new of the trials, and return the version."""
        return self._renewed(self.trials.refresh())

    def glance(self) -> int:
        """Do the same, without waiting for all trials of a long history that nobody read yet."""
        return self._renewed(self.trials.glance())

    def _renewed(self, version: int) -> int:
        if self.trials.resets != self._resets:
            self._resets = self.trials.resets
            self.metrics = MetricCache(self.store)
        return version

    def found(self, look: Look) -> list[int]:
        """Return the ids of the trials that a look finds, sorted as it says."""
        selection = self._selection(look)
        ids: list[int] = selection.table.columns.trials[selection.rows].tolist()
        return ids

    def of(self, trials: list[int]) -> HistoryTable:
        """Return the rows of some trials, as far as they exist, in this order."""
        table = self.trials.table
        known = table.columns.trials
        if not len(known):
            return table
        places = np.minimum(np.searchsorted(known, trials), len(known) - 1).astype(int)
        return table.take(places[known[places] == np.array(trials, dtype="int64")])

    def page(self, look: Look, start: int, size: int, group: str = "") -> dict[str, Any]:
        """Return one page of the table as plain data, or trials grouped by a column."""
        selection = self._selection(look)
        size = max(1, min(size, _MOST))
        start = max(0, min(start, (len(selection.rows) - 1) // size * size))
        shown = selection.table.take(selection.rows[start : start + size])
        columns = self._columns(selection, shown)
        cells = [_cells(shown, each) for each in columns]
        for column, each in zip(columns, cells, strict=True):
            column["numeric"] = any(one[1] == "number" for one in each)
        statuses = shown.column(("Status",)).to_list()
        every = [shown.said.get(trial, NOTHING_SAID) for trial in shown.columns.trials.tolist()]
        rows = [
            {"trial": trial, "status": status, "archived": said.archived, "cells": list(line)}
            for trial, status, said, *line in zip(
                shown.columns.trials.tolist(), statuses, every, *cells, strict=True
            )
        ]
        for column in columns:
            del column["path"]
        return {
            "version": selection.version,
            "total": len(self.trials.table),
            "found": len(selection.rows),
            "counts": selection.counts,
            "archived": selection.archived,
            "running": self.trials.running,
            "reading": self.trials.reading,
            "damaged": self.trials.damaged,
            "resets": self.trials.resets,
            "deleted": bool(self.trials.resets and not len(self.trials.table)),
            "became": "" if selection.became == look.filter.strip() else selection.became,
            "start": start,
            "size": size,
            "columns": columns,
            "rows": rows,
            "groups": grouped(selection.table, selection.rows, group) if group else None,
        }

    def _selection(self, look: Look) -> _Selection:
        with self._lock:
            selection = self._selections.get(look)
            # The metrics of running trials change without a trial that begins or ends.
            asked = look.sort + look.filter
            moves = ("metrics" in asked or "m:" in asked) and self.trials.running
            if selection is None or selection.version != self.trials.version or moves:
                self._selections = {look: self._select(look, bool(moves))}
                selection = self._selections[look]
                if len(selection.table) >= _LONG:
                    _give_back()
            return selection

    def _select(self, look: Look, again: bool) -> _Selection:
        version = self.trials.version
        table = self.trials.again() if again else self.trials.table
        hidden = [trial for trial, one in table.said.items() if one.archived]
        archived = np.isin(table.columns.trials, hidden)  # of those that were not deleted since
        listed = np.ones(len(table), bool) if look.archived else ~archived
        statuses = table.column(("Status",)).coded()
        counts = _counts(statuses, listed)
        became, mask = _found(look.filter, table)
        if look.statuses:
            mask = mask & statuses.truths(lambda one: one in look.statuses)
        rows = _sorted(table, np.flatnonzero(mask & listed), look.sort)
        return _Selection(version, table, rows, became, counts, int(archived.sum()))

    def _columns(self, selection: _Selection, shown: HistoryTable) -> list[dict[str, Any]]:
        table = selection.table
        said = [table.said.get(one, NOTHING_SAID) for one in shown.columns.trials.tolist()]
        parts = selection.parts
        columns = [_column(_ID, "Trial", "fixed")]
        columns += [_column("Name", "Name", "fixed")] if any(one.name for one in said) else []
        columns.append(_column("Status", "Status", "fixed"))
        columns += [_column("Tags", "Tags", "fixed")] if any(one.tags for one in said) else []
        plain = not parts or any(row[1] not in ("none", "value") for row in _results(shown))
        columns.append(_column("Result", "Result", "result", not plain))
        columns += [_column(path_text(p), ".".join(p), "result", path=p) for p in parts]
        columns += [
            _column(path_text(("metrics", name)), name, "metric", path=("metrics", name))
            for name in shown.metric_names
        ]
        names = list(table.columns.parameters)
        for name in sorted(names, key=lambda one: one not in selection.differing):
            columns.append({**_parameter(name), "differs": name in selection.differing})
        for key, (title, hidden) in _FIXED.items():
            columns.append(_column(key, title, "fixed", hidden))
        return columns


def _found(filter: str, table: HistoryTable) -> tuple[str, Rows]:
    if not isinstance(table, LatestTrials):
        return find(filter, table)
    try:
        return find(filter, table.alone)
    except FilterError:
        return find_assuming(filter, table)


def _counts(column: CodedColumn, listed: Rows) -> dict[str, int]:
    """Return how many of some rows have each value; they are not looked at one by one."""
    codes = column.codes if listed.all() else column.codes[listed]
    found: dict[str, int] = {}
    for value, count in zip(
        column.values, np.bincount(codes + 1, minlength=column.count + 1)[1:].tolist(), strict=True
    ):
        if count:  # after joining columns a value may stand twice
            found[value] = found.get(value, 0) + count
    return found


def _results(shown: HistoryTable) -> list[Cell]:
    return [cell(value) for value in shown.column(("Result",)).to_list()]


def _sorted(table: HistoryTable, rows: Rows, sort: str) -> Rows:
    key = column_of_page(sort or "-trial", table)
    down = key.startswith("-") and key not in table.names
    path = path_of(key.removeprefix("-") if down else key, table.names)
    if path == (_ID,):
        return rows[::-1] if down else rows
    try:
        column = table.column(path)
        if len(rows) == len(column):
            return sorted_rows(column, down)
        ordered: Rows = rows[sorted_rows(column.take(rows), down)]
        return ordered
    except FilterError:
        return rows  # an address may name a column that is no more


def differing(table: HistoryTable, rows: Rows) -> set[str]:
    """Return the names of the parameters that are not the same in all of these rows."""
    columns = table.columns.parameters.items()
    return {name for name, column in columns if _differs(column, rows)}


def _differs(column: Column, rows: Rows) -> bool:
    few = column.take(rows)
    if not len(few):
        return False
    if isinstance(few, NumberColumn):
        present = few.present
        if present is not None and not present.all():
            return bool(present.any())
        return bool((few.values != few.values[0]).any() and not np.isnan(few.values).all())
    codes = np.flatnonzero(np.bincount(few.codes + 1)) - 1
    if len(codes) == 1:
        return False
    # After joining columns a value may stand twice.
    values = few.values
    kinds = {(type(values[c]), repr(values[c])) if c >= 0 else None for c in codes[:1000].tolist()}
    return len(kinds) > 1


def _column(
    key: str, title: str, group: str, hidden: bool = False, path: Path | None = None
) -> dict[str, Any]:
    return {
        "key": key, "title": title.strip() or "(empty)", "group": group, "hidden": hidden,
        "sorts": True, "path": path or (key,),
    }  # fmt: skip


def _parameter(name: str) -> dict[str, Any]:
    # One that is called like another column has no name of its own in the language.
    is_taken = name in (_ID, "Result", "Status", "Success", "Tags", "Name", *_FIXED)
    one = _column(f"p:{name}" if is_taken else name, name, "parameter")
    return {**one, "sorts": not is_taken}


def _cells(shown: HistoryTable, column: dict[str, Any]) -> list[Cell]:
    if column["group"] == "parameter":
        return (
            [cell(value) for value in shown.parameter(column["title"]).to_list()]
            if column["key"].startswith("p:")
            else _plain(shown, (column["key"],))
        )
    if column["key"] in ("Started", "Finished"):
        return [_time(value) for value in shown.column(column["path"]).to_list()]
    if column["key"] == "Process Time":
        return _durations(shown)
    if column["key"] == "Tags":
        return [[", ".join(tags), "text"] for tags in shown.column(("Tags",)).to_list()]
    return _plain(shown, column["path"])


def _plain(shown: HistoryTable, path: Path) -> list[Cell]:
    try:
        return [cell(value) for value in shown.column(path).to_list()]
    except FilterError:  # none of these rows has the part
        return [cell(MISSING)] * len(shown)


def _time(value: Any) -> Cell:
    return ["", "none"] if value is MISSING else [value, "time"]


def _durations(shown: HistoryTable) -> list[Cell]:
    spent = shown.column(("Process Time",)).to_list()
    begun, statuses = shown.column(("Started",)).to_list(), shown.column(("Status",)).to_list()
    return [
        [max(0.0, time.time() - start), "duration"] if status == "running" and start is not MISSING
        else ["", "none"] if elapsed is MISSING or elapsed >= 1e12 else [elapsed, "duration"]
        for elapsed, start, status in zip(spent, begun, statuses, strict=True)
    ]  # fmt: skip
