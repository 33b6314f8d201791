"""The trials of a store as columns: what tables, filters and snapshots of a history are made of.

Records are folded piece by piece, and what ended becomes columns while the rest is read: the
records of a million trials are never in memory together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from toolz import partition_all

from daskperiment.history.filled_trials import begun_columns, ended_columns
from daskperiment.history.growing_columns import GrowingColumn, GrowingTable
from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import Column, NumberColumn, absent, column_of, joined
from daskperiment.history.trial_records import (
    DAMAGED,
    LARGEST_ID,
    PIECE,
    Fold,
    RecordedTrial,
    drop_impossible,
    fold_piece,
    read_trials,
)
from daskperiment.records import BEGUN, ENDED, Birthplace, EndStatus
from daskperiment.store.protocol import Store, Stored
from daskperiment.store.record_pages import FilledOutline, RecordPage, pages_of

__all__ = [
    "FoldedTrials",
    "TrialColumns",
    "endless_columns",
    "fold_pages",
    "fold_trials",
    "settled",
]

_AT_ONCE = 4_000
"""Trials that ended, beyond which they become columns before more is read."""
_WAITING = 20_000
"""Trials without an end of which more is remembered than that they are there."""


class _StartOrigin(Struct, gc=False):
    host: str
    user: str


class _TrialStart(Struct, gc=False):
    """What a history needs of how a trial began."""

    parameters: dict[str, Any]
    result: str
    started: float
    seed: int
    environment: str
    origin: _StartOrigin
    sweep: str | None = None
    source: int | None = None
    unreached: list[str] = []
    birthplace: Birthplace | None = None
    resumes: int | None = None


class _ShortFailure(Struct, gc=False):
    """What the history needs of a failure: no traceback, which may be long."""

    type: str
    description: str


class _TrialEnd(Struct, gc=False):
    """What the history needs of how a trial ended."""

    status: EndStatus
    finished: float
    elapsed: float
    type: str | None = None
    value: Any = None
    failure: _ShortFailure | None = None


class TrialColumns(NamedTuple):
    """Trials, a row each, in a column for each of their fields and parameters."""

    trials: np.ndarray[Any, np.dtype[np.int64]]
    fields: dict[str, Column]
    parameters: dict[str, Column]

    def take(self, rows: np.ndarray[Any, Any]) -> TrialColumns:
        """Return some of the rows."""
        return TrialColumns(
            self.trials[rows],
            {name: column.take(rows) for name, column in self.fields.items()},
            {name: column.take(rows) for name, column in self.parameters.items()},
        )

    def without_empty(self) -> TrialColumns:
        """Return the same without parameters that none of the rows has."""
        some = {
            name: column
            for name, column in self.parameters.items()
            if isinstance(column, NumberColumn) or bool((column.codes >= 0).any())
        }
        return self._replace(parameters=some)

    @staticmethod
    def stacked(parts: Sequence[TrialColumns]) -> TrialColumns:
        """Return the rows of all parts, one below the other."""
        parts = [part for part in parts if len(part.trials)] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        sizes = [len(part.trials) for part in parts]

        def stack(which: Sequence[dict[str, Column]]) -> dict[str, Column]:
            names = dict.fromkeys(name for each in which for name in each)
            pairs = [*zip(which, sizes, strict=True)]
            return {
                name: joined([
                    each[name] if name in each else absent(size) for each, size in pairs
                ])
                for name in names
            }  # fmt: skip

        return TrialColumns(
            np.concatenate([np.empty(0, "int64"), *(part.trials for part in parts)]),
            stack([part.fields for part in parts]),
            stack([part.parameters for part in parts]),
        )


class _GrowingTrials:
    """Trials that ended, to which more are added as they are read."""

    def __init__(self) -> None:
        self._trials = GrowingColumn()
        self._fields, self._parameters = GrowingTable(), GrowingTable()

    def add(self, part: TrialColumns) -> None:
        """Add trials, if there are any."""
        count = len(part.trials)
        if count:
            self._trials.add(NumberColumn(part.trials))
            self._fields.add(part.fields, count)
            self._parameters.add(part.parameters, count)

    def finish(self) -> list[TrialColumns]:
        """Return them; nothing if there are none."""
        trials = self._trials.finish()
        if not isinstance(trials, NumberColumn):
            return []
        return [TrialColumns(trials.values, self._fields.finish(), self._parameters.finish())]


class FoldedTrials(NamedTuple):
    """What was read of the stream of trials."""

    parts: list[TrialColumns]
    """Those that ended; what stands later holds."""
    pending: set[int]
    """The ids of those without an end."""
    last: Stored | None
    """The last record that was read."""
    damaged: int
    """Records that could not be read."""
    removed: set[int]
    """Trials of which a record says that they were deleted."""


def fold_trials(
    store: Store, records: Iterable[Stored], pending: Collection[int], warn: bool = True
) -> FoldedTrials:
    """Fold records of the stream of trials, those of a known beginning or all.

    Parameters
    ----------
    store : Store
        Read again for trials that began before these records.
    records : iterable of Stored
        In order of position.
    pending : collection of int
        Trials that began before, and had not ended yet.
    warn : bool
        Whether to warn of damaged records.
    """
    return fold_pages(store, pages_of(records, PIECE), pending, warn)


def fold_pages(
    store: Store, pages: Iterable[RecordPage], pending: Collection[int], warn: bool = True
) -> FoldedTrials:
    """Fold pages of the stream of trials, as `fold_trials` does records."""
    folding = _TrialFolding(store, warn)
    last = None
    for page in pages:
        folding.add(page)
        last = page.last
    return folding.finish(pending, last)


class _TrialFolding:
    """The trials of some pages, of which those that ended become columns now and then."""

    def __init__(self, store: Store, warn: bool) -> None:
        self._store = store
        self._warn = warn
        self._found: Fold[_TrialStart, _TrialEnd] = Fold.of_nothing()
        """Of records that were read one by one."""
        self._begun: list[TrialColumns] = []
        self._ended: list[TrialColumns] = []
        """Of records that filled outlines."""
        self._forgotten: set[int] = set()
        self._columns = _GrowingTrials()
        self._damaged = 0
        self._outlined = True
        """Whether it pays to look at records that fill an outline together."""

    def add(self, page: RecordPage) -> None:
        """Add a page to what is known."""
        records = [*page.records]
        for filled in page.filled:
            if not (self._outlined and self._add_filled(filled)):
                records += filled.whole()
        if len(records) > len(page.records):
            records.sort()
        self._damaged += self._read(records)
        if max(len(self._found.ended), _count(self._ended)) >= _AT_ONCE:
            self._settle()
        if len(self._found.begun) + _count(self._begun) > _WAITING:
            drop_impossible(self._found.begun)
            self._forgotten.update(self._found.begun, _ids(self._begun))
            self._found.begun.clear()
            self._begun.clear()

    def finish(self, pending: Collection[int], last: Stored | None) -> FoldedTrials:
        """Return all trials, with those that began before the pages."""
        self._settle()
        found = self._found
        # What began before, or is told more of than was known when it became columns.
        known = {*found.begun, *_ids(self._begun)}
        late = {*found.ended, *found.computed, *pending} - known
        for ids in partition_all(_AT_ONCE, sorted(late)):
            self._read_again(ids)
            self._columns.add(_take_ended(found))
        self._forgotten -= late
        waiting = {*found.begun, *self._forgotten, *_ids(self._begun)}
        return FoldedTrials(self._columns.finish(), waiting, last, self._damaged, found.removed)

    def _read(self, records: Iterable[Stored]) -> int:
        """Add records to what is known, each by itself; return how many are damaged."""
        types = _TrialStart, _TrialEnd, _ShortFailure
        return sum(
            fold_piece(self._found, piece, *types, self._warn)
            for piece in partition_all(PIECE, records)
        )

    def _read_again(self, trials: Collection[int]) -> None:
        """Read all records of some trials; the damaged ones among them are counted already."""
        if trials:
            self._read(self._store.read("trials", trials))

    def _add_filled(self, filled: FilledOutline) -> bool:
        """Add records that fill an outline; return whether they could be read together."""
        ids, trials = {*filled.ids}, filled.trials
        if not 1 <= min(trials) <= max(trials) <= LARGEST_ID:
            return False
        if ids == {BEGUN}:
            begun = begun_columns(filled)
            if begun is not None:
                self._begun.append(TrialColumns(np.array(trials, "int64"), *begun))
            return begun is not None
        ended = ended_columns(filled) if all(id.startswith(ENDED) for id in ids) else None
        if ended is not None:
            self._ended.append(TrialColumns(np.array(trials, "int64"), ended, {}))
        return ended is not None

    def _settle(self) -> None:
        """Make columns of the trials that ended; the others wait."""
        found, parts = self._found, []
        again = found.ended.keys() & self._forgotten
        if self._begun or self._ended:
            part, mixed = self._join()
            parts.append(part)
            again |= mixed
        self._read_again(again)
        self._forgotten -= found.ended.keys()
        parts.append(_take_ended(found))
        # By trial, so that who comes next need not sort copies of all columns.
        self._columns.add(settled(parts))

    def _join(self) -> tuple[TrialColumns, set[int]]:
        """Put together how trials began and ended; return besides what is to be read again."""
        begun, ended = TrialColumns.stacked(self._begun), TrialColumns.stacked(self._ended)
        found = self._found
        alone = np.array([*found.begun, *found.ended, *found.computed], "int64")
        first, second = _sorted_rows(begun.trials), _sorted_rows(ended.trials)
        starts, ends = begun.trials[first], ended.trials[second]
        # Of one that ended twice it is decided which end holds.
        clear = _are_single(ends) & np.isin(ends, alone, invert=True)
        places = np.searchsorted(starts, ends)
        there = starts[np.minimum(places, len(starts) - 1)] if len(starts) else ends - 1
        clear &= there == ends
        ids, odd = ends[clear], begun.trials[np.isin(begun.trials, alone)]
        again = {*ends[~clear].tolist(), *odd.tolist()}
        rows = first[places[clear]]
        one, other = begun.take(rows), ended.take(second[clear])
        waits = np.ones(len(starts), bool)
        waits[rows] = False
        waits &= np.isin(begun.trials, np.array([*again], "int64"), invert=True)
        part = TrialColumns(ids, {**other.fields, **one.fields}, one.parameters)
        self._begun = [begun.take(waits)] if waits.any() else []
        self._ended = []
        # Where most are told of in both ways, reading them again would be all that is done.
        self._outlined = len(again) <= len(ids)
        return part, again


def _sorted_rows(trials: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows: np.ndarray[Any, Any] = np.argsort(trials, kind="stable")
    return rows


def _are_single(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return which of some sorted ids stand there once."""
    single = np.ones(len(ids), bool)
    same = ids[1:] == ids[:-1]
    single[1:] &= ~same
    single[:-1] &= ~same
    return single


def _count(parts: Sequence[TrialColumns]) -> int:
    return sum(len(part.trials) for part in parts)


def _ids(parts: Sequence[TrialColumns]) -> list[int]:
    return [trial for part in parts for trial in part.trials.tolist()]


def _take_ended(found: Fold[_TrialStart, _TrialEnd]) -> TrialColumns:
    drop_impossible(found.begun)
    ids = sorted(found.begun.keys() & found.ended.keys())
    parameters = [_reaching(found, id) for id in ids]
    begun = [found.begun.pop(id) for id in ids]
    ended = [found.ended.pop(id) for id in ids]
    for id in ids:
        found.computed.pop(id, None)
    fields = {
        "result": [_result(end) for end in ended],
        "status": [end.status for end in ended],
        "finished": [end.finished for end in ended],
        "elapsed": [end.elapsed for end in ended],
        "description": [_description(end) for end in ended],
        "type": [_type(end) for end in ended],
    }
    return _columns(ids, begun, fields, parameters)


def endless_columns(store: Store, pending: Collection[int], running: bool) -> TrialColumns:
    """Return the trials without an end: those that are lost and, if asked for, those that run.

    One that ended meanwhile is among them.
    """
    found = read_trials(store, pending) if pending else {}
    trials = [one for one in found.values() if running or one.status != "running"]
    fields: dict[str, list[Any]] = {
        "result": [_result(one.ended) if one.ended else MISSING for one in trials],
        "status": [one.status for one in trials],
        "finished": [one.ended.finished if one.ended else MISSING for one in trials],
        "elapsed": [one.ended.elapsed if one.ended else MISSING for one in trials],
        "description": [_described(one) for one in trials],
        "type": [_type(one.ended) if one.ended else MISSING for one in trials],
    }
    parameters = [_hidden(one.parameters, one.begun.unreached) for one in trials]
    return _columns(
        [one.trial for one in trials], [one.begun for one in trials], fields, parameters
    )


def _columns(
    ids: list[int], begun: Sequence[Any], fields: dict[str, list[Any]],
    parameters: list[dict[str, Any]],
) -> TrialColumns:  # fmt: skip
    fields = {
        **fields,
        "step": [one.result for one in begun],
        "started": [one.started for one in begun],
        "seed": [one.seed for one in begun],
        "environment": [one.environment for one in begun],
        "host": [one.origin.host for one in begun],
        "user": [one.origin.user for one in begun],
        "sweep": [MISSING if one.sweep is None else one.sweep for one in begun],
        "source": [MISSING if one.source is None else one.source for one in begun],
        "resumes": [MISSING if one.resumes is None else one.resumes for one in begun],
        "birthplace": [_birthplace(one.birthplace) for one in begun],
    }
    names = dict.fromkeys(name for shape in dict.fromkeys(map(tuple, parameters)) for name in shape)
    return TrialColumns(
        np.array(ids, dtype="int64"),
        {name: column_of(values) for name, values in fields.items()},
        {name: column_of([one.get(name, MISSING) for one in parameters]) for name in names},
    )


def settled(parts: Sequence[TrialColumns]) -> TrialColumns:
    """Return the rows of all parts by trial; of one that stands twice the later row holds."""
    every = TrialColumns.stacked(parts)
    trials = every.trials
    if len(trials) < 2 or bool((trials[1:] > trials[:-1]).all()):
        return every
    rows = np.argsort(trials, kind="stable")
    ordered = trials[rows]
    holds = np.append(ordered[1:] != ordered[:-1], True)
    return every.take(rows[holds])


def _reaching(found: Fold[_TrialStart, Any], trial: int) -> dict[str, Any]:
    return _hidden(found.parameters(trial), found.begun[trial].unreached)


def _hidden(parameters: dict[str, Any], unreached: list[str]) -> dict[str, Any]:
    """Return the parameters that reached a trial's steps."""
    if not unreached:
        return parameters
    return {name: value for name, value in parameters.items() if name not in unreached}


def _birthplace(found: Birthplace | None) -> Any:
    return MISSING if found is None else [found.address, found.trial]


def _result(end: Any) -> Any:
    return MISSING if end.status != "succeeded" or end.finished == DAMAGED else end.value


def _type(end: Any) -> Any:
    return MISSING if end.status != "succeeded" or end.type is None else end.type


def _description(end: Any) -> Any:
    cause = end.failure
    if cause is None:
        return MISSING if end.status == "succeeded" else end.status
    if end.status == "failed" and end.finished != DAMAGED:
        return cause.description
    return f"{end.status}: {cause.description}"


def _described(trial: RecordedTrial) -> Any:
    if trial.ended is not None:
        return _description(trial.ended)
    return f"lost: {trial.reason}" if trial.status == "lost" else trial.status
