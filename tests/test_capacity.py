"""The model of what a store carries, which docs/capacity.rst is made with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.capacity import FULL, Costs, Work, carried, share, waits

COSTS = Costs("a store", begin=1e-3, call=2e-3, record=1e-4)
WORK = Work(trials=5.0, calls=1.0, records=20.0)


def test_shares_add_up() -> None:
    """A worker's share is what its trials, calls and records take, and servers divide it."""
    assert share(COSTS, WORK, 1) == pytest.approx(5e-3 + 2e-3 + 2e-3)
    assert share(COSTS._replace(servers=3), WORK, 30) == pytest.approx(10 * share(COSTS, WORK, 1))
    assert carried(COSTS, WORK) == int(FULL / 9e-3)


def test_calls_wait_only_where_there_are_many() -> None:
    """A simulated call takes its own time on an idle store, and ever longer beyond its limit."""
    alone = waits(COSTS, WORK, 1)
    assert np.median(alone) == pytest.approx(1e-3)
    assert alone.max() < 6e-3
    half, over = (waits(COSTS, WORK, round(part / share(COSTS, WORK, 1))) for part in (0.5, 1.2))
    assert np.quantile(half, 0.99) < 0.05
    assert over[-1] > 1.0
    assert over[-1] > 3 * over[len(over) // 5]


def test_simulation_serves_all_calls() -> None:
    """As many calls are served as workers make in the time."""
    served = len(waits(COSTS, WORK, 40, seconds=10.0))
    assert served == pytest.approx(40 * 10 * (WORK.trials + WORK.calls), rel=0.05)
