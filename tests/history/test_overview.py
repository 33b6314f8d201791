"""The list of many experiments: counted once, and looked at by the state of their files."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment.dashboard import api
from daskperiment.history import overview
from daskperiment.recording.registry import close_recorders
from daskperiment.store import resting_tables
from daskperiment.store.file import stream_reader
from daskperiment.store.opening import folder_state, open_store, spare_folders
from tests.helpers.folders import opened_below

real = time.time


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Any:
    """Keep what is known of backends apart from other tests."""
    with dask.config.set({"daskperiment.cache": str(tmp_path / "cache")}):
        yield tmp_path / "cache"


def make(folder: Path, count: int = 3) -> list[Any]:
    results = []
    for number in range(count):
        ex = daskperiment.Experiment(f"e{number}", backend=folder)
        n = ex.parameter("n", default=number)

        @ex.result
        def same(n: int) -> int:
            return n

        results.append(same(n))
        results[-1].compute(scheduler="synchronous")
    close_recorders()
    return results


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be an hour since anything was written."""
    monkeypatch.setattr(time, "time", lambda: real() + 3600, raising=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which experiments are counted, as it happens."""
    seen: list[str] = []
    outline = overview._outline

    def counting(experiment: str, *given: Any) -> Any:
        seen.append(experiment)
        return outline(experiment, *given)

    monkeypatch.setattr(overview, "_outline", counting)
    return seen


def test_counted_once(tmp_path: Path, counted: list[str]) -> None:
    """What did not change is not opened a second time; what did is counted anew."""
    folder = tmp_path / "store"
    results = make(folder)
    first = daskperiment.list_experiments(folder)
    assert counted == ["e0", "e1", "e2"]
    again = daskperiment.list_experiments(folder)
    assert again.equals(first)
    assert len(counted) == 3
    results[1].compute(scheduler="synchronous")
    changed = daskperiment.list_experiments(folder)
    assert counted[3:] == ["e1"]
    assert changed["Trials"].tolist() == [1, 2, 1]


@pytest.mark.parametrize(("digits", "ago", "times"), [
    (1, 0.05, 2), (1, 0.15, 1), (0, 1.9, 2), (0, 2.1, 1),
])  # fmt: skip
def test_just_changed(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch,
    digits: int, ago: float, times: int,
) -> None:  # fmt: skip
    """What changed within a tick of the clock is counted again: it may look as if it had not.

    A clock that tells parts of a microsecond ticks more often than others may.
    """
    make(tmp_path / "store", 1)
    found = open_store(tmp_path / "store", "e0")
    state = folder_state(found)
    assert state is not None
    state = state._replace(changed=state.changed // 1000 * 1000 + digits)
    monkeypatch.setattr(overview, "folder_state", lambda store: state)
    monkeypatch.setattr(type(found), "folder_state", lambda store: state)
    monkeypatch.setattr(time, "time", lambda: state.changed / 1e9 + ago)
    daskperiment.list_experiments(tmp_path / "store")
    daskperiment.list_experiments(tmp_path / "store")
    assert counted == ["e0"] * times


def test_deleted_and_made_anew(tmp_path: Path) -> None:
    """An experiment that was deleted is in no list, and counted anew when it is there again."""
    folder = tmp_path / "store"
    make(folder)
    daskperiment.list_experiments(folder)
    open_store(folder, "e1").delete()
    assert daskperiment.list_experiments(folder)["Experiment"].tolist() == ["e0", "e2"]
    make(folder)
    assert daskperiment.list_experiments(folder)["Trials"].tolist() == [2, 1, 2]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", None])
def test_damaged(tmp_path: Path, cache: Path, counted: list[str], damage: bytes | None) -> None:
    """A file of what is known that is damaged, by one digit too, counts for nothing."""
    folder = tmp_path / "store"
    make(folder, 1)
    first = daskperiment.list_experiments(folder)
    (file,) = cache.rglob("*.json")
    body = file.read_bytes()
    file.write_bytes(body.replace(b",1,1,", b",7,1,") if damage is None else damage)
    assert file.read_bytes() != body
    assert daskperiment.list_experiments(folder).equals(first)
    assert counted == ["e0", "e0"]


@pytest.mark.parametrize("few", [400, 0], ids=["read apart", "by SQLite"])
def test_damage_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """A row that is no record is left out, with one warning, though it is met by two readings."""
    make(tmp_path, 1)
    connection = sqlite3.connect(tmp_path / "e0" / "records.sqlite", isolation_level=None)
    connection.execute("UPDATE trials SET trial = 'x' WHERE id LIKE 'ended%'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    monkeypatch.setattr(stream_reader, "_FEW_ROWS", few)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        frame = daskperiment.list_experiments(tmp_path)
    assert frame["Succeeded"].tolist() == [0]
    assert len(told) == 1, [str(one.message) for one in told]


def test_cache_that_cannot_be_written(tmp_path: Path, cache: Path, counted: list[str]) -> None:
    """Where nothing can be kept, the list is the same."""
    make(tmp_path / "store", 1)
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        assert daskperiment.list_experiments(tmp_path / "store")["Trials"].tolist() == [1]
    assert counted == ["e0", "e0"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_journal_of_a_dead_process(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """What a process left in its journal, here or elsewhere, is delivered before a listing."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    folder = tmp_path / "store"
    make(folder, 1)
    with dask.config.set({"daskperiment.journal": str(tmp_path / "journals")}):
        _leave_journal(folder, counted, place)


def _leave_journal(folder: Path, counted: list[str], place: int) -> None:
    daskperiment.list_experiments(folder)
    journal = [folder / "e0" / "journal", *spare_folders(open_store(folder, "e0"))][place]
    journal.parent.mkdir(0o700, parents=True, exist_ok=True)
    journal.mkdir(exist_ok=True)
    (journal / "host-1-0123.journal").write_bytes(b"no journal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        daskperiment.list_experiments(folder)
    assert counted == ["e0", "e0"]


def test_no_descriptors_are_left(tmp_path: Path) -> None:
    """Listing many experiments opens one at a time, and leaves none open."""
    make(tmp_path / "store", 30)
    before = opened_below(tmp_path)
    assert len(daskperiment.list_experiments(tmp_path / "store")) == 30
    assert opened_below(tmp_path) == before


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what SQLite is asked, and the databases that are opened, as it happens."""
    seen: list[str] = []
    connect = sqlite3.connect

    class Telling(sqlite3.Connection):
        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            seen.append(sql)
            return super().execute(sql, *given)

    def opened(url: str, **given: Any) -> sqlite3.Connection:
        seen.append(f"open {url.rpartition('?')[2]}")
        return connect(url, factory=Telling, **given)

    monkeypatch.setattr(sqlite3, "connect", opened)
    return seen


@pytest.mark.parametrize("few", [400, 0])
@pytest.mark.parametrize("count", [2, 8])
def test_one_short_reading_each(
    tmp_path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch, count: int, few: int
) -> None:
    """A first list opens no short database, and each longer one once and without files beside."""
    make(tmp_path / "store", count)
    reads: list[int] = []
    opens: list[str] = []
    looks: list[Any] = []
    open_file, look, list_folder = os.open, os.stat, os.listdir
    here_runs = threading.get_ident()

    def ours() -> bool:
        """Whether it is not a thread of a cluster, which looks around at any moment."""
        return threading.get_ident() == here_runs

    def counting(name: str) -> Any:
        read = getattr(os, name)

        def counted(descriptor: int, size: int, *place: int) -> bytes:
            reads.extend([size] * ours())
            return bytes(read(descriptor, size, *place))

        return counted

    def opened_file(path: Any, *given: Any, **more: Any) -> int:
        opens.extend([str(path)] * (ours() and str(path).endswith(".sqlite")))
        return open_file(path, *given, **more)

    def looked(path: Any, **more: Any) -> os.stat_result:
        looks.extend([path] * ours())
        return look(path, **more)

    def listed(*path: Any) -> list[str]:
        looks.extend(path * ours())
        return list_folder(*path)

    monkeypatch.setattr(os, "stat", looked)
    monkeypatch.setattr(os, "listdir", listed)
    for name in {"read", "pread"} & {*dir(os)}:
        monkeypatch.setattr(os, name, counting(name))
    monkeypatch.setattr(os, "open", opened_file)
    monkeypatch.setattr(stream_reader, "_FEW_ROWS", few)
    statements.clear()
    known = resting_tables._roots_on.cache_info().misses
    assert daskperiment.list_experiments(tmp_path / "store")["Trials"].tolist() == [1] * count
    # The schema is the same in each, and what waits elsewhere is looked at once for all.
    assert resting_tables._roots_on.cache_info().misses - known <= 3
    here = [str(path) for path in looks if str(tmp_path / "store") in str(path)]
    assert len(here) <= (8 if few else 10) * count, here
    assert len(looks) - len(here) <= count + 12, looks
    opened = [each for each in statements if each.startswith("open")]
    assert opened == ["open mode=ro&immutable=1"] * (0 if few else count)
    assert len(statements) <= (0 if few else 4 * count)
    assert len(reads) <= 5 * count
    assert sum(reads) <= 20_480 * count
    assert len(opens) <= count
    statements.clear()
    daskperiment.list_experiments(tmp_path / "store")
    assert statements == []


@pytest.mark.parametrize("beside", ["-wal", "-journal"])
def test_changes_beside_the_database(
    tmp_path: Path, statements: list[str], beside: str
) -> None:  # fmt: skip
    """Where a change may stand in another file, SQLite itself puts both together."""
    make(tmp_path / "store", 1)
    (tmp_path / "store" / "e0" / f"records.sqlite{beside}").write_bytes(b"\0" * 64)
    statements.clear()
    assert daskperiment.list_experiments(tmp_path / "store")["Trials"].tolist() == [1]
    assert "open mode=rw" in statements
    assert not any("immutable" in each for each in statements)


def test_written_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody writes during the short reading is counted."""
    (result,) = make(tmp_path / "store", 1)
    ask = stream_reader.tables_at_rest

    def late(*asked: Any) -> Any:
        found = ask(*asked)
        result.compute(scheduler="synchronous")
        close_recorders()
        return found

    monkeypatch.setattr(stream_reader, "tables_at_rest", late)
    assert daskperiment.list_experiments(tmp_path / "store")["Trials"].tolist() == [2]


def test_running_and_failed(tmp_path: Path) -> None:
    """What has no end yet, or failed, is counted by the short reading as by the long one."""
    folder = tmp_path / "store"
    ex = daskperiment.Experiment("ends", backend=folder)

    @ex.result
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        fail().compute(scheduler="synchronous")
    close_recorders()
    (row,) = daskperiment.list_experiments(folder).itertuples()
    assert (row.Trials, row.Succeeded, row.Running) == (1, 0, 0)
    store = open_store(folder, "ends")
    begun = next(iter(store.read("trials")))
    store.allocate("another", begun.body)
    store.close()
    (row,) = daskperiment.list_experiments(folder).itertuples()
    assert (row.Trials, row.Succeeded) == (2, 0)


@pytest.mark.parametrize("count", [2, 8])
def test_front_page(
    tmp_path: Path, statements: list[str], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The front page lists the experiments once, and opens none that is short and over."""
    make(tmp_path / "store", count)
    listed: list[Any] = []
    monkeypatch.setattr(api, "list_experiments", lambda target: listed.append(target) or [
        f"e{number}" for number in range(count)
    ])  # fmt: skip
    page = api.DashboardAPI(api.Source(tmp_path / "store"))
    statements.clear()
    shown = page.experiments()["experiments"]
    assert [(each["trials"], each["counts"]) for each in shown] == [(1, {"succeeded": 1})] * count
    assert len(listed) == 1
    assert statements == []
    assert page.experiments()["experiments"] == shown
    assert statements == []
    page.close()


def test_front_page_follows(tmp_path: Path) -> None:
    """A new trial is counted, and an experiment that was deleted is gone."""
    results = make(tmp_path / "store")
    page = api.DashboardAPI(api.Source(tmp_path / "store"))

    def trials() -> dict[str, int]:
        return {each["experiment"]: each["trials"] for each in page.experiments()["experiments"]}

    assert trials() == {"e0": 1, "e1": 1, "e2": 1}
    results[1].compute(scheduler="synchronous")
    assert trials() == {"e0": 1, "e1": 2, "e2": 1}
    close_recorders()
    open_store(tmp_path / "store", "e0").delete()
    assert trials() == {"e1": 2, "e2": 1}
    page.close()
