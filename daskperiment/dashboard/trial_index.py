"""The trials of an experiment, kept up to date by reading what is new in its store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from toolz import groupby, partition_all

from daskperiment.codec import decode_each
from daskperiment.dashboard.cells import trimmed
from daskperiment.errors import CorruptRecordError
from daskperiment.history.stored_values import MISSING, viewed
from daskperiment.history.trial_records import read_trials
from daskperiment.records import (
    BEGUN,
    COMPUTED,
    ENDED,
    OUTCOMES,
    Computed,
    EndStatus,
    TrialStatus,
    record_kind,
)
from daskperiment.store.protocol import Store, Stored

__all__ = ["CHUNK", "TrialIndex", "TrialRow", "begins_with", "split_damaged"]

T = TypeVar("T", bound=Struct)

CHUNK = 1000
"""Records that are decoded at once, so that the bodies of all are never in memory together."""
_LARGE = 4_096
"""Bytes of a record beyond which its values are looked at one by one."""
_JUDGE = 2.0
"""Seconds after which the running trials are judged again."""
_JUDGE_LOST = 60.0
"""Seconds after which a trial that counts as lost is judged again: its host may be back."""


# Of each record only what a table shows is decoded: there may be a million trials.
class _RowOrigin(Struct, gc=False):
    host: str
    user: str


class _RowStart(Struct, omit_defaults=True):
    token: str
    result: str
    started: float
    seed: int
    parameters: dict[str, Any]
    origin: _RowOrigin
    sweep: str | None = None
    source: int | None = None
    resumes: int | None = None


class _RowFailure(Struct, gc=False):
    description: str


class _RowEnd(Struct):
    status: EndStatus
    finished: float
    elapsed: float
    value: Any = None
    failure: _RowFailure | None = None

    @property
    def rank(self) -> tuple[int, float, float]:
        """Of several ends of a trial the lowest holds; the first one of the same outcome."""
        return OUTCOMES.index(self.status), self.finished, self.elapsed


class TrialRow(NamedTuple):
    """One trial as a table needs it."""

    trial: int
    begun: _RowStart
    ended: _RowEnd | None
    computed: dict[str, Any]
    status: TrialStatus
    reason: str | None

    def form(self, name: str) -> Any:
        """Return the recorded form of a parameter, `MISSING` if the trial has none."""
        return self.computed.get(name, self.begun.parameters.get(name, MISSING))

    def parameter(self, name: str, store: Store) -> Any:
        """Return a parameter's value, `MISSING` if the trial has none."""
        return viewed(self.form(name), store)

    def result(self, store: Store) -> Any:
        """Return the result as far as it is plain data, `MISSING` if there is none."""
        if self.ended is None or self.ended.status != "succeeded":
            return MISSING
        return viewed(self.ended.value, store)

    @property
    def description(self) -> str:
        """Why the trial did not succeed; empty if it did."""
        failure = self.ended.failure if self.ended else None
        return failure.description if failure else self.reason or ""


class TrialIndex:
    """The trials of one experiment. Any number of threads may ask."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self.version = 0
        """Grows whenever a trial began, ended or was judged otherwise."""
        self.resets = 0
        """How often the experiment was found deleted and begun anew."""
        self._clear()

    def _clear(self) -> None:
        self._begun: dict[int, _RowStart] = {}
        self._ended: dict[int, _RowEnd] = {}
        self._computed: dict[int, dict[str, Any]] = {}
        self._lost: dict[int, str] = {}
        self._pending: set[int] = set()
        self._names: dict[str, None] = {}
        self._ids: list[int] = []
        self._position = 0
        self._judged = self._judged_lost = float("-inf")
        self.damaged = 0
        """Records that could not be read and are left out."""

    # Asking

    @property
    def names(self) -> list[str]:
        """Parameters of any trial, in the order in which they were seen."""
        return list(self._names)

    @property
    def ids(self) -> Sequence[int]:
        """Ids of all trials, growing."""
        return self._ids

    @property
    def running(self) -> set[int]:
        """Ids of the trials without an end that do not count as lost."""
        return self._pending - self._lost.keys()

    def row(self, trial: int) -> TrialRow | None:
        """Return a trial, None if there is no such trial."""
        begun = self._begun.get(trial)
        if begun is None:
            return None
        ended, lost = self._ended.get(trial), self._lost.get(trial)
        status: TrialStatus = ended.status if ended else "lost" if lost else "running"
        return TrialRow(trial, begun, ended, self._computed.get(trial, {}), status, lost)

    def rows(self, trials: Iterable[int]) -> list[TrialRow]:
        """Return trials, as far as they exist."""
        return [row for row in map(self.row, trials) if row is not None]

    # Following

    def refresh(self) -> int:
        """Read what is new, and return the version."""
        with self._lock:
            first = self._ids[0] if self._ids else 0
            if first and not begins_with(self.store, first, self._begun[first].token):
                self._clear()
                self.version += 1
                self.resets += 1
            before = self._position
            for chunk in partition_all(CHUNK, self.store.read("trials", after=self._position)):
                self._add(chunk)
            if self._position != before:
                self.version += 1
                if len(self._ids) != len(self._begun):
                    self._ids = sorted(self._begun)
            self._judge()
            return self.version

    def _add(self, chunk: Sequence[Stored]) -> None:
        kinds = groupby(lambda one: record_kind(one.id), chunk)
        self._position = max(self._position, chunk[-1].position)
        starts, damaged_starts = split_damaged(kinds.get(BEGUN, []), _RowStart)
        ends, damaged_ends = split_damaged(kinds.get(ENDED, []), _RowEnd)
        computed, damaged = split_damaged(kinds.get(COMPUTED, []), Computed)
        self.damaged += len(damaged_starts) + len(damaged_ends) + len(damaged)
        for one, begun in starts:
            self._add_start(one, begun)
        for one, ended in ends:
            if len(one.body) > _LARGE:
                ended.value = trimmed(ended.value, self.store)
            self._add_end(one.trial, ended)
        for one in damaged_ends:
            self._add_end(one.trial, _end_of_damaged(one.id))
        for one, record in computed:
            value = trimmed(record.value, self.store)
            self._computed.setdefault(one.trial, {})[record.name] = value
            self._names.setdefault(record.name)

    def _add_start(self, one: Stored, begun: _RowStart) -> None:
        if len(one.body) > _LARGE:
            forms = begun.parameters.items()
            begun.parameters = {name: trimmed(form, self.store) for name, form in forms}
        self._begun[one.trial] = begun
        self._names.update(dict.fromkeys(begun.parameters))
        if one.trial not in self._ended:
            self._pending.add(one.trial)

    def _add_end(self, trial: int, ended: _RowEnd | None) -> None:
        known = self._ended.get(trial)
        if ended is not None and (known is None or ended.rank < known.rank):
            self._ended[trial] = ended
            self._pending.discard(trial)
            self._lost.pop(trial, None)

    def _judge(self) -> None:
        """Find out which of the trials without an end are lost."""
        now = time.monotonic()
        with_lost = now - self._judged_lost > _JUDGE_LOST
        if with_lost:
            self._judged_lost = now
        elif now - self._judged < _JUDGE:
            return
        self._judged = now
        pending = self._pending if with_lost else self.running
        judged = read_trials(self.store, pending) if pending else {}
        lost = {id: one.reason or "" for id, one in judged.items() if one.status == "lost"}
        kept = {id: reason for id, reason in self._lost.items() if id not in pending or id in lost}
        self.version += kept.keys() | lost.keys() != self._lost.keys()
        self._lost = {**lost, **kept}


class _Start(Struct):
    token: str


def begins_with(store: Store, trial: int, token: str) -> bool:
    """Whether an experiment's first trial is still the one with this token.

    It is not where the experiment was deleted; of one whose record is damaged, nothing is known.
    """
    begun = [one for one in store.read("trials", [trial]) if one.id == BEGUN]
    found, _ = split_damaged(begun, _Start)
    return bool(begun) and (not found or found[0][1].token == token)


def split_damaged(
    stored: Sequence[Stored], type_: type[T]
) -> tuple[list[tuple[Stored, T]], list[Stored]]:
    """Return what was stored with its records, and what is damaged. Nobody is warned."""
    records = decode_each([one.body for one in stored], type_, [one.trial for one in stored])
    pairs = list(zip(stored, records, strict=True))
    found = [(one, each) for one, each in pairs if not isinstance(each, CorruptRecordError)]
    return found, [one for one, each in pairs if isinstance(each, CorruptRecordError)]


def _end_of_damaged(id: str) -> _RowEnd | None:
    """Return an end in place of a damaged record: its id says how the trial ended."""
    parts = id.split("-")
    status: Any = parts[1] if len(parts) > 1 else ""
    if status not in OUTCOMES:
        return None
    failure = _RowFailure("the record of its end is damaged")
    return _RowEnd(status, float("inf"), float("inf"), MISSING, failure)
