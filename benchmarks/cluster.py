"""Sweeps on a cluster of this machine, and what it costs not to compute again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import joblib
import numpy as np
from distributed import Client, LocalCluster

import daskperiment
from benchmarks.timing import Figure, per_call, side_by_side
from daskperiment.recording.registry import close_recorders
from daskperiment.sweep import sweep
from tests.store import redis_server

__all__ = ["run"]

TRIALS = 1_000
HITS = 100


def run(folder: Path) -> Iterator[Figure]:
    """Measure everything, one figure after the other."""
    journal = str(folder / "journal")
    program = redis_server.server_of_wheel()
    with (
        dask.config.set({"daskperiment.journal": journal}),
        patch.dict(os.environ, DASK_DASKPERIMENT__JOURNAL=journal),
        redis_server.redis_server(program, folder / "redis") as server,
    ):
        yield from throughput("redis", server.url)
        close_recorders()
        yield from throughput("folder", str(folder / "sweeps"))
        close_recorders()
    for size in (10, 1_000_000):
        yield hit(folder / f"hit{size}", size)
    close_recorders()


def nap(i: int) -> int:
    """Take 10 ms, and none of them from the processor."""
    time.sleep(0.01)
    return i


@contextmanager
def _workers() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def throughput(store: str, backend: str) -> Iterator[Figure]:
    """A sweep against client.map on the same function, and the processor time of both."""
    ex = daskperiment.Experiment("sweeping", backend=backend)
    result = ex.result(nap)(ex.parameter("i"))
    with _workers() as client:

        def ours() -> None:
            frame = sweep(result, {"i": range(TRIALS)}, progress=False)
            assert frame["Success"].all()

        def floor() -> None:
            client.gather(client.map(nap, range(TRIALS), pure=False))

        sweep(result, {"i": range(40)}, progress=False)
        first, second = side_by_side(ours, floor, rounds=3)
        name = f"sweep of {TRIALS:,} trials of 10 ms, 4 workers, {store} / client.map"
        # At least 0.9 of the throughput is at most 1.11 of the time.
        yield Figure(name, first, second, "s", 1.11, f"throughput {second / first:.2f}")
        busy = [_processor_time(client, function) for function in (ours, floor)]
        for place, mine, other in zip(("workers", "client and scheduler"), *busy, strict=True):
            yield Figure(f"the same: processor time per trial, {place}", mine, other, "ms")


def _processor_time(client: Client, function: Any) -> tuple[float, float]:
    def spent() -> tuple[float, float]:
        return sum(client.run(time.process_time).values()), time.process_time()

    before = spent()
    function()
    after = spent()
    return tuple((b - a) / TRIALS * 1e3 for a, b in zip(before, after, strict=True))


def hit(folder: Path, size: int) -> Figure:
    """Taking the output of an earlier trial against taking it from joblib.Memory."""
    ex = daskperiment.Experiment("hits", backend=folder / "ours")
    n = ex.parameter("n", default=size)

    @ex.persist
    def make(n):
        return np.arange(n)

    @ex.result
    def last(x):
        return int(x[-1])

    result = last(make(n))
    memory = joblib.Memory(folder / "joblib", verbose=0)
    made = memory.cache(np.arange)

    def ours() -> None:
        result.compute(reuse=True, scheduler="synchronous")

    def floor() -> None:
        int(made(size)[-1])

    ours()
    floor()
    ours()
    assert ex.get_steps(2)["Reused From"].notna().any()
    first, second = side_by_side(per_call(ours, HITS), per_call(floor, HITS))
    name = f"hit of an array of {size:,} numbers, with its trial / joblib.Memory"
    return Figure(name, first / HITS * 1e3, second / HITS * 1e3, "ms")
