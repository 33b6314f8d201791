"""A connection to a SQLite database that one thread at a time uses, and that survives a fork."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from daskperiment.store.faults import database_name

__all__ = ["Lane", "execute", "identity"]

_PATIENCE = 60.0
"""Seconds to wait for other writers before giving up."""
_BUSY = 10.0
"""Seconds of these that SQLite waits by itself at a time."""

_registry: weakref.WeakSet[Lane] = weakref.WeakSet()
# Held over a fork too, so that no lane is made between closing them all and the fork itself.
_registry_lock = threading.RLock()


class Lane:
    """A connection that one thread at a time uses."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.transient = False
        """Whether SQLite does not watch the file for changes, so that it must be opened anew."""
        with _registry_lock:
            _registry.add(self)

    def open(self, path: Path, mode: str) -> sqlite3.Connection:
        """Open a connection, in a mode as in SQLite's file URLs."""
        self.connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=_BUSY,
            check_same_thread=False,
        )
        self.transient = "immutable" in mode
        self.file = identity(path)
        return self.connection

    def is_at(self, path: Path) -> bool:
        """Tell whether the open file is still the one at this path."""
        return self.file is not None and self.file == identity(path)

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


def execute(connection: sqlite3.Connection, statement: str) -> Any:
    """Give a statement's first row; try again while the database is locked.

    SQLite's own timeout does not cover every kind of lock.
    """
    deadline = 0.0
    while True:
        try:
            return connection.execute(statement).fetchone()
        except sqlite3.OperationalError as error:
            if not database_name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise
            deadline = deadline or time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.01))


def identity(path: Path) -> tuple[int, int] | None:
    """Tell which file is at a path, ``None`` if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


# SQLite's locks do not survive a fork: a connection that was open then makes the child believe
# that it holds locks which it does not. So all are closed before, and opened again when needed.


def _before_fork() -> None:
    _registry_lock.acquire()
    for lane in list(_registry):
        lane.lock.acquire()
        lane.close()


def _after_fork() -> None:
    for lane in list(_registry):
        lane.lock.release()
    _registry_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
