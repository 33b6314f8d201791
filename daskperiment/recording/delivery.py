"""From this machine to the store: records by the journal, objects directly or by a folder.

A store that is away stops nothing: records wait in the journal and objects in a folder beside it,
and a warning says so once. What is not known to have arrived is sent again, which changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from toolz import partition_all

from daskperiment.codec import Blob
from daskperiment.errors import (
    ObjectsUnavailableError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.recording.claims import Claims
from daskperiment.recording.journal import Journal
from daskperiment.recording.latest_values import LatestValues
from daskperiment.recording.outputs import ObservedOutputs, remember
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.recording.spare_places import SparePlaces
from daskperiment.recording.unfinished import clear_unfinished
from daskperiment.store.file import UnnamedObject
from daskperiment.store.opening import begins_objects, journal_folder, unnamed_object
from daskperiment.store.protocol import Buffer, Record, Store
from daskperiment.warn import warn_user

__all__ = ["Delivery", "warn_in_memory"]

_HELD_AT_ONCE = 1000
_SMALL = 1 << 20
"""Bytes of an object up to which it is remembered, to be put again if the store loses it."""


class Delivery:
    """What this process has for one store, on its way there.

    Parameters
    ----------
    store : Store
        Where everything ends up.
    outputs : ObservedOutputs
        Held against the records that a delivery finds in their place.
    wake : callable
        Called when something has to wait, so that delivering is tried again.
    """

    def __init__(self, store: Store, outputs: ObservedOutputs, wake: Callable[[], None]) -> None:
        self.folder = journal_folder(store)
        self.writes = OwnedWrites(store)
        self.journal = Journal(self.folder, store, self.writes)
        self.claims = Claims(self.folder)
        self.on_loss: Callable[[], None] = lambda: None
        """Called when the store turns out to have lost records."""
        self.away = False
        self._bucket_away = False
        """Whether the store takes records, and large objects cannot go where they belong."""
        self._store = store
        self._outputs = outputs
        self._wake = wake
        self._pending = PendingObjects(self.folder / "spool")
        self._spare = SparePlaces(store, self.writes)
        self._delivering = threading.Lock()
        self._noting = threading.Lock()
        self._kept: OrderedDict[str, Blob | None] = OrderedDict()
        self.values = LatestValues(store, self.folder)
        self._held = HeldRecords()
        self._cleared = False
        """Whether it was looked for what killed processes began to write here."""
        self._told = False
        """Whether it was said that something waits, since all was delivered."""
        self._told_of_memory = False
        """Whether it was said that some of it waits in memory alone."""
        self.stuck = False
        """Whether a record waits in memory: looked at before each write."""

    @property
    def waiting(self) -> int:
        """How many records and objects are not in the store yet."""
        here = self.journal.waiting + len(self._held) + len(self._pending)
        return here + self._spare.waiting

    @property
    def holds(self) -> bool:
        """Whether something waits beside the journal: in memory, or objects on this machine."""
        return bool(self._held) or self._pending.expected or self._spare.holds

    # Objects

    def put(self, *blobs: Blob) -> None:
        """Keep objects in the store; those that were put there lately are not put again.

        Raises
        ------
        StoreError
            If the store does not take it.
        """
        for blob in blobs:
            if blob.digest not in self._kept:
                self._store.put(blob.digest, blob.parts)
                remember(self._kept, blob.digest, _to_keep(blob))

    def keep(self, blob: Blob) -> bool:
        """Keep an object, on this machine if the store is away.

        Return whether it survives SIGKILL of this process: not if it waits in memory.

        Raises
        ------
        StoreError
            If it could be kept neither in the store nor here.
        """
        if self.away or self._bucket_away:
            return self._keep_here(blob)
        try:
            # Not by memory, as in `put`: another process may have pruned it since.
            self._store.put(blob.digest, blob.parts)
            self.values.add(blob)
        except StoreError as error:
            # Away, or full: either may be over in a moment.
            self._bucket_away |= isinstance(error, ObjectsUnavailableError)
            lasting = self._keep_here(blob)
            with suppress(StoreWarning):  # made an error, it must not cost the value
                self.lost_contact(error)
            return lasting
        return True

    @property
    def begins_objects(self) -> bool:
        """Whether it is of use to begin what is kept early: asked before its parts are made."""
        return not self.away and begins_objects(self._store)

    def unnamed(self, parts: Sequence[Buffer]) -> UnnamedObject | None:
        """Return a large object that can be begun before its digest is known; None if none can.

        It is its parts when it is kept, and to be closed at last.
        """
        return unnamed_object(self._store, parts)

    def _keep_here(self, blob: Blob) -> bool:
        try:
            lasting = self._pending.keep(blob.digest, blob.parts, self._spare.keep)
        except StoreError as error:
            text = f"A value of {blob.size:,} bytes is lost: the store does not take it, and here "
            warn_user(StoreWarning(f"{text}it cannot wait: {error}"))
            raise
        self.values.add_small(blob)  # the store may lose it when it has it
        self._wake()
        return lasting

    def forget_object(self, digest: str) -> None:
        """Remember no longer that the store has an object."""
        self._kept.pop(digest, None)
        self.values.drop(digest)

    def drop_object(self, digest: str) -> None:
        """Let go of an object that nothing needs any more; where the store is away, it stays."""
        self.forget_object(digest)
        self._pending.drop(digest)
        if not self.away:
            with suppress(StoreError):
                self._store.discard([digest])

    # Records

    def hold(self, record: Record, error: StoreError) -> bool:
        """Keep a record elsewhere that the journal does not take, and warn once.

        A full disk, or one that cannot be written for a moment, costs no record then. Return
        whether it survives SIGKILL of this process: not if it waits in memory.
        """
        self.journal.slow_down()
        self._make_room()
        lasting = self._spare.write(record)
        taken = lasting or self._held.add(record)
        self.stuck |= not lasting
        self._wake()
        if not taken or not self._told or (not lasting and not self._told_of_memory):
            self._told, self._told_of_memory = True, not lasting
            place = str(self._spare.used[0]) if lasting and self._spare.used else "memory"
            fate = f"waits in {place} until it can be written" if taken else "is lost"
            with suppress(StoreWarning):  # made an error, it must not end what saves a point
                warn_user(
                    StoreWarning(
                        f"A record of trial {record.trial} could not be written: "
                        f"{str(error).rstrip('.')}. It {fate}, as do those that follow."
                    )
                )
        return lasting

    def spare_journals(self) -> Iterator[Journal]:
        """Yield journals on other disks, in order, for who has one of its own."""
        return self._spare.new_journals()

    def _make_room(self) -> None:
        """Remove from this disk what is there only because the store may lose it."""
        self.journal.make_room()
        self.values.make_room()

    def rest(self) -> None:
        """Close files until they are needed again."""
        self.claims.rest()
        self.journal.rest()
        self.values.rest()

    def write_held(self) -> None:
        """Write the records down that wait in memory, if that is possible again."""
        if self._delivering.acquire(blocking=False):  # else they are delivered just now
            try:
                with suppress(StoreError):
                    self._held.write_down(self.journal)
                self.stuck = bool(self._held)
            finally:
                self._delivering.release()

    def deliver(self, timeout: float | None = None) -> None:
        """Deliver the records that wait.

        Raises
        ------
        StoreError
            If the store does not take them; nothing is lost then.
        """
        # One at a time, so that whoever delivers an output is the one to hold it against others.
        with self._delivering, self._outputs.compared(self._store.find) as existing:
            # A copy: what is made meanwhile belongs to the next delivery.
            made = self.claims.ready() if self.claims.made else []
            try:
                if self._held:
                    existing += self._held.place(self.journal, self.writes)
                    self.stuck = bool(self._held)
                if self._spare.holds:
                    existing += self._spare.flush(timeout)
                existing += self.journal.flush(timeout)
                if self.writes.loss is not None:
                    existing += self._restore(timeout)
            finally:
                if made:
                    self.claims.delivered(made)

    def went_back(self, latest: int, known: Record | None) -> None:
        """Note that the store lost what this process wrote, when its highest id was this one.

        `known` is the record that was not there; a loss that was noticed before is not one more.

        Raises
        ------
        StoreError
            If the store does not take what it lacks; nothing is lost then.
        """
        if known is self.writes.known:
            self.writes.notice(latest)
            self.deliver()

    def _restore(self, timeout: float | None) -> list[Record]:
        """Write again what the store lost of this process's, and say so."""
        blobs = [blob for blob in self._kept.values() if blob is not None]
        self.forget()
        self.on_loss()
        deleted = self.writes.loss is not None and self.writes.loss.deleted
        if not deleted:
            self._put_again(blobs)
        self.journal.rewind()
        self.writes.restoring = True
        try:
            standing = self.journal.flush(timeout)
        finally:
            self.writes.restoring = False
        self.journal.leave_removed()
        loss = self.writes.take_loss()
        if loss is not None:
            if deleted:  # nothing but what belongs to trials that go on
                self._put_again([blob for blob in blobs if blob.digest in loss.named], loss.named)
            warn_user(StoreWarning(loss.told(self._store.address)))
        return standing

    def _put_again(self, blobs: Sequence[Blob], wanted: Collection[str] | None = None) -> None:
        """Put objects that the store may lack, and of the latest values those that are wanted."""
        for blob in blobs:
            self._store.put(blob.digest, blob.parts)
            remember(self._kept, blob.digest, blob)
        for blob in self.values.find(wanted):
            self._store.put(blob.digest, blob.parts)

    def flush(self, timeout: float | None = None) -> None:
        """Deliver everything that waits, of this process and of dead ones.

        Raises
        ------
        StoreError
            If the store does not take it; nothing is lost then.
        """
        if self.away:
            # Nothing may be waiting, and then nothing below would notice that it still is.
            self._store.state()
        try:
            # Before the records that name them.
            self._deliver_objects()
            self._bucket_away = False
        finally:
            # A store that is full for an object may have room for records.
            self.deliver(timeout)
        self.journal.recover()
        self._spare.deliver()
        if not self._cleared:
            self._cleared = True
            clear_unfinished(self.folder, self.folder / "spool")
        if self.writes.loss is not None:  # noticed by what a dead process left
            self.deliver(timeout)
        self.away = self._told = self._told_of_memory = False

    def _deliver_objects(self) -> None:
        self._pending.deliver(self._store, self.values.take)
        if self._spare.holds:
            self._spare.deliver_objects()

    def lost_contact(self, error: Exception) -> None:
        """Note that the store did not take something: say so once, and try again later."""
        self._wake()
        away = isinstance(error, StoreUnavailableError)
        if not away:
            self._make_room()  # it may be this disk that is full
        # Two threads that wait for one server give up at the same moment.
        with self._noting:
            known, self._told = self.away if away else self._told, True
            self.away |= away
        if known:
            return
        if away:
            # The server may come back with less than it had.
            for blob in filter(None, list(self._kept.values())):
                self.values.add_small(blob)
            self.forget()
        places = " and ".join(repr(str(place)) for place in (self.folder, *self._spare.used))
        place = f"in {'memory' if self._pending.in_memory else places}"
        warn_user(
            StoreWarning(
                f"{str(error).rstrip('.')}. What is recorded meanwhile waits {place} and is "
                f"delivered when the store {'is back' if away else 'takes it'}; "
                "ex.flush() does it at once."
            )
        )

    def forget(self) -> None:
        """Remember no longer what the store has."""
        self._outputs.forget()
        self._kept.clear()

    def delete(self) -> None:
        """Delete all that the store has, with what waits for it on this machine.

        Raises
        ------
        StoreError
            If the store cannot be deleted; what waits is still there then.
        """
        with self._delivering:
            self._store.delete()
            self.journal.discard()
            self._pending.discard()
            self._spare.discard()
            self._held.clear()
            self.values.clear()
            self.stuck = self._told = False
            self.writes.forget()
        self.forget()

    def close(self) -> None:
        """Deliver what can be delivered, and say in one line what is left."""
        # A store that is away was tried a moment ago, and the process may end at once.
        reason = "it is away" if self.away else self._refusal()
        self.claims.close()
        self.values.clear()
        if reason is None or (waiting := self._known_to_wait()) == 0:
            self.journal.close()
            return
        if waiting is None:
            waiting = len(self._held) + self._pending.in_memory
        elsewhere = self._write_all_down()
        lost = len(self._held) + self._pending.in_memory
        texts = [f"The store {self._store.address} did not take all: {reason.rstrip('.')}."]
        if waiting > lost:
            places = " and ".join(repr(str(place)) for place in (self.folder, *elsewhere))
            texts.append(
                f"{waiting - lost} records and objects for it wait in {places}; the next "
                "process that opens the experiment when the store takes them delivers them."
            )
        if lost:
            texts.append(
                f"{lost} records and objects could be written neither there nor to the store, and "
                "are lost with this process."
            )
        warn_user(StoreWarning(" ".join(texts)))

    def _known_to_wait(self) -> int | None:
        """Return how much waits; ``None`` where folders cannot be listed."""
        try:
            return self.waiting
        except StoreError:  # such as for want of descriptors
            return None

    def _refusal(self) -> str | None:
        """Deliver all, and return why the store does not take it."""
        try:
            try:
                self._deliver_objects()
            finally:
                self.deliver()
        except StoreError as error:
            return str(error)
        return None

    def _write_all_down(self) -> list[Path]:
        """Write down what waits in memory, and return where it waits beside the folder."""
        with suppress(StoreError):
            self._held.write_down(self.journal)
        self._pending.write_down()
        if self._held or self._pending.in_memory:
            self._spare.take(self._held.write_down, self._pending)
        return self._spare.used


def warn_in_memory(what: str) -> None:
    """Say of something that should survive this process that it waits in memory alone."""
    warn_user(
        StoreWarning(
            f"{what} waits in memory alone: neither its store nor a disk of this machine takes it. "
            "It is written when there is room; should this process be killed before, it is lost."
        )
    )


def _to_keep(blob: Blob) -> Blob | None:
    """Return an object that is small and cannot change, so that it can be put once more."""
    whole = blob.size <= _SMALL and all(isinstance(part, bytes) for part in blob.parts)
    return blob if whole and blob.parts else None


class HeldRecords:
    """Records in memory that could not be written down, up to a limit of bytes."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self._records: deque[Record] = deque()
        self._left = limit
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> bool:
        """Hold a record; False if there is no room, so that it is lost."""
        with self._lock:
            if len(record.body) > self._left:
                return False
            self._left -= len(record.body)
            self._records.append(record)
            return True

    def clear(self) -> None:
        """Hold nothing any more."""
        self._drop(len(self._records))

    def place(self, journal: Journal, writes: OwnedWrites) -> list[Record]:
        """Write what is held to the journal, or to the store if the journal takes none.

        Returns what ``Store.append`` does.

        Raises
        ------
        StoreError
            If neither takes them; nothing is lost then.
        """
        # Not under the lock, which whoever adds takes: a store may take its time.
        standing: list[Record] = []
        try:
            self.write_down(journal)
        except StoreError:
            for some in partition_all(_HELD_AT_ONCE, list(self._records)):
                standing += writes.append(some, dict)
                self._drop(len(some))
        return standing

    def write_down(self, journal: Journal) -> None:
        """Write what is held to the journal; StoreError if it does not take all."""
        while self._records:
            journal.write(self._records[0])
            self._drop(1)

    def _drop(self, count: int) -> None:
        with self._lock:
            for _ in range(count):
                self._left += len(self._records.popleft().body)
