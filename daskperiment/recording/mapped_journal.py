"""Room at the end of a journal file that is mapped into memory: what is stored there is written.

A store into shared memory of a file survives SIGKILL as a write does, and takes no system call.
The room is reserved before, so that a full disk is noticed then, where it can be said, and not by
a signal; and only on file systems that keep that promise. Elsewhere, and if there is no room,
points are written.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from daskperiment.store import rights

__all__ = ["MappedEnd"]

_NOWHERE = -1
_ROOM, _MOST_ROOM = 1 << 18, 1 << 20
"""Bytes that are reserved the first time, twice as many each further time, and at most: some are
left over when the file rests, and each time is a slow call."""
_POPULATE_WRITE = 23
"""As in Linux from 5.14 on; earlier ones do not know it, and others have no such number."""
_KEEPING = frozenset({"ext2", "ext3", "ext4", "tmpfs", "xfs"})
"""File systems of this machine that write over what is reserved in its place."""

_reserve: Callable[[int, int, int], None] | None
_reserve = getattr(os, "posix_fallocate", None) if sys.platform == "linux" else None


class MappedEnd:
    """The end of a file in memory, from the moment when a loop writes to it.

    Parameters
    ----------
    path : Path
        Of the file.
    worthwhile : int
        From which size of the file on it is mapped.
    longest : int
        Bytes that are stored at a time at most.

    Attributes
    ----------
    memory : mmap
        The end of the file, from the offset `base` on.
    last : int
        The last offset at which something may be stored; negative while nothing is mapped.
    """

    __slots__ = ("_longest", "_path", "_room", "base", "last", "memory", "worthwhile")

    def __init__(self, path: Path, worthwhile: int, longest: int) -> None:
        self._path, self._longest, self._room = path, longest, _ROOM
        self.worthwhile: float = worthwhile
        self.memory: Any = None
        self.base, self.last = 0, _NOWHERE

    def reserve(self, handle: int, size: int) -> bool:
        """Map more of a file of this size; False if that cannot be, and never will."""
        wanted = self._room
        self.leave()
        if _reserve is not None and _keeps_room(os.fstat(handle).st_dev, self._path.parent):
            base = size // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
            for room in dict.fromkeys((wanted, _ROOM)):  # a disk may have less
                with suppress(OSError, ValueError):
                    _reserve(handle, base, room)
                    self.memory, self.base = mmap.mmap(handle, room, offset=base), base
                    self.last = base + room - self._longest
                    _take_pages(self.memory)
                    self._room = min(2 * room, _MOST_ROOM)
                    return True
        self.worthwhile = float("inf")
        return False

    def leave(self) -> bool:
        """Map nothing any more; return whether something was. The file keeps its room."""
        was, self.memory, self.last, self._room = self.memory, None, _NOWHERE, _ROOM
        if was is not None:
            was.close()
        return was is not None


def _take_pages(memory: mmap.mmap) -> None:
    """Have all pages at hand, so that no store has to wait for one; where the system can do so."""
    with suppress(OSError, ValueError):
        memory.madvise(_POPULATE_WRITE)


@cache
def _keeps_room(device: int, folder: Path) -> bool:
    """Whether room on a device, on which a folder lies, stays there once it is reserved."""
    return rights.file_system(folder) in _KEEPING
