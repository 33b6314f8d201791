"""Short tables that are read without SQLite: as SQLite reads them, or not at all."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daskperiment.codec import encode
from daskperiment.records import Begun, Ended, Failure, ended_id
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
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
    assert store.read_at_rest("trials") == list(store.read("trials"))
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
