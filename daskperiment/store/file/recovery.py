"""What can still be read of a damaged database, for those who ask.

Looking for it takes time, so that it is done once and kept: in a temporary database, which SQLite
writes to the disk where it does not fit into memory. A question that damage stops is put to that.
The file itself is not touched; ``daskperiment check --repair`` does that.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TypeVar

from daskperiment.errors import StoreError, StoreWarning
from daskperiment.store.faults import SQLITE_ERRORS, explain, is_damage
from daskperiment.store.repair import readable, rebuild
from daskperiment.warn import warn_user

__all__ = ["Recovery"]

T = TypeVar("T")

_PATIENCE = 2.0
"""Seconds that recovering may take while somebody waits for an answer."""
_REST = 60.0
"""Seconds that a copy serves though the file changed since."""

_Stamp = tuple[tuple[int, int, int], ...]


class Recovery:
    """The readable part of one database file, which is made at the first question about it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = RLock()
        self._copy: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self.forget()

    def forget(self) -> None:
        """Keep nothing: the next question makes a copy anew."""
        with self._lock:
            if self._copy is not None and self._pid == os.getpid():
                self._copy.close()
            self._copy = None
        self._of: _Stamp | None = None
        self._failure: StoreError | None = None
        self._until = 0.0
        self._pid = os.getpid()
        self._losses: list[str] = []

    def ask(
        self, question: Callable[[sqlite3.Connection], T], error: sqlite3.Error | UnicodeDecodeError
    ) -> T:
        """Return the answer of what could be recovered; raise the error if nothing was."""
        if self._pid != os.getpid():  # a copy does not survive a fork, and neither do its locks
            self._lock = RLock()
            self.forget()
        with self._lock:
            if not self._is_current():
                self._recover(error)
            if self._copy is None:
                raise self._failure or explain(error, self._path)
            lost = ", ".join(map(repr, self._losses))
            text = (
                f"{explain(error, self._path)}. Until then what can be read is shown"
                + f"; missing is a part of {lost}" * bool(lost)
            )
            warn_user(StoreWarning(text))
            return question(self._copy)

    def __del__(self) -> None:
        if os is not None:  # as a module's names are when the interpreter ends
            self.forget()

    def _is_current(self) -> bool:
        now = _stamp(self._path)
        if now == self._of:
            return True
        same_file = self._of and now and self._of[0][0] == now[0][0]
        return bool(same_file) and time.monotonic() < self._until

    def _recover(self, error: sqlite3.Error | UnicodeDecodeError) -> None:
        self.forget()
        self._of = _stamp(self._path)
        try:
            self._copy, self._losses = _recovered(self._path)
        except (*SQLITE_ERRORS, OSError) as failure:
            self._failure = explain(failure if is_damage(failure) else error, self._path)
        self._until = time.monotonic() + _REST


def _recovered(path: Path) -> tuple[sqlite3.Connection, list[str]]:
    source = readable(path)
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        source.execute("BEGIN")  # others may write meanwhile
        losses = rebuild(source, copy, path.stat().st_size, _PATIENCE)
        if losses and not copy.total_changes:
            raise sqlite3.OperationalError("nothing of it can be read")
        return copy, losses
    except BaseException:
        copy.close()
        raise
    finally:
        source.close()


def _stamp(path: Path) -> _Stamp:
    """Return what tells whether a database changed: its inode first, then sizes and times."""
    found = []
    for suffix in ("", "-wal"):
        try:
            status = os.stat(f"{path}{suffix}")
        except OSError:
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
