"""The list of many experiments: counted once, and looked at by the state of their files."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment.history import overview
from daskperiment.recording.registry import close_recorders
from daskperiment.store.opening import open_store

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
    monkeypatch.setattr(overview.time, "time", lambda: real() + 3600, raising=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which experiments are counted, as it happens."""
    seen: list[str] = []
    outline = overview._outline

    def counting(experiment: str, store: Any) -> Any:
        seen.append(experiment)
        return outline(experiment, store)

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


def test_just_changed(tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a moment ago is counted again: its files may look as if it had not."""
    make(tmp_path / "store", 1)
    monkeypatch.setattr(overview.time, "time", real)
    daskperiment.list_experiments(tmp_path / "store")
    daskperiment.list_experiments(tmp_path / "store")
    assert counted == ["e0", "e0"]


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


def test_cache_that_cannot_be_written(tmp_path: Path, cache: Path, counted: list[str]) -> None:
    """Where nothing can be kept, the list is the same."""
    make(tmp_path / "store", 1)
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        assert daskperiment.list_experiments(tmp_path / "store")["Trials"].tolist() == [1]
    assert counted == ["e0", "e0"]


def test_journal_of_a_dead_process(tmp_path: Path, counted: list[str]) -> None:
    """What a process left in its journal is delivered before an experiment is listed."""
    folder = tmp_path / "store"
    make(folder, 1)
    daskperiment.list_experiments(folder)
    journal = folder / "e0" / "journal"
    journal.mkdir(exist_ok=True)
    (journal / "host-1-0123.journal").write_bytes(b"no journal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        daskperiment.list_experiments(folder)
    assert counted == ["e0", "e0"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
def test_no_descriptors_are_left(tmp_path: Path) -> None:
    """Listing many experiments opens one at a time, and leaves none open."""
    make(tmp_path / "store", 30)
    before = len(os.listdir("/proc/self/fd"))
    assert len(daskperiment.list_experiments(tmp_path / "store")) == 30
    assert len(os.listdir("/proc/self/fd")) == before
