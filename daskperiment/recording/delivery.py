"""From this machine to the store: records by the journal, objects directly or by a folder.

A store that is away stops nothing: records wait in the journal and objects in a folder beside it,
and a warning says so once. What is not known to have arrived is sent again, which changes nothing.
"""

from __future__ import annotations

import mmap
import os
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from toolz import partition_all

from daskperiment.codec import Blob
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.journal import Journal
from daskperiment.recording.outputs import ObservedOutputs, remember
from daskperiment.store import rights
from daskperiment.store.opening import journal_folder
from daskperiment.store.protocol import Buffer, Record, Store
from daskperiment.warn import warn_user

__all__ = ["Delivery", "PendingObjects"]

_ENDING = ".object"
_HELD_AT_ONCE = 1000


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
        self.journal = Journal(self.folder, store)
        self.away = False
        self._store = store
        self._outputs = outputs
        self._wake = wake
        self._pending = PendingObjects(self.folder / "spool")
        self._delivering = threading.Lock()
        self._noting = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._held = HeldRecords()

    @property
    def waiting(self) -> int:
        """How many records and objects are not in the store yet."""
        return self.journal.waiting + len(self._held) + sum(1 for _ in self._pending.files())

    @property
    def holds(self) -> bool:
        """Whether records wait in memory, because they could not be written down."""
        return bool(self._held)

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
                remember(self._kept, blob.digest, "")

    def keep(self, blob: Blob) -> None:
        """Keep an object, on this machine if the store is away.

        Raises
        ------
        StoreError
            If it could be kept neither in the store nor here.
        """
        if self.away:
            self._pending.keep(blob.digest, blob.parts)
            return
        try:
            # Not by memory, as in `put`: another process may have pruned it since.
            self._store.put(blob.digest, blob.parts)
        except StoreError as error:
            # Away, or full: either may be over in a moment.
            self._pending.keep(blob.digest, blob.parts)
            self.lost_contact(error)

    def forget_object(self, digest: str) -> None:
        """Remember no longer that the store has an object."""
        self._kept.pop(digest, None)

    # Records

    def hold(self, record: Record, error: StoreError) -> None:
        """Keep a record in memory that the journal does not take, and warn once.

        A full disk, or one that cannot be written for a moment, costs no record then.
        """
        first = not self._held
        taken = self._held.add(record)
        self._wake()
        if first or not taken:
            fate = "waits in memory until it can be written" if taken else "is lost"
            warn_user(
                StoreWarning(
                    f"A record of trial {record.trial} could not be written: "
                    f"{str(error).rstrip('.')}. It {fate}, as do those that follow."
                )
            )

    def deliver(self, timeout: float | None = None) -> None:
        """Deliver the records that wait.

        Raises
        ------
        StoreError
            If the store does not take them; nothing is lost then.
        """
        # One at a time, so that whoever delivers an output is the one to hold it against others.
        with self._delivering, self._outputs.compared(self._store.find) as existing:
            if self._held:
                existing += self._held.place(self.journal, self._store)
            existing += self.journal.flush(timeout)

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
            self._pending.deliver(self._store)  # before the records that name them
        finally:
            # A store that is full for an object may have room for records.
            self.deliver(timeout)
        self.journal.recover()
        self.away = False

    def lost_contact(self, error: Exception) -> None:
        """Note that the store did not take something: warn, and try again later."""
        self._wake()
        if isinstance(error, StoreUnavailableError):
            # Two threads that wait for one server give up at the same moment.
            with self._noting:
                known, self.away = self.away, True
            if known:
                return
            self.forget()  # the server may come back with less than it had
        warn_user(
            StoreWarning(
                f"{str(error).rstrip('.')}. What is recorded meanwhile waits in "
                f"{str(self.folder)!r} and is delivered when the store is back; "
                "ex.flush() does it at once."
            )
        )

    def forget(self) -> None:
        """Remember no longer what the store has."""
        self._outputs.forget()
        self._kept.clear()

    def close(self) -> None:
        """Deliver what can be delivered, and warn of what is left."""
        # A store that is away was tried a moment ago, and the process may end at once.
        if self.away or not self._delivered():
            warn_user(
                StoreWarning(
                    f"{self.waiting} records and objects for {self._store.address} wait in "
                    f"{str(self.folder)!r}. The next process that opens the experiment "
                    "when the store can be reached delivers them."
                )
            )

        if self._held:
            warn_user(
                StoreWarning(
                    f"{len(self._held)} records for {self._store.address} could be written neither "
                    f"to {str(self.folder)!r} nor to the store, and are lost with this process."
                )
            )

    def _delivered(self) -> bool:
        try:
            self._pending.deliver(self._store)
            self.deliver()
        except StoreError as error:
            warn_user(StoreWarning(str(error)))
            return False
        self.journal.close()
        return True


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

    def place(self, journal: Journal, store: Store) -> list[Record]:
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
            while self._records:
                journal.write(self._records[0])
                self._drop(1)
        except StoreError:
            for some in partition_all(_HELD_AT_ONCE, list(self._records)):
                standing += store.append(some)
                self._drop(len(some))
        return standing

    def _drop(self, count: int) -> None:
        with self._lock:
            for _ in range(count):
                self._left += len(self._records.popleft().body)


class PendingObjects:
    """A folder of objects that wait for a store that is away.

    Parameters
    ----------
    folder : pathlib.Path
        Made when the first object is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Write an object down, whole or not at all."""
        target = self._folder / f"{digest}{_ENDING}"
        temporary = self._folder / f"{digest}.{uuid.uuid4().hex}.part"
        try:
            rights.make_folder(self._folder, rights.PRIVATE_FOLDER)
            private = partial(os.open, mode=rights.PRIVATE_FILE)
            with open(temporary, "wb", opener=private) as file:
                file.writelines(parts)
            rights.share(temporary)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"Cannot keep an object in {str(self._folder)!r} ({error}). Free some space there, "
                "or name another folder in the configuration 'daskperiment.journal'."
            ) from error

    def deliver(self, store: Store) -> int:
        """Hand every object to the store, and return how many there were."""
        count = 0
        for path in self.files():
            try:
                _put(store, path)
                path.unlink()
            except FileNotFoundError:
                continue  # another process delivered it
            count += 1
        return count

    def files(self) -> Iterator[Path]:
        """The files of the objects that wait."""
        try:
            entries = [entry.path for entry in os.scandir(self._folder)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return iter(())  # somebody else's, or what stands in its way is for the store to say
        except OSError as error:
            raise StoreError(
                f"Cannot look into {str(self._folder)!r} ({error}). Make it readable for this user."
            ) from error
        return (Path(path) for path in entries if path.endswith(_ENDING))


def _put(store: Store, path: Path) -> None:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            store.put(path.stem, [])
            return
        # Never closed: an error that a store raised may still refer to parts of it.
        store.put(path.stem, [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)])
