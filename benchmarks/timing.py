"""How figures are taken: alternating runs, and the best of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Figure", "best", "per_call", "side_by_side"]


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    ours: float
    floor: float
    unit: str
    budget: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.floor if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within the budget; None if there is none."""
        if self.budget is None or self.ratio is None:
            return None
        return bool(self.ratio <= self.budget)  # no bool of NumPy, which JSON does not take


def best(function: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def side_by_side(
    ours: Callable[[], object], floor: Callable[[], object], rounds: int = 5,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float]:  # fmt: skip
    """Seconds of the fastest run of each, run in turns so that a noisy moment hits both.

    `before` is called ahead of each run, and is not measured.
    """
    first: list[float] = []
    second: list[float] = []
    for _ in range(rounds):
        for times, function in ((first, ours), (second, floor)):
            before()
            times.append(best(function, 1))
    return min(first), min(second)


def per_call(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """A function that calls another many times."""

    def run() -> None:
        for _ in range(calls):
            function()

    return run
