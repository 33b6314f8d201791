"""The journal: nothing written is lost, nothing is delivered twice."""

from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import daskperiment
from daskperiment.codec import decode
from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.history.trial_records import PointBatch
from daskperiment.recording import journal as journals
from daskperiment.recording import journal_format as frames
from daskperiment.recording import left_journals, mapped_journal
from daskperiment.recording.journal import Journal
from daskperiment.recording.journal_packing import pack, unpacked
from daskperiment.records import Point
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Allocation, Buffer, Owner, Record, State, Stored
from tests.helpers.folders import opened_below
from tests.helpers.garbage import collect

ROOT = Path(daskperiment.__file__).parent.parent


def points_in(body: bytes) -> list[tuple[str, Any]]:
    """Give metric and epoch of each point of a record."""
    return [(each.metric, each.epoch) for each in decode(body, PointBatch).each()]


class MemoryStore:
    """A store in memory that can be away, before or after it wrote."""

    address = "memory://store"

    def __init__(self) -> None:
        self.records: dict[tuple[str, int, str], bytes] = {}
        self.away: str | None = None
        self.calls = 0

    def append(self, records: Sequence[Record]) -> list[Record]:
        self.calls += 1
        if self.away == "before":
            raise StoreUnavailableError("away")
        standing = []
        for record in records:
            if record[:3] in self.records and record.stream == "outputs":
                standing.append(record._replace(body=self.records[record[:3]]))
            self.records.setdefault(record[:3], record.body)
        if self.away == "after":
            raise StoreUnavailableError("away")
        return standing

    def points(self) -> list[tuple[int, str, Any]]:
        """Give every point that arrived as (trial, metric, epoch), in order of arrival."""
        return [
            (trial, metric, epoch)
            for (stream, trial, _), body in self.records.items()
            if stream == "points"
            for metric, epoch in points_in(body)
        ]

    def ids(self, stream: str) -> list[str]:
        return [id for found, _, id in self.records if found == stream]

    def allocate(self, token: str, body: bytes) -> Allocation:
        raise NotImplementedError

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        raise NotImplementedError

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        raise NotImplementedError

    def get(self, digest: str) -> Buffer:
        raise NotImplementedError

    def state(self) -> State:
        raise NotImplementedError

    def delete(self) -> None:
        self.records.clear()

    def close(self) -> None:
        pass


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path, store: MemoryStore) -> Journal:
    return Journal(folder, store)


def point(epoch: int, metric: str = "loss") -> Point:
    return Point(metric, epoch, 0.5, 1.7e9)


def record(id: str, stream: str = "steps", trial: int = 1, body: bytes = b"{}") -> Record:
    return Record(stream, trial, id, body)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def abandon(folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Make a journal whose process seems to have ended."""
    dead = replace(current_origin(), born=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(journals, "current_origin", lambda: dead)
        journal = Journal(folder, store)
        journal.write(record("first"))
    return journal


# Writing and delivering ----------------------------------------------------------------------


def test_nothing_is_created_before_the_first_write(folder: Path, journal: Journal) -> None:
    """A journal that nobody writes to leaves no trace."""
    assert journal.flush() == []
    assert journal.recover() == 0
    assert journal.waiting == 0
    journal.close()
    assert not folder.exists()


def test_delivers_what_was_written(journal: Journal, store: MemoryStore) -> None:
    """Records arrive as they are, points as one record per trial, in order."""
    journal.write(record("é數", "notes", 7, '{"é": "數"}'.encode()))
    for n in range(10):
        journal.point(n % 2, point(n))
    assert journal.waiting == 11
    assert store.calls == 0
    assert journal.flush() == []
    assert journal.waiting == 0
    assert store.records["notes", 7, "é數"] == '{"é": "數"}'.encode()
    assert store.points() == [(n % 2, "loss", n) for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]
    assert store.calls == 1
    assert len(store.ids("points")) == 2


def test_points_are_plain_json(journal: Journal, store: MemoryStore) -> None:
    """A group of points is a JSON object whose points are metric, epoch, value and time."""
    journal.point(3, Point("ä\0\"'", {"$": "int", "v": "1"}, [None, "x"], 1.5))
    journal.flush()
    ((key, body),) = store.records.items()
    assert key[:2] == ("points", 3)
    assert decode(body, PointBatch).points  # its checksum fits
    assert json.loads(body)["points"] == [["ä\0\"'", {"$": "int", "v": "1"}, [None, "x"], 1.5]]


def test_points_go_before_records(journal: Journal, store: MemoryStore) -> None:
    """Who sees that a trial has ended sees its points."""
    journal.point(1, point(0))
    journal.write(record("ended", "trials"))
    journal.flush()
    assert [stream for stream, _, _ in store.records] == ["points", "trials"]


def test_gives_what_the_store_returned(journal: Journal) -> None:
    """Flush hands on what stands in the store for outputs that were there."""
    journal.write(record("o", "outputs", 0, b"1"))
    assert journal.flush() == []
    journal.write(record("o", "outputs", 0, b"2"))
    journal.write(record("p", "outputs", 0, b"2"))
    assert journal.flush() == [record("o", "outputs", 0, b"1")]


def test_large_record(journal: Journal, store: MemoryStore) -> None:
    """A record of any size goes through, between points."""
    journal.point(1, point(0))
    journal.write(record("big", body=b"x" * 12_000_000))
    journal.point(1, point(1))
    journal.flush()
    assert len(store.records["steps", 1, "big"]) == 12_000_000
    assert store.points() == [(1, "loss", 0), (1, "loss", 1)]


def test_many_points(journal: Journal, store: MemoryStore) -> None:
    """Many points arrive in groups of a bounded size, and delivering them takes little memory."""
    for n in range(50_000):
        journal.point(1, point(n))
    assert journal.waiting == 50_000
    tracemalloc.start()
    try:
        sizes: list[int] = []
        store.append = lambda records: sizes.extend(len(points_in(r.body)) for r in records) or []  # type: ignore[method-assign]
        journal.flush()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 50_000
    assert max(sizes) <= 8400
    assert peak < 4_000_000


def test_threads_write_while_one_flushes(journal: Journal, store: MemoryStore) -> None:
    """Eight threads write and two flush at once: everything arrives once."""
    stop = threading.Event()

    def write(trial: int) -> None:
        for n in range(500):
            journal.point(trial, point(n))
            if n % 50 == 0:
                journal.write(record(f"{trial}-{n}"))

    def flush() -> None:
        while not stop.is_set():
            journal.flush()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    flushers = [threading.Thread(target=flush) for _ in range(2)]
    for thread in writers + flushers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in flushers:
        thread.join()
    journal.flush()
    assert journal.waiting == 0
    for trial in range(8):
        assert [e for t, _, e in store.points() if t == trial] == list(range(500))
    assert len(store.ids("steps")) == 80


# The store is away ---------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["before", "after"])
def test_store_away(journal: Journal, store: MemoryStore, away: str) -> None:
    """While the store is away everything waits; when it is back all arrives exactly once."""
    store.away = away
    for n in range(5):
        journal.point(1, point(n))
        journal.write(record(f"r{n}"))
        with pytest.raises(StoreUnavailableError):
            journal.flush()
        assert journal.waiting == 2 * (n + 1)
    store.away = None
    journal.flush()
    assert store.points() == [(1, "loss", n) for n in range(5)]
    assert store.ids("steps") == [f"r{n}" for n in range(5)]
    assert journal.waiting == 0


def test_partly_delivered(journal: Journal, store: MemoryStore) -> None:
    """When the store goes away in the middle, what it took is not delivered again."""
    for n in range(40_000):
        journal.point(1, point(n * n))  # which no run holds
    taken: list[int] = []

    def append(records: Sequence[Record]) -> list[Record]:
        taken.append(len(records))
        if len(taken) == 2:
            raise StoreUnavailableError("away")
        return MemoryStore.append(store, records)

    store.append = append  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        journal.flush()
    left = journal.waiting
    assert 0 < left < 40_000
    assert len(store.points()) == 40_000 - left
    journal.flush()
    assert store.points() == [(1, "loss", n * n) for n in range(40_000)]
    assert sum(taken) == len(store.records) + taken[1]


def test_timeout(journal: Journal, store: MemoryStore) -> None:
    """A flush that takes too long says where the rest waits, and nothing is lost."""
    journal.point(1, point(0))
    with pytest.raises(StoreUnavailableError, match=r"memory://store.*0 seconds.*journal"):
        journal.flush(timeout=0)
    assert journal.waiting == 1
    journal.flush(timeout=60)
    assert len(store.points()) == 1


def test_close_while_the_store_is_away(folder: Path, journal: Journal, store: MemoryStore) -> None:
    """Closing keeps what waits, says so, and a later flush delivers it."""
    journal.point(1, point(0))
    store.away = "before"
    with pytest.warns(StoreWarning, match=r"1 records for memory://store wait in .*journal"):
        journal.close()
    assert len(files(folder)) == 1
    store.away = None
    journal.close()
    assert store.points() == [(1, "loss", 0)]
    assert files(folder) == []


# The file ------------------------------------------------------------------------------------


def test_files_that_go_away(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is delivered stays on disk for a while, within a limit, and goes with the process."""
    monkeypatch.setattr(journals, "_KEPT", 3_000_000)
    for n in range(100):
        journal.write(record(f"r{n}", body=b"x" * 100_000))
        journal.flush()
        assert sum(file.stat().st_size for file in files(folder)) < 4_200_000
    assert len(files(folder)) >= 2
    journal.make_room()
    assert len(files(folder)) <= 1
    journal.close()
    assert files(folder) == []


def test_own_files_of_before_are_not_opened(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks for what others left opens none of this process's files, however many stay."""
    monkeypatch.setattr(journals, "LONG", 500)
    for n in range(30):
        journal.point(1, point(n))
        journal.flush()
    assert len(files(folder)) > 3
    monkeypatch.setattr(left_journals, "_is_orphan", None)
    assert journal.recover() == journal.waiting == 0


def test_rewound_to_files_of_before(
    folder: Path, journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a store lost is there again, each once, also of files that are followed by others.

    So it is when the store goes away meanwhile.
    """
    monkeypatch.setattr(journals, "LONG", 500)
    for n in range(60):
        journal.point(1, point(n))
        journal.flush()
    assert len(files(folder)) > 5
    store.records.clear()
    journal.rewind()
    assert journal.waiting == 60
    store.away = "before"
    with pytest.raises(StoreUnavailableError):
        journal.flush()
    journal.point(1, point(60))
    journal.make_room()
    store.away = None
    journal.flush()
    assert journal.waiting == 0
    assert sorted(store.points()) == [(1, "loss", n) for n in range(61)]


def test_trials_of_files_of_before(
    journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose all is stands in the files alone, however many, and comes with what is read again."""
    monkeypatch.setattr(journals, "LONG", 2_000)
    arrived: list[Record] = []
    append = store.append
    monkeypatch.setattr(store, "append", lambda some: arrived.extend(some) or append(some))
    counts, owners = [], [Owner(n, f"token {n}") for n in range(1, 201)]
    for trial, token in owners:
        journal.point(trial, point(0), Owner(trial, token))
        journal.write(record("x", trial=trial)._replace(owner=Owner(trial, token)))
        journal.flush()
        arrived.clear()
        if trial in (50, 200):
            collect()
            counts.append(sum(type(one) is Owner for one in gc.get_objects()) - len(owners))
    assert counts[1] < counts[0] + 30
    journal.rewind()
    journal.flush()
    assert Counter((one.stream, one.owner) for one in arrived) == Counter(
        (stream, owner) for owner in owners for stream in ("points", "steps")
    )


def test_files_while_a_loop_goes_on(
    folder: Path, journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is followed by another though something is written to it at each delivery."""
    monkeypatch.setattr(journals, "LONG", 2_000)
    append, count = store.append, iter(range(1_000))

    def append_beside_a_loop(records: Sequence[Record]) -> list[Record]:
        for _ in range(50):
            journal.point(1, point(next(count)))
        return append(records)

    monkeypatch.setattr(store, "append", append_beside_a_loop)
    journal.point(1, point(-1))
    for _ in range(10):
        journal.flush()
    assert journal.waiting == 50
    assert len(files(folder)) > 5
    assert sum(path.stat().st_size for path in files(folder)) < 501 * 40
    store.append = append  # type: ignore[method-assign]
    store.records.clear()
    journal.rewind()
    journal.flush()
    assert sorted(store.points()) == [(1, "loss", n) for n in range(-1, 500)]


def test_packed_files_of_a_dead_process(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes next sees that nothing of a packed file waits, and removes it."""
    monkeypatch.setattr(journals, "LONG", 2_000)
    with monkeypatch.context() as patch:
        patch.setattr(journals, "current_origin",
                      lambda: replace(current_origin(), born=1.0))  # fmt: skip
        dead = Journal(folder, store)
        for n in range(100):
            dead.point(1, point(n))
        dead.flush()
    (path,) = files(folder)
    assert path.stat().st_size < 100 * 40
    found, store.records = store.records, {}
    journal = Journal(folder, store)
    assert journal.waiting == 0
    journal.recover()
    assert not store.records
    assert found
    assert files(folder) == []
    del dead


def test_usable_after_closing(journal: Journal, store: MemoryStore) -> None:
    """A closed journal begins a new file when it is written to."""
    for n in range(3):
        journal.point(1, point(n))
        journal.close()
        journal.close()
    assert store.points() == [(1, "loss", n) for n in range(3)]


def test_ids_stay_unique(folder: Path, store: MemoryStore) -> None:
    """Points of one trial from many files, and from places of one file, never share an id."""
    for _ in range(5):
        journal = Journal(folder, store)
        for n in range(3):
            journal.point(1, point(n))
            journal.flush()
        journal.close()
    assert len(store.points()) == 15


def test_file_deleted_by_somebody(folder: Path, journal: Journal, store: MemoryStore) -> None:
    """When the file was deleted, what it held is still delivered, and a new file is begun."""
    journal.point(1, point(0))
    files(folder)[0].unlink()
    journal.point(1, point(1))
    journal.flush()
    journal.point(1, point(2))
    assert len(files(folder)) == 1
    journal.flush()
    assert [epoch for _, _, epoch in store.points()] == [0, 1, 2]


@pytest.mark.parametrize("kept", [0, 1, 19, 40])
def test_full_disk(
    journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """What there is no room for is refused as a whole, and nothing of it stays in between."""
    journal.point(1, point(0))
    write = os.pwrite

    def fail(file: int, data: bytes, offset: int) -> int:
        if kept and len(data) > kept:
            return write(file, data[:kept], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "pwrite", fail)
        with pytest.raises(StoreError, match=r"No space is left.*\.journal"):
            journal.point(1, point(1))
        with pytest.raises(StoreError, match="No space is left"):
            journal.write(record("r"))
    assert journal.waiting == 1
    journal.point(1, point(2))
    journal.flush()
    assert store.points() == [(1, "loss", 0), (1, "loss", 2)]


def test_folder_is_a_file(tmp_path: Path, store: MemoryStore) -> None:
    """A file where the folder should be is a StoreError that names it."""
    (tmp_path / "file").write_text("mine")
    journal = Journal(tmp_path / "file", store)
    with pytest.raises(StoreError, match="file"):
        journal.point(1, point(0))
    with pytest.raises(StoreError, match="file"):
        journal.recover()


def test_forgotten_journal_closes_its_file(folder: Path, store: MemoryStore) -> None:
    """A journal that is forgotten leaves no file open; what it wrote waits for recovery."""
    journal = Journal(folder, store)
    journal.point(1, point(0))
    assert opened_below(folder) != []
    del journal
    assert opened_below(folder) == []
    assert len(files(folder)) == 1


@pytest.fixture(params=["written", "mapped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How points of loops come to the file: in files that are full, and in memory."""
    monkeypatch.setattr(mapped_journal, "_keeps_room", lambda *_: request.param == "mapped")
    monkeypatch.setattr(journals, "_LOOP", 0)
    return str(request.param)


@pytest.mark.parametrize("few", [1, 40])
def test_points_of_any_kind_keep_their_order(
    journal: Journal, store: MemoryStore, way: str, few: int
) -> None:
    """Points of loops and all others, of several trials and owners: each series as it was saved.

    They are fewer and more than what is read as arrays and becomes runs.
    """
    values: list[Any] = [0.5, 1, {"$": "float", "v": "nan"}, 2**70, 1e300, -(2**61), True, 0.25]
    owners = [Owner(1, "a"), Owner(1, "b"), Owner(2, "c"), Owner(3, "d")]
    series = [(owner, metric) for owner in owners for metric in "äb"]
    writers = {each: journals.SeriesWriter(journal, store, *each) for each in series}
    arrived: list[Record] = []
    store.append = lambda some: arrived.extend(some) or []  # type: ignore[method-assign]
    saved: dict[Any, list[Any]] = {}
    for n in range(24 * few):
        owner, metric = key = series[n % 8]
        # Trials of floats alone, of floats and whole numbers, and of all kinds.
        kinds = (values[:1] + values[4:5], values[:2], values, values[:1])[owners.index(owner)]
        value = kinds[n // 8 % len(kinds)]
        if type(value) is not float or not writers[key].add(n, value):
            journal.point(owner.trial, Point(metric, n, value, time.time()), owner)
            journal.quicken()
        saved.setdefault(key, []).append((n, value))
    assert journal.waiting == 24 * few
    journal.flush()
    assert len({(each.trial, each.id) for each in arrived}) == len(arrived)
    found: dict[Any, list[Any]] = {}
    for each in arrived:
        for one in decode(each.body, PointBatch).each():
            found.setdefault((each.owner, one.metric), []).append((one.epoch, one.value))
    assert repr(sorted(found.items())) == repr(sorted(saved.items()))
    assert journal.waiting == 0


def test_what_a_loop_saved_is_read_again(journal: Journal, store: MemoryStore, way: str) -> None:
    """Points of a loop outlast a rest, files that follow and are packed, and a store's loss."""
    writer = journals.SeriesWriter(journal, store, Owner(1, "a"), "loss")
    for n in range(30_000):
        if n % 9_000 == 0:
            journal.flush()
            journal.rest()  # which leaves none of the room that was reserved
            assert all(path.stat().st_size < 44 * n + 500 for path in files(journal.folder))
        if not writer.add(n, 0.5):
            journal.point(1, point(n), Owner(1, "a"))
            journal.quicken()
        if n % 4_000 == 0:
            journal.flush()
    journal.flush()
    assert len(files(journal.folder)) > 1
    found, store.records = store.records, {}
    journal.rewind()
    journal.flush()
    assert store.records == found
    assert sorted(store.points()) == [(1, "loss", n) for n in range(30_000)]


def _check_a_loop(journal: Journal, store: MemoryStore) -> None:
    """Save points as a loop does: all are taken, and arrive."""
    writer = journals.SeriesWriter(journal, store, Owner(1, "a"), "loss")
    journal.point(1, point(0), Owner(1, "a"))
    journal.quicken()
    assert all(writer.add(n, 0.5) for n in range(1, 300))
    journal.flush()
    assert store.points() == [(1, "loss", n) for n in range(300)]


def test_no_room_to_map(
    journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Where a file cannot have more room its points are written, and it is asked for once."""
    asked: list[int] = []

    def refuse(handle: int, start: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped_journal, "_reserve", refuse)
    _check_a_loop(journal, store)
    assert len(asked) == (way == "mapped")


def test_file_that_cannot_be_mapped(
    journal: Journal, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room, and the file is mapped for all that by no means, points are written."""

    def refuse(*given: Any, **more: Any) -> None:
        raise ValueError("mmap offset is greater than file size")

    monkeypatch.setattr(mapped_journal, "_keeps_room", lambda *_: True)
    monkeypatch.setattr(mapped_journal.mmap, "mmap", refuse)
    _check_a_loop(journal, store)


@pytest.mark.parametrize(("name", "kept"), [
    ("ext4", True), ("xfs", True), ("tmpfs", True), ("btrfs", False), ("zfs", False),
    ("nfs4", False), ("overlay", False), ("9p", False), ("", False),
])  # fmt: skip
def test_file_systems_that_keep_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: bool
) -> None:
    """Those that write elsewhere than where room was reserved, or are not known, are not mapped."""
    monkeypatch.setattr(mapped_journal.rights, "file_system", lambda folder: name)
    assert mapped_journal._keeps_room(-1, tmp_path / name) is kept


def test_frames_of_a_later_version(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with frames of an unknown kind is not thrown away: somebody may know them."""
    dead = abandon(folder, store, monkeypatch)
    assert dead._file is not None
    dead._file.add(frames.encode_frame(99, 1, b"new"), 0)
    dead.point(1, point(0))
    with pytest.warns(StoreWarning, match="damaged"):
        Journal(folder, store).recover()
    assert store.points() == [(1, "loss", 0)]
    assert [path.suffix for path in files(folder)] == [".damaged"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_packed_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    """A packed file is what it was, whatever it holds."""
    chance, data = random.Random(3), b"H" * 24
    for kind, size in parts:
        if kind == 0:
            data += chance.randbytes(size)
        elif kind == 1:
            data += frames.NUMBER_HEAD[: size % 9]
        else:
            data += b"".join(frames.NUMBER_HEAD + chance.randbytes(36) for _ in range(size * kind))
    path = tmp_path_factory.mktemp("packed") / "a.journal"
    path.write_bytes(data)
    with open(path, "r+b") as whole:
        packed, size = pack(path, whole.fileno(), 24, len(data)) or (-1, 0)
    again = unpacked(packed, 24, size)
    assert os.pread(again, len(data) + 1, 0)[24:] == data[24:]
    os.close(packed)
    os.close(again)


# Dead processes ------------------------------------------------------------------------------


def test_adopts_the_journal_of_a_dead_process(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead process left waits, is delivered once by recover, and its file goes away."""
    dead = abandon(folder, store, monkeypatch)
    for n in range(3):
        dead.point(1, point(n))
    journal = Journal(folder, store)
    assert journal.waiting == 4
    assert journal.recover() == 2
    assert store.points() == [(1, "loss", n) for n in range(3)]
    assert store.ids("steps") == ["first"]
    assert files(folder) == []
    assert journal.recover() == journal.waiting == 0


def test_adopts_only_what_was_not_delivered(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the dead process had delivered is not delivered again."""
    dead = abandon(folder, store, monkeypatch)
    dead.point(1, point(0))
    dead.flush()
    store.records.clear()
    dead.point(1, point(1))
    journal = Journal(folder, store)
    assert journal.waiting == 1
    assert journal.recover() == 1
    assert store.points() == [(1, "loss", 1)]


def test_adopting_while_the_store_is_away(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adoption that fails loses nothing, and can be made again."""
    abandon(folder, store, monkeypatch).point(1, point(0))
    journal = Journal(folder, store)
    for away in ("before", "after"):
        store.away = away
        with pytest.raises(StoreUnavailableError):
            journal.recover()
        assert journal.waiting == 2
    store.away = None
    assert journal.recover() == 2
    assert store.points() == [(1, "loss", 0)]


def test_two_adopt_at_once(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that adopt one journal at the same moment do no harm."""
    dead = abandon(folder, store, monkeypatch)
    for n in range(100):
        dead.point(n % 3, point(n))
    barrier = threading.Barrier(2)
    append = store.append

    def together(records: Sequence[Record]) -> list[Record]:
        barrier.wait(60)  # both have read the file before either removes it
        return append(records)

    store.append = together  # type: ignore[method-assign]
    threads = [threading.Thread(target=Journal(folder, store).recover) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(epoch for _, _, epoch in store.points()) == list(range(100))
    assert files(folder) == []


def test_live_process_is_left_alone(folder: Path, store: MemoryStore) -> None:
    """The journal of a live process is neither read nor removed."""
    other = Journal(folder, store)
    other.point(1, point(0))
    journal = Journal(folder, store)
    journal.point(1, point(1))
    assert journal.waiting == 1
    assert journal.recover() == 0
    assert store.records == {}
    assert len(files(folder)) == 2


def test_other_host(folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of another host is adopted when nothing was written to it for a day."""
    elsewhere = replace(current_origin(), host="elsewhere")
    monkeypatch.setattr(journals, "current_origin", lambda: elsewhere)
    Journal(folder, store).point(1, point(0))
    journal = Journal(folder, store)
    (file,) = files(folder)
    os.utime(file, (0, time.time() - 80_000))
    assert journal.recover() == journal.waiting == 0
    os.utime(file, (0, time.time() - 90_000))
    assert journal.waiting == 1
    assert journal.recover() == 1
    assert files(folder) == []


def test_torn_end(folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a file is cut off, all that is whole before the cut arrives, without a warning."""
    dead = abandon(folder, store, monkeypatch)
    ends = []
    for n in range(4):
        dead.point(1, point(n))
        ends.append(files(folder)[0].stat().st_size)
    (file,) = files(folder)
    data = file.read_bytes()
    for end in range(ends[0], len(data)):
        store.records.clear()
        file.write_bytes(data[:end])
        Journal(folder, store).recover()
        assert len(store.points()) == sum(e <= end for e in ends)
    assert files(folder) == []


@pytest.mark.parametrize("garbage", [b"\0" * 8, b"\xff\xfe" * 30, b"\xa5" * 3000])
def test_damaged_in_the_middle(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    """Damage costs what it hits; a warning names the file, which is kept aside."""
    dead = abandon(folder, store, monkeypatch)
    for n in range(5000):
        dead.point(1, point(n))
    (file,) = files(folder)
    with open(file, "r+b") as handle:
        handle.seek(150_000)
        handle.write(garbage)
    with pytest.warns(StoreWarning, match=rf"{file.name} is damaged: \d+ bytes.*\.damaged"):
        Journal(folder, store).recover()
    found = [epoch for _, _, epoch in store.points()]
    lost = set(range(5000)) - set(found)
    assert found == sorted(found)
    assert 1 <= len(lost) <= len(garbage) // 50 + 2
    assert [path.suffix for path in files(folder)] == [".damaged"]
    assert Journal(folder, store).recover() == 0


def test_damaged_header(folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not say whose it is is adopted after a day, with the same ids."""
    dead = abandon(folder, store, monkeypatch)
    dead.point(1, point(0))
    dead.flush()
    (file,) = files(folder)
    with open(file, "r+b") as handle:
        handle.write(b"\0" * 60)
    assert Journal(folder, store).recover() == 0
    os.utime(file, (0, time.time() - 90_000))
    with pytest.warns(StoreWarning, match="damaged"):
        Journal(folder, store).recover()
    assert store.points() == [(1, "loss", 0)]


WRITER = """
import sys
from pathlib import Path
from daskperiment.records import Point
from daskperiment.store.file import FileStore
from daskperiment.recording.journal import Journal
from daskperiment.store.protocol import Record
store = FileStore(Path(sys.argv[1]))
journal = Journal(store.folder / "journal", store)
for n in range(100_000):
    journal.point(int(sys.argv[2]), Point("loss", n, 0.5, 1.0))
    if n % 10 == 9:
        journal.write(Record("steps", int(sys.argv[2]), f"{n}", b"{}"))
    print(n, flush=True)
    if n % 7 == 6:
        journal.flush()
"""


def test_killed_writers(tmp_path: Path) -> None:
    """After SIGKILL at any moment every point whose call had returned arrives, once."""
    chance = random.Random(2)
    store = FileStore(tmp_path)
    said = {}
    for trial in range(1, 13):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(trial)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 200)):
                writer.stdout.readline()
            writer.kill()
            lines = writer.stdout.read()
        said[trial] = len(lines.splitlines()) - (not lines.endswith("\n"))
        journal = Journal(tmp_path / "journal", store)
        journal.recover()
        assert files(tmp_path / "journal") == []
    for trial, count in said.items():
        rows = list(store.read("points", [trial]))
        epochs = [epoch for row in rows for _, epoch in points_in(row.body)]
        assert epochs == list(range(len(epochs)))
        assert len(epochs) >= count
        steps = [row.id for row in store.read("steps", [trial])]
        assert steps == [str(n) for n in range(9, len(epochs), 10)][: len(steps)]
        assert len(steps) >= (len(epochs) - 1) // 10
    store.close()


LOOP = """
import os, sys
import daskperiment
from daskperiment.recording import mapped_journal
mapped_journal._keeps_room = lambda *_: sys.argv[2] == "mapped"
ex = daskperiment.Experiment("loop", backend=sys.argv[1])
@ex.result
def train():
    for epoch in range(1_000_000):
        ex.save_metric("loss", epoch, 0.5)
        os.write(1, b"x")
train().compute(scheduler="synchronous")
"""


@pytest.mark.parametrize("how", ["written", "mapped"])
def test_killed_loop(tmp_path: Path, how: str) -> None:
    """After SIGKILL in a loop every point whose call had returned is there, once."""
    command = [sys.executable, "-c", LOOP, str(tmp_path), how]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as loop:
        assert loop.stdout is not None
        said = len(loop.stdout.read(20_001))
        loop.kill()
        said += len(loop.stdout.read())
    found = daskperiment.Experiment("loop", backend=tmp_path).load_metric("loss", 1).index
    assert found.tolist() == list(range(len(found)))
    assert said <= len(found) <= said + 1


# Fork ----------------------------------------------------------------------------------------


def _in_child(journal: Journal, connection: Any) -> None:
    waiting = journal.waiting
    journal.point(2, point(0))
    connection.send((waiting, journal.waiting, len(files(journal.folder))))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork(folder: Path, journal: Journal, store: MemoryStore) -> None:
    """A forked child has a file of its own and leaves the parent's to the parent."""
    journal.point(1, point(0))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    child = context.Process(target=_in_child, args=(journal, sender))
    child.start()
    assert receiver.recv() == (0, 1, 2)
    child.join()
    assert journal.waiting == 2
    journal.point(1, point(1))
    journal.flush()
    assert store.points() == [(1, "loss", 0), (1, "loss", 1)]
    assert journal.recover() == 1
    assert store.points()[2:] == [(2, "loss", 0)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_a_thread_writes(folder: Path, journal: Journal) -> None:
    """A child that is forked while a thread of the parent writes can write."""
    journal.point(1, point(0))
    with journal._writing:  # as a thread would hold it
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(30)
                journal.point(2, point(0))
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Anything may happen -------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["point", "points", "record", "flush", "before", "after", "die", "recover"]
        ),
        st.integers(1, 3),
    ),
    max_size=40,
)


@given(ACTIONS)
@settings(max_examples=150, deadline=None)
def test_exactly_once(tmp_path_factory: pytest.TempPathFactory, actions: Any) -> None:
    """Whatever is written, whenever the store goes away or the process ends: all arrives once."""
    folder = tmp_path_factory.mktemp("journal")
    store = MemoryStore()
    written: Counter[Any] = Counter()
    journal = Journal(folder, store)
    patch = pytest.MonkeyPatch()
    dead = replace(current_origin(), born=1.0)
    patch.setattr(journals, "current_origin", lambda: dead)
    patch.setattr("daskperiment.recording.journal_format._SECTION", 300)
    patch.setattr("daskperiment.recording.journal_format._BATCH", 500)
    patch.setattr(journals, "LONG", 2000)
    try:
        for n, (action, trial) in enumerate(actions):
            if action in ("point", "points"):
                for m in range(1 if action == "point" else 12):
                    journal.point(trial, point(100 * n + m))
                    written[trial, "loss", 100 * n + m] += 1
            elif action == "record":
                journal.write(record(f"{n}"))
                written[f"{n}"] += 1
            elif action == "die":
                journal = Journal(folder, store)
            elif action == "flush":
                store.away = None
                journal.flush()
            elif action == "recover":
                store.away = None
                journal.recover()
            else:
                store.away = action
                try:
                    journal.flush()
                except StoreUnavailableError:
                    pass
        store.away = None
        journal.flush()
        journal.recover()
        assert Counter(store.points()) + Counter(store.ids("steps")) == written
        assert journal.waiting == 0
        journal.close()
        assert files(folder) == []
    finally:
        patch.undo()
