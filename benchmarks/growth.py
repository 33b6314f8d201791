"""What a step costs in a large graph, against what it costs in a small one."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask

import daskperiment
from benchmarks.timing import Figure
from daskperiment.recording.registry import close_recorders

__all__ = ["run"]

SMALL, LARGE = 1_000, 10_000
ROUNDS = 2
BUDGET = 1.2


def run(folder: Path) -> Iterator[Figure]:
    """Measure maps and chains of reusable steps: a large one, and as many steps in small ones.

    In turns, so that both have as much time for a noisy moment of the machine, and the better of
    two rounds.
    """
    for shape in (_map, _chain):
        small: dict[str, float] = {}
        large: dict[str, float] = {}
        for turn in range(ROUNDS):
            _keep_best(large, [_seconds(folder / f"{turn} large", shape, LARGE)])
            several = range(LARGE // SMALL)
            _keep_best(small, [_seconds(folder / f"{turn} {n}", shape, SMALL) for n in several])
        for name, seconds in large.items():
            yield Figure(
                f"{shape.__name__[1:]}: {name}, per step of {LARGE:,} / of {SMALL:,}",
                seconds / LARGE * 1e6, small[name] / LARGE * 1e6, "µs", BUDGET,
                note=f"{seconds:.2f} s in all",
            )  # fmt: skip
        for name in ("plan of hits", "plan after a change"):
            label = f"{shape.__name__[1:]}: {name} of {LARGE:,} steps / one second"
            yield Figure(label, large[name], 1.0, "s", 1.0)
    plain, ten = _plain(LARGE), [_plain(SMALL) for _ in range(LARGE // SMALL)]
    for name, seconds in plain.items():
        label = f"map: {name}, plain dask, per step of {LARGE:,} / of {SMALL:,}"
        small_ones = sum(each[name] for each in ten)
        yield Figure(label, seconds / LARGE * 1e6, small_ones / LARGE * 1e6, "µs")


def _keep_best(best: dict[str, float], several: list[dict[str, float]]) -> None:
    for name in several[0]:
        best[name] = min(best.get(name, math.inf), sum(each[name] for each in several))


def _plain(size: int) -> dict[str, float]:
    """Processor time of what plain Dask does with a map."""
    found: dict[str, float] = {}
    step, last = dask.delayed(_add), dask.delayed(len)
    result = _timed(found, "building", lambda: last(_map(step, 0, size)))
    _timed(found, "computing", lambda: result.compute(scheduler="synchronous"))
    return found


def _map(step: Any, start: Any, size: int) -> list[Any]:
    return [step(start, number) for number in range(size)]


def _chain(step: Any, start: Any, size: int) -> list[Any]:
    value = start
    for _ in range(size):
        value = step(value, 1)
    return [value]


def _seconds(folder: Path, shape: Callable[..., list[Any]], size: int) -> dict[str, float]:
    """Processor time of each operation on one graph."""
    ex = daskperiment.Experiment(f"growth{shape.__name__}{size}", backend=folder, seed=0)
    start = ex.parameter("start", default=0)
    step = ex.persist(_add, reuse=True)

    @ex.result
    def last(values: list[int]) -> int:
        return len(values)

    last([step(start, 0)]).compute(scheduler="synchronous")
    found: dict[str, float] = {}
    result: Any = _timed(found, "building", lambda: last(shape(step, start, size)))
    changed = result.bind(start=1)
    _timed(found, "compiling", lambda: result.definition.template.key_specs)
    _timed(found, "computing", lambda: result.compute(scheduler="synchronous"))
    _timed(found, "plan of hits", result.definition.trial_graph)
    _timed(found, "computing hits", lambda: result.compute(scheduler="synchronous"))
    _timed(found, "explaining hits", lambda: ex.explain(result))
    _timed(found, "plan after a change", changed.definition.trial_graph)
    _timed(found, "explaining a change", lambda: ex.explain(changed))
    _timed(found, "computing a change", lambda: changed.compute(scheduler="synchronous"))
    _timed(found, "comparing", lambda: str(ex.compare(2, 4)))
    close_recorders()
    return found


def _add(*values: int) -> int:
    return sum(values)


def _timed(found: dict[str, float], name: str, action: Callable[[], Any]) -> Any:
    gc.collect()
    start = time.process_time()
    value = action()
    found[name] = time.process_time() - start
    return value
