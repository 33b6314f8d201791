"""What is known of a trial that a cluster computes: from its client, and from the store."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import Struct

from daskperiment.cluster import Submission
from daskperiment.codec import decode
from daskperiment.errors import CorruptRecordError
from daskperiment.store.protocol import Store

__all__ = ["Begin", "BeginNews", "Flight", "News", "Outcome"]


class Begin(NamedTuple):
    """How a trial began."""

    trial: int
    started: float


class Outcome(NamedTuple):
    """What became of a trial's last task."""

    status: str
    """``finished``, ``error`` or ``cancelled``."""
    error: BaseException | None
    traceback: Any


@dataclass(eq=False)
class Flight:
    """A trial in flight."""

    submission: Submission
    keep: Any = None
    begin: Begin | None = None
    ended: bool = False
    """Whether an end is on record."""
    deserted: float | None = None
    """Since when its cluster has no workers, by the monotonic clock."""
    _seen: Outcome | None = None
    _over: float | None = None

    async def watch(self) -> None:
        """Note what becomes of the task: whoever waits for it may release it at once."""
        await self.submission.state.wait()
        self.note()

    def note(self) -> None:
        """Note what is known of the task at this moment."""
        self._seen = self.outcome()

    def outcome(self) -> Outcome | None:
        """Tell what became of the task, ``None`` while it is not known."""
        state = self.submission.state
        if self._seen is None and state.status in ("finished", "error", "cancelled"):
            return Outcome(state.status, state.exception, state.traceback)
        return self._seen

    def age(self) -> float:
        """Tell for how many seconds, since this was first asked, nothing more is to come."""
        now = time.monotonic()
        self._over = self._over or now
        return now - self._over

    def look_for_workers(self) -> None:
        """Note whether anybody is there to compute it."""
        if self.submission.has_workers():
            self.deserted = None
        elif self.deserted is None:
            self.deserted = time.monotonic()


class BeginNews(NamedTuple):
    """The beginning of a trial."""

    token: str
    begin: Begin


class _First(Struct):
    """What is wanted of a trial's first record."""

    token: str
    started: float


class News:
    """What is new in the stream of trials.

    Parameters
    ----------
    store : Store
        Whose stream it is.
    """

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
        self._after = max((r.position for r in records if r.id == "begun"), default=0)

    def read(self) -> Iterable[BeginNews | int]:
        """Give how trials began, and the ids of those that ended.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        for record in self._store.read("trials", after=self._after):
            self._after = record.position
            if record.id == "begun":
                with suppress(CorruptRecordError):
                    first = decode(record.body, _First)
                    yield BeginNews(first.token, Begin(record.trial, first.started))
            elif record.id.startswith("ended"):
                yield record.trial
