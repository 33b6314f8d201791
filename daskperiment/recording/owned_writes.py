"""Records on their way into a store that may have lost the trials that they belong to.

Somebody deletes an experiment, puts an older backup in its place, or a server comes back with less
than it had, while processes write to it. The store refuses what they wrote for trials that it does
not have. Such a trial is begun again, with its own token and so under an id of its own, and what
belongs to it is written for that id.

What somebody deleted on purpose is meant to be gone: then only what was still being recorded is
written again, and no trial that had ended.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from daskperiment.codec import (
    decode,
    encode,
    has_signature,
    parsed,
    placed,
    signed,
    signing_key_in_force,
    with_trial,
)
from daskperiment.errors import CorruptRecordError, RecordsRefusedError
from daskperiment.records import Begun, CacheEntry, StepRun, digests_within, record_type
from daskperiment.store.protocol import Owner, Record, Store, last_deletion

__all__ = ["OwnedWrites", "StoreLoss"]

_ATTEMPTS = 5
"""Times that a store may lose records while one batch is written."""


class StoreLoss:
    """What became of this process's records since a store lost some.

    Parameters
    ----------
    latest : int
        The highest trial id that the store had when it was noticed.
    deleted : bool
        Whether somebody deleted the experiment, so that it was no accident.
    """

    def __init__(self, latest: int, deleted: bool = False) -> None:
        self.latest = latest
        self.deleted = deleted
        self.named: set[str] = set()
        """Digests of the objects that belong to what was written again."""
        self.moved: dict[int, int] = {}
        """Trials that were begun again: the id that they had, the one that they have."""
        self.dropped: dict[int, int] = {}
        """Trial -> how many of its records could not be kept, for want of its first."""

    def told(self, address: str) -> str:
        """Return what to say of it, for the store at an address."""
        lines = [f"{address} {self._what()}"]
        if self.moved:
            moved = [
                f"{was} (now {now})" if was != now else f"{was}" for was, now in self.moved.items()
            ]
            what = "was still recorded" if self.deleted else "this process has"
            lines.append(f"What {what} was written again, of trials {', '.join(moved)}")
        for trial, count in self.dropped.items():
            lines.append(
                f"{count} records of trial {trial} are lost: the store has no such trial any more, "
                "and this process does not know how it began"
            )
        if self.moved or not self.deleted:
            lines.append("Older values, of which this process has no copy any more, are lost")
        return ". ".join(lines)

    def _what(self) -> str:
        if self.deleted:
            return (
                "was deleted by somebody while this process had it open: trials of before that had "
                "ended are gone"
            )
        went = f"went back to trial {self.latest}" if self.latest else "was emptied or made anew"
        return f"{went}: it lacks what was written here since"


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
    deletion : str or None
        What names the last deletion before anything was written here; None if that is not known.
    key : bytes or None
        What records were signed with that come here, if any were.
    running : callable
        Returns the trials that run here at this moment.
    restoring : bool
        Whether what is written now was delivered once before.
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
        self.key: bytes | None = None
        self.running: Callable[[], Collection[Owner]] = tuple
        self.deletion: str | None = None
        self.restoring = False

    def look_for_deletion(self) -> None:
        """Find out which deletion of the experiment was the last one until now."""
        self.deletion = last_deletion(self._store)

    def notice(self, latest: int) -> StoreLoss:
        """Note that the store lost records, when its highest id was this one."""
        with self._lock:
            self.known = None
            if self.loss is None:
                before, self.deletion = self.deletion, last_deletion(self._store)
                deleted = before is not None and self.deletion not in ("", before)
                self.loss = StoreLoss(latest, deleted)
            return self.loss

    def forget(self) -> None:
        """Know nothing of the store any more: it was deleted here."""
        self.known = self.deletion = None

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
                self._note_named(placed)
                return standing
        return self._store.append(placed)

    def _note_named(self, placed: Sequence[Record]) -> None:
        """Note the objects that belong to trials that were begun again."""
        if self.loss is not None and self.loss.deleted:
            for one in placed:
                if one.owner is not None and one.owner.token in self._now:
                    self.loss.named.update(_named(one.body))

    def _begin_again(
        self, refused: Mapping[Owner, int | None], first_records: Mapping[Owner, bytes]
    ) -> None:
        with self._lock:
            self.alters = True
            self.key = self.key or signing_key_in_force()
            loss = self.loss or self.notice(self._store.state().latest)
            for owner, number in sorted(refused.items()):
                first = Owner(self._first.setdefault(owner.token, owner.trial), owner.token)
                body = self.begun.get(first) or first_records.get(first)
                if number is None and body and self._is_wanted(owner, loss):
                    again = self._begun_again(body, first.trial)
                    number = self._store.allocate(owner.token, again).trial
                    loss.named.update(_named(body))
                if number is None:
                    self._gone.add(owner.token)
                else:
                    self._now[owner.token] = loss.moved[first.trial] = number

    def _is_wanted(self, owner: Owner, loss: StoreLoss) -> bool:
        """Whether a trial that the store lacks is to be there.

        Of those that were deleted, it is one that runs, or of which something was still waiting.
        """
        if not loss.deleted or not self.restoring:
            return True
        return owner.token in {one.token for one in self.running()}

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
                placed.append(record if now == owner.trial else self._moved(record, owner, now))
        return placed

    def _moved(self, record: Record, owner: Owner, now: int) -> Record:
        """Return a record as it is written for the id that its trial has now."""
        stream, trial, id, body, _ = record
        number = now if trial else 0
        moved = placed(body, now) if trial else with_trial(body, now)
        if b'"signature":' in body and self.key is not None:
            moved = self._signed_anew(record, moved, owner.trial, now)
        return Record(stream, number, id, moved, Owner(now, owner.token))

    def _signed_anew(self, record: Record, moved: bytes, was: int, now: int) -> bytes:
        """Return a body whose signature named the id that its trial had; others stay."""
        type_, key, address = record_type(record.stream, record.id), self.key, self._store.address
        purposes: Any = (was, now) if type_ is StepRun else (record.id, record.id)
        if type_ not in (StepRun, CacheEntry) or key is None:
            return moved  # an end is signed for its trial's token, which stays
        with suppress(CorruptRecordError):
            before, after = decode(record.body, type_), decode(moved, type_)
            if has_signature(before, key, address, purposes[0]):
                return encode(signed(after, key, address, purposes[1]), now * bool(record.trial))
        return moved

    def _begun_again(self, body: bytes, was: int) -> bytes:
        """Return the first record of a trial that had another id before."""
        try:
            begun, key, address = decode(body, Begun), self.key, self._store.address
        except CorruptRecordError:
            return body  # what it says is not for us to judge
        again = msgspec.structs.replace(begun, was=was)
        if begun.signature and key is not None and has_signature(begun, key, address):
            again = signed(again, key, address)
        return encode(again)

    def _drop(self, owner: Owner) -> None:
        loss = self.loss or self.notice(0)
        if loss.deleted and self.restoring:
            return  # it is meant to be gone
        loss.dropped[owner.trial] = loss.dropped.get(owner.trial, 0) + 1


def _named(body: bytes) -> Iterator[str]:
    """Yield the digests of the objects that a record names."""
    with suppress(CorruptRecordError):
        fields = parsed(body)
        yield from digests_within(fields)
        if isinstance(fields, dict) and "token" in fields:  # how a trial began
            found = (fields.get(name) for name in ("code", "environment", "graph", "files"))
            yield from (digest for digest in found if isinstance(digest, str))


def _shows(record: Record) -> bool:
    return record.stream == "trials" and record.owner is not None
