"""Objects that wait for a store which does not take them now: on this machine's disk, or in memory.

A disk that is full as well is no reason to lose a value: up to a limit it waits in memory, and is
written where there is room first, in the store or on the disk.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from daskperiment.errors import ObjectsUnavailableError, StoreError, StoreUnavailableError
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights
from daskperiment.store.faults import explain
from daskperiment.store.protocol import Buffer, Store, flat

__all__ = ["PendingObjects"]

_ENDING = ".object"


class PendingObjects:
    """Objects on their way to a store: in a folder, or in memory where that cannot be written.

    Parameters
    ----------
    folder : pathlib.Path
        Made when the first object is kept.
    limit : int
        Bytes of the objects that may wait in memory, in all.

    Attributes
    ----------
    expected : bool
        Whether an object was kept here that may still wait.
    """

    def __init__(self, folder: Path, limit: int = 256 << 20) -> None:
        self._folder = folder
        self._left = limit
        self._memory: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self.expected = False

    def __len__(self) -> int:
        return len(self._memory) + sum(1 for _ in self._files())

    @property
    def size(self) -> int:
        """Bytes of those in the folder."""
        return sum(map(_size, self._files()))

    @property
    def in_memory(self) -> int:
        """How many wait in memory."""
        return len(self._memory)

    def keep(
        self, digest: str, parts: Sequence[Buffer],
        elsewhere: Callable[[str, Sequence[Buffer]], bool] = lambda digest, parts: False,
    ) -> bool:  # fmt: skip
        """Keep an object, whole or not at all; return whether it survives SIGKILL of this process.

        Parameters
        ----------
        digest : str
        parts : sequence of buffers
        elsewhere : callable
            Keeps it in another place than this folder, and says whether that was possible.

        Raises
        ------
        StoreError
            If it cannot be written, and is too large to wait in memory.
        """
        lasting = True
        try:
            self._write(digest, parts)
        except StoreError:
            if elsewhere(digest, parts):
                return True
            lasting = False
            if not self._hold(digest, parts):
                raise
        self.expected = True
        return lasting

    def deliver(self, store: Store, done: Callable[[Path], object] = os.unlink) -> int:
        """Hand every object to the store, and return how many there were.

        Parameters
        ----------
        store : Store
        done : callable
            Takes the file of one that was handed over, and lets it be there no more.

        Raises
        ------
        StoreError
            If the store does not take one of them; the others were tried as well, unless it is
            away.
        """
        count = 0
        refused: StoreError | None = None
        for hand_over in self._waiting(store, done):
            try:
                hand_over()
                count += 1
            except FileNotFoundError:
                continue  # another process delivered it
            except StoreUnavailableError:
                raise
            except ObjectsUnavailableError as error:
                refused = error
                break  # the others are as large, or larger
            except StoreError as error:
                refused = refused or error
        if refused is not None:
            raise refused
        self.expected = bool(self._memory)
        return count

    def write_down(self, place: PendingObjects | None = None) -> int:
        """Write those in memory to the folder, or to another, and return how many are left."""
        for digest, body in list(self._memory.items()):
            try:
                (self if place is None else place)._write(digest, [body])
            except StoreError:
                continue  # a smaller one may still fit
            self._drop(digest)
        return len(self._memory)

    def drop(self, digest: str) -> None:
        """Let an object wait no more, if it does."""
        self._drop(digest)
        if self.expected:
            with suppress(OSError):  # it never waited here, or was delivered
                (self._folder / f"{digest}{_ENDING}").unlink()

    def discard(self) -> None:
        """Let no object wait any more."""
        for digest in list(self._memory):
            self._drop(digest)
        for path in self._files():
            with suppress(OSError):  # another process delivered it
                path.unlink()
        self.expected = False

    def _waiting(
        self, store: Store, done: Callable[[Path], object]
    ) -> Iterator[Callable[[], None]]:
        for digest in list(self._memory):
            yield partial(self._put_held, store, digest)
        # Small ones first: those may go to another place than the large ones.
        for path in sorted(self._files(), key=_size):
            yield partial(_put_file, store, path, done)

    def _hold(self, digest: str, parts: Sequence[Buffer]) -> bool:
        with self._lock:
            size = sum(len(flat(part)) for part in parts)
            if digest in self._memory or size > self._left:
                return digest in self._memory
            self._left -= size
            # A copy: what it was made of may change before it is written.
            self._memory[digest] = b"".join(map(flat, parts))
            return True

    def _put_held(self, store: Store, digest: str) -> None:
        body = self._memory.get(digest)
        if body is not None:
            store.put(digest, [body])
            self._drop(digest)

    def _drop(self, digest: str) -> None:
        with self._lock:
            self._left += len(self._memory.pop(digest, b""))

    def _write(self, digest: str, parts: Sequence[Buffer]) -> None:
        target = self._folder / f"{digest}{_ENDING}"
        temporary = unfinished(target)
        try:
            rights.make_folder(self._folder, rights.PRIVATE_FOLDER)
            private = partial(os.open, mode=rights.PRIVATE_FILE)
            with open(temporary, "wb", opener=private) as file:
                file.writelines(parts)
            rights.share(temporary)
            os.replace(temporary, target)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise explain(error, target) from error

    def _files(self) -> Iterator[Path]:
        try:
            entries = [entry.path for entry in os.scandir(self._folder)]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return iter(())  # somebody else's, or what stands in its way is for the store to say
        except OSError as error:
            raise explain(error, self._folder) from error
        return (Path(path) for path in entries if path.endswith(_ENDING))


def _size(path: Path) -> int:
    with suppress(OSError):  # another process delivered it
        return path.stat().st_size
    return 0


def _put_file(store: Store, path: Path, done: Callable[[Path], object]) -> None:
    with open(path, "rb") as file:
        # Never closed: an error that a store raised may still refer to parts of it.
        empty = os.fstat(file.fileno()).st_size == 0
        # Not shared: there are file systems that map files for one process only.
        parts = [] if empty else [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)]
        store.put(path.stem, parts)
    try:
        done(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explain(error, path) from error
