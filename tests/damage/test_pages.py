"""Damaged pages of a folder's database from which all else hangs: what rests on them is found."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import StoreWarning
from daskperiment.recording.registry import close_recorders
from daskperiment.store.file import FileStore
from daskperiment.store.file import recovery as recovering
from daskperiment.store.protocol import Record
from daskperiment.store.repair import repair

PAGE = 4096
STREAMS = ("trials", "steps", "points", "outputs")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all be recovered, however little of the machine there is for it."""
    monkeypatch.setattr(recovering, "_PATIENCE", 60.0)


def body(text: str, number: int) -> bytes:
    """Return a body; some need further pages."""
    return b'{"of":"%s %d","pad":"%s"}' % (text.encode(), number, b"." * (number % 7 * 1500))


def filled(folder: Path) -> dict[str, list[tuple[int, str, bytes]]]:
    """Fill a store whose tables have pages between their first one and their rows."""
    store = FileStore(folder)
    for number in range(1, 151):
        store.allocate(f"token{number}", body("begun", number))
    for stream in ("steps", "points"):
        store.append([Record(stream, n, "s", body(stream, n)) for n in range(1, 151)])
    store.append([Record("outputs", 0, f"o{n}", body("outputs", n)) for n in range(150)])
    for n in range(40):
        store.put(f"{n:032x}", [b"object %d" % n * 300])
    found = answers(store)
    store.close()
    return found


def answers(store: FileStore) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        stream: [one[1:] for one in store.read(stream)] for stream in STREAMS
    }
    found["objects"] = [bytes(store.get(f"{n:032x}")) for n in range(40)]
    found["again"] = [store.state().latest]
    return found


def roots(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(file)) as connection:
        named = "rootpage AND name NOT LIKE 'sqlite%'"  # a view has no page
        query = f"SELECT name, rootpage FROM sqlite_schema WHERE {named}"
        return dict(connection.execute(query))


def overwrite(file: Path, start: int, data: bytes) -> None:
    with open(file, "r+b") as handle:
        handle.seek(start)
        handle.write(data)


GARBAGE = random.Random(7).randbytes(PAGE)
FIRST: dict[str, Callable[[Path], None]] = {
    "zeros": lambda file: overwrite(file, 0, bytes(PAGE)),
    "garbage": lambda file: overwrite(file, 0, GARBAGE),
    "no magic": lambda file: overwrite(file, 0, bytes(16)),
    "no schema": lambda file: overwrite(file, 100, bytes(PAGE - 100)),
    "garbled schema": lambda file: overwrite(file, 108, GARBAGE[108:]),
}


@pytest.mark.parametrize("how", FIRST)
def test_first_page(how: str, tmp_path: Path) -> None:
    """Without its first page all is shown with a warning, and built anew when asked for."""
    expected = filled(tmp_path / "ex")
    file = tmp_path / "ex" / "records.sqlite"
    FIRST[how](file)
    store = FileStore(tmp_path / "ex")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert answers(store) == expected
    told = [str(one.message) for one in caught if one.category is StoreWarning]
    assert "records.sqlite" in told[0]
    [fault] = [one for one in store.faults(60) if one.mend is not None]
    assert fault.mend is not None
    fault.mend()
    assert answers(store) == expected
    assert store.faults(60) == []
    assert store.allocate("token7", b"{}").trial == 7
    assert store.allocate("new", b"{}").trial == 151
    store.close()


WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO _tokens (token) VALUES ('another')")
connection.commit()
connection.close()
"""


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
@pytest.mark.parametrize("stream", ["steps", "outputs"])
def test_locks_stay(stream: str, tmp_path: Path) -> None:
    """Who reads what damage left keeps its locks, so that another process leaves the log to it."""
    expected = filled(tmp_path / "ex")
    file = tmp_path / "ex" / "records.sqlite"
    overwrite(file, (roots(file)[stream] - 1) * PAGE, GARBAGE)
    store = FileStore(tmp_path / "ex")
    store.append([Record("trials", 1, "late", b"{}")])
    assert [one[1:] for one in store.read(stream)] == expected[stream]
    subprocess.run([sys.executable, "-c", WRITE, str(file)], check=True)
    assert file.with_name("records.sqlite-wal").exists()
    store.close()


@pytest.mark.parametrize("table", ["_tokens", "_objects", "trials", "steps", "outputs", "all"])
def test_root_page(table: str, tmp_path: Path) -> None:
    """Without the first page of a table its rows are found by its index, wherever they stand."""
    expected = filled(tmp_path / "ex")
    file = tmp_path / "ex" / "records.sqlite"
    for name, page in roots(file).items():
        if table in (name, "all") and name != "_identity":
            overwrite(file, (page - 1) * PAGE, GARBAGE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = FileStore(tmp_path / "ex")
        assert answers(store) == expected
        assert not any("missing" in str(one.message) for one in caught)
        store.close()
        kept = repair(tmp_path / "ex")
    assert kept.exists()
    store = FileStore(tmp_path / "ex")
    assert answers(store) == expected
    assert store.allocate("token7", b"{}").trial == 7
    assert store.allocate("new", b"{}").trial == 151
    store.close()


def test_rows_that_stand_in_the_log(tmp_path: Path) -> None:
    """What SQLite has not moved from its log to the database counts as well."""
    store = FileStore(tmp_path / "ex")
    for number in range(1, 101):
        store.allocate(f"token{number}", body("begun", number))
    file = tmp_path / "ex" / "records.sqlite"
    page = roots(file)["trials"]
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        data = Path(f"{file}{suffix}").read_bytes()
        (copy / f"records.sqlite{suffix}").write_bytes(data)
    expected = [one[1:] for one in store.read("trials")]
    store.close()
    assert (copy / "records.sqlite-wal").stat().st_size > 100_000
    overwrite(copy / "records.sqlite", 0, bytes(PAGE))
    again = FileStore(copy)
    assert page
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [one[1:] for one in again.read("trials")] == expected
    again.close()


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """What is no database of ours is no less refused than before."""
    file = tmp_path / "ex" / "records.sqlite"
    file.parent.mkdir()
    file.write_bytes(GARBAGE * 40)
    store = FileStore(tmp_path / "ex")
    with pytest.raises(daskperiment.errors.CorruptRecordError, match="not a SQLite database"):
        list(store.read("trials"))
    with pytest.raises(daskperiment.errors.CorruptRecordError, match="not a SQLite database"):
        store.delete()
    assert file.read_bytes() == GARBAGE * 40


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_the_experiment_goes_on(tmp_path: Path) -> None:
    """Trials, values and metrics of before are there after a repair, and new ones follow."""
    ex = daskperiment.Experiment("pages", backend=tmp_path)
    n = ex.parameter("n", default=0)

    @ex.persist
    def keep(n: int) -> Any:
        ex.save_metric("loss", 0, n)
        return list(range(n))

    @ex.result
    def last(values: Any) -> int:
        return len(values)

    result = last(keep(n))
    for number in (1, 2, 3):
        result.bind(n=number).compute()
    close_recorders()
    overwrite(tmp_path / "pages" / "records.sqlite", 0, bytes(PAGE))
    assert ex.get_history()["Result"].tolist() == [1, 2, 3]
    for one in examine(ex._store).findings:
        assert one.mend is not None
        one.mend()
    assert examine(ex._store).findings == []
    assert result.bind(n=4).compute() == 4
    assert ex.get_history()["Result"].tolist() == [1, 2, 3, 4]
    assert ex.get_persisted("keep", 3) == [0, 1, 2]
    assert ex.load_metric("loss", 2)[2].tolist() == [2]
