"""A damaged folder: what is healthy stays readable, in bounded time, and nothing else is raised."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from daskperiment.errors import CorruptRecordError, StoreWarning
from daskperiment.history.trial_records import read_trials
from daskperiment.store.file import FileStore
from daskperiment.store.file import recovery as recovering
from daskperiment.store.protocol import Record
from daskperiment.store.repair import rebuild, repair
from tests.damage.fuzz import FolderTarget, Fuzzer


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all be recovered, however little of the machine there is for it."""
    monkeypatch.setattr(recovering, "_PATIENCE", 60.0)


def filled(folder: Path, trials: int = 300) -> FileStore:
    """Return a store of about 160 kB with a few streams."""
    store = FileStore(folder)
    for number in range(1, trials + 1):
        store.allocate(f"token{number}", b'{"pad":"%b"}' % (b"." * 100))
    store.append(
        [Record("steps", n, "s", b'{"pad":"%b"}' % (b"." * 200)) for n in range(1, trials + 1)]
    )
    store.close()
    return store


def flip(file: Path, count: int, seed: int) -> None:
    data = bytearray(file.read_bytes())
    rng = random.Random(seed)
    for _ in range(count):
        data[rng.randrange(100, len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
@pytest.mark.parametrize("seed", range(5))
def test_twenty_flipped_bits(tmp_path: Path, seed: int) -> None:
    """The first question takes seconds at most, those after it next to nothing."""
    store = filled(tmp_path / "ex")
    flip(tmp_path / "ex" / "records.sqlite", 20, seed)
    waits = []
    for _ in range(4):
        began = time.process_time()  # not what others take of the machine meanwhile
        for stream in ("trials", "steps"):
            with suppress(CorruptRecordError):
                list(store.read(stream))
        waits.append(time.process_time() - began)
    assert waits[0] < 10
    assert max(waits[1:]) < 1
    store.close()


@pytest.mark.usefixtures("patient")
def test_recovery_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recovery serves all questions about one state of a file, and a new file gets its own."""
    store = filled(tmp_path / "ex")
    file = tmp_path / "ex" / "records.sqlite"
    page, data = 4096, file.read_bytes()
    wanted = [n for n in range(1, len(data) // page) if b"." * 200 in data[n * page :][:page]]
    hurt = bytearray(data)
    hurt[wanted[3] * page : (wanted[3] + 1) * page] = b"\xa5" * page
    file.write_bytes(hurt)
    times = []
    recovered = recovering._recovered
    monkeypatch.setattr(
        recovering, "_recovered", lambda path: times.append(path) or recovered(path)
    )
    with pytest.warns(StoreWarning, match="missing is a part of 'steps'"):
        few = len(list(store.read("steps")))
    assert 250 < few < 300
    with pytest.warns(StoreWarning):
        assert len(list(store.read("steps"))) == few
    assert len(list(store.read("trials"))) == 300
    assert len(times) == 1
    anew = file.with_name("anew")
    anew.write_bytes(data)
    os.replace(anew, file)
    assert len(list(store.read("steps"))) == 300
    store.close()


@pytest.mark.parametrize("value", [None, "x", 1.5, b"\xff"])
def test_a_row_of_another_type(tmp_path: Path, value: object) -> None:
    """A row of which damage made something else is left out with a warning; the others are read."""
    store = filled(tmp_path / "ex", 5)
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'steps'"
        )
        connection.commit()
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection:
        connection.execute("UPDATE steps SET trial = ? WHERE trial = 3", (value,))
        connection.commit()
    with pytest.warns(StoreWarning, match="1 rows in 'steps' that are no records"):
        assert [each.trial for each in store.read("steps")] == [1, 2, 4, 5]
    store.close()


def test_text_that_is_none(tmp_path: Path) -> None:
    """An id that is no text hides no other record."""
    store = filled(tmp_path / "ex", 5)
    with closing(sqlite3.connect(tmp_path / "ex" / "records.sqlite")) as connection:
        connection.execute("UPDATE steps SET id = CAST(x'fffe' AS TEXT) WHERE trial = 3")
        connection.commit()
    with pytest.warns(StoreWarning):
        assert [each.trial for each in store.read("steps")] == [1, 2, 4, 5]
    store.close()


def test_fuzzed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is damaged, no other exception, no hang and no false row comes of it."""
    monkeypatch.chdir(tmp_path)
    seconds = float(os.environ.get("DASKPERIMENT_FUZZ_SECONDS", "5"))
    fuzzer = Fuzzer(
        FolderTarget(tmp_path), tmp_path, seed=int(os.environ.get("DASKPERIMENT_FUZZ_SEED", "1"))
    )
    tally = fuzzer.run(10_000, seconds, least=3)
    assert tally.mutations >= 3
    assert tally.faults == []


@pytest.mark.parametrize("trial", [-1, 0, 10**18])
def test_a_trial_of_a_number_that_none_has(tmp_path: Path, trial: int) -> None:
    """A record whose number no trial is given is left out with a warning, not shown as a trial."""
    target = FolderTarget(tmp_path)
    target.restore()
    with closing(sqlite3.connect(target.backend / "fuzzed" / "records.sqlite")) as connection:
        moved = "UPDATE trials SET trial = ? WHERE trial = 2 AND id = 'begun'"
        assert connection.execute(moved, (trial,)).rowcount == 1
        connection.commit()
    with pytest.warns(StoreWarning, match=f"trial {trial} "):
        found = read_trials(FileStore(target.backend / "fuzzed"))
    assert list(found) == [1, 3, 4, 5, 6]


def test_a_table_whose_schema_is_no_text() -> None:
    """Damage in the schema costs the table that it is of, and is told; all others are saved."""
    source, target = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    source.execute("CREATE TABLE _tokens (trial INTEGER PRIMARY KEY, token TEXT)")
    for name in ("trials", "steps"):
        source.execute(f"CREATE TABLE {name} (position INTEGER PRIMARY KEY, trial, id, body)")
        source.execute(f"INSERT INTO {name} VALUES (1, 1, 'begun', 'x')")
    source.text_factory = lambda data: data if b"steps" in data else data.decode()
    assert rebuild(source, target, 10, 60.0) == ["the schema"]
    assert target.execute("SELECT * FROM trials").fetchall() == [(1, 1, "begun", "x")]
    for connection in (source, target):
        connection.close()


@pytest.mark.usefixtures("patient")
@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_names_of_tables_that_are_no_text(tmp_path: Path) -> None:
    """Where SQLite quotes what is no text in its message, that is damage as any other."""
    filled(tmp_path / "ex", 20)
    file = tmp_path / "ex" / "records.sqlite"
    data = file.read_bytes()
    place = data.index(b"tablestepssteps") + len("tablest")
    file.write_bytes(data[:place] + b"\xa0" + data[place + 1 :])
    with closing(sqlite3.connect(file)) as connection, pytest.raises(UnicodeDecodeError):
        connection.execute("SELECT count(*) FROM trials")
    store = FileStore(tmp_path / "ex")
    assert len(list(store.read("trials"))) == len(list(store.read("steps"))) == 20
    with pytest.raises(CorruptRecordError, match="damaged"):
        store.append([Record("steps", 1, "new", b'{"pad":"x"}')])
    store.close()
    repair(tmp_path / "ex")
    store = FileStore(tmp_path / "ex")
    store.append([Record("steps", 1, "new", b'{"pad":"x"}')])
    assert len(list(store.read("steps"))) == 21
    store.close()
