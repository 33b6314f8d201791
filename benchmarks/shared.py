"""The three stores side by side, each beside a floor of its own server."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import dask
import gridfs
import numpy as np
import pymongo
import redis

import daskperiment
from benchmarks.histories import fill
from benchmarks.local import plain, trivial
from benchmarks.timing import Figure, best, per_call, side_by_side
from benchmarks.writers import point_writers
from daskperiment.recording.registry import close_recorders
from tests.store import mongo_server, redis_server
from tests.survival.processes import Nursery, nursery

__all__ = ["run"]

MEGABYTE = 1024 * 1024
TRIALS = 200
TRIAL_BUDGETS = (1.5, 2.2, 5.0)
"""Of a trial against plain Dask: in a folder, on Redis, on MongoDB."""
POINTS = 100_000


class Place(NamedTuple):
    """A store, and the cheapest way to write and read as many bytes there."""

    name: str
    backend: Any
    floor: str
    small: Callable[[bytes, int], None]
    """Write so many small values, in batches."""
    large: Callable[[bytes], Any]
    """Write one large value and read it again."""


def run(folder: Path) -> Iterator[Figure]:
    """Measure everything on each store."""
    journal = str(folder / "journal")
    with ExitStack() as stack, dask.config.set({"daskperiment.journal": journal}):
        # For the processes that are started here.
        stack.enter_context(patch.dict(os.environ, DASK_DASKPERIMENT__JOURNAL=journal))
        places = [_folder(folder / "files"), _redis(stack, folder), _mongo(stack, folder)]
        for place, budget in zip(places, TRIAL_BUDGETS, strict=True):
            yield from _trial(place, budget)
        with nursery() as processes:
            for place in places:
                yield _writers(place, processes)
        for place in places:
            yield _points(place)
        servers = {one.name: one.backend for one in places if isinstance(one.backend, str)}
        yield from point_writers(servers)
        for count in (1_000, 10_000):
            for place in places:
                yield _history(place, count)
        for place in places:
            yield _array(place)
        close_recorders()


def _folder(folder: Path) -> Place:
    folder.mkdir()
    connection = sqlite3.connect(folder / "floor.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE records (body BLOB)")
    path = folder / "floor.bin"

    def small(body: bytes, count: int) -> None:
        with connection:
            connection.executemany("INSERT INTO records VALUES (?)", [(body,)] * count)

    def large(body: bytes) -> bytes:
        path.write_bytes(body)
        return path.read_bytes()

    return Place("folder", folder, "INSERTs in one transaction; a plain file", small, large)


def _redis(stack: ExitStack, folder: Path) -> Place:
    program = redis_server.server_of_wheel()
    server = stack.enter_context(redis_server.redis_server(program, folder / "redis"))
    client = stack.enter_context(redis.Redis.from_url(server.url))

    def small(body: bytes, count: int) -> None:
        for start in range(0, count, 1000):
            pipe = client.pipeline(transaction=False)
            for i in range(start, min(start + 1000, count)):
                pipe.set(f"floor{i}", body)
            pipe.execute()

    def large(body: bytes) -> Any:
        client.set("floor", body)
        return client.get("floor")

    return Place("redis", server.url, "pipelined SET; SET and GET", small, large)


def _mongo(stack: ExitStack, folder: Path) -> Place:
    server = stack.enter_context(mongo_server.running(folder / "mongo"))
    client: Any = stack.enter_context(pymongo.MongoClient(server.host))

    def small(body: bytes, count: int) -> None:
        for start in range(0, count, 1000):
            number = min(1000, count - start)
            client.floor.records.insert_many([{"body": body} for _ in range(number)])

    def large(body: bytes) -> Any:
        files = gridfs.GridFS(client.floor)
        return files.get(files.put(body)).read()

    return Place("mongo", server.url("bench"), "insert_many; GridFS put and get", small, large)


def _trial(place: Place, budget: float) -> Iterator[Figure]:
    _, result = trivial(place.backend)
    same = plain()
    result.compute(scheduler="synchronous")
    # A two-step trial writes five records of some 300 bytes.
    ours, floor = side_by_side(
        per_call(lambda: result.compute(scheduler="synchronous"), TRIALS),
        lambda: place.small(os.urandom(300), 5 * TRIALS),
        rounds=3,
    )
    yield Figure(
        f"{place.name}: two-step trial / five records of 300 B",
        ours / TRIALS * 1e3, floor / TRIALS * 1e3, "ms", note=place.floor,
    )  # fmt: skip
    ours, floor = side_by_side(
        per_call(lambda: result.compute(scheduler="synchronous"), TRIALS),
        per_call(lambda: same.compute(scheduler="synchronous"), TRIALS),
    )
    yield Figure(
        f"{place.name}: two-step trial / plain dask graph",
        ours / TRIALS * 1e3, floor / TRIALS * 1e3, "ms", budget,
    )  # fmt: skip


def _writers(place: Place, processes: Nursery) -> Figure:
    """Wall time per trial of eight processes at once, against that of one alone."""

    def run(count: int, first: int) -> float:
        start = time.perf_counter()
        pids = [
            processes.start("squares", place.backend, first + 100 * i, 100) for i in range(count)
        ]
        codes = [processes.join(pid) for pid in pids]
        if any(codes):
            raise RuntimeError(f"a writer to {place.name} failed")
        return (time.perf_counter() - start) / (100 * count)

    alone = min(run(1, 0), run(1, 100))
    together = run(8, 1_000)
    return Figure(
        f"{place.name}: a trial of 8 processes x 100 / of one process",
        together * 1e3, alone * 1e3, "ms", 1.5,
    )  # fmt: skip


def _points(place: Place) -> Figure:
    ex = daskperiment.Experiment("points", backend=place.backend)

    @ex.result
    def train() -> None:
        for epoch in range(POINTS):
            ex.save_metric("loss", epoch, 0.5)

    ours, floor = side_by_side(
        lambda: train().compute(scheduler="synchronous"),
        lambda: place.small(os.urandom(48), POINTS),
        rounds=2,
    )
    return Figure(
        f"{place.name}: {POINTS:,} points delivered / as many values of 48 B",
        POINTS / ours / 1e3, POINTS / floor / 1e3, "k/s", note="points per second",
    )  # fmt: skip


def _history(place: Place, count: int) -> Figure:
    ex = daskperiment.Experiment(f"history{count}", backend=place.backend)
    fill(ex._store, count)
    ex.get_history()
    ours = best(ex.get_history, 3)
    return Figure(f"{place.name}: get_history of {count:,} trials", ours * 1e3, 0, "ms")


def _array(place: Place) -> Figure:
    ex = daskperiment.Experiment("array", backend=place.backend)
    generator = np.random.default_rng(1)
    # Where no step's code leads to them, which would be fingerprinted with each plan.
    arrays = [generator.random(100 * MEGABYTE // 8) for _ in range(3)]
    vars(sys.modules[__name__])["ARRAYS"] = arrays
    which, home = ex.parameter("which"), ex.parameter("home", default=__name__)
    body = generator.bytes(100 * MEGABYTE)

    @ex.persist
    def make(which: int, home: str) -> Any:
        return vars(sys.modules[home])["ARRAYS"][which]

    @ex.result
    def use(x: Any) -> int:
        return len(x)

    result, number = use(make(which, home)), iter(range(1, 4))

    def ours() -> None:
        trial = next(number)
        result.bind(which=trial - 1).compute(scheduler="synchronous")
        ex.get_persisted("make", trial).sum()

    first, second = side_by_side(ours, lambda: place.large(body), rounds=3)
    return Figure(
        f"{place.name}: persist + load 100 MB", first * 1e3, second * 1e3, "ms", note=place.floor
    )
