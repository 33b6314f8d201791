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
_ROOM = 1 << 18
"""Bytes that are reserved at a time: of each some are left over when the file rests."""
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

    __slots__ = ("_longest", "_path", "base", "last", "memory", "worthwhile")

    def __init__(self, path: Path, worthwhile: int, longest: int) -> None:
        self._path, self._longest = path, longest
        self.worthwhile: float = worthwhile
        self.memory: Any = None
        self.base, self.last = 0, _NOWHERE

    def reserve(self, handle: int, size: int) -> bool:
        """Map more of a file of this size; False if that cannot be, and never will."""
        self.leave()
        if _reserve is not None and _keeps_room(os.fstat(handle).st_dev, self._path.parent):
            base = size // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
            with suppress(OSError, ValueError):
                _reserve(handle, base, _ROOM)
                self.memory, self.base = mmap.mmap(handle, _ROOM, offset=base), base
                self.last = base + _ROOM - self._longest
                return True
        self.worthwhile = float("inf")
        return False

    def leave(self) -> bool:
        """Map nothing any more; return whether something was. The file keeps its room."""
        was, self.memory, self.last = self.memory, None, _NOWHERE
        if was is not None:
            was.close()
        return was is not None


@cache
def _keeps_room(device: int, folder: Path) -> bool:
    """Whether room on a device, on which a folder lies, stays there once it is reserved."""
    return rights.file_system(folder) in _KEEPING
