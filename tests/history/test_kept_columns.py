"""The columns that a history keeps for its next reader: right, and trusted only where they fit."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
import threading
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.codec import encode
from daskperiment.errors import StoreUnavailableError, StoreWarning
from daskperiment.history import kept_columns, trial_columns
from daskperiment.history.kept_columns import EndedTrials, all_columns, latest_columns
from daskperiment.history.overview import experiment_row
from daskperiment.history.table_columns import CodedColumn
from daskperiment.history.tables import get_history
from daskperiment.history.trial_columns import settled
from daskperiment.records import (
    BEGUN,
    REMOVED,
    Begun,
    Computed,
    Curation,
    Ended,
    Failure,
    Removed,
    computed_id,
    ended_id,
)
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record, Store, Stored
from tests.history.lab import NOW


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let a few trials be worth keeping, apart from what other tests keep."""
    monkeypatch.setattr(kept_columns, "WORTH", 3)
    with dask.config.set({"daskperiment.cache": str(tmp_path / "cache")}):
        yield


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "demo")


def begin(store: Store, lr: Any = 0.5) -> int:
    number = store.state().latest + 1
    begun = Begun(
        token=f"token-{number}-{os.urandom(4).hex()}", result="score", started=NOW + number,
        seed=number, parameters={"lr": lr}, code="c0de", environment="e0", graph="9a",
        origin=current_origin(),
    )  # fmt: skip
    return store.allocate(begun.token, encode(begun)).trial


def end(store: Store, trial: int, value: Any = 1.5, status: str = "succeeded") -> None:
    failure = None if status == "succeeded" else Failure("ValueError", "ValueError(no)")
    record = Ended(status, NOW, 1.0, "<class 'float'>", value, failure)  # type: ignore[arg-type]
    store.append([Record("trials", trial, ended_id(status), encode(record, trial))])


def fill(store: Store, count: int = 5) -> None:
    for number in range(count):
        end(store, begin(store, number / 3), number)


def plainly(store: Store) -> pd.DataFrame:
    """The history as who keeps nothing makes it."""
    trials = range(1, store.state().latest + 1)
    return get_history(store, ("lr",), verbose=True, running=True, trials=trials)


def asked(store: Store) -> pd.DataFrame:
    return get_history(store, ("lr",), verbose=True, running=True)


class Counting:
    """A store that counts the records of the stream of trials that are read."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read_records = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, stream: str, *arguments: Any, **given: Any) -> Any:
        found = list(self._store.read(stream, *arguments, **given))
        self.read_records += len(found) * (stream == "trials")
        return found


def kept_of(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting(store)
    folder = store.folder / "columns"
    monkeypatch.setattr(kept_columns, "columns_folder", lambda _: folder)
    return counting


@pytest.mark.parametrize("seed", range(4))
def test_records_in_any_order(store: FileStore, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Trials that end long after others began are in the table, however few are remembered."""
    rng = random.Random(seed)
    ids = [begin(store, number / 3 if number % 2 else "text") for number in range(60)]
    later = [*ids, *rng.sample(ids, 20)]
    rng.shuffle(later)
    for number, trial in enumerate(later):
        if rng.random() < 0.3:
            value = encode(Computed("made", number), trial)
            store.append([Record("trials", trial, computed_id("made"), value)])
        if trial % 5:
            end(store, trial, number, rng.choice(["succeeded", "failed", "interrupted"]))
        if rng.random() < 0.3:
            later.append(begin(store))
    expected = plainly(store)
    for waiting, at_once in ((5, 3), (1, 1), (20_000, 4)):
        monkeypatch.setattr(trial_columns, "_WAITING", waiting)
        monkeypatch.setattr(trial_columns, "_AT_ONCE", at_once)
        monkeypatch.setattr(trial_columns, "PIECE", 4)
        monkeypatch.setattr(kept_columns, "columns_folder", lambda _: store.folder / "none")
        pd.testing.assert_frame_equal(asked(store), expected)
        shutil.rmtree(store.folder / "none", ignore_errors=True)


def test_a_long_history_takes_little_memory(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a history takes a few times what the table takes, and no Python object a row."""
    count = 4_500
    ends = []
    for number in range(1, count + 1):
        trial = begin(store, number / 3)
        record = Ended("succeeded", NOW, 1.0, "<class 'float'>", number / 7)
        ends.append(Record("trials", trial, ended_id("succeeded"), encode(record, trial)))
        if len(ends) == 500:
            store.append(ends)
            ends.clear()
    counting: Any = kept_of(store, monkeypatch)
    get_history(store, (), last=1)
    # Who reads the records first has some thousands in memory, and who comes next none.
    for records in (8_000_000, 0):
        tracemalloc.start()
        frame = get_history(counting._store, ("lr",))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        own = frame.memory_usage(deep=True).sum()
        assert len(frame) == count
        assert peak <= records + 4 * own


def test_next_reader_reads_what_is_new(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes next reads one record that is known, and those that were written since."""
    fill(store, 20)
    counting = kept_of(store, monkeypatch)
    first = asked(counting)
    assert counting.read_records == 40
    assert asked(counting).equals(first)
    assert counting.read_records == 41
    fill(store, 1)
    assert asked(counting).equals(plainly(store))
    assert counting.read_records == 44


def test_what_is_kept_is_the_same(store: FileStore) -> None:
    """Values of all kinds, computed parameters, failures and running trials come back equal."""
    kinds: list[Any] = [1, 2.5, True, "text", None, [1, "a"], {"a": {"b": 1}}, 2**40, "ü", -0.0]
    for value in kinds:
        trial = begin(store, value)
        computed = Computed("late", value)
        store.append([Record("trials", trial, computed_id("late"), encode(computed, trial))])
        end(store, trial, value)
    end(store, begin(store), status="failed")
    begin(store)
    before = plainly(store)
    for _ in range(2):
        found = asked(store)
        pd.testing.assert_frame_equal(found, before)
        assert list(map(repr, found["Result"])) == list(map(repr, before["Result"]))
        assert list(map(type, found["late"])) == list(map(type, before["late"]))


def test_what_all_trials_have_takes_no_memory(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that all have stands once, however many pieces the history was read in."""
    monkeypatch.setattr(trial_columns, "_AT_ONCE", 4)
    monkeypatch.setattr("daskperiment.store.file.stream_reader._LONG_PAGE", 20)
    fill(store, 30)
    for columns in (all_columns(store, True), all_columns(store, True)):  # folded, and kept
        every = {**columns.fields, **columns.parameters}
        once = {name for name, one in every.items() if isinstance(one, CodedColumn)}
        assert {"status", "step", "host", "user", "environment", "type", "source"} <= once
        assert all(every[name].codes.strides == (0,) for name in once)  # type: ignore[union-attr]


@pytest.mark.parametrize("removed", [False, True], ids=["", "after a trial was deleted"])
def test_a_reading_that_breaks_off(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """Who reads on after the store was away knows all that is kept, trials without an end too."""
    waiting = begin(store)
    fill(store)
    asked(store)
    if removed:
        store.append([Record("trials", 2, REMOVED, encode(Removed(NOW, "me", "token"), 2))])
    fill(store)

    class Away:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def read(self, stream: str, *arguments: Any, **given: Any) -> Any:
            yield from itertools.islice(store.read(stream, *arguments, **given), 3)
            raise StoreUnavailableError("it is away")

    monkeypatch.setattr(kept_columns, "columns_folder", lambda _: store.folder / "columns")
    ended = EndedTrials(Away(), warn=False)
    with pytest.raises(StoreUnavailableError):
        ended.follow()
    ended._store = store
    ended.follow()
    other = EndedTrials(store, warn=False)
    monkeypatch.setattr(kept_columns, "columns_folder", lambda _: store.folder / "none")
    other.follow()
    assert {*ended.pending} == {*other.pending} == {waiting}
    found, wanted = ([*settled(one.parts).trials] for one in (ended, other))
    assert found == wanted


def test_trial_that_ends_later(store: FileStore) -> None:
    """A trial that ran when columns were kept has its end as soon as it is there."""
    late = begin(store, "late")
    fill(store)
    assert asked(store).loc[late, "Status"] == "running"
    end(store, late, 7)
    fill(store, 1)
    assert asked(store).loc[late, "Result"] == 7
    pd.testing.assert_frame_equal(asked(store), plainly(store))


def test_trial_that_is_told_more_of(store: FileStore) -> None:
    """A success that comes after another end holds, also of a trial whose columns are kept."""
    fill(store)
    trial = begin(store)
    end(store, trial, status="interrupted")
    assert asked(store).loc[trial, "Status"] == "interrupted"
    end(store, trial, 9)
    assert asked(store).loc[trial, "Result"] == 9
    fill(store)
    assert asked(store).loc[trial, "Result"] == 9
    pd.testing.assert_frame_equal(asked(store), plainly(store))


STEPS = st.lists(
    st.sampled_from(["begin", "end", "fail", "again", "ask", "ask", "more"]), max_size=30
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_any_history(steps: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is written between two questions, what is kept gives the plain answer."""
    store = FileStore(tmp_path_factory.mktemp("any") / "demo")
    running: list[int] = []
    ended: list[int] = []
    for step in [*steps, "ask"]:
        if step in ("begin", "more"):
            running.extend(begin(store, len(ended)) for _ in range(1 if step == "begin" else 4))
        elif step in ("end", "fail") and running:
            trial = running.pop(len(running) // 2)
            end(store, trial, trial, "succeeded" if step == "end" else "failed")
            ended.append(trial)
        elif step == "again" and ended:
            end(store, ended[0], 77)
        elif step == "ask":
            pd.testing.assert_frame_equal(asked(store), plainly(store))
            assert experiment_row("x", store).trials == store.state().latest
    store.close()


def spoil_index(folder: Path) -> None:
    path = folder / "index.json"
    path.write_bytes(path.read_bytes().replace(b'"position":', b'"position":1'))


def cut_part(folder: Path) -> None:
    (path,) = folder.glob("*.part")
    path.write_bytes(path.read_bytes()[:-40])


def flip_byte(folder: Path) -> None:
    (path,) = folder.glob("*.part")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))


def remove_part(folder: Path) -> None:
    for path in folder.glob("*.part"):
        path.unlink()


def empty_index(folder: Path) -> None:
    (folder / "index.json").write_bytes(b"")


def newer(folder: Path) -> None:
    from xxhash import xxh3_128_hexdigest

    path = folder / "index.json"
    text = path.read_bytes()
    body = text[text.index(b'"index":') + 8 : -1].replace(b'"version":3', b'"version":9')
    path.write_bytes(b'{"digest":"%b","index":%b}' % (xxh3_128_hexdigest(body).encode(), body))


@pytest.mark.parametrize(
    "damage", [spoil_index, cut_part, flip_byte, remove_part, empty_index, newer]
)
def test_damage(store: FileStore, damage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged, missing or of another version is noticed, and made anew of the records."""
    fill(store)
    counting = kept_of(store, monkeypatch)
    first = asked(counting)
    damage(store.folder / "columns")
    assert asked(counting).equals(first)
    assert counting.read_records == 20
    assert asked(counting).equals(first)
    assert counting.read_records == 21


def test_any_byte(store: FileStore) -> None:
    """A byte that changed anywhere changes no answer."""
    fill(store)
    first = asked(store)
    for path in list((store.folder / "columns").iterdir()):
        data = path.read_bytes()
        for at in range(0, len(data), max(1, len(data) // 40)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert asked(store).equals(first)
        path.write_bytes(data)


def test_store_that_lost_records(store: FileStore, tmp_path: Path) -> None:
    """A store that was deleted, or an older backup in its place, is read as a whole."""
    fill(store, 4)
    store.close()
    backup = (store.folder / "records.sqlite").read_bytes()
    fill(store, 4)
    assert len(asked(store)) == 8
    store.close()
    (store.folder / "records.sqlite").write_bytes(backup)
    assert asked(store).index.tolist() == [1, 2, 3, 4]
    fill(store, 6)
    pd.testing.assert_frame_equal(asked(store), plainly(store))
    store.delete()
    assert not store.folder.exists()
    fill(store, 3)
    assert len(asked(store)) == 3
    os.unlink(store.folder / "records.sqlite")
    store.close()
    assert asked(store).empty


def test_record_that_was_set_aside(store: FileStore) -> None:
    """Once a record was set aside, what is kept is trusted no more."""
    fill(store)
    assert len(asked(store)) == 5
    first = next(iter(store.read("trials")))
    assert first.id == BEGUN
    store.set_aside("trials", first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        assert asked(store).index.tolist() == [2, 3, 4, 5]


def test_damaged_record_is_told_each_time(store: FileStore) -> None:
    """Where a record is damaged nothing is kept: each reader hears of it."""
    fill(store)
    with sqlite3.connect(store.folder / "records.sqlite") as connection:
        connection.execute("UPDATE trials SET body = replace(body, '0.0', '0.1') WHERE trial = 1")
    connection.close()
    for _ in range(2):
        with pytest.warns(StoreWarning, match="trial 1"):
            assert asked(store).index.tolist() == [2, 3, 4, 5]


@pytest.mark.skipif(os.name != "posix", reason="stands a file in the way")
def test_who_may_not_write(store: FileStore) -> None:
    """Who cannot keep columns gets the same answer."""
    fill(store)
    (store.folder / "columns").write_text("no folder")
    for _ in range(2):
        pd.testing.assert_frame_equal(asked(store), plainly(store))
    assert (store.folder / "columns").read_text() == "no folder"


def test_two_readers_and_a_writer(store: FileStore) -> None:
    """Readers that keep columns at once, while trials end, get each a right answer."""
    fill(store)
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        other = FileStore(store.folder)
        try:
            while not stop.is_set():
                found = asked(other)
                assert found.index.tolist() == list(range(1, len(found) + 1))
                assert not Counter(found["Seed"] - found.index.to_series()) - Counter({0: 1000})
        except BaseException as error:
            failures.append(error)
        finally:
            other.close()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(15):
        fill(store, 4)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    pd.testing.assert_frame_equal(asked(store), plainly(store))
    assert len(list((store.folder / "columns").glob("*.part"))) > 0


def test_files_stay_few(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small additions become few files; what no index names any more goes after a while."""
    monkeypatch.setattr(kept_columns, "_LEFT", -1.0)
    for _ in range(12):
        fill(store, 3)
        asked(store)
    assert len(list((store.folder / "columns").glob("*.part"))) <= 6
    pd.testing.assert_frame_equal(asked(store), plainly(store))


def test_latest_reads_only_those(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest trials cost their own records, not those of all."""
    fill(store, 200)
    begin(store)
    counting = kept_of(store, monkeypatch)
    found = get_history(counting, ("lr",), last=5)
    assert found.index.tolist() == [196, 197, 198, 199, 200]
    assert counting.read_records <= 70
    newest = get_history(counting, ("lr",), sort="-Trial ID", limit=5)
    assert newest.index.tolist() == [200, 199, 198, 197, 196]
    assert counting.read_records <= 140
    assert len(latest_columns(store, 10_000, running=True).trials) == 201
    assert len(all_columns(store, running=False).trials) == 200


def test_growth(tmp_path: Path) -> None:
    """Four times the trials make no more statements and reads of who comes next."""
    counts = []
    for size in (50, 200):
        store = FileStore(tmp_path / f"s{size}")
        fill(store, size)
        asked(store)
        statements: list[str] = []
        with store._database.reading() as connection:
            assert connection is not None
            connection.set_trace_callback(statements.append)
        asked(store)
        counts.append(len(statements))
        store.close()
    assert counts[0] == counts[1] <= 6


def test_memory_store(lab: Any, tmp_path: Path) -> None:
    """A store that is no folder has its columns among what the user's cache holds."""
    lab.store = Counting(lab.store)
    for value in range(6):
        lab.run(value)
    first = get_history(lab.store, ())
    assert get_history(lab.store, ()).equals(first)
    assert lab.store.read_records <= 14
    assert isinstance(next(iter(lab.store.read("trials"))), Stored)


def test_latest_but_those_that_are_archived(store: FileStore) -> None:
    """Where the latest trials are archived, so many of the others are shown."""
    fill(store, 30)
    for trial in range(22, 31):
        said = Curation(time=NOW, user="me", archived=True)
        store.append([Record("notes", trial, "curated-1", encode(said, trial))])
    found = get_history(store, ("lr",), last=5, archived=False)
    assert found.index.tolist() == [17, 18, 19, 20, 21]
    newest = get_history(store, ("lr",), sort="-Trial ID", limit=3, archived=False)
    assert newest.index.tolist() == [21, 20, 19]
