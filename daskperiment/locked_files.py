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
import os
import struct
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

__all__ = ["OPENING", "may_be_locked", "read_apart", "reading"]

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
_MAGIC = b"SQLite format 3\0"
_SHARED_MEMORY = "-shm"
"""How the name of the file ends that the connections of a database of SQLite share."""
_LOCK = "@hhqqi"
"""C's ``struct flock``: type, whence, start, length, pid."""

_File = tuple[int, int]
"""Device and inode."""


class _Kept:
    """A descriptor that is not closed yet, and how many read by it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.readers = 0


_kept: dict[_File, list[_Kept]] = {}
"""More than one of a file where several threads had it open for the first time."""


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a file to read it; close it where no lock of this process is lost by that.

    Elsewise its descriptor stays, one for each file, and serves whoever reads it next, until a file
    is read when nothing else in this process has it open. What `may_be_locked` says so of is not to
    be mapped, as a map has a descriptor of its own.

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


def may_be_locked(path: str | os.PathLike[str], descriptor: int) -> bool:
    """Whether this process may have a lock on a file that it opened for reading."""
    if os.name != "posix":
        return False  # locks are the descriptor's own
    if os.fsdecode(path).endswith(_SHARED_MEMORY) or _is_locked(descriptor):
        return True
    with suppress(OSError):  # it is a pipe, or a device
        return os.pread(descriptor, len(_MAGIC), 0) == _MAGIC
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
        if may_be_locked(path, descriptor):
            _close_or_keep(path, descriptor)
        else:
            os.close(descriptor)


def _close_or_keep(path: str | os.PathLike[str], descriptor: int) -> None:
    with OPENING:
        found = os.fstat(descriptor)
        others = [found]
        with suppress(OSError):
            # The database is opened first: a lock on what its connections share may be to come.
            others.append(os.stat(os.fsdecode(path).removesuffix(_SHARED_MEMORY)))
        if any(_may_be_open(other, {descriptor}) for other in others):
            _kept.setdefault((found.st_dev, found.st_ino), []).append(_Kept(descriptor))
        else:
            os.close(descriptor)


def _taken(path: str | os.PathLike[str]) -> _Kept | None:
    """Return what was kept of a file, for one reader more; close what need not be kept any more."""
    found = os.stat(path)
    with OPENING:
        for file, several in [*_kept.items()]:
            descriptors = {each.descriptor for each in several}
            used = any(each.readers for each in several)
            if not used and not _may_be_open(os.fstat(several[0].descriptor), descriptors):
                for descriptor in descriptors:
                    os.close(descriptor)
                del _kept[file]
        for kept in _kept.get((found.st_dev, found.st_ino), []):
            kept.readers += 1
            return kept
        return None


def _is_locked(descriptor: int) -> bool:
    """Whether anybody may have a lock on a file: Linux tells also of those of this process."""
    if not hasattr(fcntl, "F_OFD_GETLK"):
        return True
    try:
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer: bytes = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError:  # of what no file is, or where the file system has no locks
        return False
    kind: int = struct.unpack(_LOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def _may_be_open(file: os.stat_result, but: Collection[int] = ()) -> bool:
    """Whether this process may have a file open, and so have locks that it would lose.

    Some descriptors do not count.
    """
    if os.name == "nt":
        return False  # locks are the descriptor's own
    if _DESCRIPTORS is None:
        return True
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError):  # that of the listing itself is closed
            found = os.fstat(int(name)) if int(name) not in but else None
            if found and found.st_ino == file.st_ino and found.st_dev == file.st_dev:
                return True
    return False
