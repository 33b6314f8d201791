"""From this machine to the store: records by the journal, objects directly or by a folder.

A store that is away stops nothing: records wait in the journal and objects in a folder beside it,
and a warning says so once. What is not known to have arrived is sent again, which changes nothing.
"""

from __future__ import annotations

import mmap
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from daskperiment.codec import Blob
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording.journal import Journal
from daskperiment.recording.outputs import ObservedOutputs, remember
from daskperiment.store.opening import journal_folder
from daskperiment.store.protocol import Buffer, Store
from daskperiment.warn import warn_user

__all__ = ["Delivery", "PendingObjects"]

_ENDING = ".object"


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
        self._kept: OrderedDict[str, str] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many records and objects are not in the store yet."""
        return self.journal.waiting + sum(1 for _ in self._pending.files())

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
        except StoreUnavailableError as error:
            self._pending.keep(blob.digest, blob.parts)
            self.lost_contact(error)

    def forget_object(self, digest: str) -> None:
        """Remember no longer that the store has an object."""
        self._kept.pop(digest, None)

    # Records

    def deliver(self, timeout: float | None = None) -> None:
        """Deliver the records that wait.

        Raises
        ------
        StoreError
            If the store does not take them; nothing is lost then.
        """
        # One at a time, so that whoever delivers an output is the one to hold it against others.
        with self._delivering, self._outputs.compared(self._store.find) as existing:
            existing += self.journal.flush(timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Deliver everything that waits, of this process and of dead ones.

        Raises
        ------
        StoreError
            If the store does not take it; nothing is lost then.
        """
        self._pending.deliver(self._store)  # before the records that name them
        self.deliver(timeout)
        self.journal.recover()
        self.away = False

    def lost_contact(self, error: Exception) -> None:
        """Note that the store did not take something: warn, and try again later."""
        self._wake()
        if isinstance(error, StoreUnavailableError):
            if self.away:
                return
            self.away = True
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

    def _delivered(self) -> bool:
        try:
            self._pending.deliver(self._store)
            self.deliver()
        except StoreError as error:
            warn_user(StoreWarning(str(error)))
            return False
        self.journal.close()
        return True


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
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.writelines(parts)
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
        except (FileNotFoundError, NotADirectoryError):
            return iter(())  # what stands in its way is for the store to say
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
