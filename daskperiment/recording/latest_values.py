"""Copies of the values that were kept last: the store may go back to a moment before it had them.

Small ones are in memory. Of a large one in a folder the file stays open, so that it is there though
somebody removes it; of one in a server there is a file beside this process's journal.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from daskperiment.codec import Blob
from daskperiment.errors import StoreError
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights
from daskperiment.store.opening import opened_object
from daskperiment.store.protocol import Store, flat

__all__ = ["LatestValues"]

_SMALL = 1 << 20
"""Bytes of a value up to which its copy is in memory."""
_FILES = 16


class LatestValues:
    """Copies of the values that were kept last, up to limits of bytes.

    Parameters
    ----------
    store : Store
        Which has them.
    folder : pathlib.Path
        Where copies stand of what a server has.
    limit : int
        Bytes of small ones, in memory.
    open_limit : int
        Bytes of files of a folder that stay open; the latest one may have more.
    copied_limit : int
        Bytes of files beside the journal.
    """

    def __init__(
        self, store: Store, folder: Path, limit: int = 16 << 20,
        open_limit: int = 1 << 30, copied_limit: int = 256 << 20,
    ) -> None:  # fmt: skip
        self._store = store
        self._folder = folder
        self._small: OrderedDict[str, Blob] = OrderedDict()
        self._large: OrderedDict[str, _LargeCopy] = OrderedDict()
        self._left, self._open_limit, self._copied_limit = limit, open_limit, copied_limit
        self._lock = threading.Lock()

    def add(self, blob: Blob) -> None:
        """Keep a copy of a value that the store has."""
        if blob.size <= _SMALL:
            self.add_small(blob)
            return
        self.drop(blob.digest)
        with suppress(OSError, StoreError):  # the disk is full, or the value was pruned just now
            made = self._copy_of(blob)
            if made is not None:
                self._keep(blob.digest, made)

    def add_small(self, blob: Blob) -> None:
        """Keep a copy of a value if it is small, whether the store has it or not."""
        if blob.size > _SMALL:
            return
        copy = Blob(blob.digest, [b"".join(map(flat, blob.parts))], blob.size)
        self.drop(blob.digest)
        with self._lock:
            self._small[blob.digest] = copy
            self._left -= blob.size
            while self._left < 0:
                self._left += self._small.popitem(last=False)[1].size

    def take(self, path: Path) -> None:
        """Take over, or remove, the file of an object that the store was given just now.

        FileNotFoundError if another process was faster.
        """
        digest, size = path.stem, path.stat().st_size
        handle = opened_object(self._store, digest)
        if handle is None and _SMALL < size <= self._copied_limit:
            place = unfinished(self._folder / f"{digest}.copy")
            os.rename(path, place)
            self._keep(digest, _LargeCopy(size, -1, place))
        else:
            path.unlink()
            if handle is not None:
                self._keep(digest, _LargeCopy(size, handle, None))

    def find(self, wanted: Collection[str] | None = None) -> Iterator[Blob]:
        """Yield those that are wanted, or all, as far as they are whole; the latest last."""
        with self._lock:
            small, large = list(self._small.values()), list(self._large.items())
        yield from (one for one in small if wanted is None or one.digest in wanted)
        for digest, copy in large:
            body = copy.body() if wanted is None or digest in wanted else None
            if body is not None:
                yield Blob(digest, [body], copy.size)

    def drop(self, digest: str) -> None:
        """Keep no copy of a value any more."""
        with self._lock:
            small, copy = self._small.pop(digest, None), self._large.pop(digest, None)
            self._left += 0 if small is None else small.size
        if copy is not None:
            copy.let_go()

    def clear(self) -> None:
        """Keep no copy."""
        for digest in list(self._small):
            self.drop(digest)
        self.make_room()

    def make_room(self) -> None:
        """Keep no copy of large values: a disk is full, or this process ends."""
        self._let_go(lambda copy: True)

    def rest(self) -> None:
        """Keep no file open."""
        self._let_go(lambda copy: copy.handle >= 0)

    def _copy_of(self, blob: Blob) -> _LargeCopy | None:
        handle = opened_object(self._store, blob.digest)
        if handle is not None:
            return _LargeCopy(blob.size, handle, None)
        if blob.size > self._copied_limit:
            return None
        path = unfinished(self._folder / f"{blob.digest}.copy")
        rights.make_folder(self._folder, rights.PRIVATE_FOLDER)
        copy = _LargeCopy(blob.size, -1, path)
        try:
            with open(path, "xb", opener=partial(os.open, mode=rights.PRIVATE_FILE)) as file:
                file.writelines(map(flat, blob.parts))
        except BaseException:
            copy.let_go()
            raise
        return copy

    def _keep(self, digest: str, copy: _LargeCopy) -> None:
        self.drop(digest)
        with self._lock:
            self._large[digest] = copy
        while True:
            with self._lock:
                copies = list(self._large.values())
                limit = (
                    self._open_limit if copies and copies[-1].handle >= 0 else self._copied_limit
                )
                used = sum(copy.size for copy in copies)
                if len(copies) < 2 or (used <= limit and len(copies) <= _FILES):
                    return
                _, copy = self._large.popitem(last=False)
            copy.let_go()

    def _let_go(self, wanted: Callable[[_LargeCopy], bool]) -> None:
        with self._lock:
            gone = [digest for digest, copy in self._large.items() if wanted(copy)]
            copies = [self._large.pop(digest) for digest in gone]
        for copy in copies:
            copy.let_go()


class _LargeCopy(NamedTuple):
    """A large value: the open file of the store, or a file of this process."""

    size: int
    handle: int
    path: Path | None

    def body(self) -> mmap.mmap | None:
        """Return the value's bytes; None if they are not there as they were."""
        with suppress(OSError, ValueError):
            handle = os.dup(self.handle) if self.path is None else os.open(self.path, os.O_RDONLY)
            try:
                if os.fstat(handle).st_size == self.size:
                    return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
            finally:
                os.close(handle)
        return None

    def let_go(self) -> None:
        """Close or remove the file."""
        with suppress(OSError):
            if self.path is None:
                os.close(self.handle)
            else:
                self.path.unlink()
