"""Turns of processes that write to one database, so that they do not push each other aside.

SQLite lets one process write at a time, and whoever finds it busy tries again. Where many do
nothing but write, each is put to sleep and woken for every trial, and spends as long on finding its
data in the processor's caches again. So who had to wait takes a turn, as many as there are
processors, and writes one trial after the other while it lasts; the others sleep for longer.

A turn is a lock on one place of a file, which ends with its process. It is politeness alone: the
database has its own lock, and who gets no turn in good time tries without.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from daskperiment.store.faults import is_busy

with suppress(ImportError):  # not on every system
    import fcntl

__all__ = ["WriterTurn"]

_AT_ONCE = 0.0003
"""Seconds for which it is tried again at once: most write for less, and sleeping costs as much."""
_NAP = 0.005
_LONGEST_NAP = 0.02
"""Seconds between two looks whether there is a turn to be had."""
_SHORT_NAP = 0.001
"""Seconds between two tries of who has one, or did not get one in time."""
_LASTS = 0.03
"""Seconds of a turn."""
_LONGEST_WAIT = 0.25
"""Seconds after which who got no turn tries without."""
_MOST = 4
"""Turns at a time: more would only wait for each other."""


class WriterTurn:
    """The turns of one connection that writes, which one thread at a time uses.

    Parameters
    ----------
    path : pathlib.Path
        Of the database.

    Attributes
    ----------
    until : float
        When the turn ends, by the monotonic clock; 0 where this connection has none.
    """

    def __init__(self, path: Path) -> None:
        self._log = f"{path}-wal"
        self._path = path.with_name("clock")  # which nobody else locks, or keeps open
        self._file = -1
        self.until = 0.0

    def begin(self, connection: sqlite3.Connection, patience: float) -> None:
        """Begin a transaction that writes, while others do; the connection does not wait itself.

        Raises
        ------
        sqlite3.OperationalError
            If others write for so many seconds, or for another cause.
        """
        since = 0.0
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                now = time.monotonic()
                since = since or now
                if now - since > patience:
                    raise
            if now - since > _AT_ONCE:
                self._wait(since)

    def end_in_time(self) -> None:
        """Leave the turn to others if it lasted long enough."""
        if time.monotonic() > self.until:
            self.end()

    def end(self) -> None:
        """Leave the turn to others."""
        self.until, file, self._file = 0.0, self._file, -1
        if file >= 0:
            os.close(file)

    def _wait(self, since: float) -> None:
        """Sleep until it is worth trying again."""
        nap = _NAP
        while self._file < 0 and time.monotonic() - since < _LONGEST_WAIT:
            time.sleep(nap * random.uniform(0.5, 1.5))
            nap = min(2 * nap, _LONGEST_NAP)
            if self._take() is not False or self._is_quiet():
                return
        time.sleep(_SHORT_NAP * random.uniform(0.5, 1.5))

    def _take(self) -> bool | None:
        """Take a turn if one is free; None where there are none to be had."""
        if "fcntl" not in globals():
            return None
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            for place in range(min(_MOST, _processors())):
                with suppress(BlockingIOError, PermissionError):  # another one has it
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                    self._file, self.until = file, time.monotonic() + _LASTS
                    return True
            return False
        except OSError:  # no locks in this file system
            return None
        finally:
            if self._file != file:
                os.close(file)

    def _is_quiet(self) -> bool:
        """Whether nobody wrote for a while: who has the turns does something else."""
        with suppress(OSError):
            return time.time() - os.stat(self._log).st_mtime > _LASTS
        return True


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
