"""Files read so that this process loses none of the locks that it has on them.

On POSIX systems a process loses all of its locks on a file as soon as it closes any descriptor of
it. A connection to a database of this process, one of ours or of the user's own, would not notice;
others would believe that nobody has the database open, remove its log or cut the memory that all of
them share, and leave the connection with what is no more.

So whatever a user may name is read by `reading`, which leaves a descriptor open where a lock might
go with it, and `read_apart` does not open a file that this process has open. No connection of ours
is opened meanwhile.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

__all__ = ["SQLITE_MAGIC", "OPENING", "mapped", "read_apart", "reading"]

with suppress(ImportError):  # on Windows, where locks are a descriptor's own
    import fcntl

T = TypeVar("T")

OPENING = threading.RLock()
"""Held by who opens a connection."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=OPENING.acquire, after_in_parent=OPENING.release, after_in_child=OPENING.release
    )

_DESCRIPTORS = {"linux": "/proc/self/fd", "darwin": "/dev/fd"}.get(sys.platform)
"""Folder of what this process has open, where there is one."""
SQLITE_MAGIC = b"SQLite format 3\0"
"""How a database of SQLite begins."""
_SHARED_MEMORY = "-shm"
"""How the name of the file ends that the connections of a database of SQLite share."""
_LOCK = "@hhqqi"
"""C's ``struct flock``: type, whence, start, length, pid."""
_UNKNOWN = -1
"""No descriptor, where it cannot be told which there are."""
_LOOKS = 4
"""How many files with descriptors that stay are looked after whenever a file is read."""

_File = tuple[int, int]
"""Device and inode."""


class _Kept:
    """A descriptor that is not closed yet, and how many read by it.

    It stays while this process has one of the files open: `other` is a descriptor of one, the last
    that was found.
    """

    def __init__(self, descriptor: int, files: Collection[_File], other: int) -> None:
        self.descriptor = descriptor
        self.readers = 0
        self.files = files
        self.other = other


_kept: OrderedDict[_File, list[_Kept]] = OrderedDict()
"""More than one of a file where several threads had it open for the first time."""


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a file to read it; close it where no lock of this process is lost by that.

    Otherwise its descriptor stays, one for each file, and serves whoever reads it next, until files
    are read when nothing else in this process has it open.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    """
    kept = _taken(path) if _kept else None
    if kept is None:
        with _opened(path) as file:
            yield file
        return
    try:
        with io.BufferedReader(_KeptFile(kept.descriptor)) as file:
            yield file  # type: ignore[misc]  # its raw file may be any
    finally:
        with OPENING:
            kept.readers -= 1


def mapped(path: str | os.PathLike[str], file: io.BufferedReader) -> bytes | mmap.mmap:
    """Return what a file holds that `reading` opened: not in memory as a whole, where that may be.

    A map has a descriptor of its own, which closes whenever the map goes.
    """
    number = file.fileno()
    if os.fstat(number).st_size == 0 or _may_be_locked(path, number):
        file.seek(0)
        return file.read()
    return mmap.mmap(number, 0, access=mmap.ACCESS_COPY)


def _may_be_locked(path: str | os.PathLike[str], descriptor: int) -> bool:
    """Whether this process may have a lock on a file that it opened for reading."""
    if os.name != "posix":
        return False  # locks are the descriptor's own
    if os.fsdecode(path).endswith(_SHARED_MEMORY) or _is_locked(descriptor):
        return True
    with suppress(OSError):  # it is a pipe, or a device
        return os.pread(descriptor, len(SQLITE_MAGIC), 0) == SQLITE_MAGIC
    return False


def read_apart(path: str, read: Callable[[int], T]) -> T | None:
    """Return what is read from a file's descriptor; ``None`` if the file is not to be opened here.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    """
    with OPENING:
        if _may_be_open(os.stat(path)):
            return None
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            return read(descriptor)
        finally:
            os.close(descriptor)


class _KeptFile(io.RawIOBase):
    """A file by a descriptor that others read by, too, at places of their own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = os.fstat(self._descriptor).st_size
        before = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}
        self._at = before[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        if _may_be_locked(path, descriptor):
            _close_or_keep(path, descriptor)
        else:
            os.close(descriptor)


def _close_or_keep(path: str | os.PathLike[str], descriptor: int) -> None:
    with OPENING:
        file = _file_of(os.fstat(descriptor))
        files = {file}
        with suppress(OSError):
            # The database is opened first: a lock on what its connections share may be to come.
            files.add(_file_of(os.stat(os.fsdecode(path).removesuffix(_SHARED_MEMORY))))
        other = _other_of(files, {descriptor})
        if other is None:
            os.close(descriptor)
        else:
            _kept.setdefault(file, []).append(_Kept(descriptor, files, other))


def _taken(path: str | os.PathLike[str]) -> _Kept | None:
    """Return what was kept of a file, for one reader more; close what need not be kept any more."""
    wanted = _file_of(os.stat(path))
    with OPENING:
        # Not all at once: there may be many, and many files to read.
        for file in [*islice(_kept, _LOOKS)]:
            _look_after(file)
        for kept in _kept.get(wanted, []):
            if _leads_to(kept.descriptor, {wanted}):
                kept.readers += 1
                return kept
        return None


def _look_after(file: _File) -> None:
    """Close what was kept of a file if it need not be any more; else let other files come first."""
    # Whoever becomes a daemon closes all that is open, and the numbers are given to others.
    several = [each for each in _kept[file] if _leads_to(each.descriptor, {file})]
    if several and (any(each.readers for each in several) or _is_open_besides(several)):
        _kept[file] = several
        _kept.move_to_end(file)
        return
    del _kept[file]  # first: what is interrupted must not close a descriptor twice
    for each in several:
        os.close(each.descriptor)


def _is_open_besides(several: list[_Kept]) -> bool:
    first, descriptors = several[0], {each.descriptor for each in several}
    if first.other in descriptors or not _leads_to(first.other, first.files):
        other = _other_of(first.files, descriptors)
        if other is None:
            return False
        first.other = other
    return True


def _is_locked(descriptor: int) -> bool:
    """Whether anybody may have a lock on a file: Linux tells also of those of this process."""
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return _DESCRIPTORS is not None  # else all files that are read would stay open
    try:
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer: bytes = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError:  # the kernel does not know of such locks
        return True
    kind: int = struct.unpack(_LOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def _may_be_open(file: os.stat_result) -> bool:
    """Whether this process may have a file open, and so have locks that it would lose."""
    return os.name != "nt" and _other_of({_file_of(file)}) is not None


def _other_of(files: Collection[_File], but: Collection[int] = ()) -> int | None:
    """Return a descriptor by which this process has one of some files open; None if none.

    Some descriptors do not count.
    """
    try:
        names = [] if _DESCRIPTORS is None else os.listdir(_DESCRIPTORS)
    except OSError:  # none is left to list them by
        names = []
    for name in names:
        # That of the listing itself is closed.
        if int(name) not in but and _leads_to(int(name), files):
            return int(name)
    return None if names else _UNKNOWN


def _leads_to(descriptor: int, files: Collection[_File]) -> bool:
    with suppress(OSError):
        return _file_of(os.fstat(descriptor)) in files
    return False


def _file_of(found: os.stat_result) -> _File:
    return found.st_dev, found.st_ino
