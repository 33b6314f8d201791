"""Large values that a store lost are written again by the process that kept them last."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.codec import pickled
from daskperiment.codec.object_format import Blob
from daskperiment.errors import StoreUnavailableError
from daskperiment.recording.latest_values import LatestValues
from daskperiment.recording.registry import recorder_for
from daskperiment.store.opening import open_store
from tests.helpers.folders import opened_below
from tests.helpers.memory import MemoryStore
from tests.shared.conftest import open_again
from tests.shared.losses import deleted, emptied

COUNT = 400_000
"""Numbers of a value: 3.2 MB."""


@pytest.fixture(autouse=True)
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is noticed by the background thread: each test says when."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)


def define(place: Any) -> Any:
    ex = daskperiment.Experiment("gone", backend=place.backend)
    n = ex.parameter("n", default=0)

    @ex.persist
    def model(n: int) -> Any:
        return np.arange(COUNT) + n

    @ex.result
    def total(values: Any) -> int:
        ex.save("weights", values + 1)
        return int(values[0])

    return ex, total(model(n))


def check_values(place: Any, expected: list[int]) -> None:
    """Check that each trial of a later process has its own values."""
    again = open_again("gone", place.backend)
    history = again.get_history()
    assert history["n"].tolist() == expected
    for trial, n in history["n"].items():
        assert np.array_equal(again.get_persisted("model", trial), np.arange(COUNT) + n)
        assert again.load("weights", trial)[-1] == COUNT + n
    assert examine(again._store).findings == []


def test_large_values_are_written_again(place: Any) -> None:
    """A store that was emptied has the large values of the trials that it gets again."""
    _, result = define(place)
    for n in (1, 2):
        result.bind(n=n).compute()
    emptied(place, "gone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.bind(n=3).compute()
    check_values(place, [3, 1, 2])


def test_what_was_deleted_stays_away(place: Any) -> None:
    """After a deletion on purpose no large value comes back."""
    _, result = define(place)
    result.bind(n=1).compute()
    deleted(place, "gone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.bind(n=2).compute()
    check_values(place, [2])


def test_values_that_had_waited(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store got late is written again as well, should it lose it then."""
    ex, result = define(place)
    store = type(ex._store)
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        put = store.put

        def away(self: Any, digest: str, parts: Any) -> None:
            if sum(memoryview(part).nbytes for part in parts) > COUNT:
                raise StoreUnavailableError("away")
            put(self, digest, parts)

        patch.setattr(store, "put", away)
        result.bind(n=1).compute()
    ex.flush()
    emptied(place, "gone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.bind(n=2).compute()
    check_values(place, [2, 1])


def test_nothing_stays_of_them(place: Any, journal_root: Path, tmp_path: Path) -> None:
    """A process that rests has no file of values open, and one that ended leaves none."""
    ex, result = define(place)
    result.compute()
    recorder = recorder_for(ex._store)
    assert len(list(recorder.delivery.values.find())) == 2
    before = opened_below(tmp_path)
    recorder.rest()
    assert len(before) - len(opened_below(tmp_path)) >= (2 if place.kind == "folder" else 0)
    open_again("gone", place.backend)
    assert [path for path in journal_root.rglob("*") if ".copy" in path.name] == []


def blob(size: int, fill: int = 1) -> Blob:
    found = pickled(np.full(size, fill, "uint8"), None)[1]
    assert found is not None
    return found


def test_copies_are_bounded(tmp_path: Path) -> None:
    """Of large values the latest are kept, as many as the limit holds; too large ones are not."""
    values = LatestValues(MemoryStore(), tmp_path, copied_limit=7_000_000)
    for number in range(4):
        values.add(blob(3_000_000, number))
    assert [one.size // 1_000_000 for one in values.find()] == [3, 3]
    values.add(blob(8_000_000))
    assert len(list(tmp_path.iterdir())) == 2
    values.make_room()
    assert list(tmp_path.iterdir()) == []
    assert list(values.find()) == []


def test_files_of_a_folder_stay_though_removed(tmp_path: Path) -> None:
    """The latest large value of a folder is kept whatever its size, and others up to a limit."""
    store = open_store(tmp_path / "store", "e")
    values = LatestValues(store, tmp_path / "journal", open_limit=5_000_000)
    blobs = [blob(3_000_000, number) for number in range(3)]
    for each in blobs:
        store.put(each.digest, each.parts)
        values.add(each)
    store.discard([each.digest for each in blobs])
    found = list(values.find())
    assert [one.digest for one in found] == [blobs[-1].digest]
    assert bytes(found[0].parts[0]) == b"".join(blobs[-1].parts)
    values.rest()
    assert list(values.find()) == []


def test_a_cut_copy_is_passed_over(tmp_path: Path) -> None:
    """A copy that somebody cut off is no value."""
    values = LatestValues(MemoryStore(), tmp_path)
    values.add(blob(3_000_000))
    (path,) = tmp_path.iterdir()
    os.truncate(path, 1000)
    assert list(values.find()) == []
