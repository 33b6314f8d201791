"""The file store: the contract, and the faults of files and databases."""

from __future__ import annotations

import errno
import importlib
import importlib.machinery
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import daskperiment
from daskperiment.errors import (
    CorruptRecordError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.store import file as file_package
from daskperiment.store import repair as repairing
from daskperiment.store import rights
from daskperiment.store.file import FileStore
from daskperiment.store.file import database as databases
from daskperiment.store.file.deletions import move_aside, remove_folders
from daskperiment.store.protocol import Record
from daskperiment.store.repair import repair
from daskperiment.testing import StoreConformance
from tests.helpers.folders import opened_below

ROOT = Path(daskperiment.__file__).parent.parent
PAGE = 4096


class TestContract(StoreConformance):
    """The file store keeps the contract."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Callable[[str], FileStore]:
        return lambda name: FileStore(tmp_path / name)


class TestContractOnNetworkFileSystems(TestContract):
    """It keeps it with a rollback journal as well."""

    @pytest.fixture(autouse=True)
    def _network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pretend_network(monkeypatch)


Mount = namedtuple("Mount", "mountpoint fstype")


def pretend_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every folder seem to be on NFS."""
    mounts = [Mount("/proc", "proc"), Mount("/", "nfs4"), Mount("/nothing", "ext4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ex"


@pytest.fixture
def store(folder: Path) -> Iterator[FileStore]:
    store = FileStore(folder)
    yield store
    store.close()


def steps(count: int) -> list[Record]:
    return [
        Record("steps", n % 10, f"x{n}", b'{"n":%d,"pad":"%b"}' % (n, b"." * 200))
        for n in range(count)
    ]


def numbers(found: object) -> list[int]:
    return [json.loads(record.body)["n"] for record in found]  # type: ignore[attr-defined]


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


# Files ---------------------------------------------------------------------------------------


def test_nothing_is_written_before_the_first_write(folder: Path, store: FileStore) -> None:
    """Making a store, reading, asking its state and deleting leave no trace."""
    assert store.state().latest == 0
    assert list(store.read("trials")) == []
    store.delete()
    store.close()
    assert not folder.exists()


def test_relative_folder_is_made_absolute_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later change of the working folder does not move the store."""
    monkeypatch.chdir(tmp_path)
    store = FileStore(Path("here/../ex"))
    monkeypatch.chdir("/")
    assert store.folder == tmp_path / "ex"
    assert store.address == (tmp_path / "ex").as_uri()


def test_any_folder_name(tmp_path: Path) -> None:
    """Blanks, quotes, URL characters and Unicode in the folder's name do no harm."""
    store = FileStore(tmp_path / "ä b#c?d%20e'f&mode=ro" / "x")
    store.append(steps(1))
    store.put("ab", [bytes(2_000_000)])
    assert numbers(store.read("steps")) == [0]
    assert len(store.get("ab")) == 2_000_000
    store.close()
    assert (store.folder / "records.sqlite").exists()


def test_closing_leaves_one_database_file(folder: Path, store: FileStore) -> None:
    """After closing, SQLite's log is merged into the database."""
    store.append(steps(1))
    assert (folder / "records.sqlite-wal").exists()
    store.close()
    assert sorted(os.listdir(folder)) == [".gitignore", "records.sqlite"]


def test_collected_store_closes_its_files(folder: Path) -> None:
    """A store that is forgotten leaves no file open, however many threads used it."""
    store = FileStore(folder)
    threads = [threading.Thread(target=store.allocate, args=(f"t{n}", b"{}")) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.state().latest == 50
    assert 0 < len(opened_below(folder)) < 12
    del store, threads, thread
    assert opened_below(folder) == []


def test_large_objects_are_files(folder: Path, store: FileStore) -> None:
    """Objects above 1 MB are files under their digest, smaller ones are in the database."""
    store.put("abcdef", [b"x" * 1_000_000])
    assert not (folder / "objects").exists()
    store.put("abcde0", [b"x" * 1_000_000, b"y"])
    assert [
        p.relative_to(folder).as_posix() for p in folder.rglob("objects/**/*") if p.is_file()
    ] == ["objects/ab/cd/abcde0"]


def test_large_object_is_private(store: FileStore) -> None:
    """Writing to the buffer of a large object works and does not change what is stored."""
    store.put("ab", [b"x" * 2_000_000])
    first = store.get("ab")
    first[:3] = b"new"
    assert bytes(first[:4]) == b"newx"
    assert bytes(store.get("ab")[:4]) == b"xxxx"


def test_questions_and_discarding_create_nothing(folder: Path, store: FileStore) -> None:
    """Where nothing was ever written there is nothing to find, and nothing comes to be."""
    assert store.find(["o"]) == []
    assert store.sizes(["ab"]) == {}
    store.discard(["ab"])
    assert not folder.exists()


def test_what_is_no_digest(store: FileStore) -> None:
    """What is no digest is the name of no object, and of no other file."""
    store.put("ab", [b"x"])
    names = ["", "../records.sqlite", "../../records.sqlite", "AB", "ab\n"]
    store.discard(names)
    assert store.sizes([*names, "ab"]) == {"ab": 1}


def test_found_by_indexes(folder: Path, store: FileStore) -> None:
    """Outputs, sizes of objects and trials are found by indexes; no body is written out to sort."""
    store.append([Record("outputs", 0, "o", b"{}")])
    store.put("ab", [b"x"])
    seen: list[str] = []
    with store._database.reading() as connection:
        assert connection is not None
        connection.set_trace_callback(seen.append)
    store.find(["o", "p"])
    store.sizes(["ab", "cd"])
    assert list(store.read("points", [1, 2], after=3)) == []
    plans = []
    with sqlite3.connect(folder / "records.sqlite") as other:
        for statement in seen:
            plans += [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}")]
    other.close()
    assert plans.pop() == "SCAN json_each VIRTUAL TABLE INDEX 1:"
    wanted = ["SEARCH"] * 3 + ["LIST", "SEARCH", "LIST"]
    assert [plan.partition(" ")[0] for plan in plans] == wanted


@pytest.mark.parametrize("count", [1, 3, 20, 500])
def test_outputs_that_stand_are_told(store: FileStore, count: int) -> None:
    """Of outputs some of which are there already, only these are asked for one by one."""

    def outputs(*numbers: int) -> list[Record]:
        return [Record("outputs", 0, f"o{n}", b'{"n": %d}' % at) for at, n in enumerate(numbers)]

    store.append(outputs(-1, 0))
    seen: list[str] = []
    with store._database.writing() as connection:
        connection.set_trace_callback(seen.append)
    found = store.append(outputs(*range(count), *([count - 1] if count > 1 else [])))
    expected = [("o0", b'{"n": 1}')]
    if count > 1:
        expected.append((f"o{count - 1}", b'{"n": %d}' % (count - 1)))
    assert [(each.id, each.body) for each in found] == expected
    assert len(store.find([f"o{number}" for number in range(-1, count)])) == count + 1
    asked = [text for text in seen if text.startswith("SELECT") and "trial = 0 AND id = " in text]
    assert len(asked) == len(expected)


def test_discarded_file(folder: Path, store: FileStore) -> None:
    """Discarding a large object removes its file; a map of it from before stays readable."""
    store.put("ab", [b"x" * 2_000_000])
    view = store.get("ab")
    store.discard(["ab"])
    assert [path for path in folder.rglob("objects/**/*") if path.is_file()] == []
    assert view[:3] + view[-3:] == b"xxxxxx"
    assert len(view) == 2_000_000


def test_object_that_was_never_finished(folder: Path, store: FileStore) -> None:
    """A file that a killed process did not finish is found when it is old, and removed."""
    store.put("ab" * 16, [bytes(2_000_000)])
    (file,) = (folder / "objects").glob("*/*/*")
    fresh, old = (file.with_name(f"{name * 32}.tmp") for name in "cd")
    for path in (fresh, old):
        path.write_bytes(b"half")
    assert store.faults(10) == []
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    (found,) = store.faults(10)
    assert "1 files that were never written to the end" in found.what
    assert found.mend is not None
    found.mend()
    assert store.faults(10) == []
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, fresh.name])


@pytest.mark.parametrize("size", [0, 1000])
def test_cut_off_object_is_replaced(store: FileStore, size: int) -> None:
    """A large object that a power failure cut off is given as it is, and put writes it anew."""
    store.put("ab", [b"x" * 2_000_000])
    os.truncate(store._objects._file("ab"), size)
    assert bytes(store.get("ab")) == b"x" * size
    store.put("ab", [b"x" * 2_000_000])
    assert len(store.get("ab")) == 2_000_000


@pytest.mark.parametrize("digest", ["", "../ab", "AB", "a" * 65, "ab/cd", "ab\n"])
def test_bad_digest(store: FileStore, digest: str) -> None:
    """What is no digest never becomes a file name."""
    with pytest.raises(StoreError, match="hexadecimal"):
        store.put(digest, [b"x"])
    with pytest.raises(KeyError):
        store.get(digest)


def test_new_stream(store: FileStore) -> None:
    """A stream of a later release can be written; what is no stream name is refused."""
    store.append([Record("later", 1, "x", b"{}"), Record("steps", 1, "x", b"{}")])
    assert [r.id for r in store.read("later")] == ["x"]
    with pytest.raises(StoreError):
        store.append([Record("steps", 2, "x", b"{}"), Record('x"; DROP', 1, "x", b"{}")])
    assert [r.trial for r in store.read("steps")] == [1]
    assert list(store.read("_tokens")) == []


def test_clock_is_the_file_system_s(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is that of the files, whatever this machine's clock says."""
    monkeypatch.setattr("daskperiment.store.file.store.time.time", lambda: 5.0)
    allocation = store.allocate("token", b"{}")
    (folder / "now").touch()
    now = (folder / "now").stat().st_mtime
    assert allocation.clock <= store.state().clock
    assert abs(now - allocation.clock) < 60


# Deleting ------------------------------------------------------------------------------------


def test_delete_leaves_other_files(folder: Path, store: FileStore) -> None:
    """Deleting removes the store's own files, and the folder only if it is empty then."""
    store.append(steps(3))
    store.put("ab", [bytes(2_000_000)])
    (folder / "journal").mkdir()
    (folder / "notes.txt").write_text("mine")
    store.delete()
    assert os.listdir(folder) == ["notes.txt"]
    (folder / "notes.txt").unlink()
    store.append(steps(1))
    store.delete()
    assert not folder.exists()


def test_folder_removed_under_the_store(folder: Path, store: FileStore) -> None:
    """After somebody removed the folder the store is empty and works."""
    store.append(steps(3))
    assert len(list(store.read("steps"))) == 3
    shutil.rmtree(folder)
    assert list(store.read("steps")) == []
    store.append(steps(2))
    assert len(list(FileStore(folder).read("steps"))) == 2


def test_deleting_while_others_write(folder: Path) -> None:
    """Writers go on while the experiment is deleted again and again, without an error."""
    stores = [FileStore(folder) for _ in range(3)]
    errors: list[BaseException] = []

    def write(n: int) -> None:
        try:
            for m in range(100):
                stores[n].allocate(f"{n}-{m}", b"{}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        stores[2].delete()
    for thread in threads:
        thread.join()
    assert errors == []
    stores[0].allocate("last", b"{}")
    trials = [record.trial for record in stores[2].read("trials")]
    assert trials == list(range(1, len(trials) + 1))
    for store in stores:
        store.close()


def test_writing_where_a_new_database_has_the_number_of_the_last(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who meets a deletion begins anew, though the next file has the number of the last one.

    File systems give the number of a removed file to the next one that is made.
    """
    path, held, create = folder / "records.sqlite", folder / "held", rights.create
    store.append(steps(2))
    os.link(path, held)
    FileStore(folder).delete()

    def create_late(place: Path) -> None:
        if not path.exists():
            os.link(held, path)
            raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(place))
        create(place)

    monkeypatch.setattr(rights, "create", create_late)
    store.append(steps(3))
    assert os.path.samefile(path, held)
    assert numbers(store.read("steps")) == [0, 1, 2]


def test_reading_where_a_new_database_has_the_number_of_the_last(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who meets a deletion looks again, though the next file has the number of the last one."""
    path, held = folder / "records.sqlite", folder / "held"
    opening, missed = databases.SharedConnection.open, []
    other = FileStore(folder)
    other.append(steps(3))
    other.close()
    os.link(path, held)

    def open_late(shared: Any, path: Path, mode: str) -> sqlite3.Connection:
        if missed:
            return opening(shared, path, mode)
        missed.append(mode)
        path.unlink()
        try:
            return opening(shared, path, mode)
        finally:
            os.link(held, path)

    monkeypatch.setattr(databases.SharedConnection, "open", open_late)
    assert numbers(store.read("steps")) == [0, 1, 2]
    assert missed


@pytest.mark.parametrize("name", ["objects", "journal", "columns"])
def test_deleting_while_others_make_files(
    name: str, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody writes while its folder is removed is there then, and nobody meets an error."""
    store.append(steps(1))
    late = folder / name / "ab" / "late"
    rmdir, made = os.rmdir, []
    late.parent.mkdir(parents=True)

    def removed(path: Any, **options: Any) -> None:
        if not made:
            made.append(path)
            late.parent.mkdir(parents=True, exist_ok=True)
            late.write_bytes(b"late")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", removed)
    store.delete()
    assert late.read_bytes() == b"late"
    assert os.listdir(folder) == [name]
    monkeypatch.setattr(os, "rmdir", rmdir)
    store.delete()
    assert not folder.exists()


@pytest.mark.parametrize("by_check", [False, True])
def test_deleting_what_a_killed_process_left(
    by_check: bool, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of who was killed while it removed a folder the next one, or a check, removes the rest."""
    store.put("ab", [bytes(2_000_000)])

    def killed(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.delete()
    assert [*folder.rglob("ab")]
    if by_check:
        store.append(steps(1))
        (fault,) = store.faults(1)
        assert "deletion that was cut off" in fault.what
        assert fault.mend is not None
        fault.mend()
        assert not [*folder.rglob("ab")]
    store.delete()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["unlink", "rmdir"])
def test_deleting_what_others_delete(
    name: str, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that delete one experiment at once each passes over what the other one removed."""
    store.put("ab", [bytes(2_000_000)])
    remove = getattr(os, name)

    def removed_by_another(path: Any, **options: Any) -> None:
        remove(path, **options)
        remove(path, **options)

    monkeypatch.setattr(os, name, removed_by_another)
    store.delete()
    assert not folder.exists()


def test_deleting_a_link(folder: Path, store: FileStore, tmp_path: Path) -> None:
    """A link to a folder elsewhere stays, with what is there: that is told of."""
    store.append(steps(1))
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "mine").mkdir(parents=True)
    (folder / "objects").symlink_to(elsewhere, target_is_directory=True)
    for _ in range(2):
        with pytest.raises(StoreError, match="symbolic link"):
            store.delete()
        assert (folder / "objects" / "mine").is_dir()
    (folder / "objects").unlink()
    store.delete()
    assert not folder.exists()


def test_deleting_a_folder_that_stays_in_its_place(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be moved is removed where it stands."""
    store.put("ab", [bytes(2_000_000)])

    def refused(*args: Any) -> None:
        raise OSError(errno.EBUSY, "a disk of its own")

    monkeypatch.setattr(os, "rename", refused)
    store.delete()
    assert not folder.exists()


@pytest.mark.parametrize("again", [False, True])
def test_nobody_opens_what_is_half_removed(
    folder: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a database while its files are removed gets the next one, and no log of before."""
    store, other = FileStore(folder), FileStore(folder)
    store.allocate("first", b"{}")
    unlink, opened = Path.unlink, []

    def open_and_write() -> None:
        other.allocate("second", b"{}")
        if again:
            other.close()

    def removed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        if path.name.endswith("-wal") and not opened:
            opened.append(threading.Thread(target=open_and_write))
            opened[0].start()
            opened[0].join(0.3)  # as long as it takes where nothing keeps it

    monkeypatch.setattr(Path, "unlink", removed)
    store.delete()
    opened[0].join()
    later = FileStore(folder)
    assert later.allocate("third", b"{}").trial == 2
    assert [record.trial for record in later.read("trials")] == [1, 2]
    for each in (store, other, later):
        each.close()


@pytest.mark.parametrize("writing", [False, True])
def test_nobody_deletes_what_is_half_open(
    folder: Path, writing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has opened a database, and not its log yet, is waited for by who deletes it."""
    pytest.importorskip("fcntl")
    store, other = FileStore(folder), FileStore(folder)
    other.allocate("first", b"{}")
    connect, deleting = databases.SharedConnection.open, threading.Thread(target=other.delete)
    was_waited_for = []

    def connected(*args: Any) -> Any:
        connection = connect(*args)
        if threading.current_thread() is not deleting and deleting.ident is None:
            deleting.start()
            deleting.join(0.3)  # as long as it takes where nothing keeps it
            was_waited_for.append(deleting.is_alive())
        return connection

    monkeypatch.setattr(databases.SharedConnection, "open", connected)
    if writing:
        store.allocate("second", b"{}")
    else:
        assert len(list(store.read("trials"))) < 2
    deleting.join()
    assert was_waited_for == [True]
    for each in (store, other):
        each.close()


@pytest.mark.parametrize("moment", ["made", "closed"])
def test_nobody_deletes_what_is_being(
    moment: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes or closes a database, whose log has a name alone, is waited for by a deletion."""
    pytest.importorskip("fcntl")
    store, other = FileStore(folder), FileStore(folder)
    deleting = threading.Thread(target=other.delete)
    was_waited_for: list[bool] = []

    def meet_a_deletion() -> None:
        if threading.current_thread() is not deleting and deleting.ident is None:
            deleting.start()
            deleting.join(0.3)  # as long as it takes where nothing keeps it
            was_waited_for.append(deleting.is_alive())

    create = databases.Database._create

    def created(*args: Any) -> None:
        meet_a_deletion()
        create(*args)

    class Closing:
        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def close(self) -> None:
            meet_a_deletion()
            self.connection.close()

    if moment == "made":
        monkeypatch.setattr(databases.Database, "_create", created)
        store.allocate("first", b"{}")
    else:
        store.allocate("first", b"{}")
        writer = store._database._writer
        assert writer.connection is not None
        writer.connection = Closing(writer.connection)  # type: ignore[assignment]
        store.close()
    deleting.join()
    assert was_waited_for == [True]
    assert store.allocate("second", b"{}").trial in (1, 2)  # 2 if it came first
    for each in (store, other):
        each.close()


def test_who_deletes_waits_for_nobody_who_waits_for_it(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves a database that was deleted keeps nobody from writing to it while it waits."""
    store.allocate("first", b"{}")
    FileStore(folder).delete()
    held, was_in_transaction = rights.held, []

    def watched(*args: Any, **options: Any) -> Any:
        with suppress(sqlite3.ProgrammingError):  # closed by now
            was_in_transaction.append(last.in_transaction)
        return held(*args, **options)

    last = store._database._writer.connection
    assert last is not None
    monkeypatch.setattr(rights, "held", watched)
    assert store.allocate("second", b"{}").trial == 1
    assert was_in_transaction == [False]


def test_an_interrupted_writer_waits_in_no_transaction(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is interrupted just after a transaction began ends it before waiting for the folder."""
    store.allocate("first", b"{}")
    connection = store._database._writer.connection
    assert connection is not None
    held, was_in_transaction = rights.held, []

    def watched(*args: Any, **options: Any) -> Any:
        was_in_transaction.append(connection.in_transaction)
        return held(*args, **options)

    def interrupt(*args: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rights, "held", watched)
        patched.setattr(databases.SharedConnection, "is_at", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.allocate("second", b"{}")
    assert was_in_transaction == [False]
    assert store.allocate("third", b"{}").trial == 2


@pytest.mark.parametrize("name", ["objects", "journal", "columns"])
def test_deleting_leaves_the_files_of_the_next_experiment(
    name: str, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody writes after the database was deleted belongs to the next one, and stays."""
    store.put("ab", [bytes(2_000_000)])
    store.append(steps(1))
    other, remove = FileStore(folder), databases.Database.remove
    late = folder / name / "late"

    def removed(*args: Any) -> None:
        remove(*args)
        other.put("cd", [bytes(2_000_000)])
        other.append(steps(2))
        late.parent.mkdir(parents=True, exist_ok=True)
        late.write_bytes(b"late")

    monkeypatch.setattr(databases.Database, "remove", removed)
    store.delete()
    assert late.read_bytes() == b"late"
    assert numbers(other.read("steps")) == [0, 1]
    assert other.sizes(["ab", "cd"]) == {"cd": 2_000_000}
    assert list(other.faults(1)) == []
    other.close()


def test_a_deletion_names_what_it_deletes(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the database open that is deleted in the end learns of it."""
    store.append(steps(1))
    other, third = FileStore(folder), FileStore(folder)
    held, met = rights.held, []

    def meet(place: Path, alone: bool = False) -> Any:
        if alone and not met:  # before it holds the folder, another one deletes it as well
            met.append(place)
            third.delete()
            other.append(steps(2))
        return held(place, alone)

    monkeypatch.setattr(rights, "held", meet)
    store.delete()
    assert met
    other.append(steps(3))
    assert numbers(other.read("steps")) == [0, 1, 2]
    assert other.last_deletion() != ""
    for each in (other, third):
        each.close()


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("moment", ["before", "behind"])
def test_keeping_an_object_while_somebody_deletes(
    begun: bool, moment: str, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large object is written again where its folder was deleted before it had its name."""
    parts = [bytes(2_000_000)]
    store.append(steps(1))
    make, missed = rights.make_folder, []

    def made(path: Path, *mode: int) -> None:
        deleted = path.name == "ab" and not missed
        if deleted:
            missed.append(path)
        if deleted and moment == "before":
            raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(path))
        make(path, *mode)
        if deleted:  # as `FileStore.delete` does: a thread may be about to write into it
            remove_folders(folder, move_aside(folder))

    monkeypatch.setattr(rights, "make_folder", made)
    given = store.unnamed_object(parts) if begun else parts
    if begun:
        given.begin()
    store.put("abab", given)
    assert missed
    assert store.sizes(["abab"]) == {"abab": 2_000_000}
    assert [path.name for path in (folder / "objects").rglob("*.tmp")] == []


def test_deleting_where_a_file_has_the_name_of_a_folder(folder: Path, store: FileStore) -> None:
    """A file of somebody else's is left where it is, and deleting goes on."""
    for _ in range(2):
        store.append(steps(1))
        (folder / "objects").write_text("mine")
        store.delete()
        assert (folder / "objects").read_text() == "mine"
        assert os.listdir(folder) == ["objects"]


def test_reading_without_descriptors_for_a_module(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported late, and cannot be, is told of as any other file that cannot be opened."""
    name = "daskperiment.store.file.stream_reader"
    monkeypatch.setattr(file_package, "stream_reader", importlib.import_module(name))
    monkeypatch.delitem(sys.modules, name)  # both are put back

    def unread(_loader: object, path: str) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    with monkeypatch.context() as patched:
        patched.setattr(importlib.machinery.SourceFileLoader, "get_data", unread)
        with pytest.raises(StoreError, match=r"too many files open: raise the limit \(ulimit -n\)"):
            list(store.read("steps"))
    assert list(store.read("steps")) == []


def test_looking_at_a_folder_that_is_deleted(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks for files while somebody deletes their folder finds none, and no error."""
    store.put("ab", [bytes(2_000_000)])

    def vanished(path: Path, pattern: str) -> Iterator[Path]:
        raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(path))

    monkeypatch.setattr(Path, "glob", vanished)
    assert list(store.digests()) == []
    assert list(store.faults(1)) == []
    store.delete()


MANY = """
import random, sys
from pathlib import Path
from daskperiment.store.file import FileStore
store, name = FileStore(Path(sys.argv[1])), sys.argv[2]
chance = random.Random(name)
for n in range(400):
    if name == "deleter":
        store.delete()
    store.allocate(f"{name}-{n}", b"{}")
    assert all(record.body == b"{}" for record in store.read("trials"))
    if chance.random() < 0.5:
        store.close()
"""


def test_deleting_while_other_processes_write(folder: Path) -> None:
    """Processes that make, open and close a database that is deleted again and again go on."""
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MANY, str(folder), name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("deleter", "first", "second")
    ]
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert [process.returncode for process in running] == [0] * 3


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize(
    "error",
    [sqlite3.OperationalError("disk I/O error"), sqlite3.DatabaseError("malformed"),
     FileNotFoundError(errno.ENOENT, "gone")],
)  # fmt: skip
def test_faults_of_what_was_deleted_meanwhile(
    folder: Path, writing: bool, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong with a database that is another by then is no fault; else it is told."""
    store, other = FileStore(folder), FileStore(folder)
    other.allocate("first", b"{}")
    name = "_set_journal_mode" if writing else "_open_for_reading"
    function, is_deleted, failed = getattr(databases.Database, name), True, []

    def failing(*args: Any) -> Any:
        if failed and is_deleted:
            return function(*args)
        failed.append(error)
        if is_deleted:
            os.link(folder / "records.sqlite", folder.with_name("before"))  # its inode stays taken
            other.delete()
            other.allocate("next", b"{}")
        raise error

    def ask() -> int:
        return store.allocate("second", b"{}").trial if writing else len(list(store.read("trials")))

    monkeypatch.setattr(databases.Database, name, failing)
    assert ask() == (2 if writing else 1)
    store.close()
    failed.clear()
    is_deleted = False
    with pytest.raises(StoreError):
        ask()
    may_be_of_the_last = isinstance(error, FileNotFoundError) and not writing
    assert len(failed) == (21 if may_be_of_the_last else 1)
    for each in (store, other):
        each.close()


def test_who_forks_meanwhile_holds_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of what holds a folder, as a process forked by another thread has it, keeps nobody."""
    fcntl = pytest.importorskip("fcntl")
    flock, copies = fcntl.flock, []

    def noted(file: int, how: int) -> None:
        flock(file, how)
        if how != fcntl.LOCK_UN:
            copies.append(os.dup(file))

    monkeypatch.setattr(fcntl, "flock", noted)
    store = FileStore(folder)
    store.allocate("first", b"{}")
    assert copies
    monkeypatch.undo()
    file = os.open(store.folder, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for each in (file, *copies):
        os.close(each)
    store.close()


def test_nobody_opens_what_is_half_repaired(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a database while the repaired one takes its place gets that one."""
    store, other = FileStore(folder), FileStore(folder)
    store.allocate("first", b"{}")
    store.close()
    rename, opened = os.rename, []

    def renamed(old: Any, new: Any) -> None:
        rename(old, new)
        if not opened:  # the damaged one was moved away
            opened.append(threading.Thread(target=other.allocate, args=("second", b"{}")))
            opened[0].start()
            opened[0].join(0.3)  # as long as it takes where nothing keeps it

    monkeypatch.setattr(os, "rename", renamed)
    repair(folder)
    opened[0].join()
    assert [record.trial for record in other.read("trials")] == [1, 2]
    other.close()


def test_two_repairs_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one leaves alone what the first one built, and both keep what they must."""
    store = FileStore(folder)
    store.allocate("first", b"{}")
    store.close()
    build, kept = repairing._rebuild, []

    def built(path: Path, new: Path) -> None:
        if not kept:
            kept.append(new)
            kept[:] = [repair(folder)]
            store.allocate("second", b"{}")
            store.close()
        build(path, new)

    monkeypatch.setattr(repairing, "_rebuild", built)
    with pytest.raises(StoreError, match="somebody else repaired"):
        repair(folder)
    assert [record.trial for record in store.read("trials")] == [1, 2]
    assert [*folder.glob("records.*.sqlite")] == kept
    store.close()


@pytest.mark.parametrize("deletes", [False, True])
def test_a_repair_loses_nothing_of_others(
    deletes: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody wrote since it was read, or after a deletion, is not put away."""
    store, other = FileStore(folder), FileStore(folder)
    store.allocate("first", b"{}")
    store.close()
    build = repairing._rebuild

    def built(path: Path, new: Path) -> None:
        build(path, new)
        if deletes:
            other.delete()
        other.allocate("second", b'{"a": 1}')

    monkeypatch.setattr(repairing, "_rebuild", built)
    with pytest.raises(StoreError, match="somebody else"):
        repair(folder)
    assert [record.body for record in store.read("trials")][-1] == b'{"a": 1}'
    assert [*folder.glob("records.*.sqlite")] == []
    for each in (store, other):
        each.close()


def test_repair_with_a_log_that_a_killed_process_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are kept, too: SQLite sets the owner of such a log when it is only read."""
    store = FileStore(folder)
    store.allocate("first", b"{}")
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)  # as a process leaves it that is killed
    store.close()
    log = copy / "records.sqlite-wal"
    assert log.stat().st_size
    build = repairing._rebuild

    def built(path: Path, new: Path) -> None:
        build(path, new)
        log.chmod(log.stat().st_mode)  # as SQLite does where root reads

    monkeypatch.setattr(repairing, "_rebuild", built)
    repair(copy)
    found = FileStore(copy)
    assert [record.trial for record in found.read("trials")] == [1]
    found.close()


@pytest.mark.parametrize("start", ["", "x"])
def test_ids_that_begin_with_nothing(start: str, folder: Path) -> None:
    """All of them do, of more records than are read at once, too."""
    store = FileStore(folder)
    store.append([Record("notes", 0, f"x{n}", b"{}") for n in range(2500)])
    assert len(list(store.read_starting("notes", None, start))) == 2500
    store.close()


def test_repairs_within_one_second(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps what was there before, under a name of its own; what was left long ago goes."""
    store = FileStore(folder)
    store.allocate("first", b"{}")
    store.close()
    left = folder / "records.0123abcd.new.sqlite"
    left.write_bytes(b"half")
    monkeypatch.setattr(time, "time", lambda: 1e9)
    repair(folder)
    assert left.exists()
    os.utime(left, (1e8, 1e8))
    repair(folder)
    assert sorted(path.name for path in folder.glob("records.*.sqlite")) == [
        "records.1000000000.sqlite",
        "records.1000000001.sqlite",
    ]
    assert [record.trial for record in store.read("trials")] == [1]
    store.close()


# Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_folder_is_a_file(tmp_path: Path, depth: int) -> None:
    """A file where the folder should be is named, for writing and for reading."""
    (tmp_path / "file").write_text("mine")
    store = FileStore((tmp_path / "file").joinpath(*"ab"[:depth]))
    for call in (
        lambda: store.allocate("t", b"{}"),
        lambda: list(store.read("trials")),
        store.state,
        store.delete,
        lambda: store.put("ab", [bytes(2_000_000)]),
    ):
        with pytest.raises(StoreError, match="file"):
            call()
    assert (tmp_path / "file").read_text() == "mine"


READ_AND_WRITE = """
import os, sys
import urllib.parse  # pathlib does so late, when the interpreter's own files may be out of reach
import daskperiment.codec.object_format  # as a store does when it gives an object
from pathlib import Path
from daskperiment.errors import StoreError
from daskperiment.store.file import FileStore
if os.getuid() == 0:  # permissions do not bind root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = FileStore(Path(sys.argv[1]))
print(store.state().latest, len(list(store.read("steps"))), len(store.get("ab")))
try:
    store.allocate("another", b"{}")
except StoreError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("in_use", [True, False])
def test_folder_that_may_only_be_read(in_use: bool) -> None:
    """Who may not write can read, also while another writes; writing says what to do."""
    root = Path(tempfile.mkdtemp())  # tmp_path is not open to other users
    store = FileStore(root / "ex")
    try:
        store.allocate("token", b"{}")
        store.append(steps(5))
        store.put("ab", [bytes(2_000_000)])
        if not in_use:
            store.close()
        if os.getuid() != 0:
            (root / "ex").chmod(stat.S_IRUSR | stat.S_IXUSR)
        root.chmod(0o755)
        found = run(READ_AND_WRITE, root / "ex")
        assert found.stderr == ""
        first, second = found.stdout.splitlines()
        assert first == "1 5 2000000"
        assert second.startswith("refused:")
        assert "records.sqlite" in second
        assert "may write" in second
    finally:
        (root / "ex").chmod(0o755)
        store.close()
        shutil.rmtree(root)


def test_foreign_file(folder: Path, store: FileStore) -> None:
    """A file that is no database is named and left alone."""
    folder.mkdir()
    (folder / "records.sqlite").write_bytes(b"something else" * 1000)
    for call in (
        lambda: store.allocate("t", b"{}"),
        lambda: list(store.read("trials")),
        store.state,
        store.delete,
    ):
        with pytest.raises(CorruptRecordError, match=r"records\.sqlite is not a SQLite database"):
            call()
    assert (folder / "records.sqlite").read_bytes() == b"something else" * 1000


def test_foreign_database(folder: Path, store: FileStore) -> None:
    """A database of another program is refused and left alone."""
    folder.mkdir()
    other = sqlite3.connect(folder / "records.sqlite")
    other.execute("CREATE TABLE trials (mine)")
    other.close()
    before = (folder / "records.sqlite").read_bytes()
    for call in (
        lambda: store.allocate("t", b"{}"),
        lambda: list(store.read("trials")),
        store.delete,
    ):
        with pytest.raises(StoreError, match="another program"):
            call()
    assert (folder / "records.sqlite").read_bytes() == before


def test_newer_schema(folder: Path, store: FileStore) -> None:
    """A database of a newer release says to upgrade."""
    store.append(steps(1))
    store.close()
    other = sqlite3.connect(folder / "records.sqlite")
    other.execute("PRAGMA user_version = 99")
    other.close()
    for call in (lambda: store.allocate("t", b"{}"), lambda: list(store.read("trials"))):
        with pytest.raises(StoreError, match=r"version 99.*upgrade daskperiment"):
            call()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let recovery work as long as ever, however little of the machine there is for it."""
    working = SimpleNamespace(monotonic=time.process_time, time=time.time)
    monkeypatch.setattr(repairing, "time", working)


def damage(file: Path, pages: Iterator[int] | range) -> None:
    with open(file, "r+b") as handle:
        for page in pages:
            handle.seek(page * PAGE)
            handle.write(b"\xa5" * PAGE)


def pages_of(file: Path, table: str) -> list[int]:
    """Find the pages that hold a table's rows, by a text that all its rows have."""
    data = file.read_bytes()
    return [
        n for n in range(len(data) // PAGE) if table.encode() in data[n * PAGE : (n + 1) * PAGE]
    ]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("which", [0, 40, -1])
def test_damaged_page(folder: Path, store: FileStore, which: int) -> None:
    """One damaged page costs the records on it; a warning names the file and the remedy."""
    store.allocate("token", b"{}")
    store.append(steps(2000))
    store.close()
    file = folder / "records.sqlite"
    damage(file, iter([pages_of(file, "." * 200)[which]]))
    with pytest.warns(StoreWarning, match=r"records\.sqlite is damaged.*store\.repair.*'steps'"):
        found = numbers(store.read("steps"))
    lost = set(range(2000)) - set(found)
    assert found == sorted(found)
    assert 5 < len(lost) < 30
    assert max(lost) - min(lost) == len(lost) - 1
    assert [r.trial for r in store.read("trials")] == [1]
    with pytest.warns(StoreWarning):
        assert numbers(store.read("steps", trials=[3])) == [n for n in found if n % 10 == 3]


@pytest.mark.usefixtures("patient")
def test_damaged_index(folder: Path, store: FileStore) -> None:
    """A damaged index costs no record."""
    store.append(steps(2000))
    store.close()
    file = folder / "records.sqlite"
    rows = pages_of(file, "." * 200)
    others = [n for n in pages_of(file, "x1") if n not in rows and n > 0]
    assert others
    damage(file, iter(others))
    assert numbers(store.read("steps")) == list(range(2000))
    with pytest.warns(StoreWarning):
        assert len(list(store.read("steps", trials=[3]))) == 200


def test_nothing_readable(folder: Path, store: FileStore) -> None:
    """Where no record of a stream can be read, it is a CorruptRecordError; deleting works."""
    store.append(steps(500))
    store.close()
    file = folder / "records.sqlite"
    damage(file, range(1, file.stat().st_size // PAGE))
    with pytest.raises(CorruptRecordError, match=r"records\.sqlite is damaged.*store\.repair"):
        list(store.read("steps"))
    with pytest.raises(CorruptRecordError):
        store.append(steps(1))
    store.delete()
    store.append(steps(1))
    assert numbers(store.read("steps")) == [0]


@pytest.mark.usefixtures("patient")
def test_remedy_works(folder: Path, store: FileStore) -> None:
    """The command in the message gives a store with all that could be read, and keeps the rest."""
    for n in range(300):
        store.allocate(f"token{n}", b'{"pad":"%b"}' % (b"." * 200))
    store.append(steps(2000))
    store.put("ab", [b"object"])
    store.close()
    file = folder / "records.sqlite"
    damage(file, iter([*pages_of(file, "." * 200)[::20], pages_of(file, "token299")[0]]))
    before = file.read_bytes()
    with pytest.warns(StoreWarning, match="repair") as caught:
        readable = {stream: list(store.read(stream)) for stream in ("steps", "trials")}
    assert 1000 < len(readable["steps"]) < 2000
    store.close()
    told = [str(one.message) for one in caught if one.category is StoreWarning]
    command = told[0].split("`")[1].split()
    assert command[1:4] == ["-m", "daskperiment.store.repair", str(folder)]
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (kept,) = folder.glob("records.*.sqlite")
    assert str(kept) in done.stdout
    assert kept.read_bytes() == before
    assert {stream: list(store.read(stream)) for stream in readable} == readable
    assert bytes(store.get("ab")) == b"object"
    assert store.allocate("new", b"{}").trial == 301
    store.append(steps(2000))
    assert sorted(numbers(store.read("steps"))) == list(range(2000))


def test_repair_without_a_database(folder: Path) -> None:
    """Repairing what is no store says so."""
    done = subprocess.run(
        [sys.executable, "-m", "daskperiment.store.repair", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "does not exist" in done.stderr


def test_full_disk(store: FileStore) -> None:
    """On a full disk a write is refused as a whole, reading goes on, and later all works."""
    store.append(steps(10))
    with store._database.writing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="No space is left"):
        store.append(steps(1000))
    with pytest.raises(StoreError, match="No space is left"):
        store.put("ab", [bytes(900_000)])
    assert numbers(store.read("steps")) == list(range(10))
    store.close()
    store.append(steps(1000))
    assert numbers(store.read("steps")) == list(range(1000))


def test_full_disk_for_an_object(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large object for which there is no room leaves nothing behind."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("daskperiment.store.file.store.os.replace", fail)
        with pytest.raises(StoreError, match=r"No space is left.*objects"):
            store.put("ab", [bytes(2_000_000)])
    assert [p for p in folder.rglob("*") if p.is_file()] == []
    with pytest.raises(KeyError):
        store.get("ab")


def test_locked_for_too_long(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that stays locked is unavailable, and says what to look for."""
    monkeypatch.setattr(databases, "_BUSY", 0.001)
    monkeypatch.setattr(databases, "_PATIENCE", 0.05)
    store.append(steps(1))
    other = sqlite3.connect(folder / "records.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked by another process"):
        store.append(steps(2))
    assert numbers(store.read("steps")) == [0]
    other.execute("ROLLBACK")
    other.close()
    store.append(steps(2))
    assert numbers(store.read("steps")) == [0, 1]


def test_waits_for_a_lock(folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that goes away in time is no error."""
    monkeypatch.setattr(databases, "_BUSY", 0.001)
    store.append(steps(1))
    other = sqlite3.connect(
        folder / "records.sqlite", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr("daskperiment.store.file.database.time.sleep", nap)
    store.append(steps(2))
    other.close()
    assert len(naps) == 3
    assert numbers(store.read("steps")) == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_transaction(store: FileStore, error: type[BaseException]) -> None:
    """What interrupts a transaction undoes all of it, passes on, and the store works."""
    store.append(steps(1))
    with pytest.raises(error), store._database.writing() as connection:
        connection.execute("DELETE FROM steps")
        raise error
    assert numbers(store.read("steps")) == [0]
    store.append(steps(2))
    assert numbers(store.read("steps")) == [0, 1]


WRITER = """
import sys
from pathlib import Path
from daskperiment.store.file import FileStore
from daskperiment.store.protocol import Record
store = FileStore(Path(sys.argv[1]))
for n in range(100_000):
    trial = store.allocate(f"{sys.argv[2]}-{n}", b"{}").trial
    store.append([Record("steps", trial, "x", b"{}"), Record("notes", trial, "x", b"{}")])
    print(trial, flush=True)
"""


def test_checkpoints_wait_for_the_disk(folder: Path) -> None:
    """A database that is made without waiting waits as others do as soon as it has records."""
    for _ in ("new", "opened"):
        store = FileStore(folder)
        store.append(steps(1))
        with store._database.writing() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        store.close()


def test_killed_writers(folder: Path, store: FileStore) -> None:
    """After SIGKILL at any moment the folder opens, and all that was said to be written is there.

    Two writers at a time are killed in twelve rounds.
    """
    chance = random.Random(1)
    said: list[int] = []
    for n in range(12):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(folder), f"{n}-{m}"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for m in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            said += [int(writer.stdout.readline()) for _ in range(chance.randrange(1, 60))]
            writer.kill()
            said += [int(line) for line in writer.stdout if line.endswith("\n")]
            writer.stdout.close()
            writer.wait()
        begun = [record.trial for record in store.read("trials")]
        assert begun == list(range(1, len(begun) + 1))
        done = [record.trial for record in store.read("steps")]
        assert done == [record.trial for record in store.read("notes")]
        assert set(said) <= set(done) <= set(begun)
    assert len(set(said)) == len(said)


# Network file systems ------------------------------------------------------------------------


def test_network_file_system(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network file system the database has a rollback journal, one made elsewhere too."""
    store.append(steps(1))
    store.close()
    pretend_network(monkeypatch)
    remote = FileStore(folder)
    remote.append(steps(2))
    assert mode(folder) == "delete"
    assert not (folder / "records.sqlite-wal").exists()
    remote.close()
    monkeypatch.undo()
    # It may still be in use from there.
    store.append(steps(3))
    assert mode(folder) == "delete"
    assert numbers(store.read("steps")) == [0, 1, 2]


def mode(folder: Path) -> str:
    connection = sqlite3.connect(folder / "records.sqlite")
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def test_no_warning_in_ordinary_use(folder: Path) -> None:
    """A store that is used, forgotten and left to the interpreter's end warns of nothing."""
    code = (
        "import sys; from pathlib import Path; from daskperiment.store.file import FileStore\n"
        "store = FileStore(Path(sys.argv[1])); store.allocate('t', b'{}'); store.read('trials')\n"
        "other = FileStore(Path(sys.argv[1])); other.state(); del other"
    )
    found = run(code, folder)
    assert (found.returncode, found.stderr) == (0, "")
    assert sorted(os.listdir(folder)) == [".gitignore", "clock", "records.sqlite"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FileStore(folder).state().latest == 1


def test_long_stream_is_read_in_pages(
    folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of several pages is read whole and in order, what came meanwhile included."""
    monkeypatch.setattr("daskperiment.store.file.stream_reader._PAGE", 3)
    store.append([Record("steps", 1, f"{i}", b"{}") for i in range(7)])
    reading = iter(store.read("steps"))
    first = next(reading)
    store.append([Record("steps", 2, "later", b"{}")])
    ids = [first.id, *(row.id for row in reading)]
    assert ids == [*map(str, range(7)), "later"]
    assert [row.id for row in store.read("steps", after=first.position)] == ids[1:]
    assert [row.id for row in store.read("steps", trials=[1])] == ids[:7]
