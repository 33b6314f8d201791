"""Many trials: the memory that a long sweep leaves behind, and many processes on one folder.

Each takes minutes, so that neither is among what runs if nothing is named.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import psutil
from dask.delayed import delayed
from distributed import Client, LocalCluster

import daskperiment
from benchmarks.timing import Figure
from daskperiment.recording.registry import close_recorders
from daskperiment.sweep import sweep

__all__ = ["run"]

BEFORE = 2_000
TRIALS = 10_000
PROCESSES = 16
EACH = 1_500
"""Trials of each: enough that what some do while others begin or are done counts little."""
ROUNDS = 3


def run(folder: Path) -> Iterator[Figure]:
    """Measure everything, one figure after the other."""
    journal = str(folder / "journal")
    with (
        dask.config.set({"daskperiment.journal": journal}),
        patch.dict(os.environ, DASK_DASKPERIMENT__JOURNAL=journal),
    ):
        yield from memory(str(folder / "sweeps"))
        close_recorders()
        yield from processes(folder)


def square(i: int) -> int:
    """Take no time."""
    return i * i


def memory(backend: str) -> Iterator[Figure]:
    """Memory when a sweep makes its last trials, against that when a part of them is done.

    The scheduler of this cluster is in the process of its client.
    """
    ex = daskperiment.Experiment("long", backend=backend)
    result = ex.result(square)(ex.parameter("i"))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        taken: list[tuple[float, float]] = []

        def points() -> Iterator[int]:
            for i in range(TRIALS):
                if i in (BEFORE, TRIALS - 1):
                    gc.collect()
                    client.run(gc.collect)
                    workers = client.run(_megabytes).values()
                    taken.append((_megabytes(), statistics.mean(workers)))
                yield i

        assert sweep(result, {"i": points()}, progress=False)["Success"].all()
    first, second = taken
    for place, ours, floor in zip(("client and scheduler", "a worker"), second, first, strict=True):
        yield Figure(
            f"memory at trial {TRIALS:,} of a sweep / at {BEFORE:,}, 2 workers: {place}",
            ours, floor, "MB", 1.1, f"{(ours - floor) / (TRIALS - BEFORE) * 1e6:,.0f} B a trial",
        )  # fmt: skip


def _megabytes() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


# Many processes ----------------------------------------------------------------------------------


def processes(folder: Path) -> Iterator[Figure]:
    """Trials of many processes on one folder against as many that share nothing.

    These have a folder each, and run at once: on few processors many processes are slower than so
    many times one, whatever they do. Plain Dask says by how much.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    able = min(PROCESSES, cores or 1)
    makers = {"on one folder": _trials, "on a folder each": _apart, "of plain Dask": _plain}
    speeds = {name: [0.0] for name in makers}
    for i in range(ROUNDS):  # in turns, as the machine may have something else to do
        for name, make in makers.items():
            speeds[name].append(_together(make, PROCESSES, folder / f"{name} {i}"))
    shared, apart, plain = map(max, speeds.values())
    alone = [
        _together(make, 1, folder / f"alone {i}") for i in range(3) for make in (_trials, _plain)
    ]
    one, dask_alone = max(alone[::2]) * able, max(alone[1::2]) * able
    yield Figure(
        f"{PROCESSES} processes, trials on one folder / on a folder each, at once: time per trial",
        1e3 / shared, 1e3 / apart, "ms", 1.11,
        f"{shared / apart:.2f} of their speed; of {able} times one process {shared / one:.2f}, "
        f"apart {apart / one:.2f}, plain Dask {plain / dask_alone:.2f}",
    )  # fmt: skip


def _together(make: Callable[[str], Callable[[], Any]], count: int, folder: Path) -> float:
    """Return how many trials so many processes compute in a second, from the moment all can."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # else each would import all of it
    barrier = context.Barrier(count + 1)
    started = [
        context.Process(target=_compute, args=(make, str(folder), barrier)) for _ in range(count)
    ]
    for process in started:
        process.start()
    barrier.wait(600)
    start = time.perf_counter()
    barrier.wait(600)
    passed = time.perf_counter() - start
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise RuntimeError("a process failed")
    return count * EACH / passed


def _compute(make: Callable[[str], Callable[[], Any]], folder: str, barrier: Any) -> None:
    compute = make(folder)
    for _ in range(20):
        compute()
    barrier.wait(600)
    for _ in range(EACH):
        compute()
    barrier.wait(600)


def _trials(folder: str) -> Callable[[], Any]:
    ex = daskperiment.Experiment("many", backend=folder)
    result = ex.result(square)(ex.parameter("i", default=3))
    return lambda: result.compute(scheduler="synchronous")


def _apart(folder: str) -> Callable[[], Any]:
    return _trials(os.path.join(folder, str(os.getpid())))


def _plain(folder: str) -> Callable[[], Any]:
    same = delayed(square)(3)
    return lambda: same.compute(scheduler="synchronous")
