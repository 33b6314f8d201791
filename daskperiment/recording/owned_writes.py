"""Records on their way into a store that may have lost the trials that they belong to.

Somebody deletes an experiment, puts an older backup in its place, or a server comes back with less
than it had, while processes write to it. The store refuses what they wrote for trials that it does
not have. Such a trial is begun again, with its own token and so under an id of its own, and what
belongs to it is written for that id.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from daskperiment.codec import decode, encode, placed, with_trial
from daskperiment.errors import CorruptRecordError, RecordsRefusedError
from daskperiment.records import Begun
from daskperiment.store.protocol import Owner, Record, Store

__all__ = ["OwnedWrites", "StoreLoss"]

_ATTEMPTS = 5
"""Times that a store may lose records while one batch is written."""


class StoreLoss:
    """What became of this process's records since a store lost some."""

    def __init__(self, latest: int) -> None:
        self.latest = latest
        """The highest trial id that the store had when it was noticed."""
        self.moved: dict[int, int] = {}
        """Trials that were begun again: the id that they had, the one that they have."""
        self.dropped: dict[int, int] = {}
        """Trial -> how many of its records could not be kept, for want of its first."""


class OwnedWrites:
    """Writes records for the trials that they belong to, wherever these are by now.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    known : Record or None
        The last record in the stream of trials that was written here: it must be there.
    loss : StoreLoss or None
        What was noticed since `take_loss` was called.
    begun : OrderedDict
        The latest trials that ran here -> their first records.
    alters : bool
        Whether records are written otherwise than they come.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._first: dict[str, int] = {}
        self._now: dict[str, int] = {}
        """Token -> the id that the trial had first, and the one that it has now."""
        self._gone: set[str] = set()
        self._lock = threading.RLock()
        self.begun: OrderedDict[Owner, bytes] = OrderedDict()
        self.known: Record | None = None
        self.loss: StoreLoss | None = None
        self.alters = False

    def notice(self, latest: int) -> StoreLoss:
        """Note that the store lost records, when its highest id was this one."""
        with self._lock:
            self.known = None
            self.loss = self.loss or StoreLoss(latest)
            return self.loss

    def take_loss(self) -> StoreLoss | None:
        """Return what was noticed since the last call."""
        with self._lock:
            loss, self.loss = self.loss, None
            return loss

    def append(
        self, records: Sequence[Record], first_records: Callable[[], Mapping[Owner, bytes]]
    ) -> list[Record]:
        """Write records as ``Store.append`` does, those of lost trials under their new ids.

        Parameters
        ----------
        records : sequence of Record
        first_records : callable
            Returns the first records of the trials that they belong to.
        """
        for _ in range(_ATTEMPTS):
            placed = self._placed(records) if self.alters else records
            try:
                standing = self._store.append(placed)
            except RecordsRefusedError as error:
                refused = {Owner(*pair): number for pair, number in error.owners.items()}
                self._begin_again(refused, first_records())
            else:
                self.known = next((one for one in reversed(placed) if _shows(one)), self.known)
                return standing
        return self._store.append(placed)

    def _begin_again(
        self, refused: Mapping[Owner, int | None], first_records: Mapping[Owner, bytes]
    ) -> None:
        with self._lock:
            self.alters = True
            loss = self.loss or self.notice(self._store.state().latest)
            for owner, number in sorted(refused.items()):
                first = Owner(self._first.setdefault(owner.token, owner.trial), owner.token)
                body = self.begun.get(first) or first_records.get(first)
                if number is None and body:
                    again = _begun_again(body, first.trial)
                    number = self._store.allocate(owner.token, again).trial
                if number is None:
                    self._gone.add(owner.token)
                else:
                    self._now[owner.token] = loss.moved[first.trial] = number

    def _placed(self, records: Sequence[Record]) -> list[Record]:
        placed = []
        for record in records:
            owner = record.owner
            if owner is None:
                placed.append(record)
            elif owner.token in self._gone:
                self._drop(owner)
            else:
                now = self._now.get(owner.token, owner.trial)
                placed.append(record if now == owner.trial else _moved(record, owner, now))
        return placed

    def _drop(self, owner: Owner) -> None:
        loss = self.loss or self.notice(0)
        loss.dropped[owner.trial] = loss.dropped.get(owner.trial, 0) + 1


def _shows(record: Record) -> bool:
    return record.stream == "trials" and record.owner is not None


def _moved(record: Record, owner: Owner, now: int) -> Record:
    """Return a record as it is written for the id that its trial has now."""
    owner = Owner(now, owner.token)
    stream, trial, id, body, _ = record
    if trial:
        return Record(stream, now, id, placed(body, now), owner)
    return Record(stream, 0, id, with_trial(body, now), owner)


def _begun_again(body: bytes, was: int) -> bytes:
    """Return the first record of a trial that had another id before."""
    try:
        return encode(msgspec.structs.replace(decode(body, Begun), was=was))
    except CorruptRecordError:
        return body  # what it says is not for us to judge
