"""Dropping the outputs that were kept to be reused, the least recently used ones first.

What a trial is itself made of is never touched: its records, its result, its parameters, its
code, environment and graph, its artifacts, and every persisted value that was not kept to be
reused; and the checkpoints of trials that may be gone on with. An object that is dropped can be had
again by running its step, or nobody needs it any more, as the checkpoints of trials that succeeded.
"""

from __future__ import annotations

import math
import warnings
from bisect import insort
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from operator import index
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from msgspec import Struct
from toolz import partition_all

from daskperiment.codec import decode_each
from daskperiment.errors import CorruptRecordError, StoreWarning
from daskperiment.history.columns import frame_of, moments
from daskperiment.history.trial_records import read_trials
from daskperiment.recording.checkpoint_records import Successes
from daskperiment.recording.registry import recorder_for
from daskperiment.records import (
    ARTIFACT,
    BEGUN,
    CHECKPOINT,
    ENDED,
    digests_within,
    ended_id,
    record_kind,
)
from daskperiment.store.protocol import Store, Stored

__all__ = ["prune"]

T = TypeVar("T", bound=Struct)

_MANY = 1000
"""Objects that are asked for, or dropped, at a time."""
_IN_HAND = 64 << 20
"""Bytes of objects that are in memory while they are dropped, but for one that is larger."""
_PIECE = 500
"""Records that are decoded at a time; twice as many are in memory, as toolz reads one piece on."""


# Only the fields that matter here: millions of records may have to be decoded.


class _TrialObjects(Struct, gc=False):
    """What a trial began with."""

    parameters: dict[str, Any]
    code: str
    environment: str
    graph: str
    resumes: int | None = None


class _HeldValue(Struct, gc=False):
    """How a trial ended, the value of a computed parameter, or a persisted output."""

    value: Any = None
    files: Any = None
    """Those that were kept with the output."""


class _HeldArtifact(Struct, gc=False):
    """What a trial keeps under a name."""

    value: Any = None
    thumbnail: Any = None


class _HeldCheckpoint(Struct, gc=False):
    """A state of a step, from which a later trial may go on."""

    step: str
    saved: float
    value: Any = None
    keep: int = 1


def _digests(kept: _HeldValue | None) -> Iterator[str]:
    return digests_within([kept.value, kept.files]) if kept is not None else iter(())


class _HoldingRun(Struct, gc=False):
    """A step run, which may have kept or reused an object."""

    step: str
    started: float
    wall: float
    kept: _HeldValue | None = None
    artifacts: list[Any] = []
    reused: int | None = None
    reusable: bool = False


class _KeptState(NamedTuple):
    """A checkpoint, as far as it counts."""

    saved: float
    keep: int
    digests: tuple[str, ...]


def _age(kept: _KeptState) -> float:
    return -kept.saved


class _ObjectUse(NamedTuple):
    """When a reusable object was used last, and who kept it first."""

    last: float
    trial: int
    step: str


class _ReusableObject(NamedTuple):
    """A reusable object that is in the store."""

    digest: str
    use: _ObjectUse
    size: int


def prune(
    store: Store,
    max_bytes: int | None = None,
    older_than: timedelta | float | None = None,
    dry_run: bool = False,
) -> pd.DataFrame:
    """Drop reusable objects from a store, the least recently used ones first.

    They are dropped until `max_bytes` of them are left, and those that were last used longer ago
    than `older_than`, a number counting seconds. Returned is what was dropped, or with `dry_run`
    would be: ``Step`` and ``Trial ID`` that kept it, ``Size`` in bytes, ``Last Used`` in UTC, and
    ``Digest``.

    An object was last used when the latest step run that kept or reused it ended. What a running
    trial kept or reused stays. So does an object with the same content as something that is no
    reusable output, such as a trial's result. Where a record is damaged, it is not known what is
    still needed: then nothing is dropped, and a CorruptRecordError says so.
    """
    limit, age = _checked_bytes(max_bytes), _checked_seconds(older_than)
    if limit is None and age is None:
        raise ValueError(
            "prune() needs to know what may go: give max_bytes=10**9 to keep the latest gigabyte "
            "of reusable objects, older_than=timedelta(days=30) to drop those that were not used "
            "for a month, or both."
        )
    recorder = recorder_for(store)
    recorder.flush()
    survey = _ObjectSurvey(store)
    survey.read_on()
    sizes = _sizes(store, list(survey.droppable()))
    # What came while sizes were asked for counts too.
    survey.read_on()
    candidates = survey.candidates(sizes)
    chosen = _choose(candidates, survey.busy, limit, _oldest(store, age))
    if not dry_run:
        chosen = [each for some in _batches(chosen) for each in _drop(store, survey, some)]
        for each in chosen:
            recorder.delivery.forget_object(each.digest)
    return _frame(chosen)


def _drop(
    store: Store, survey: _ObjectSurvey, chosen: Sequence[_ReusableObject]
) -> list[_ReusableObject]:
    """Drop objects, and return those that are gone: what a trial keeps meanwhile stays.

    Whoever keeps one writes its record first, and looks for the object then. So it finds it gone,
    or the record is found here.
    """
    survey.read_on()
    bodies = {}
    for each in chosen:
        with suppress(KeyError):
            if not survey.holds(each.digest):
                bodies[each.digest] = store.get(each.digest)
    store.discard(list(bodies))
    survey.read_on()
    for digest in filter(survey.holds, bodies):
        store.put(digest, [bodies[digest]])
    return [each for each in chosen if not survey.holds(each.digest)]


def _batches(chosen: Sequence[_ReusableObject]) -> Iterator[list[_ReusableObject]]:
    """Cut what is to go into pieces that may be in memory at once."""
    piece: list[_ReusableObject] = []
    for each in chosen:
        if piece and (len(piece) == _MANY or sum(one.size for one in piece) > _IN_HAND):
            yield piece
            piece = []
        piece.append(each)
    if piece:
        yield piece


# Limits ----------------------------------------------------------------------------------------


def _checked_bytes(max_bytes: Any) -> int | None:
    if max_bytes is None:
        return None
    try:
        if isinstance(max_bytes, bool):
            raise TypeError
        limit = index(max_bytes)
    except TypeError:
        raise TypeError(
            f"max_bytes is {max_bytes!r} ({type(max_bytes).__name__}); expected an integer number "
            "of bytes, such as 10**9"
        ) from None
    if limit < 0:
        raise ValueError(f"max_bytes is {max_bytes!r}; expected 0 or more bytes")
    return limit


def _checked_seconds(older_than: Any) -> float | None:
    if older_than is None:
        return None
    try:
        if isinstance(older_than, bool | str | bytes):
            raise TypeError
        if isinstance(older_than, timedelta | np.timedelta64):
            seconds = pd.Timedelta(older_than).total_seconds()
        else:
            seconds = float(older_than)
    except (TypeError, ValueError):
        raise TypeError(
            f"older_than is {older_than!r} ({type(older_than).__name__}); expected a "
            "datetime.timedelta, such as timedelta(days=30), or a number of seconds"
        ) from None
    if not seconds >= 0:
        raise ValueError(f"older_than is {older_than!r}; expected a duration of 0 or more")
    return seconds


def _oldest(store: Store, age: float | None) -> float:
    """Return the time before which what was last used goes."""
    return -math.inf if age is None else store.state().clock - age


# Reading ---------------------------------------------------------------------------------------


class _ObjectSurvey:
    """What all records say about objects. It remembers digests, and no record."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = {"trials": 0, "steps": 0, "notes": 0}
        self._uses: dict[str, _ObjectUse] = {}
        self._needed: set[str] = set()
        self._begun: set[int] = set()
        self._settled: set[int] = set()
        self._successes = Successes()
        self._checkpoints: dict[tuple[int, str], list[_KeptState]] = {}
        """Trial and step -> those that it kept, the latest first."""
        self._states: set[str] = set()
        """Digests of all checkpoints."""
        self._past: dict[str, _ObjectUse] = {}
        """Those that nobody goes on from, with when they were kept."""
        self.busy: set[str] = set()
        """Digests of the objects that a running trial kept or reused."""

    def read_on(self) -> None:
        """Read the records that were written since the last time."""
        before = dict(self._after)
        with warnings.catch_warnings():
            # The warning says that part of a stream is left out: what that needs is not known.
            warnings.simplefilter("error", StoreWarning)
            try:
                self._read_trials()
                self._settle()
                self._read_steps()
                self._read_artifacts()
            except StoreWarning as warning:
                raise CorruptRecordError(_refusal(self._store, warning)) from warning
        if self._after != before:
            self._past = dict(self._past_checkpoints())

    def droppable(self) -> Iterator[str]:
        """The digests of reusable objects that nothing else needs."""
        return (digest for digest in {**self._uses, **self._past} if digest not in self._needed)

    def _past_checkpoints(self) -> Iterator[tuple[str, _ObjectUse]]:
        """Yield the checkpoints that nobody goes on from, with when they were kept."""
        for (trial, step), kept in self._checkpoints.items():
            counted = 0 if trial in self._successes else max(1, kept[0].keep)
            for one in kept[counted:]:
                for digest in one.digests:
                    yield digest, _ObjectUse(one.saved, trial, step)

    def holds(self, digest: str) -> bool:
        """Whether something needs an object that is no reusable output, or a running trial."""
        if digest in self._states and digest not in self._past:
            return True
        return digest in self._needed or digest in self.busy

    def candidates(self, sizes: dict[str, int]) -> list[_ReusableObject]:
        """The droppable objects that are in the store, the least recently used first."""
        uses = {**self._past, **self._uses}
        found = [
            _ReusableObject(digest, uses[digest], sizes[digest])
            for digest in self.droppable()
            if digest in sizes
        ]
        return sorted(found, key=lambda each: (each.use, each.digest))

    def _read_trials(self) -> None:
        for chunk in self._read("trials"):
            begun = [one for one in chunk if one.id == BEGUN]
            for stored, first in self._decoded(begun, _TrialObjects):
                self._begun.add(stored.trial)
                self._needed.update((first.code, first.environment, first.graph))
                self._needed.update(digests_within(first.parameters))
                if first.resumes is not None:
                    self._successes.goes_on_from(stored.trial, first.resumes)
            rest = [one for one in chunk if one.id != BEGUN]
            for stored, record in self._decoded(rest, _HeldValue):
                self._needed.update(digests_within(record.value))
                if record_kind(stored.id) == ENDED:
                    self._settled.add(stored.trial)
                    if stored.id == ended_id("succeeded"):
                        self._successes.add(stored.trial)

    def _settle(self) -> None:
        """Count trials as settled that are over though they never recorded an end."""
        for some in partition_all(_MANY, sorted(self._begun - self._settled)):
            trials = read_trials(self._store, some).values()
            self._settled.update(each.trial for each in trials if each.status != "running")

    def _read_steps(self) -> None:
        for chunk in self._read("steps"):
            for stored, run in self._decoded(chunk, _HoldingRun):
                for digest in _digests(run.kept):
                    self._note(digest, stored.trial, run)

                self._needed.update(digests_within(run.artifacts))

    def _read_artifacts(self) -> None:
        for chunk in self._read("notes"):
            kept = [one for one in chunk if record_kind(one.id) == ARTIFACT]
            for _, artifact in self._decoded(kept, _HeldArtifact):
                self._needed.update(digests_within([artifact.value, artifact.thumbnail]))
            states = [one for one in chunk if record_kind(one.id) == CHECKPOINT]
            for stored, state in self._decoded(states, _HeldCheckpoint):
                one = _KeptState(state.saved, state.keep, tuple(digests_within(state.value)))
                known = self._checkpoints.setdefault((stored.trial, state.step), [])
                # Behind those that were kept at the same moment.
                insort(known, one, key=_age)
                self._states.update(one.digests)

    def _note(self, digest: str, trial: int, run: _HoldingRun) -> None:
        if trial not in self._settled:
            self.busy.add(digest)
        if run.reused is None and not run.reusable:
            self._needed.add(digest)
            return
        # Runs that reused the object may be read before the one that kept it.
        keeper, last = run.reused or trial, run.started + run.wall
        known = self._uses.get(digest, _ObjectUse(last, keeper, run.step))
        first = min((known.trial, known.step), (keeper, run.step))
        self._uses[digest] = _ObjectUse(max(last, known.last), *first)

    def _read(self, stream: str) -> Iterator[Sequence[Stored]]:
        for chunk in partition_all(_PIECE, self._store.read(stream, after=self._after[stream])):
            yield chunk
            self._after[stream] = chunk[-1].position

    def _decoded(self, stored: Sequence[Stored], type_: type[T]) -> Iterator[tuple[Stored, T]]:
        records = decode_each([one.body for one in stored], type_)
        for one, record in zip(stored, records, strict=True):
            if isinstance(record, CorruptRecordError):
                what = f"the record {one.id!r} of trial {one.trial}: {record}"
                raise CorruptRecordError(_refusal(self._store, what)) from record
            yield one, record


def _refusal(store: Store, what: object) -> str:
    return (
        f"Nothing was dropped from {store.address}, because it cannot be told which objects are "
        f"still needed ({what}). Repair or restore the store first."
    )


def _sizes(store: Store, digests: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for some in partition_all(_MANY, digests):
        sizes |= store.sizes(some)
    return sizes


# Choosing --------------------------------------------------------------------------------------


def _choose(
    candidates: Sequence[_ReusableObject], busy: Collection[str], limit: int | None, oldest: float
) -> list[_ReusableObject]:
    """Return the candidates that go; they stand in the order in which they were last used."""
    total = sum(each.size for each in candidates)
    allowed = math.inf if limit is None else limit
    chosen = []
    for each in candidates:
        if each.digest not in busy and (each.use.last < oldest or total > allowed):
            chosen.append(each)
            total -= each.size
    return chosen


def _frame(chosen: Sequence[_ReusableObject]) -> pd.DataFrame:
    rows = pd.RangeIndex(len(chosen))

    def numbers(values: list[int]) -> pd.Series:
        return pd.Series(values, index=rows, dtype="int64")

    columns = [
        ("Step", pd.Series([each.use.step for each in chosen], index=rows, dtype=str)),
        ("Trial ID", numbers([each.use.trial for each in chosen])),
        ("Size", numbers([each.size for each in chosen])),
        ("Last Used", moments([each.use.last for each in chosen], rows)),
        ("Digest", pd.Series([each.digest for each in chosen], index=rows, dtype=str)),
    ]
    return frame_of(columns, rows)
