"""The trials of a store as columns: what tables, filters and snapshots of a history are made of.

Records are folded piece by piece, and what ended becomes columns while the rest is read: the
records of a million trials are never in memory together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from toolz import partition_all

from daskperiment.history.stored_values import MISSING
from daskperiment.history.table_columns import Column, NumberColumn, absent, column_of, joined
from daskperiment.history.trial_records import (
    DAMAGED,
    PIECE,
    Fold,
    RecordedTrial,
    drop_impossible,
    fold_piece,
    read_trials,
)
from daskperiment.records import Birthplace, EndStatus
from daskperiment.store.protocol import Store, Stored

__all__ = ["FoldedTrials", "TrialColumns", "endless_columns", "fold_trials", "settled"]

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

        def stack(which: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
            names = dict.fromkeys(name for each in which for name in each)
            return {
                name: joined([
                    each[name] if name in each else absent(size)
                    for each, size in zip(which, sizes, strict=True)
                ])
                for name in names
            }  # fmt: skip

        return TrialColumns(
            np.concatenate([np.empty(0, "int64"), *(part.trials for part in parts)]),
            stack([part.fields for part in parts]),
            stack([part.parameters for part in parts]),
        )


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
    found: Fold[_TrialStart, _TrialEnd] = Fold.of_nothing()
    parts: list[TrialColumns] = []
    forgotten: set[int] = set()
    last, damaged = None, 0
    for piece in partition_all(PIECE, records):
        damaged += fold_piece(found, piece, _TrialStart, _TrialEnd, _ShortFailure, warn)
        last = piece[-1]
        if len(found.ended) >= _AT_ONCE:
            _fold_again(store, found, found.ended.keys() & forgotten, warn)
            forgotten -= found.ended.keys()
            parts.append(_take_ended(found))
        if len(found.begun) > _WAITING:
            drop_impossible(found.begun)
            forgotten.update(found.begun)
            found.begun.clear()
    parts.append(_take_ended(found))
    # What began before these records, or is told more of than was known when it became columns.
    late = {*found.ended, *found.computed, *pending} - found.begun.keys()
    for ids in partition_all(_AT_ONCE, sorted(late)):
        _fold_again(store, found, ids, warn)
        parts.append(_take_ended(found))
    forgotten -= late
    waiting = {*found.begun, *forgotten}
    parts = [part for part in parts if len(part.trials)]
    return FoldedTrials(parts, waiting, last, damaged, found.removed)


def _fold_again(
    store: Store, found: Fold[_TrialStart, _TrialEnd], trials: Collection[int], warn: bool
) -> None:
    """Read all records of some trials."""
    for piece in partition_all(PIECE, store.read("trials", trials) if trials else ()):
        fold_piece(found, piece, _TrialStart, _TrialEnd, _ShortFailure, warn)


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
