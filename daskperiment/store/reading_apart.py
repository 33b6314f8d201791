"""Files of databases that are read without SQLite, beside connections that may have them open.

On most systems a process loses all of its locks on a file as soon as it closes any descriptor of
it. A connection of this process, also one of the user's own, would not notice; others would believe
that nobody has the database open, remove its log, and leave the connection with what is no more. So
a file is read here if nothing in this process has it open, and no connection of ours is opened
meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["OPENING", "read_apart"]

T = TypeVar("T")

OPENING = threading.RLock()
"""Held by who opens a connection."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=OPENING.acquire, after_in_parent=OPENING.release, after_in_child=OPENING.release
    )

_DESCRIPTORS = {"linux": "/proc/self/fd", "darwin": "/dev/fd"}.get(sys.platform)
"""Folder of what this process has open, where there is one."""


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


def _may_be_open(file: os.stat_result) -> bool:
    """Whether this process may have a file open, and so have locks that it would lose."""
    if os.name == "nt":
        return False  # locks are the descriptor's own
    if _DESCRIPTORS is None:
        return True
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError):  # that of the listing itself is closed
            found = os.fstat(int(name))
            if found.st_ino == file.st_ino and found.st_dev == file.st_dev:
                return True
    return False
