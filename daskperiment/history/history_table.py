"""The table of an experiment's trials: named columns, filtered, sorted and cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from daskperiment.codec import NamedValue, find_record, named
from daskperiment.errors import FilterError
from daskperiment.history.curated import NOTHING_SAID, Curated
from daskperiment.history.filtering import Filter
from daskperiment.history.filtering.comparing import sorted_rows
from daskperiment.history.filtering.language import Path, no_column, path_of, path_text
from daskperiment.history.metrics import MetricSummary, summarize
from daskperiment.history.stored_values import MISSING, StoredObject, as_number_held, viewed
from daskperiment.history.table_columns import (
    CodedColumn,
    Column,
    NumberColumn,
    absent,
    column_of,
)
from daskperiment.history.trial_columns import TrialColumns
from daskperiment.records import Environment
from daskperiment.store.opening import excerpting
from daskperiment.store.protocol import Store

__all__ = ["FIXED", "SAID", "HistoryTable", "Metrics", "parts_of"]

Metrics = Mapping[int, dict[str, MetricSummary]]
"""The metrics of trials, by id and name."""

FIXED = {
    "Step": "step", "Seed": "seed", "Result": "result", "Result Type": "type", "Success": "status",
    "Finished": "finished", "Process Time": "elapsed", "Description": "description",
    "Status": "status", "Started": "started", "Host": "host", "User": "user",
    "Git Commit": "environment", "Sweep": "sweep", "Reproduces": "source",
    "Resumes": "resumes",
}  # fmt: skip
"""Names of the columns that every history has, and the fields that they are made of."""
SAID: Mapping[str, Callable[[Curated], Any]] = {
    "Name": lambda one: one.name or MISSING,
    "Tags": lambda one: one.tags,
    "Notes": lambda one: "\n".join(note.text for note in one.notes) or MISSING,
    "Archived": lambda one: one.archived,
}
"""Names of the columns of what was said of trials, and how each comes about."""
_SAID = {**SAID, "tags": SAID["Tags"]}
_UNITS: Mapping[str, Any] = {"Finished": "moment", "Started": "moment", "Process Time": "duration"}
_ID = "Trial ID"
_METRICS, _SUMMARIES = "metrics", ("last", "min", "max")


class HistoryTable:
    """The trials of one experiment, as what asks for them by name sees them.

    Parameters
    ----------
    columns : TrialColumns
    store : Store
        Values that are no plain data refer to it.
    declared : sequence of str
        Names of parameters that there are, whether a trial had them or not.
    read_said : callable
        Returns what people said of trials, by id; asked when somebody wants it.
    read_metrics : callable, optional
        Returns the metrics of trials, by id and name; as a default they are read from the store.
    """

    def __init__(
        self, columns: TrialColumns, store: Store, declared: Sequence[str],
        read_said: Callable[[], Mapping[int, Curated]],
        read_metrics: Callable[[list[int]], Metrics] | None = None,
    ) -> None:  # fmt: skip
        self.columns = columns
        self.store = store
        self._read_said = read_said
        self._read_metrics = read_metrics
        self._has_asked = False
        """Whether a metric alone was read: for another one all are."""
        self._declared = declared
        self._known: dict[Path, Column] = {}
        self._parts: dict[int, tuple[Any, Mapping[str, Any]]] = {}
        """Parts of values that are no dicts, by the ids of these."""

    def __len__(self) -> int:
        return len(self.columns.trials)

    @cached_property
    def names(self) -> Collection[str]:
        """Names of all columns, the trials' ids and parameters first."""
        names = [_ID, *self._declared, *self.columns.parameters, "Result", *FIXED, *_SAID]
        return dict.fromkeys(names)

    @property
    def said(self) -> Mapping[int, Curated]:
        """What people said of trials; those of which nothing was said are not in it."""
        return self._read_said()

    def listed(self) -> HistoryTable:
        """Return the rows of trials that are not archived."""
        hidden = [trial for trial, one in self.said.items() if one.archived]
        if not hidden:
            return self
        return self.take(np.flatnonzero(~np.isin(self.columns.trials, hidden)))

    def take(self, rows: np.ndarray[Any, Any]) -> HistoryTable:
        """Return some of the rows, in their order."""
        return HistoryTable(
            self.columns.take(rows), self.store, self._declared, self._read_said,
            self._read_metrics,
        )  # fmt: skip

    def with_fields(self, names: Collection[str]) -> HistoryTable:
        """Return the same rows without other fields, which are read from no column then."""
        fields = {name: one for name, one in self.columns.fields.items() if name in names}
        return HistoryTable(
            self.columns._replace(fields=fields), self.store, self._declared, self._read_said,
            self._read_metrics,
        )  # fmt: skip

    def select(
        self, where: str | None, sort: str | Sequence[str] | None, limit: int | None = None,
        last: int | None = None,
    ) -> np.ndarray[Any, Any]:  # fmt: skip
        """Return the rows that are meant, in their order; of those found only the `last` ones."""
        rows = np.arange(len(self)) if where is None else np.flatnonzero(Filter(where).rows(self))
        rows = rows if last is None else rows[max(0, len(rows) - last) :]
        rows = self._sorted(rows, sort)
        return rows if limit is None else rows[:limit]

    def _sorted(self, rows: np.ndarray[Any, Any], sort: Any) -> np.ndarray[Any, Any]:
        if sort is None:
            return rows
        names = sort if isinstance(sort, list | tuple) else [sort]
        if not all(isinstance(name, str) for name in names):
            raise FilterError(
                f"sort is {sort!r}; expected the name of a column, such as 'lr', or '-lr' to begin "
                "with the highest."
            )
        for name in reversed(names):  # each sorts stably, so that the first one counts most
            down = name.startswith("-") and name not in self.names
            path = path_of(name[1:] if down else name, self.names)
            rows = rows[sorted_rows(self.column(path).take(rows), down)]
        return rows

    def column(self, path: Path) -> Column:
        """Return the column that a path leads to; FilterError if there is none."""
        if path not in self._known:
            self._known[path] = self._found(path)
        return self._known[path]

    def _found(self, path: Path) -> Column:
        size = self._size_of_name(path)
        name = ".".join(path[:size])
        if size == len(path):
            return self._whole(name)
        if size:
            return self._part(self.column((name,)), path, size)  # decoded once for all parts
        if path[0] == _METRICS and len(path) > 1:
            return self._metric(path[1:])
        raise no_column(path, self.names)

    def _size_of_name(self, path: Path) -> int:
        """Return how much of a path is the name of a column: as much as can be; 0 if nothing is."""
        sizes = range(len(path), 0, -1)
        return next((size for size in sizes if ".".join(path[:size]) in self.names), 0)

    def parameter(self, name: str) -> Column:
        """Return a parameter, also one that is called like another column."""
        return self._viewed(self.columns.parameters.get(name))

    def paths(self, name: str) -> list[Path]:
        """Return the paths to the parts of the rows' values, such as ``Result.f1``, by trial."""
        column = self.column((name,))
        if isinstance(column, NumberColumn):
            return []  # without a look at each of them
        trials = self.columns.trials
        if bool((trials[1:] < trials[:-1]).any()):  # sorted by something else
            column = column.take(np.argsort(trials, kind="stable"))
        found: dict[Path, None] = {}
        for value in column.used():
            found.update(dict.fromkeys(_paths(value, (name,))))
        # A part that is called like another column, or one of its parts, cannot be asked for.
        return [path for path in found if len(path) > 1 and self._size_of_name(path) == 1]

    @cached_property
    def metrics(self) -> list[dict[str, MetricSummary]]:
        """The metrics of each row, by name."""
        trials = self.columns.trials.tolist()
        found = (self._read_metrics or partial(summarize, self.store))(trials)
        return [found[trial] for trial in trials]

    def _metrics_named(self, names: Collection[str]) -> list[dict[str, MetricSummary]]:
        """Return some metrics of each row, and maybe others: from a server these do not come."""
        is_known = "metrics" in vars(self) or self._read_metrics is not None
        if is_known or self._has_asked or excerpting(self.store) is None:
            return self.metrics
        self._has_asked = True
        trials = self.columns.trials.tolist()
        found = summarize(self.store, trials, names)
        return [found[trial] for trial in trials]

    @cached_property
    def metric_names(self) -> Collection[str]:
        """Names of the metrics that any row has, sorted."""
        return dict.fromkeys(sorted({name for each in self.metrics for name in each}))

    def _metric(self, path: Path) -> Column:
        name, which, shorter = ".".join(path), "last", ".".join(path[:-1])
        each = self._metrics_named({name, shorter} if path[-1] in _SUMMARIES else {name})
        if path[-1] in _SUMMARIES and not any(name in one for one in each):
            name, which = shorter, path[-1]
        found = [one.get(name) for one in each]
        if found and not any(found):
            raise no_column((name,), self.metric_names, "metric")
        return column_of([MISSING if one is None else getattr(one, which) for one in found])

    def _whole(self, name: str) -> Column:
        if name == _ID:
            return NumberColumn(self.columns.trials)
        if name not in FIXED and (name not in _SAID or name in self.columns.parameters):
            return self.parameter(name)
        if name in _SAID:
            return self._told(_SAID[name])
        column = self.columns.fields.get(FIXED[name])
        if name == "Success":
            return NumberColumn(_coded(column, len(self)).truths(lambda one: one == "succeeded"))
        if name == "Git Commit":
            return _compacted(_coded(column, len(self)).each(self._commit))
        if name in _UNITS:
            return _in_unit(column, len(self), _UNITS[name])
        found = self._viewed(column)
        if name != "Result" or isinstance(found, NumberColumn):
            return found
        return _compacted(found.coded().each(as_number_held))

    def _told(self, part: Callable[[Curated], Any]) -> Column:
        """Return a column of what was said; trials of which nothing was are not gone through."""
        trials, said = self.columns.trials, self.said
        rows = np.flatnonzero(np.isin(trials, np.array([*said], "int64")))
        values = [part(said[trial]) for trial in trials[rows].tolist()]
        if len(rows) == len(trials):
            return column_of(values)
        places = np.zeros(len(trials), "int64")
        places[rows] = np.arange(1, len(rows) + 1)
        return column_of([part(NOTHING_SAID), *values]).take(places)

    def _viewed(self, column: Column | None) -> Column:
        if column is None:
            return absent(len(self))
        if isinstance(column, NumberColumn):
            return column
        return _compacted(column.each(lambda form: viewed(form, self.store)))

    def _commit(self, digest: str) -> Any:
        """Return the commit that trials ran on; `MISSING` if their environment cannot be read."""
        environment = find_record(self.store.get, digest, Environment)
        git = environment.categories.get("git", {}) if environment else {}
        return git.get("commit") or MISSING

    def _part(self, whole: Column, path: Path, size: int) -> Column:
        """Return a part of the values of a column, such as the ``f1`` of ``Result.f1``."""
        names = path[size:]

        def part(value: Any) -> Any:
            for name in names:
                value = self._parts_at_hand(value).get(name, MISSING)
            return value

        coded = whole.coded()
        found = coded.each(part)
        if not _has_some(found) and (used := coded.used()):
            known = dict.fromkeys(name for value in used for name in _along(value, names))
            raise no_column(names, list(known), f"part of {path_text(path[:size])}")
        return _compacted(found)

    def _parts_at_hand(self, value: Any) -> Mapping[Any, Any]:
        """Return the parts of a value that may be asked for each of them."""
        if type(value) is dict:
            return value
        known = self._parts.get(id(value))
        if known is None:
            known = value, parts_of(value)
            if known[1]:
                self._parts[id(value)] = known
        return known[1]


def _has_some(column: CodedColumn) -> bool:
    """Whether any row has a value; most often one of those with the first value that there is."""
    there = [code for code, value in enumerate(column.values) if value is not MISSING]
    return any(bool(np.isin(column.codes, some).any()) for some in (there[:1], there[1:]) if some)


def _along(value: Any, names: Sequence[str]) -> Iterator[str]:
    """Yield the names of the parts of a value, and of those on the way to one."""
    for name in names:
        parts = parts_of(value)
        yield from parts
        value = parts.get(name, MISSING)


def parts_of(value: Any) -> Mapping[str, Any]:
    """Return the parts of a value that have names; of an object those that are recorded with it."""
    if isinstance(value, StoredObject):
        return value.parts
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if isinstance(key, str)}
    by_name = named(value)
    if isinstance(by_name, NamedValue) and isinstance(by_name.state, Mapping):
        return by_name.state
    return {}


def _paths(value: Any, above: Path) -> list[Path]:
    parts = parts_of(value)
    if not parts:
        return [above]
    return [path for name, part in parts.items() for path in _paths(part, (*above, name))]


def _coded(column: Column | None, size: int) -> CodedColumn:
    return absent(size) if column is None else column.coded()


def _in_unit(column: Column | None, size: int, unit: Any) -> Column:
    if not isinstance(column, NumberColumn):
        return absent(size)
    present = column.known() & np.isfinite(column.values)
    return NumberColumn(column.values, None if present.all() else present, unit)


def _compacted(column: CodedColumn) -> Column:
    """Return a column as numbers, where each of its values is one of the same kind."""
    numbers = column_of(column.values)
    if isinstance(numbers, NumberColumn) and len(numbers) and numbers.values.dtype != bool:
        present = column.codes >= 0
        codes = np.where(present, column.codes, 0)
        if numbers.present is not None:
            present &= numbers.present[codes]
        return NumberColumn(numbers.values[codes], None if present.all() else present)
    missing = [value is MISSING for value in column.values]
    if any(missing):
        codes = np.where(np.array([*missing, True])[column.codes], -1, column.codes)
        return CodedColumn(codes, column.values)
    return column
