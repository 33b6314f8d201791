"""What a step costs besides itself: in large graphs against plain Dask, and where it is reused."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np

import daskperiment
from benchmarks.timing import Figure, best, per_call, side_by_side
from daskperiment.recording.registry import close_recorders

__all__ = ["run"]

HERE: Any = {"scheduler": "synchronous"}
PER_STEP = ((1_000, 1.5, 10), (10_000, 0.6, 2))
"""Numbers of steps, the budget against plain Dask, and how often it is measured."""
HITS = (("10 numbers", 10, 6.0), ("8 MB", 1_000_000, 1.3))


def run(folder: Path) -> Iterator[Figure]:
    """Measure maps, a deep chain and hits."""
    for size, budget, rounds in PER_STEP:
        yield from per_step(folder / f"steps{size}", size, budget, rounds)
    yield from reusable(folder / "reusable")
    yield deep(folder / "deep")
    # The extra ``test`` does not bring it.
    for name, size, budget in HITS if importlib.util.find_spec("joblib") else ():
        yield hit(folder / f"hit{size}", name, size, budget)
    close_recorders()


def _add(a: int, b: int) -> int:
    return a + b


def _total(*values: int) -> int:
    return sum(values)


def per_step(folder: Path, size: int, budget: float, rounds: int) -> Iterator[Figure]:
    """Building and computing a map, with everything recorded, against plain Dask."""
    ex = daskperiment.Experiment("steps", backend=folder)
    add, total = ex(_add), ex.result(_total)
    plain_add, plain_total = dask.delayed(_add), dask.delayed(_total)
    start = ex.parameter("start", default=0)
    built: dict[str, Any] = {}

    def ours() -> None:
        built["ours"] = total(*(add(start, number) for number in range(size)))

    def floor() -> None:
        built["floor"] = plain_total(*(plain_add(0, number) for number in range(size)))

    first, second = _by_processor(ours, floor, 3)
    yield Figure(f"building {size:,} calls / dask.delayed", first * 1e3, second * 1e3, "ms", 1.0)
    built["ours"].compute(**HERE)  # what is done once for a graph
    first, second = _by_processor(
        lambda: built["ours"].compute(**HERE), lambda: built["floor"].compute(**HERE), rounds
    )
    yield Figure(
        f"a step of {size:,}, recorded / plain dask",
        first / size * 1e6, second / size * 1e6, "µs", budget,
    )  # fmt: skip


def _by_processor(
    ours: Callable[[], object], floor: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Seconds of processor time of the shortest run of each, run in turns."""
    found: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for times, function in zip(found, (ours, floor), strict=True):
            gc.collect()
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
    return min(found[0]), min(found[1])


def reusable(folder: Path) -> Iterator[Figure]:
    """Plans and explanations of steps that may be reused, in seconds."""
    ex = daskperiment.Experiment("reusable", backend=folder, seed=0)
    step = ex.persist(_add, reuse=True)
    last = ex.result(_total)
    start = ex.parameter("start", default=0)
    nodes = {size: last(*(step(start, number) for number in range(size)))
             for size in (5_000, 10_000)}  # fmt: skip
    for node in nodes.values():
        node.compute(**HERE)
    values = iter(range(1, 1000))
    for what, of in (("all hits", lambda: 0), ("a parameter changed", lambda: next(values))):
        plan = best(lambda of=of: nodes[10_000].bind(start=of()).definition.plan(), 3)
        yield Figure(f"plan of 10,000 reusable steps, {what} / a second", plan, 1.0, "s", 1.0)
        told = best(lambda of=of: ex.explain(nodes[5_000].bind(start=of())), 3)
        yield Figure(f"explain of 5,000 steps, {what} / a second", told, 1.0, "s", 1.0)


def deep(folder: Path) -> Figure:
    """A chain of 10,000 steps: no stack is as deep as that."""
    ex = daskperiment.Experiment("deep", backend=folder, seed=0)
    step, last = ex(_add), ex.result(_total)
    value: Any = ex.parameter("start", default=0)
    plain = dask.delayed(0)
    plain_step = dask.delayed(_add)
    for _ in range(10_000):
        value = step(value, 1)
    for _ in range(1_000):
        plain = plain_step(plain, 1)
    node = last(value)
    node.compute(**HERE)
    ours, floor = _by_processor(
        lambda: node.compute(**HERE), lambda: plain.compute(**HERE), rounds=2
    )
    return Figure(
        "a step of a chain of 10,000 / plain dask's of 1,000",
        ours / 10_000 * 1e6, floor / 1_000 * 1e6, "µs",
    )  # fmt: skip


def hit(folder: Path, name: str, size: int, budget: float) -> Figure:
    """A trial whose step is a hit, with all that it records, against joblib's hit alone."""
    ex = daskperiment.Experiment("hit", backend=folder / "ours", seed=1)

    @ex.persist(reuse=True)
    def make(k: int) -> Any:
        return np.full(size, float(k))

    use = ex.result(len)
    node = use(make(ex.parameter("k", default=1)))
    memory = importlib.import_module("joblib").Memory(folder / "joblib", verbose=0)

    @memory.cache
    def known(k: int) -> Any:
        return np.full(size, float(k))

    known(1), node.compute(**HERE), node.compute(**HERE)
    calls = 20
    ours, floor = side_by_side(
        per_call(lambda: node.compute(**HERE), calls), per_call(lambda: len(known(1)), calls), 15
    )
    label = f"a trial with a hit of {name} / joblib.Memory's hit"
    return Figure(label, ours / calls * 1e3, floor / calls * 1e3, "ms", budget)
