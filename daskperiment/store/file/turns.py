"""Turns of processes that write to one database, so that they do not push each other aside.

SQLite lets one process write at a time, and whoever finds it busy tries again. Where many do
nothing but write, each is put to sleep and woken for every trial, and spends as long on finding its
data in the processor's caches again. So who had to wait takes a turn, as many as there are
processors, and writes one trial after the other while it lasts; the others sleep for longer, in
the order in which they came.

The turns stand in a file, a time for each process: until when it has a turn, or since when it waits
for one. So a turn ends by itself, whatever becomes of its process, or if that does something else.
It is politeness alone: the database has its own lock, and who gets no turn in good time tries
without.

Nor do they shorten SQLite's log after each trial, as it would itself: what others write meanwhile
keeps the log from beginning anew, so that it is long for ever, and every commit waits for the disk.
"""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import time
from contextlib import suppress
from pathlib import Path

from daskperiment.store.faults import is_busy

__all__ = ["WriterTurn"]

_AT_ONCE = 0.0003
"""Seconds for which it is tried again at once: most write for less, and sleeping costs as much."""
_SHORT_NAP = 0.001
"""Seconds between two tries of who has a turn, or did not get one in time."""
_NAP = 0.008
"""Seconds between two looks of who is next; who comes later looks half as often, down to 1/8."""
_LASTS = 0.04
"""Seconds of a turn, where few wait."""
_ROUND = 0.6
"""Seconds in which each of many has a turn."""
_LONGEST_WAIT = 0.75
"""Seconds after which who got no turn tries without; who waits for longer was killed."""
_SELDOM = 0.004
"""Seconds between two transactions of who does something else too, and does not queue anew."""
_MOST = 4
"""Turns at a time: more would only wait for each other."""
_TIMES = struct.Struct("=256d")
"""A time for each process: the end of its turn, or less than 0 for when it began to wait."""
_TIME = struct.Struct("=d")
_LONG = 16 << 20
"""Bytes of a log that is written to the database, to begin it anew."""
_STILL = 50
"""Milliseconds for which it is tried to have the others stand still for it."""


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
        self._path = path.with_name("clock")  # which is there with the first trial
        self._file = self._place = -1
        self._connection: sqlite3.Connection | None = None
        """Of which this sees to the log."""
        self._long = _LONG
        self._looked = self._look = 0.0
        """When it was looked at the turn and the log, and when to do so again."""
        self._writes = 0
        """How often it was written since."""
        self.until = 0.0

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Before a transaction: give a turn that lasted long enough to others, and wait again."""
        self._writes += 1
        now = time.monotonic()
        if connection is not self._connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._connection = connection
        elif now < self._look:
            return
        had = self.until
        if had:
            ends, since = self._times(now)
            if not since and len(ends) < _places():
                self._take(now, 0)
            else:
                self._leave()
        self._shorten_log(connection)
        if had and not self.until and self._writes * _SELDOM > now - self._looked:
            self._wait(time.monotonic())
        else:
            self._count_from(now, now + _LASTS)

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
            if now - since > _AT_ONCE and (self.until > now or not self._wait(since)):
                time.sleep(_SHORT_NAP * random.uniform(0.5, 1.5))

    def end(self) -> None:
        """Leave the turn to others, and close what was opened for it."""
        if self.until:
            self._leave()
        self._connection, self._looked, file, self._file = None, 0.0, self._file, -1
        if file >= 0:
            os.close(file)

    def _wait(self, since: float) -> bool:
        """Sleep until there is a turn, and take it; False if there is none in good time."""
        while True:
            now = time.monotonic()
            found = self._times(now) if now - since < _LONGEST_WAIT else None
            if found is None or self._file < 0:
                self._note(0.0)
                self._count_from(now, now + _LASTS)
                return False
            ends, waits, places = *found, _places()
            if len(ends) < places:
                self._take(now, len(waits))
                return True
            self._note(-since)
            before, place = divmod(sum(each < since for each in waits), places)
            due = sorted(ends)[place] + before * _LASTS - now
            time.sleep(max(_SHORT_NAP, min(due, _NAP * 2 ** min(before, 3))))

    def _take(self, now: float, waiting: int) -> None:
        """Take a turn, which is shorter where many wait."""
        self.until = now + min(_LASTS, _ROUND * _places() / (waiting + 1))
        self._count_from(now, self.until)
        self._note(self.until)

    def _count_from(self, now: float, look: float) -> None:
        self._looked, self._look, self._writes = now, look, 0

    def _leave(self) -> None:
        self.until = 0.0
        self._note(0.0)

    def _times(self, now: float) -> tuple[list[float], list[float]]:
        """Return when the turns of others end, and since when others wait for one."""
        if self._file < 0:
            with suppress(OSError, AttributeError):  # it is not there yet, or this is Windows
                self._place = os.getpid() % 256
                self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        ends, waits = [], []
        with suppress(OSError):
            found = os.pread(self._file, _TIMES.size, 0).ljust(_TIMES.size, b"\0")
            for place, each in enumerate(_TIMES.unpack(found)):
                # Those of long ago are of processes that are gone, or of another day.
                if not each or place == self._place:
                    continue
                if now < each <= now + _LASTS:
                    ends.append(each)
                elif now - _LONGEST_WAIT < -each <= now:
                    waits.append(-each)
        return ends, waits

    def _note(self, when: float) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.pwrite(self._file, _TIME.pack(when), self._place * _TIME.size)

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """Write a long log to the database; then let the others stand still, and begin it anew."""
        try:
            size = os.stat(self._log).st_size
        except OSError:
            return
        if size < self._long:
            return
        with suppress(sqlite3.OperationalError):
            # The most of it while they write. It is busy if somebody else does the same.
            if connection.execute("PRAGMA wal_checkpoint").fetchone()[0]:
                return
            connection.execute(f"PRAGMA busy_timeout = {_STILL}")
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]
            finally:
                connection.execute("PRAGMA busy_timeout = 0")
            self._long = size + _LONG if busy else _LONG


def _places() -> int:
    """Return how many have a turn at a time."""
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)
