"""How many workers a store carries: a model made of what its calls cost, and a simulation of it.

Run alone, ``python -m benchmarks.capacity`` prints the table of docs/capacity.rst.

A worker makes few calls to the store, whatever it computes: one for each trial that begins, and
about once a second one that delivers all records since. What such calls cost the store is measured
here: processor time of the server, or in a folder the time in which no other process can write. The
model adds them up; the simulation puts them into one queue and looks how long they wait.
"""

from __future__ import annotations

import heapq
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import dask
import numpy as np
import psutil

import daskperiment
from benchmarks.timing import Figure
from daskperiment.codec import encode
from daskperiment.recording.registry import close_recorders
from daskperiment.store.file import FileStore
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Owner, Record, Store
from tests.store import mongo_server, redis_server

__all__ = ["Costs", "Work", "carried", "run", "share", "waits"]

BODY = encode(
    {"step": "fit", "key": "fit-1", "output": "0" * 60, "elapsed": 0.1, "text": "x" * 150}
)
"""A record of the size of a step's."""
FULL = 0.7
"""Share of a server's time above which calls wait too long."""
WORKERS = 1_000
_ROUND = 0.5
"""Seconds of the store's time in which a call is measured."""


class Costs(NamedTuple):
    """What a store needs for calls, in seconds of the time that they share."""

    name: str
    begin: float
    """To allocate a trial."""
    call: float
    """For a delivery, whatever is in it."""
    record: float
    """For each record of a delivery."""
    servers: int = 1
    """Calls that the store serves at a time."""


class Work(NamedTuple):
    """What one worker does in a second."""

    trials: float
    calls: float
    records: float


def share(costs: Costs, work: Work, workers: int) -> float:
    """Return which share of a store's time so many workers take; above 1 it cannot keep up."""
    each = work.trials * costs.begin + work.calls * costs.call + work.records * costs.record
    return workers * each / costs.servers


def carried(costs: Costs, work: Work) -> int:
    """Return how many workers a store carries."""
    return int(FULL / share(costs, work, 1))


def waits(costs: Costs, work: Work, workers: int, seconds: float = 20.0) -> np.ndarray[Any, Any]:
    """Simulate workers on a store; return how long each call took, waiting and being served.

    Trials begin at random moments. Deliveries come at the same pace from each worker, each with a
    phase of its own.
    """
    chance = random.Random(0)
    pending = [(chance.expovariate(workers * work.trials), 0)]
    pending += [(chance.random() / work.calls, 1) for _ in range(workers)]
    heapq.heapify(pending)
    free, took = [0.0] * costs.servers, []
    delivery = costs.call + costs.record * work.records / work.calls
    while pending[0][0] < seconds:
        now, kind = pending[0]
        pause = 1 / work.calls if kind else chance.expovariate(workers * work.trials)
        heapq.heapreplace(pending, (now + pause, kind))
        end = max(now, free[0]) + (delivery if kind else costs.begin)
        heapq.heapreplace(free, end)
        took.append(end - now)
    return np.array(took)


# What is measured ---------------------------------------------------------------------------------


def worked(steps: int, metrics: int, pace: float, seconds: float = 4.0) -> Work:
    """Count the calls of a process that runs so many steps a second, in trials of some steps."""
    counts = {"trials": 0, "calls": 0, "records": 0}
    allocate, append = FileStore.allocate, FileStore.append

    def counted_allocate(self: FileStore, *args: Any, **kwargs: Any) -> Any:
        counts["trials"] += 1
        return allocate(self, *args, **kwargs)

    def counted_append(self: FileStore, records: Any) -> Any:
        counts["calls"] += 1
        counts["records"] += len(records)
        return append(self, records)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ex = daskperiment.Experiment("work", backend=Path(folder))
        result = _chain(ex, steps, metrics)
        result.compute(scheduler="synchronous")
        ex.get_history()
        stack.enter_context(patch.object(FileStore, "allocate", counted_allocate))
        stack.enter_context(patch.object(FileStore, "append", counted_append))
        start, done = time.perf_counter(), 0
        while (now := time.perf_counter() - start) < seconds:
            result.compute(scheduler="synchronous")
            done += 1
            time.sleep(max(0.0, done * steps / pace - now))
        took = time.perf_counter() - start
        close_recorders()
    return Work(*(counts[name] / took for name in ("trials", "calls", "records")))


def _chain(ex: daskperiment.Experiment, steps: int, metrics: int) -> Any:
    @ex
    def step(value: int) -> int:
        return value + 1

    @ex.result
    def last(value: int) -> int:
        for epoch in range(metrics):
            ex.save_metric("loss", epoch, 0.5)
        return value

    value: Any = 0
    for _ in range(steps - 1):
        value = step(value)
    return last(value)


def costs_of(name: str, backend: Any, used: Callable[[], float], servers: int = 1) -> Costs:
    """Measure a store's calls by what a clock of its own says before and after many of them."""
    store = open_store(backend, "capacity")
    # A delivery is to a trial that has nothing yet, as most are.
    begin = _each(lambda: _allocate(store), used)
    small = _each(lambda: _append(store, _allocate(store), 1), used)
    large = _each(lambda: _append(store, _allocate(store), 101), used)
    record = max(0.0, (large - small) / 100)
    store.close()
    return Costs(name, begin, max(0.0, small - begin - record), record, servers)


def _each(call: Callable[[], object], used: Callable[[], float]) -> float:
    """Return what one of many calls used, in the best of some rounds.

    A round lasts until the clock, which may tick a hundred times a second, has moved far enough.
    """
    rounds = []
    for _ in range(3):
        count, before = 0, used()
        while used() - before < _ROUND:
            for _ in range(50):
                call()
            count += 50
        rounds.append((used() - before) / count)
    return min(rounds)


def _allocate(store: Store) -> Owner:
    token = os.urandom(16).hex()
    return Owner(store.allocate(token, BODY).trial, token)


def _append(store: Store, owner: Owner, count: int) -> None:
    ids = (os.urandom(16).hex() for _ in range(count))
    store.append([Record("steps", owner.trial, id, BODY, owner) for id in ids])


def measured(stack: ExitStack, folder: Path) -> list[Costs]:
    """Measure the three stores."""
    program = redis_server.server_of_wheel()
    redis = stack.enter_context(redis_server.redis_server(program, folder / "redis"))
    mongo = stack.enter_context(mongo_server.running(folder / "mongo"))
    return [
        # In a folder one process writes at a time, so that all that its calls take is shared.
        costs_of("folder", folder / "files", time.perf_counter),
        costs_of("Redis", redis.url, _processor_time(redis.pid)),
        costs_of("MongoDB, a processor", mongo.url("capacity"), _processor_time(mongo.pid)),
    ]


def _processor_time(pid: int) -> Callable[[], float]:
    process = psutil.Process(pid)

    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    return used


def run(folder: Path) -> Iterator[Figure]:
    """Measure what the model is made of, and what it says."""
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"daskperiment.journal": str(folder / "journal")}))
        work = worked(steps=2, metrics=1, pace=10.0)
        for costs in measured(stack, folder):
            for what in ("begin", "call", "record"):
                yield Figure(f"capacity, {costs.name}: {what}", getattr(costs, what) * 1e6, 0, "µs")
            full = carried(costs, work)
            took = waits(costs, work, full)
            yield Figure(
                f"capacity, {costs.name}: workers of 10 steps a second", full, 0, "",
                note=f"p99 of a call {np.quantile(took, 0.99) * 1e3:.1f} ms when simulated",
            )  # fmt: skip
        close_recorders()


def main() -> None:
    """Print the model as the table of docs/capacity.rst."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(dask.config.set({"daskperiment.journal": str(folder / "journal")}))
        works = {
            "2 steps, 1 point": worked(2, 1, 10.0),
            "10 steps, 1 point": worked(10, 1, 10.0),
            "2 steps, 1,000 points": worked(2, 1_000, 10.0),
        }
        stores = measured(stack, folder)
        close_recorders()
    for costs in stores:
        begin, call, record = (f"{1e6 * each:7.1f} µs" for each in costs[1:4])
        print(f"{costs.name:22} begin {begin}   call {call}   record {record}")
    for name, work in works.items():
        print(f"\n{name:22} " + ", ".join(f"{n:.1f} {what}" for what, n in work._asdict().items()))
        for costs in stores:
            print(f"  {costs.name:22} {_told(costs, work)}")
    print("\np99 of a call, by how much of a store's time is taken")
    for costs in stores:
        print(f"  {costs.name:22} {_told_waits(costs, works['2 steps, 1 point'])}")


def _told(costs: Costs, work: Work) -> str:
    return (
        f"carries {carried(costs, work):6,} workers; "
        f"{WORKERS:,} workers take {share(costs, work, WORKERS):6.2f} of its time"
    )


def _told_waits(costs: Costs, work: Work) -> str:
    texts = []
    for part in (0.5, 0.7, 0.9, 1.1):
        workers = max(1, round(part / share(costs, work, 1)))
        p99 = np.quantile(waits(costs, work, workers), 0.99)
        texts.append(f"{part:.0%}: {p99 * 1e3:7.1f} ms")
    return "   ".join(texts)


if __name__ == "__main__":
    main()
