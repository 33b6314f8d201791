"""What recording costs, as counts that do not depend on the machine: calls, statements, bytes."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import tracemalloc
import types
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xxhash
from dask.utils import key_split

import daskperiment
from daskperiment.capture import encoding
from daskperiment.capture.fingerprint import arrays
from daskperiment.codec import buffer_digests, decode
from daskperiment.execution import claimed_outputs, random_state, running, tasks
from daskperiment.formats import Format, kept_values, known_formats, register
from daskperiment.recording import claims, heartbeat
from daskperiment.recording import journal as journals
from daskperiment.recording.mapped_journal import MappedEnd
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Point, StepRun
from daskperiment.store.file import database
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Store
from tests.helpers.calls import let_surroundings_rest

BODIES = 1750
"""Bytes of the records of a trial of two steps, with room for longer names of hosts and people."""
POINT_CALLS = 2
"""Python calls of this package for one point, from `save_metric` to the system."""


@pytest.fixture(autouse=True)
def _surroundings_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    let_surroundings_rest(monkeypatch)
    # What the background thread does once a second belongs to no trial: beats, and deliveries.
    monkeypatch.setattr(heartbeat, "TICK", 3600.0)


def trivial(place: Path) -> tuple[Any, Any]:
    """Make an experiment with a result of two steps."""
    ex = daskperiment.Experiment("costs", backend=place, seed=1)
    a, b = ex.parameter("a", default=1), ex.parameter("b", default=2)
    return ex, ex.result(lambda x: 2 * x)(ex(lambda a, b: a + b)(a, b))


def pages_of(place: Path) -> int:
    """Return the bytes of an experiment's database."""
    with closing(sqlite3.connect(place / "costs" / "records.sqlite")) as connection:
        count: int = connection.execute("PRAGMA page_count").fetchone()[0]
        return 4096 * count


@pytest.mark.parametrize(("values", "limit"), [((1,), 850), (range(200), 1500)])
def test_bytes_on_disk_of_a_trial(tmp_path: Path, values: Sequence[int], limit: int) -> None:
    """A trial adds few bytes to the folder, and more where its arguments and outputs are new."""
    _, result = trivial(tmp_path)
    sizes = []
    for number in range(200):
        if number in (50, 199):
            close_recorders()
            sizes.append(pages_of(tmp_path))
        result.bind(a=values[number % len(values)]).compute(scheduler="synchronous")
    assert sizes[1] - sizes[0] < 149 * limit


def sizes_of(store: Store, trial: int) -> int:
    """Return the bytes of a trial's records, with their ids."""
    streams = ("trials", "steps", "points", "notes", "beats", "logs")
    return sum(len(one.body) + len(one.id) for name in streams for one in store.read(name, [trial]))


def test_bytes_of_a_trial(tmp_path: Path) -> None:
    """A trial whose like was recorded before adds its own records, no longer than a page."""
    ex, result = trivial(tmp_path)
    for _ in range(3):
        result.compute(scheduler="synchronous")
    close_recorders()
    store = open_store(tmp_path, "costs")
    objects = len(list(ex._store.digests()))
    assert sizes_of(store, 3) <= BODIES
    assert sizes_of(store, 3) <= sizes_of(store, 2) + 20
    assert objects == 3  # code, environment and graph, which all trials share


def written(node: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of what a trial writes to its journal, write by write."""
    found: list[int] = []
    write = os.pwrite

    def noted(file: int, data: Any, offset: int) -> int:
        found.append(len(data))
        return write(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(journals.os, "pwrite", noted)
        node.compute(scheduler="synchronous")
    return found


@pytest.mark.parametrize("keeps_room", [False, True])
def test_a_point_is_one_write_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_room: bool
) -> None:
    """Each point of a loop costs a write of 44 bytes, and none where its file is mapped."""
    monkeypatch.setattr("daskperiment.recording.mapped_journal._keeps_room", lambda *_: keeps_room)
    ex = daskperiment.Experiment("points", backend=tmp_path)
    count = ex.parameter("count")

    @ex.result
    def train(count: int) -> None:
        for epoch in range(count):
            ex.save_metric("loss", epoch, 0.123456789)

    node = train(count)
    node.bind(count=600).compute(scheduler="synchronous")  # from then on the file is mapped
    few, many = (written(node.bind(count=n), monkeypatch) for n in (600, 900))
    points = 0 if keeps_room else 300
    # A delivery in between marks where it is.
    assert len(many) - len(few) in range(points - 6 * keeps_room, points + 6)
    assert sum(many) - sum(few) < points * 46 + 600


def test_room_is_reserved_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that reserves room is slow: the more of them there are, the more it reserves."""
    reserved: list[int] = []

    def reserve(handle: int, start: int, size: int) -> None:
        reserved.append(size)
        os.truncate(handle, start + size)

    monkeypatch.setattr("daskperiment.recording.mapped_journal._reserve", reserve)
    monkeypatch.setattr("daskperiment.recording.mapped_journal._keeps_room", lambda *_: True)
    (tmp_path / "file").write_bytes(b"x" * 5000)
    end = MappedEnd(tmp_path / "file", 0, 100)
    with open(tmp_path / "file", "r+b") as file:
        size = 5000
        for _ in range(4):
            assert end.reserve(file.fileno(), size)
            size = end.last
            end.memory[size - end.base] = 1
        end.leave()  # a record of another kind came
        assert end.reserve(file.fileno(), size)
        end.leave()
    assert [room >> 18 for room in reserved] == [1, 2, 4, 4, 1]


def test_a_point_is_few_calls(tmp_path: Path) -> None:
    """A plain float of a counted epoch takes few calls on its way to the disk."""
    ex = daskperiment.Experiment("calls", backend=tmp_path)
    base = os.path.dirname(daskperiment.__file__) + os.sep
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(base):
            calls.append(frame.f_code.co_qualname)

    @ex.result
    def train() -> None:
        ex.save_metric("loss", 0, 0.5)
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            for epoch in range(100):
                ex.save_metric("loss", epoch, 0.5)
        finally:
            sys.setprofile(before)

    train().compute(scheduler="synchronous")
    assert len(calls) <= 100 * POINT_CALLS + 50, calls[:POINT_CALLS]


def test_delivering_makes_no_call_for_a_point(tmp_path: Path) -> None:
    """Four times the points of two metrics take hardly more calls to read, pack and deliver."""
    base = os.path.dirname(daskperiment.__file__) + os.sep
    store = open_store(tmp_path / "store", "delivered")
    journal = journals.Journal(tmp_path / "journal", store)
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(base):
            calls.append(frame.f_code.co_qualname)

    def delivered(count: int) -> int:
        for epoch in range(count):
            for metric in ("loss", "accuracy"):
                journal.point(1, Point(metric, epoch, 0.5, 1.0))
        calls.clear()
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            journal.flush()
        finally:
            sys.setprofile(before)
        return len(calls)

    delivered(10)
    few, many = delivered(500), delivered(2000)
    assert many < few + 60, Counter(calls).most_common(5)


MEGABYTES = 12


class Pair:
    """A value that no format keeps."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second


def _array(size: int) -> Any:
    return np.arange(float(size * (1 << 20) // 8))


def _tensors(size: int) -> Any:
    torch = pytest.importorskip("torch")
    return {n: torch.from_numpy(_array(size // 2)) for n in "ab"}


LARGE = {
    "an array": _array,
    "arrays in an object": lambda size: Pair(_array(size // 2), _array(size // 2)),
    "tensors": _tensors,
}


@pytest.fixture(params=["early", "late"])
def _early_or_late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write large values while they are looked at, or then."""
    monkeypatch.setattr(tasks, "EARLY", 1 << 20)
    monkeypatch.setattr(kept_values, "threads_beside", lambda: int(request.param == "early"))


def _look(value: Any) -> int:
    return 1


def _look_beside(value: Any) -> int:
    return 2


@pytest.mark.usefixtures("_early_or_late")
@pytest.mark.parametrize("name", LARGE)
def test_large_values_are_read_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large value is read once where it is returned, kept and taken, watched, or loaded."""
    read: list[int] = []

    class Noting:
        def __init__(self) -> None:
            self._state = xxhash.xxh3_128()
            self.digest, self.hexdigest = self._state.digest, self._state.hexdigest

        def update(self, data: Any) -> None:
            read.append(memoryview(data).nbytes)
            self._state.update(data)

    for module in (encoding, arrays, buffer_digests):
        monkeypatch.setattr(module, "xxh3_128", Noting)
    # Steps of other tests may have left some.
    living, of_others = threading.enumerate, threading.enumerate()
    monkeypatch.setattr(
        threading, "enumerate", lambda: [each for each in living() if each not in of_others]
    )
    ex = daskperiment.Experiment("large", backend=tmp_path, seed=1)
    size = ex.parameter("size", default=MEGABYTES)
    kept = ex.persist(LARGE[name])
    one = ex.result(_look)(kept(size))
    made = kept(size)
    # What several take may be changed by one of them: each looks for it before and after.
    several = ex(lambda a, b: a + b)(ex(_look)(made), ex(_look_beside)(made))

    def passes(action: Any) -> float:
        read.clear()
        action()
        return sum(read) / (MEGABYTES << 20)

    assert passes(lambda: one.compute(scheduler="synchronous")) < 1.01
    assert passes(lambda: ex.get_persisted(kept.__name__, 1)) < 1.01
    both = ex.result(lambda total: total)(several)
    assert passes(lambda: both.compute(scheduler="synchronous")) < 4.01
    again = one.bind(size=MEGABYTES + 1)  # other tasks may run between them
    assert 1.99 < passes(lambda: again.compute(scheduler="threads")) < 2.3
    go_on = threading.Event()

    def make_beside(size: int) -> Any:
        threading.Thread(target=go_on.wait, args=(30,)).start()
        return LARGE[name](size)

    beside = ex.result(_look)(ex(make_beside)(size))  # whose thread may change it yet
    assert 1.99 < passes(lambda: beside.compute(scheduler="synchronous")) < 2.3
    go_on.set()


class Pool:
    """Changes an array when nobody needs it any more."""

    def __init__(self, array: Any, by: float) -> None:
        self.array, self.by = array, by

    def __del__(self) -> None:
        self.array[0] = self.by


class Spoiling(Format):
    """Changes what it writes."""

    name = "spoiling"

    def takes(self, value: Any) -> bool:
        return type(value) is np.ndarray

    def write(self, value: Any) -> bytes:
        value[0] = vars(sys.modules["home_of_array"])["by"]
        return value.tobytes()

    def read(self, data: bytes) -> Any:
        return np.frombuffer(data)


class SwiftlySpoiling(Spoiling):
    """Is asked though nobody named it, and takes nothing in the end."""

    swift = True

    def read(self, data: bytes) -> Any:
        return None


@pytest.mark.parametrize(
    "between",
    ["a step", "a function", "a destructor", "a format", "a format that is tried", "a thread"],
)
@pytest.mark.filterwarnings("ignore::daskperiment.errors.ImpureStepWarning")
def test_a_large_value_is_read_again_where_anything_ran_since(
    between: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was changed since it was returned is recorded as the next step gets it."""
    monkeypatch.setattr(known_formats, "_REGISTERED", {})
    ex = daskperiment.Experiment("changed", backend=tmp_path, seed=1)
    home = types.ModuleType("home_of_array")  # no code leads to what it holds
    monkeypatch.setitem(sys.modules, home.__name__, home)
    home.array = _array(2)  # type: ignore[attr-defined]
    by, name = ex.parameter("by"), ex.parameter("name", default=home.__name__)

    def look_up(name: str, *others: Any) -> Any:
        return vars(sys.modules[name])["array"]

    def change(x: Any, by: float) -> float:
        x[0] = by
        return by

    def lend(name: str, by: float) -> Pool:
        return Pool(vars(sys.modules[name])["array"], by)

    made, changed = ex(look_up)(name), by
    if between == "a destructor":
        made = ex(look_up)(name, ex(lend)(name, by))
    elif between == "a format":
        register(Spoiling())
        made = ex.persist(format="spoiling")(look_up)(name)
    elif between == "a format that is tried":
        register(SwiftlySpoiling())
        made = ex.persist(look_up)(name)
    elif between == "a thread":  # which no step started
        change_beside(home, monkeypatch)
    else:
        changed = (ex(change) if between == "a step" else dask.delayed(change))(made, by)
    node = ex.result(lambda x, by: float(x[0]))(made, changed)
    found = []
    for number in (1, 2):
        home.array[0], home.by = 0.0, float(number)  # type: ignore[attr-defined]
        assert node.bind(by=float(number)).compute(scheduler="synchronous") == number
        runs = [decode(one.body, StepRun) for one in ex._store.read("steps", [number])]
        taken = [run.arguments for run in runs if run.step != "change"]
        found.append({each["x"].fingerprint for each in taken if "x" in each})
    assert len(found[0]) == 1
    assert found[0] != found[1]


def change_beside(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a thread change the array, in two trials, when the step that returns it is recorded."""
    go_on, done = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> None:
        for _ in range(2):
            go_on.acquire(timeout=60)
            home.array[0] = home.by
            done.release()

    record: Any = tasks.StepRunner._record

    def record_and_change(self: Any, *given: Any, **named: Any) -> None:
        record(self, *given, **named)
        if self.call.step == "look_up":
            go_on.release()
            assert done.acquire(timeout=60)

    monkeypatch.setattr(tasks.StepRunner, "_record", record_and_change)
    threading.Thread(target=work, daemon=True).start()


@pytest.mark.usefixtures("_early_or_late")
@pytest.mark.parametrize("name", LARGE)
def test_large_values_are_not_copied(name: str, tmp_path: Path) -> None:
    """A large value is written from where it is, and loaded as a map of its file."""
    ex = daskperiment.Experiment("copies", backend=tmp_path, seed=1)
    kept = ex.persist(LARGE[name])
    node = ex.result(_look)(kept(ex.parameter("size", default=2)))
    node.compute(scheduler="synchronous")
    ex.get_persisted(kept.__name__, 1)

    def taken(action: Any) -> float:
        tracemalloc.start()
        try:
            action()
            return tracemalloc.get_traced_memory()[1] / (MEGABYTES << 20)
        finally:
            tracemalloc.stop()

    assert taken(lambda: node.bind(size=MEGABYTES).compute(scheduler="synchronous")) < 1.2
    assert taken(lambda: ex.get_persisted(kept.__name__, 2)) < 0.2


SIZES = (10, 1_000_000)
"""Of arrays in a row of the database, and in a file."""
HIT_CALLS = dict(zip(SIZES, (400, 430), strict=True))
"""Calls of this package for a trial of two steps of which one is a hit, as before."""


@pytest.mark.parametrize("size", SIZES)
def test_a_hit_asks_twice(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan asks for what is known and what is there; its output is at hand then, or its file."""
    ex = daskperiment.Experiment("hits", backend=tmp_path)
    make = ex.persist(lambda n: np.arange(n))
    node = ex.result(lambda x: int(x[-1]))(make(ex.parameter("n", default=size)))
    for _ in range(3):
        node.compute(reuse=True, scheduler="synchronous")
    base = os.path.dirname(daskperiment.__file__) + os.sep
    asked: list[str] = []
    calls: list[str] = []
    ask = database.Database.ask

    def noted(self: Any, question: Any, nothing: Any) -> Any:
        asked.append(question.__qualname__)
        return ask(self, question, nothing)

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(base):
            calls.append(frame.f_code.co_qualname)

    monkeypatch.setattr(database.Database, "ask", noted)
    sys.setprofile(note)
    try:
        assert node.compute(reuse=True, scheduler="synchronous") == size - 1
    finally:
        sys.setprofile(None)
    assert len(asked) <= 2, asked
    assert len(calls) <= HIT_CALLS[size]
    steps = ex.get_steps(4)
    assert steps["Reused From"].notna().sum() == 1


@pytest.mark.parametrize("size", SIZES)
def test_an_output_that_is_gone_is_made_again(size: int, tmp_path: Path) -> None:
    """What was at hand when a plan was made is not given out once it was removed."""
    ex = daskperiment.Experiment("gone", backend=tmp_path)
    make = ex.persist(lambda n: np.arange(n))
    node = ex.result(lambda x: int(x[-1]))(make(ex.parameter("n", default=size)))
    node.compute(reuse=True, scheduler="synchronous")
    assert ex.explain(node) is not None
    (digest,) = [
        one for one in ex._store.digests() if bytes(ex._store.get(one)[:6]) == b"\x93NUMPY"
    ]
    assert ex._store.sizes([digest])
    ex._store.discard([digest])
    with pytest.raises(KeyError):
        ex._store.get(digest)
    assert node.compute(reuse=True, scheduler="synchronous") == size - 1
    assert ex.get_steps(2)["Reused From"].isna().all()


STEP_CALLS = {"reused": 400, "kept": 190, "plain": 110}
"""Calls of this package for one of many steps that run for the first time, with its planning."""


@pytest.mark.parametrize("kind", STEP_CALLS)
def test_a_step_of_many_costs_no_statement_and_no_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many steps run for the first time, they are written by the batch."""
    # What is slow, as all is on a busy machine, would be delivered at once.
    monkeypatch.setattr(claims, "_BURST", 1e9)
    monkeypatch.setattr(claims, "_BATCH", 1e9)
    monkeypatch.setattr(claimed_outputs, "_SHORTEST", 1e9)
    # Another test may have imported a library whose generator each step looks at.
    monkeypatch.setattr(random_state, "PACKAGES", frozenset())
    # A process that is smaller than the one which began it reads its peak from a file.
    monkeypatch.setattr(running, "_inherited", lambda pid: 0)
    ex = daskperiment.Experiment("costs", backend=tmp_path, seed=1)
    steps = {"reused": ex.persist(_add, reuse=True), "kept": ex.persist(_add), "plain": ex(_add)}
    base = os.path.dirname(daskperiment.__file__) + os.sep
    step, last, start = steps[kind], ex.result(_count), ex.parameter("start", default=0)
    last([step(start, -1)]).compute(scheduler="synchronous")
    found = {}
    for size in (250, 1000):
        node = last([step(start, 1000 * size + number) for number in range(size)])
        assert node.definition.template.key_specs.specs  # what is done once for a graph
        counts = found[size] = Counter[str]()

        def note(frame: Any, event: str, argument: Any, counts: Counter[str] = counts) -> None:
            if event == "call":
                counts["calls"] += frame.f_code.co_filename.startswith(base)
            elif event == "c_call":
                counts[argument.__name__] += 1

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            node.compute(scheduler="synchronous")
        finally:
            sys.setprofile(before)
    for size, counts in found.items():
        assert counts["execute"] + counts["executemany"] <= 30 + size // 10
        assert counts["open"] <= 5
        assert counts["calls"] <= STEP_CALLS[kind] * size


def _add(a: int, b: int) -> int:
    return a + b


def _count(values: list[int]) -> int:
    return len(values)


def test_the_keys_of_graphs_are_not_kept(tmp_path: Path) -> None:
    """A process that makes graphs for days does not fill Dask's cache of names with their keys."""
    ex = daskperiment.Experiment("keys", backend=tmp_path)
    node = ex.result(_count)([ex(_add)(n, 1) for n in range(100)])
    before = key_split.cache_info().currsize
    for _ in range(2):
        assert node.compute(scheduler="synchronous") == 100
    assert key_split.cache_info().currsize - before < 10
