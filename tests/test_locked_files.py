"""Whatever is read of a file, this process keeps the locks that it has on it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import daskperiment
from daskperiment import locked_files
from daskperiment.capture.environment import git
from daskperiment.capture.files import content_of
from daskperiment.execution import kept_files
from daskperiment.formats.path_formats import FileFormat, FolderFormat
from daskperiment.locked_files import reading
from daskperiment.store import rights
from daskperiment.store.file.database import SharedConnection, _uses_log
from daskperiment.store.schema import _copied
from tests.helpers.folders import opened_below

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks are the descriptor's own")

# Whoever is the last to close a database removes its log; the first one there cuts the index.
LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0.1)
print(connection.execute("SELECT count(*) FROM numbers").fetchone()[0])
connection.close()
"""
LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except OSError:
        print("locked")
"""


def other(program: str, path: Path) -> str:
    """Run a program in another process, and return what it prints."""
    arguments = [sys.executable, "-c", program, str(path)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def _digest_of_untracked(path: Path) -> None:
    assert len(git._file_digest(str(path))) == 64


def _preview(path: Path) -> None:
    text = path.with_name("notes.txt")
    text.unlink(missing_ok=True)
    os.link(path, text)
    assert FileFormat().preview(text).text
    text.unlink()


def _copy_of_damaged(path: Path) -> None:
    target = path.parent.parent / "copy"
    target.mkdir(exist_ok=True)
    assert _copied(path, target).exists()


def _returned_by_a_step(path: Path) -> None:
    recorder: Any = None
    with patch.object(kept_files, "keep_or_explain", lambda recorder, form, blob: form):
        (kept,) = kept_files.keep_files(recorder, [str(path)], None)
    assert kept["parts"][""]


# How files are read that somebody may have open, by what takes a path.
WAYS: dict[str, Callable[[Path], object]] = {
    "content of a file": lambda path: content_of(str(path)),
    "content of a folder": lambda path: content_of(str(path.parent)),
    "a kept file": lambda path: FileFormat().write(path),
    "a kept folder": lambda path: FolderFormat().write(path.parent),
    "a file that a step returns": _returned_by_a_step,
    "a preview": _preview,
    "whether a database has a log": _uses_log,
    "what git does not track": _digest_of_untracked,
    "the copy of a damaged database": _copy_of_damaged,
}


@pytest.fixture(autouse=True)
def _of_no_other_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave what other tests had open out of account, and to the next file that is read."""
    before = locked_files._kept
    monkeypatch.setattr(locked_files, "_kept", OrderedDict())
    yield
    before.update(locked_files._kept)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give where a database is to be, in a folder of its own."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "numbers.db"


@pytest.fixture
def user(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection of the user's own to a database with a log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (n)")
        connection.execute("INSERT INTO numbers VALUES (1)")
        yield connection


@pytest.mark.parametrize("file", ["", "-shm"])
@pytest.mark.parametrize("way", WAYS)
def test_a_database_that_is_open(path: Path, user: sqlite3.Connection, way: str, file: str) -> None:
    """Others see that somebody has it open, so that its log and the memory they share stay."""
    for _ in range(3):
        WAYS[way](path.with_name(path.name + file))
    shared = os.stat(f"{path}-shm")
    assert other(LOOK, path) == "1"
    assert (os.stat(f"{path}-shm").st_ino, os.stat(f"{path}-wal").st_size > 0) == (
        shared.st_ino, True,
    )  # fmt: skip
    user.execute("INSERT INTO numbers VALUES (2)")
    assert other(LOOK, path) == "2"


@pytest.mark.parametrize("way", WAYS)
def test_a_transaction(path: Path, way: str) -> None:
    """Nobody else writes while this process is in the middle of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE numbers (n)")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("INSERT INTO numbers VALUES (1)")
        WAYS[way](path)
        with pytest.raises(subprocess.CalledProcessError) as caught:
            other(LOOK, path)
        assert "database is locked" in caught.value.stderr
        connection.execute("COMMIT")
    assert other(LOOK, path) == "1"


def _refused(*arguments: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("system", ["Linux", "an early Linux", "elsewhere"])
@pytest.mark.parametrize("way", ["content of a file", "a kept folder", "what git does not track"])
def test_any_file_with_a_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, way: str, system: str
) -> None:
    """A lock of any library counts, also where the system does not tell of it."""
    import fcntl

    if system == "elsewhere":
        monkeypatch.delattr(fcntl, "F_OFD_GETLK", raising=False)
    elif system == "an early Linux":
        monkeypatch.setattr(fcntl, "fcntl", _refused)
    path.write_bytes(b"of some other library")
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        WAYS[way](path)
        assert other(LOCK, path) == "locked"
    WAYS[way](path)
    assert other(LOCK, path) == "free"


def test_a_database_that_two_threads_create(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one keeps its locks when the other has made the file and closes it."""
    shared, create, threads = SharedConnection(), os.open, list[threading.Thread]()

    def begin() -> None:
        shared.open(path, "rw").execute("BEGIN EXCLUSIVE")

    def then_begin(*arguments: Any) -> int:
        descriptor = create(*arguments)
        threads.append(threading.Thread(target=begin))
        threads[0].start()
        threads[0].join(0.5)
        return descriptor

    with monkeypatch.context() as both:
        both.setattr(os, "open", then_begin)
        rights.create(path)
    threads[0].join()
    assert other(LOCK, path) == "locked"
    shared.roll_back()
    shared.close()


def test_descriptors_do_not_grow(path: Path, user: sqlite3.Connection) -> None:
    """One stays of a file that is open here, and none when it was closed."""
    folder = path.parent
    before = len(opened_below(folder))
    with ThreadPoolExecutor(4) as pool:
        found = {each.digest for each in pool.map(content_of, [str(path)] * 40) if each}
    assert len(found) == 1
    more = len(opened_below(folder))
    assert before < more <= before + 4
    for _ in range(20):
        content_of(str(path))
    assert len(opened_below(folder)) == more
    user.close()
    plain = path.with_name("plain.txt")
    plain.write_text("plain")
    with reading(plain) as file:
        assert file.read() == b"plain"
    assert opened_below(folder) == []
    assert not locked_files._kept


def _several(folder: Path, count: int) -> list[sqlite3.Connection]:
    """Open databases, and read them."""
    connections = [sqlite3.connect(folder / f"{number}.db") for number in range(count)]
    for number, connection in enumerate(connections):
        connection.execute("CREATE TABLE numbers (n)")
        content_of(str(folder / f"{number}.db"))
    return connections


@pytest.mark.parametrize("count", [2, 8, 32])
def test_reading_beside_databases(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """It takes as long however many are open, or other files: no descriptors are gone through."""
    connections = _several(path.parent, count)
    (tmp_path / "plain.txt").write_text("plain")
    asked: list[str] = []
    with monkeypatch.context() as counted:
        for name in ("fstat", "listdir"):
            counted.setattr(os, name, _counted(getattr(os, name), asked))
        for _ in range(10):
            with reading(tmp_path / "plain.txt") as file:
                assert file.read() == b"plain"
    assert asked.count("listdir") == 0
    assert asked.count("fstat") <= 120
    for connection in connections:
        connection.close()
    for _ in range(count):
        with reading(tmp_path / "plain.txt"):
            pass
    assert opened_below(path.parent) == []


def _counted(function: Callable[..., Any], asked: list[str]) -> Callable[..., Any]:
    def count(*arguments: Any) -> Any:
        asked.append(function.__name__)
        return function(*arguments)

    return count


def test_a_descriptor_that_somebody_else_closed(path: Path, user: sqlite3.Connection) -> None:
    """As daemons close all that is open: its number is another file's, which is not touched."""
    content_of(str(path))
    ((kept,),) = locked_files._kept.values()
    with open(path.with_name("else.txt"), "w+") as file:
        file.write("else")
        file.flush()
        os.dup2(file.fileno(), kept.descriptor)
    with reading(path) as found:
        assert found.read(6) == b"SQLite"
    user.close()
    for _ in range(2):
        content_of(str(path))
    assert os.pread(kept.descriptor, 4, 0) == b"else"
    os.close(kept.descriptor)


def test_none_is_closed_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even after Ctrl-C at the worst time, when its number is another file's."""
    (connection,) = _several(path.parent, 1)
    (descriptor,) = (each.descriptor for (each,) in locked_files._kept.values())
    connection.close()
    close = os.close

    def interrupted(number: int) -> None:
        close(number)
        if number == descriptor:
            raise KeyboardInterrupt

    with monkeypatch.context() as worst:
        worst.setattr(os, "close", interrupted)
        with pytest.raises(KeyboardInterrupt), reading(path.with_name("0.db")):
            pass
    assert not locked_files._kept


def test_when_no_descriptor_is_left(
    path: Path, user: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened by the last one is read, and that one is not forgotten."""
    before = len(opened_below(path.parent))

    def exhausted(folder: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files", folder)

    with monkeypatch.context() as full:
        full.setattr(os, "listdir", exhausted)
        for _ in range(3):
            with reading(path) as file:
                assert file.read(6) == b"SQLite"
    assert len(opened_below(path.parent)) == before + 1
    user.close()
    with reading(path):
        pass
    assert opened_below(path.parent) == []


def test_where_no_system_tells(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of locks nor of descriptors: those of databases stay, and not of all files."""
    import fcntl

    monkeypatch.delattr(fcntl, "F_OFD_GETLK", raising=False)
    monkeypatch.setattr(locked_files, "_DESCRIPTORS", None)
    for number in range(20):
        path.with_name(f"{number}.txt").write_text("plain")
    assert content_of(str(path.parent)) is not None
    assert opened_below(path.parent) == []


def test_what_a_database_is_about_to_share(path: Path) -> None:
    """It is opened, and locked, after the database: its descriptor stays while that is open."""
    shared = Path(f"{path}-shm")
    for file in (path, shared, path.with_name("plain.txt")):
        file.write_bytes(b"nothing yet")
    with open(path, "rb"):
        for _ in range(3):
            for file in (shared, path.with_name("plain.txt")):
                with reading(file):
                    pass
            assert opened_below(path.parent) == [str(path), str(shared)]
    with reading(path.with_name("plain.txt")):
        pass
    assert opened_below(path.parent) == []


def test_a_reader_goes_on(path: Path, user: sqlite3.Connection) -> None:
    """What it reads by is not closed under it when the database is, and somebody reads a file."""
    content_of(str(path))
    (path.parent / "plain.txt").write_text("plain")
    with reading(path) as file:
        user.close()
        content_of(str(path.parent / "plain.txt"))
        assert file.read(6) == b"SQLite"
    content_of(str(path.parent / "plain.txt"))
    with reading(path.parent / "plain.txt"):
        pass
    assert opened_below(path.parent) == []


def test_each_is_looked_after_in_its_turn(path: Path, tmp_path: Path) -> None:
    """Also behind many that stay open."""
    connections = _several(path.parent, 12)
    (tmp_path / "plain.txt").write_text("plain")
    for connection in connections[8:]:
        connection.close()
    for _ in range(12):
        with reading(tmp_path / "plain.txt"):
            pass
    assert {Path(one).stem for one in opened_below(path.parent)} == set("01234567")
    for connection in connections:
        connection.close()


def test_what_is_read_by_one_that_stays(path: Path, user: sqlite3.Connection) -> None:
    """It is read from its beginning, at any place, and as it is now."""
    content_of(str(path))
    assert locked_files._kept
    for _ in range(2):
        with reading(path) as file:
            assert file.read(16) == b"SQLite format 3\0"
            file.seek(-10, os.SEEK_END)
            assert len(file.read()) == 10
            file.seek(0)
            file.seek(4, os.SEEK_CUR)
            assert file.read(2) == b"te"
    before = content_of(str(path))
    user.execute("INSERT INTO numbers VALUES (2)")
    user.execute("PRAGMA wal_checkpoint")
    assert content_of(str(path)) != before


def test_another_file_of_the_same_name(path: Path, user: sqlite3.Connection) -> None:
    """What stayed open of one that is gone is not taken for the one that is there."""
    content_of(str(path))
    aside = path.with_name("aside")
    shutil.copy(path, aside)
    with open(aside, "r+b") as file:
        file.truncate(10)
    os.replace(aside, path)
    with reading(path) as file:
        assert file.read() == b"SQLite for"


def test_what_is_no_file(path: Path, tmp_path: Path) -> None:
    """A pipe is read, and a folder and nothing are told as by ``open``."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"through",))
    writer.start()
    with reading(tmp_path / "pipe") as file:
        assert file.read() == b"through"
    writer.join()
    with pytest.raises(FileNotFoundError, match="numbers"), reading(path):
        pass
    with pytest.raises(IsADirectoryError), reading(tmp_path):
        pass


def test_an_experiment_that_reads_its_own_store(tmp_path: Path) -> None:
    """A step may get the folder of its own experiment: its database stays whole."""
    ex = daskperiment.Experiment("own", backend=tmp_path / "store")

    @ex.result
    def count(folder: Path, number: int) -> int:
        return len(list(folder.rglob("*"))) > 0 and number

    node = count(ex.file(tmp_path / "store"), ex.parameter("number"))
    for number in range(3):
        assert node.bind(number=number).compute(reuse=True) == number
        (database,) = (tmp_path / "store").rglob("records.sqlite")
        text = "SELECT count(*) AS numbers FROM trials"
        look = LOOK.replace("SELECT count(*) FROM numbers", text)
        assert int(other(look, database)) > 0
        assert database.with_name("records.sqlite-shm").exists()
    assert len(ex.get_history()) == 3


@pytest.mark.parametrize("given", ["by default", "as an argument", "in a container"])
def test_an_experiment_is_the_same_input_after_a_trial(tmp_path: Path, given: str) -> None:
    """A step that gets an experiment, as it may to save metrics, is reused all the same."""
    ex = daskperiment.Experiment("input", backend=tmp_path / "store", reuse=True)

    @ex.persist
    def make(number, ex=ex if given == "by default" else None):
        return number

    more = {"by default": (), "as an argument": (ex,), "in a container": ([{"ex": ex}],)}[given]
    node = ex.result(lambda x: x)(make(ex.parameter("number"), *more))
    for number in (1, 1, 2, 1):
        assert node.bind(number=number).compute() == number
    steps = ex.get_steps().query("Step == 'make'")
    assert steps["Reused From"].fillna(0).tolist() == [0, 1, 0, 1]


def test_experiments_are_different_inputs(tmp_path: Path) -> None:
    """One may be asked for what is in it: another one, or one elsewhere, is another input."""
    ex = daskperiment.Experiment("input", backend=tmp_path / "store", reuse=True)
    others = [
        daskperiment.Experiment(name, backend=tmp_path / place)
        for name in ("a", "b") for place in ("here", "there")
    ]  # fmt: skip
    make = ex.persist(lambda other: other.id)
    node = ex.result(lambda x: x)
    assert [node(make(each)).compute() for each in others] == ["a", "a", "b", "b"]
    assert ex.get_steps()["Reused From"].isna().all()


def test_an_experiment_with_another_seed_is_another_input(tmp_path: Path) -> None:
    """A step may ask it for its seed, as any code may."""
    ex = daskperiment.Experiment("input", backend=tmp_path / "store", reuse=True)
    make = ex.persist(lambda other: other.seed)
    node = ex.result(lambda x: x)
    found = [
        node(make(daskperiment.Experiment("a", backend=tmp_path / "a", seed=seed))).compute()
        for seed in (1, 2, 1)
    ]
    assert found == [1, 2, 1]
    assert ex.get_steps()["Reused From"].dropna().tolist() == [1]
