"""Turns of processes that write to one database: who waits sleeps, and waits for nobody in vain."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from daskperiment.store.file import turns
from daskperiment.store.file.turns import WriterTurn

pytestmark = pytest.mark.skipif(not hasattr(os, "pread"), reason="turns are none of Windows")


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


def tell(path: Path, *times: float) -> None:
    """Let other processes have turns until so many times, or wait since so many less than 0."""
    at = os.getpid() + 1
    with open(path.with_name("clock"), "r+b") as file:
        file.truncate(8 * 256)
        for place, when in enumerate(times, start=at):
            file.seek(place % 256 * 8)
            file.write(struct.pack("=d", when))


def taken(clock: Clock, seconds: float = 0.03) -> list[float]:
    """Let others have every turn for so long."""
    return [clock.now + seconds] * turns._places()


def test_free(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who finds the database free neither sleeps nor opens a file."""
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert (connection.tries, clock.naps, turn.until) == (1, [], 0)


def test_who_waited_has_a_turn(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who found the database busy for long takes a turn, and has it while nobody else waits."""
    turn = WriterTurn(path)
    connection.free = clock.now + 0.02
    turn.begin(connection, 60)
    assert turn.until
    assert max(clock.naps, default=0) < 0.002
    for _ in range(5):  # one that ends, and nobody is there
        clock.now += 0.05
        turn.prepare(connection)
        assert turn.until > clock.now
    turn.end()
    assert not turn.until


def test_short_waits(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who waits for less than sleeping costs tries at once."""
    connection.free = clock.now + 0.0003
    WriterTurn(path).begin(connection, 60)
    assert clock.naps == []


def test_sleeps_while_others_have_turns(
    path: Path, connection: BusyConnection, clock: Clock
) -> None:
    """Who has no turn does not try; it sleeps until one ends, which nobody has to tell it."""
    turn, came = WriterTurn(path), clock.now
    tell(path, *taken(clock))
    connection.free = clock.now + 0.02
    turn.begin(connection, 60)
    assert turn.until
    assert 0.03 < clock.now - came < 0.036
    assert len(clock.naps) < 7
    assert connection.tries < 8


def test_next_is_who_came_first(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who comes after others sleeps for longer between its looks than who is next."""
    naps = []
    for before in (0, 1, 6):
        clock.naps.clear()
        waiting = [-clock.now] * before * turns._places()
        tell(path, *taken(clock), *waiting)
        connection.free = clock.now + 0.01
        WriterTurn(path).begin(connection, 60)
        naps.append(clock.naps[0])
    assert naps[0] < naps[1] < naps[2] < 0.07


def test_turns_end_for_those_who_wait(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """A turn that lasted goes to who waits, and its process waits then as all others do."""
    turn = WriterTurn(path)
    connection.free = clock.now + 0.002
    turn.begin(connection, 60)
    for _ in range(100):
        turn.prepare(connection)
    first = turn.until
    tell(path, *taken(clock, 0.06), -clock.now)
    clock.naps.clear()
    turn.prepare(connection)
    assert (turn.until, clock.naps) == (first, [])  # it lasts
    clock.now = first
    turn.prepare(connection)
    assert clock.naps
    assert turn.until > first + 0.01


def test_who_seldom_writes_does_not_queue(
    path: Path, connection: BusyConnection, clock: Clock
) -> None:
    """Who does other things too leaves its turn, and goes on without one."""
    turn = WriterTurn(path)
    connection.free = clock.now + 0.002
    turn.begin(connection, 60)
    clock.naps.clear()
    clock.now = turn.until
    tell(path, *taken(clock), -clock.now)
    turn.prepare(connection)
    assert (turn.until, clock.naps) == (0, [])


@pytest.mark.parametrize("word", ["a turn", "a wait"])
@pytest.mark.parametrize("ago", [0.001, 3600.0, -3600.0])
def test_processes_that_died(
    path: Path, connection: BusyConnection, clock: Clock, word: str, ago: float
) -> None:
    """What a process left, or one of another day, holds nobody up for longer than a turn."""
    clock.now = came = 5000.0
    when = came - ago if word == "a turn" else ago - came
    tell(path, *[when] * 100)
    connection.free = clock.now + 0.002
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert turn.until
    assert clock.now - came < 0.05


def test_nobody_waits_for_long(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Who gets no turn in good time tries without, however often others take theirs."""
    turn, came = WriterTurn(path), clock.now
    connection.free = clock.now + 0.002

    def sleep(seconds: float) -> None:
        clock.now += seconds
        tell(path, *taken(clock))

    clock.sleep = sleep  # type: ignore[method-assign]
    tell(path, *taken(clock))
    turn.begin(connection, 60)
    assert not turn.until
    assert 0.7 < clock.now - came < 0.85


def test_many_have_shorter_turns(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """Where many wait turns are shorter, so that each has one within a second."""
    tell(path, *[-clock.now] * 200)
    connection.free = clock.now + 0.002
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert 0 < (turn.until - clock.now) * 200 / turns._places() < 0.7


@pytest.mark.parametrize("cause", ["no file", "no rights", "no such calls", "it cannot be read"])
def test_no_turns(
    path: Path, connection: BusyConnection, clock: Clock, monkeypatch: pytest.MonkeyPatch,
    cause: str,
) -> None:  # fmt: skip
    """Where there are no turns each tries again and again, with little sleep."""

    def refused(*_: object) -> None:
        raise OSError("not here")

    if cause == "no file":
        path.with_name("clock").unlink()
    elif cause == "no rights":
        monkeypatch.setattr(turns.os, "open", refused)
    elif cause == "no such calls":
        monkeypatch.delattr(turns.os, "O_CLOEXEC")
    else:
        monkeypatch.setattr(turns.os, "pread", refused)
    connection.free = clock.now + 0.1
    turn = WriterTurn(path)
    turn.begin(connection, 60)
    assert sum(clock.naps) < 0.15
    turn.prepare(connection)
    turn.end()


def test_patience(path: Path, connection: BusyConnection, clock: Clock) -> None:
    """A database that others keep is given up in the end."""
    connection.free = clock.now + 100
    turn = WriterTurn(path)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        turn.begin(connection, 5)
    turn.end()
    assert 5 < clock.now - 1 < 6


# The log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", [False, True])
def test_log_of_many_writers(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, reading: bool
) -> None:
    """Who writes in turns waits for the disk once for each piece of the log, not for each commit.

    While somebody reads the log cannot begin anew; then it is tried with each such piece.
    """
    monkeypatch.setattr(turns, "_LONG", 200_000)
    monkeypatch.setattr(turns, "_STILL", 1)
    both = [sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2)]
    both[0].execute("PRAGMA journal_mode = WAL")
    for each in both:
        each.execute("PRAGMA journal_size_limit = 0")
    both[0].execute("CREATE TABLE numbers (n)")
    statements: list[str] = []
    for each in both:
        each.set_trace_callback(statements.append)
    each_turn = [WriterTurn(path) for _ in both]
    reader = sqlite3.connect(path, isolation_level=None)
    if reading:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM numbers").fetchall()
    written, longest = 0, 0
    for _ in range(100):
        clock.now += 1
        for connection, turn in zip(both, each_turn, strict=True):
            turn.prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO numbers VALUES (zeroblob(16000))")
            connection.execute("COMMIT")
            written += 5 * 4_120  # pages with their headers
            longest = max(longest, os.stat(f"{path}-wal").st_size)
    tries = statements.count("PRAGMA wal_checkpoint(RESTART)")
    assert 5 <= tries <= (2 if reading else 1.5) * written / 200_000
    assert (longest < 300_000) is not reading
    assert both[1].execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    reader.close()
    for connection in both:
        connection.close()
