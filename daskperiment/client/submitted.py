"""What is known of a trial that a cluster computes: from its client, and from the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import Struct

from daskperiment.cluster import Submission
from daskperiment.codec import decode
from daskperiment.errors import CorruptRecordError
from daskperiment.records import BEGUN, ENDED, record_kind
from daskperiment.store.protocol import Owner, Store

__all__ = ["Beginning", "SubmittedTrial", "TaskOutcome", "TrialBegan", "TrialNews"]


SETTLED = 1.0
"""Seconds between two answers of a cluster: what was on its way at the first has come by then."""


class Beginning(NamedTuple):
    """When a trial began, and its id."""

    trial: int
    started: float
    token: str
    """Its token in the store."""

    @property
    def owner(self) -> Owner:
        """What its records belong to."""
        return Owner(self.trial, self.token)


class TaskOutcome(NamedTuple):
    """What became of a trial's last task."""

    status: str
    """``finished``, ``error`` or ``cancelled``."""
    error: BaseException | None
    traceback: Any
    secrets: Sequence[Any] = ()
    """What no record of it may quote."""
    key: bytes | None = None
    """The trial's signing key."""


@dataclass(eq=False)
class SubmittedTrial:
    """A trial that a client of this process submitted."""

    submission: Submission
    in_flight: frozenset[str] = frozenset()
    """Cache keys whose content the trial makes."""
    began: Beginning | None = None
    ended: bool = False
    """Whether an end is on record."""
    deserted: float | None = None
    """Since when its cluster has no workers, by the monotonic clock."""
    gone: bool = False
    """Whether its cluster said twice that it has nothing of it, so that it will not begin."""
    secrets: Sequence[Any] = ()
    """Values of its secret parameters."""
    key: bytes | None = None
    """Its signing key."""
    _seen: TaskOutcome | None = None
    _absent: float | None = None

    async def watch(self) -> None:
        """Note what becomes of the task: whoever waits for it may release it at once."""
        await self.submission.state.wait()
        self.note()

    def note(self) -> None:
        """Note what is known of the task at this moment."""
        self._seen = self.outcome()

    def outcome(self) -> TaskOutcome | None:
        """Return what became of the task, ``None`` while it is not known."""
        state = self.submission.state
        if self._seen is None and state.status in ("finished", "error", "cancelled"):
            return TaskOutcome(
                state.status, state.exception, state.traceback, self.secrets, self.key
            )
        return self._seen

    def note_presence(self, present: bool) -> None:
        """Note the cluster's word: whether it still has anything of the trial."""
        if present:
            self._absent = None
        elif self._absent is None:
            self._absent = time.monotonic()
        else:
            self.gone = time.monotonic() - self._absent >= SETTLED

    def note_workers(self) -> None:
        """Note whether anybody is there to compute it."""
        if self.submission.has_workers():
            self.deserted = None
        elif self.deserted is None:
            self.deserted = time.monotonic()


class TrialBegan(NamedTuple):
    """One trial began."""

    token: str
    began: Beginning


class _FirstRecord(Struct):
    """What is wanted of a trial's first record."""

    token: str
    started: float


class TrialNews:
    """What is new in a store's stream of trials."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after = 0

    def start(self) -> None:
        """Begin here: what is there already is not new.

        Raises
        ------
        StoreError
            If the store cannot be read; then all that is there is new.
        """
        latest = self._store.state().latest
        records = self._store.read("trials", [latest]) if latest else ()
        self._after = max((r.position for r in records if r.id == BEGUN), default=0)

    def read(self) -> Iterable[TrialBegan | int]:
        """Yield how trials began, and the ids of those that ended.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        for record in self._store.read("trials", after=self._after):
            self._after = record.position
            if record.id == BEGUN:
                with suppress(CorruptRecordError):
                    first = decode(record.body, _FirstRecord)
                    yield TrialBegan(
                        first.token, Beginning(record.trial, first.started, first.token)
                    )
            elif record_kind(record.id) == ENDED:
                yield record.trial
