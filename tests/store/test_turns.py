"""Turns of processes that write to one database: who waits sleeps, and waits for nobody in vain."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daskperiment.store.file import turns
from daskperiment.store.file.turns import WriterTurn

pytest.importorskip("fcntl")

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
for place in range(4):
    fcntl.lockf(file, fcntl.LOCK_EX, 1, place)
print(flush=True)
sys.stdin.read()
"""


class Clock:
    """A clock that stands still but while somebody sleeps or tries."""

    def __init__(self) -> None:
        self.now = 1.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        self.now += 0.0001
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps.append(seconds)


class BusyConnection(sqlite3.Connection):
    """A connection that counts how often it begins; it succeeds at one time, by a clock."""

    tries = 0
    free = 0.0
    clock: Clock

    def execute(self, *arguments: object) -> sqlite3.Cursor:
        self.tries += 1
        if self.clock.now < self.free:
            super().execute("BEGIN IMMEDIATE")  # which another connection has begun
        return self.cursor()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(turns, "time", found)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "clock").touch()
    return tmp_path / "records.sqlite"


@pytest.fixture
def connection(path: Path, clock: Clock) -> Iterator[BusyConnection]:
    """Connect to a database that another one writes to."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    found = sqlite3.connect(path, isolation_level=None, timeout=0, factory=BusyConnection)
    found.clock = clock
    yield found
    found.close()
    other.close()


@contextmanager
def all_taken(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process have every turn."""
    command = [sys.executable, "-c", HOLDER, str(path.with_name("clock"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder
        holder.kill()


def wrote(path: Path, when: float) -> None:
    """Let the log be written to at a time of the clock."""
    log = Path(f"{path}-wal")
    log.touch()
    os.utime(log, (when, when))


def test_free(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who finds the database free neither sleeps nor opens a file."""
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert (connection.tries, clock.naps, turn.until) == (1, [], 0)


def test_who_waited_has_a_turn(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who had to sleep takes a turn, writes on without sleeping long, and leaves it in the end."""
    turn = WriterTurn(path)
    connection.free = clock.now + 0.02
    turn.begin(connection, 60)
    assert turn.until
    assert max(clock.naps[1:], default=0) < 0.002
    turn.begin(connection, 60)
    assert turn.until
    turn.end_in_time()
    assert turn.until
    clock.now += 1
    turn.end_in_time()
    assert not turn.until


def test_short_waits(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who waits for less than sleeping costs tries at once."""
    connection.free = clock.now + 0.0003
    WriterTurn(path).begin(connection, 60)
    assert clock.naps == []


def test_sleeps_while_others_have_turns(
    path: Path, connection: BusyConnection, clock: Clock
) -> None:
    """Who gets no turn hardly tries while others write, and goes on without one in good time."""
    turn = WriterTurn(path)
    connection.free = clock.now + 0.1
    with all_taken(path):
        wrote(path, clock.now + 1)
        turn.begin(connection, 60)
        assert 0.2 < sum(clock.naps) < 0.35  # each look at the clock takes a while, too
        assert len(clock.naps) < 40
        assert connection.tries < 8
        assert not turn.until


def test_turns_that_nobody_uses(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who has a turn and does something else stands in nobody's way."""
    wrote(path, clock.now - 1)
    connection.free = clock.now + 0.002
    with all_taken(path):
        WriterTurn(path).begin(connection, 60)
    assert sum(clock.naps) < 0.05


def test_turns_of_a_process_that_died(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """A turn ends with its process, however that ends."""
    turn = WriterTurn(path)
    with all_taken(path) as holder:
        holder.kill()
        holder.wait()
        wrote(path, clock.now + 1)
        connection.free = clock.now + 0.002
        turn.begin(connection, 60)
    assert turn.until
    turn.end()
    assert not turn.until


@pytest.mark.parametrize("cause", ["no file", "no locks", "no module"])
def test_no_turns(
    path: Path, connection: BusyConnection, clock: Clock, monkeypatch: pytest.MonkeyPatch,
    cause: str,
) -> None:  # fmt: skip
    """Where there are no turns each tries again and again, with little sleep."""

    def refused(*_: object) -> None:
        raise OSError("no locks here")

    if cause == "no file":
        path.with_name("clock").unlink()
    elif cause == "no locks":
        monkeypatch.setattr(turns.fcntl, "lockf", refused)
    else:
        monkeypatch.delattr(turns, "fcntl")
    connection.free = clock.now + 0.1
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert not turn.until
    assert sum(clock.naps) < 0.15


def test_patience(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """A database that others keep is given up in the end."""
    connection.free = clock.now + 100
    turn = WriterTurn(path)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        turn.begin(connection, 5)
    turn.end()
    assert 5 < clock.now - 1 < 6
