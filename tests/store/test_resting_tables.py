"""Short tables that are read without SQLite: as SQLite reads them, or not at all."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daskperiment import locked_files
from daskperiment.codec import encode
from daskperiment.locked_files import read_apart
from daskperiment.records import Begun, Ended, Failure, ended_id
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import read_at_rest
from daskperiment.store.protocol import Owner, Record
from daskperiment.store.resting_tables import tables_at_rest
from daskperiment.store.schema import SCHEMA

TABLES = {"trials": 4, "_outlines": 4}


def fill(store: FileStore, count: int, value: Any = 0.5) -> None:
    for number in range(count):
        begun = Begun(
            token=f"token{number}", result="score", started=float(number), seed=number,
            parameters={"lr": value, "n": number}, code="c0de", environment="e0", graph="9a",
            origin=current_origin(),
        )  # fmt: skip
        trial = store.allocate(begun.token, encode(begun)).trial
        failure = Failure("ValueError", f"no, {number}") if number % 3 == 2 else None
        status = "failed" if failure else "succeeded"
        end = Ended(status, 1.0, 1.0, "<class 'int'>", number, failure)  # type: ignore[arg-type]
        store.append([Record("trials", trial, ended_id(status), encode(end, trial))])
    store.close()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A store to which it is an hour ago that anybody wrote."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    return FileStore(tmp_path / "demo")


@pytest.mark.parametrize("count", [0, 1, 12, 60, 150])
def test_what_is_read_is_what_stands_there(store: FileStore, count: int) -> None:
    """Of one page or several, with outlines or without, the records are those of SQLite."""
    fill(store, 1)
    fill(store, count)
    path = str(store.folder / "records.sqlite")
    found = tables_at_rest(path, SCHEMA, TABLES, 400)
    assert found is not None
    assert len(found["trials"]) == max(2, 2 * count)
    few = store._reader._few_at_rest("trials")
    assert few == list(store.read("trials"))
    assert tables_at_rest(path, SCHEMA, TABLES, len(few) - 1) is None
    store.close()


def test_long_rows_are_left_to_sqlite(store: FileStore) -> None:
    """A row that goes on on another page is no matter for a short reading."""
    fill(store, 2, "x" * 6_000)
    assert store._reader._few_at_rest("trials") is None
    assert read_at_rest(store, "trials", store.folder_state()) == list(store.read("trials"))
    store.close()


def test_removed_trials(store: FileStore) -> None:
    """What holds the place of a removed record is shown by neither."""
    fill(store, 3)
    marker = Record("trials", 3, "removed", b"{}", Owner(3, "token2"))
    store.remove([marker])
    store.remove([Record("trials", 2, "removed", b"{}", Owner(2, "token1"))])
    store.close()
    assert store._reader._few_at_rest("trials") == list(store.read("trials"))
    store.close()


def test_any_byte(store: FileStore) -> None:
    """Whatever byte changed: where SQLite still reads the table, it is read as by SQLite."""
    fill(store, 15)
    path = store.folder / "records.sqlite"
    whole, rng = path.read_bytes(), random.Random(0)
    told = 0
    places = [*range(100), *(rng.randrange(len(whole)) for _ in range(300))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= rng.choice((1, 4, 128))
        path.write_bytes(bytes(changed))
        found = tables_at_rest(str(path), SCHEMA, TABLES, 400)
        try:
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute("SELECT * FROM trials ORDER BY position").fetchall()
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        if found is not None and "trials" in found:
            told += 1
            assert [(number, *values[1:]) for number, values in found["trials"]] == rows, place
    assert told > 200


@pytest.mark.parametrize(("place", "bytes_"), [(20, b"\x08"), (56, b"\0\0\0\2")])
def test_pages_of_another_layout(store: FileStore, place: int, bytes_: bytes) -> None:
    """Pages of which the end is kept for something else, or with texts in UTF-16, are not read."""
    fill(store, 2)
    path = store.folder / "records.sqlite"
    whole = path.read_bytes()
    assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is not None
    path.write_bytes(whole[:place] + bytes_ + whole[place + len(bytes_) :])
    assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is None


def test_other_files(tmp_path: Path) -> None:
    """What is no database, another program's or a later one is not read."""
    path = tmp_path / "records.sqlite"
    assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is None
    for data in (b"", b"SQLite format 3\0", b"x" * 8192):
        path.write_bytes(data)
        assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is None
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE trials (position INTEGER PRIMARY KEY, trial, id, body)")
    assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is None
    later = SCHEMA._replace(version=SCHEMA.version - 3)
    store = FileStore(tmp_path / "demo")
    fill(store, 12)
    assert tables_at_rest(str(store.folder / "records.sqlite"), later, TABLES, 400) is None


WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO _tokens (token) VALUES ('another')")
connection.commit()
connection.close()
"""


@pytest.mark.parametrize("whose", ["of the package", "of the user"])
def test_locks_stay(store: FileStore, whose: str) -> None:
    """Who has the database open keeps its locks, so that another process leaves the log to it."""
    fill(store, 2)
    path = store.folder / "records.sqlite"
    other = FileStore(store.folder)
    with closing(sqlite3.connect(path)) as connection:
        if whose == "of the package":
            connection.close()
            assert len(list(other.read("trials"))) == 4
        else:
            connection.execute("SELECT count(*) FROM trials").fetchone()
        assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is None
        assert read_at_rest(store, "trials", store.folder_state()) == list(other.read("trials"))
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
        assert path.with_name("records.sqlite-wal").exists()
        other.close()
    store.close()
    assert tables_at_rest(str(path), SCHEMA, TABLES, 400) is not None


def test_nobody_opens_meanwhile(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a connection waits for the end of a reading."""
    fill(store, 2)
    path = str(store.folder / "records.sqlite")
    connect, opened = sqlite3.connect, threading.Event()

    def told(*given: Any, **more: Any) -> sqlite3.Connection:
        opened.set()
        return connect(*given, **more)

    monkeypatch.setattr(sqlite3, "connect", told)
    reader = threading.Thread(target=lambda: list(store.read("trials")))

    def read(descriptor: int) -> bool:
        reader.start()
        return opened.wait(0.1)

    assert read_apart(path, read) is False
    reader.join()
    assert opened.is_set()
    assert read_apart(path, lambda descriptor: True) is None
    store.close()


@pytest.mark.parametrize("system", ["nt", "posix"])
def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """Where locks are the descriptor's own a file is read; where it is not known, it is not."""
    file = str(tmp_path / "file")
    Path(file).write_bytes(b"")
    found = os.stat(file)
    monkeypatch.setattr(locked_files, "_DESCRIPTORS", None)
    monkeypatch.setattr(os, "name", system)
    seen = locked_files._may_be_open(found)
    monkeypatch.undo()
    assert seen is (system == "posix")
