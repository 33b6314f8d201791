"""The folder store against its floors."""

from __future__ import annotations

import gc
import importlib
import itertools
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import psutil
from xxhash import xxh3_128

import daskperiment
from benchmarks.histories import fill, size_of
from benchmarks.timing import Figure, best, per_call, side_by_side
from daskperiment.recording.registry import close_recorders, recorder_for

__all__ = ["plain", "run", "trivial"]

MEGABYTE = 1024 * 1024


def run(folder: Path) -> Iterator[Figure]:
    """Measure everything, one figure after the other."""
    yield from trivial_trial(folder / "trial")
    yield from save_metric(folder / "metric")
    yield from million_points(folder / "points")
    for count in (1_000, 10_000, 100_000):
        yield from history(folder / f"history{count}", count)
    yield from persist_and_load(folder / "array")
    yield from torch_state(folder / "torch")
    yield from long_run(folder / "long")


def trivial(backend):
    """Make an experiment with a result of two steps."""
    ex = daskperiment.Experiment("trivial", backend=backend, seed=1)
    a = ex.parameter("a", default=1)
    b = ex.parameter("b", default=2)

    @ex
    def add(a, b):
        return a + b

    @ex.result
    def double(x):
        return 2 * x

    return ex, double(add(a, b))


def plain():
    """Make the same graph without an experiment."""

    @dask.delayed
    def add(a, b):
        return a + b

    @dask.delayed
    def double(x):
        return 2 * x

    return double(add(1, 2))


def trivial_trial(folder: Path) -> Iterator[Figure]:
    """A trial of two steps against the same graph without us."""
    _, result = trivial(folder)
    same = plain()
    result.compute(scheduler="synchronous")
    calls = 200
    ours, floor = side_by_side(
        per_call(lambda: result.compute(scheduler="synchronous"), calls),
        per_call(lambda: same.compute(scheduler="synchronous"), calls),
    )
    yield Figure(
        "two-step trial / plain dask graph (synchronous)",
        ours / calls * 1e3, floor / calls * 1e3, "ms", 1.5, "aim 1.0",
    )  # fmt: skip


def save_metric(folder: Path) -> Iterator[Figure]:
    """One point against one write of as many bytes as the journal takes for it."""
    ex = daskperiment.Experiment("metric", backend=folder)
    calls = 20_000
    found: list[float] = []
    each: list[int] = []

    @ex.result
    def train():
        before = size_of(folder)
        ex.save_metric("loss", 0, 0.123456789)
        frame = size_of(folder) - before
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            descriptor, data = file.fileno(), b"x" * max(frame, 1)
            found.extend(
                side_by_side(
                    per_call(lambda: ex.save_metric("loss", 1, 0.123456789), calls),
                    per_call(lambda: os.write(descriptor, data), calls),
                )
            )
        for epoch in range(calls):
            start = time.perf_counter_ns()
            ex.save_metric("loss", epoch, 0.123456789)
            each.append(time.perf_counter_ns() - start)

    train().compute(scheduler="synchronous")
    ours, floor = found
    yield Figure(
        "save_metric / os.write of the same bytes",
        ours / calls * 1e6, floor / calls * 1e6, "µs", 4.0,
    )  # fmt: skip
    yield Figure("save_metric / 3.3 µs", ours / calls * 1e6, 3.3, "µs", 1.0)
    slow = sorted(each)[int(calls * 0.999)] / 1e3
    yield Figure("save_metric, 99.9 of 100 are faster / 50 µs", slow, 50.0, "µs", 1.0)


def million_points(folder: Path) -> Iterator[Figure]:
    """A million points in one trial, saved and loaded; their bytes while it is open and after."""
    count = 1_000_000
    ex = daskperiment.Experiment("points", backend=folder)

    @ex.result
    def train():
        for epoch in range(count):
            ex.save_metric("loss", epoch, 0.5)

    seconds = best(lambda: train().compute(scheduler="synchronous"), 1)
    yield Figure("1,000,000 points: trial, delivered", seconds, 0, "s")
    yield Figure(
        "1,000,000 points: load_metric", best(lambda: ex.load_metric("loss", 1), 1), 0, "s"
    )
    yield Figure("1,000,000 points: bytes per point", size_of(folder) / count, 0, "B")
    for kind, many, metrics, trials in (
        ("random", count, 1, 1), ("random", count, 1, 1000), ("random", 100_000, 10, 1),
        ("curve", 100_000, 1, 1), ("whole", 100_000, 1, 1),
    ):  # fmt: skip
        place = folder.parent / f"{kind}-{metrics}-{trials}"
        yield from points_on_disk(place, kind, many, metrics, trials)


def points_on_disk(
    folder: Path, kind: str, count: int, metrics: int, trials: int
) -> Iterator[Figure]:
    """Bytes of points on disk, the most while they are saved, and when all is closed.

    What is kept beside the store while they are saved takes some megabytes, however many there are.
    """
    draw = random.Random(1)
    values: list[float] = {
        "random": [draw.random() for _ in range(count)],
        "curve": [2.3 * math.exp(-n / count) + draw.gauss(0, 0.01) for n in range(count)],
        "whole": list(range(count)),
    }[kind]
    ex = daskperiment.Experiment("points", backend=folder)
    part = ex.parameter("part", default=0)
    names = [f"metric-{number}" for number in range(metrics)]
    sizes: list[int] = []

    @ex.result
    def train(part):
        start, size = part * (count // trials), count // trials
        for place in range(size):
            ex.save_metric(names[place % metrics], place // metrics, values[start + place])
            if place % 50_000 == 0 and part % 20 == 0:
                sizes.append(size_of(folder))

    node = train(part)
    for number in range(trials):
        node.bind(part=number).compute(scheduler="synchronous")
    sizes.append(size_of(folder))
    close_recorders()
    what = f"{count:,} {kind} points, {metrics} metrics, {trials} trials"
    if count >= 1_000_000:
        yield Figure(f"{what}: open / 20 B", max(sizes) / count, 20.0, "B", 1.0)
    yield Figure(f"{what}: closed / 20 B", size_of(folder) / count, 20.0, "B", 1.0)


def history(folder: Path, count: int) -> Iterator[Figure]:
    """The history of many trials against pandas.read_sql of the same columns."""
    ex = daskperiment.Experiment("long", backend=folder)
    fill(ex._store, count)
    frame = ex.get_history()
    plain = folder / "plain.db"
    with sqlite3.connect(plain) as connection:
        frame.assign(**{"Process Time": frame["Process Time"].dt.total_seconds()}).to_sql(
            "history", connection
        )
    connection = sqlite3.connect(plain)
    ours, floor = side_by_side(
        ex.get_history,
        lambda: pd.read_sql("SELECT * FROM history", connection, index_col="Trial ID",
                            parse_dates=["Finished"]),
        rounds=3,
    )  # fmt: skip
    connection.close()
    name = f"get_history of {count:,} trials / pandas.read_sql"
    yield Figure(name, ours * 1e3, floor * 1e3, "ms", 2.0 if count == 10_000 else None)
    if count == 100_000:
        yield Figure(
            "get_history of 100,000 trials: memory taken / the frame's own",
            _peak_of_history(folder) / MEGABYTE,
            frame.memory_usage(deep=True).sum() / MEGABYTE, "MB", 4.0,
        )  # fmt: skip


def _peak_of_history(folder: Path) -> float:
    code = (
        "import re, sys, pathlib, daskperiment\n"
        "def peak():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) * 1024\n"
        "ex = daskperiment.Experiment('long', backend=pathlib.Path(sys.argv[1]))\n"
        "ex.get_history(sort='-Trial ID', limit=20)\n"  # so that pandas is there
        "before = peak()\n"
        "ex.get_history()\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


HELD = "benchmarks.held"


def _hold(name: str, value: Any) -> Any:
    """Put a large value where no step's code leads to it: into a module that an argument names.

    What a function reads besides its arguments is part of its code, and of this module whatever
    its texts name: it would be fingerprinted with each plan.
    """
    setattr(sys.modules.setdefault(HELD, types.ModuleType(HELD)), name, value)
    return value


def persist_and_load(folder: Path) -> Iterator[Figure]:
    """Keep 100 MB, and get them back, against numpy's own file."""
    ex = daskperiment.Experiment("array", backend=folder)
    array = _hold("ARRAY", np.random.default_rng(1).random(100 * MEGABYTE // 8))
    number, home = ex.parameter("number"), ex.parameter("home", default=HELD)

    @ex.persist
    def make(number, home):
        return vars(sys.modules[home])["ARRAY"]

    @ex.result
    def use(x):
        return len(x)

    result = use(make(number, home))
    numbers, others = itertools.count(1), itertools.count(1)

    def before() -> None:
        array[0] += 1  # what is known already would not be written again
        # The last values are held open, for a store that loses them: their memory could not be used
        # again, and ours alone would have to ask the machine for more.
        recorder_for(ex._store).delivery.values.make_room()
        at_rest(folder)

    def keep() -> None:
        result.bind(number=next(numbers)).compute(scheduler="synchronous")

    def save() -> None:
        # Each to a file of its own, as ours.
        np.save(folder / f"plain{next(others)}.npy", array)

    kept = side_by_side(keep, save, 12, before)
    # The next step takes it in the same thread, right after.
    reading = best(lambda: xxh3_128(array.data).digest(), 12)
    note = f"it is read once meanwhile, {reading * 1e3:.1f} ms alone"
    yield Figure("persist 100 MB / numpy.save", kept[0] * 1e3, kept[1] * 1e3, "ms", 1.3, note)
    before()
    keep()
    path = folder / "plain.npy"
    np.save(path, array)
    loaded = side_by_side(
        lambda: ex.get_persisted("make", ex.trial_id).sum(), lambda: np.load(path).sum(), 12
    )
    del sys.modules[HELD].ARRAY
    yield Figure("load 100 MB / numpy.load", loaded[0] * 1e3, loaded[1] * 1e3, "ms", 1.3)


def at_rest(folder: Path) -> None:
    """Remove the large files of the last turn, and wait until all that was written is on the disk.

    The next to write would wait for it otherwise: the system holds up whoever writes while much of
    its memory is yet to be written.
    """
    gc.collect()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 64 * MEGABYTE:
            path.unlink()
    os.sync()


def torch_state(folder: Path) -> Iterator[Figure]:
    """Keep 2 GB of a model's state and get it back, against safetensors; where both are there.

    On the disk, and where there is room in files that are memory, so that no disk has a say.
    """
    try:
        torch = importlib.import_module("torch")
        files = importlib.import_module("safetensors.torch")
    except ImportError:
        return
    state = _hold("STATE", {f"layer{n}": torch.rand(64 * MEGABYTE // 4) for n in range(32)})
    try:
        yield _state_in(folder, "torch state", state, files)
        if _has_room(MEMORY, 8 << 30):
            with tempfile.TemporaryDirectory(dir=MEMORY) as place:
                yield _state_in(Path(place), "torch state in memory", state, files)
    finally:
        del sys.modules[HELD].STATE


MEMORY = Path("/dev/shm")


def _has_room(place: Path, size: int) -> bool:
    there = place.is_dir() and shutil.disk_usage(place).free > size
    return there and psutil.virtual_memory().available > 2 * size


def _state_in(folder: Path, what: str, state: dict[str, Any], files: Any) -> Figure:
    ex = daskperiment.Experiment("torch", backend=folder)
    number, home = ex.parameter("number"), ex.parameter("home", default=HELD)

    @ex.persist
    def train(number, home):
        return vars(sys.modules[home])["STATE"]

    node = ex.result(len)(train(number, home))
    numbers, others = itertools.count(1), itertools.count(1)

    def ours() -> None:
        trial = next(numbers)
        for tensor in state.values():
            tensor[0] = trial
        node.bind(number=trial).compute(scheduler="synchronous")
        look_at(ex.get_persisted("train", trial))

    def floor() -> None:
        # As above, to a file of its own.
        path = folder / f"plain{next(others)}.safetensors"
        files.save_file(state, path)
        look_at(files.load_file(path))

    def look_at(tensors: dict[str, Any]) -> None:
        # What is loaded by a map of the file was not read before.
        for tensor in tensors.values():
            tensor.sum()

    first, second = side_by_side(ours, floor, 5, lambda: at_rest(folder))
    close_recorders()
    return Figure(f"persist + load 2 GB of {what} / safetensors", first, second, "s", 1.3)


def long_run(folder: Path) -> Iterator[Figure]:
    """Memory and disk over 10,000 trials of one process."""
    ex, result = trivial(folder)
    process = psutil.Process()
    per_call(lambda: result.compute(scheduler="synchronous"), 1_000)()
    gc.collect()
    before = process.memory_info().rss
    per_call(lambda: result.compute(scheduler="synchronous"), 9_000)()
    gc.collect()
    grown = (process.memory_info().rss - before) / MEGABYTE
    close_recorders()
    yield Figure("memory grown from trial 1,000 to 10,000", grown, 0, "MB", None, "flat: about 0")
    yield Figure("bytes on disk per two-step trial", size_of(folder) / ex.trial_id, 0, "B")
