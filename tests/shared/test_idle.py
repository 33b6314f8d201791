"""Many experiments of a process hold what one of them holds, on every store."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import daskperiment
from daskperiment.recording import heartbeat

COUNTED = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not COUNTED.exists(), reason="counts descriptors by /proc")

MANY = 30
SOME = 10
"""That come and go with no experiment: a look of a driver at its server, a list that is kept."""


def _held() -> int:
    return len(os.listdir(COUNTED)) + threading.active_count()


def _twice_of(id: str, backend: object) -> daskperiment.Result:
    ex = daskperiment.Experiment(id, backend=backend)
    n = ex.parameter("n", default=2)

    @ex.result
    def twice(n: int) -> int:
        ex.save_metric("loss", 0, n)
        return 2 * n

    return twice(n)


def test_experiments_that_recorded(place, monkeypatch):
    """After a trial of each, thirty hold no more than four do, which stay awake, and go on."""
    monkeypatch.setattr(heartbeat, "IDLE_TICKS", 10_000)
    few, results = 0, []
    for number in range(MANY):
        results.append(_twice_of(f"e{number}", place.backend))
        assert results[-1].compute(scheduler="synchronous") == 4
        few = _held() if number == heartbeat._AWAKE + 1 else few
    assert _held() <= few + SOME
    for number in (0, MANY - 1):
        assert results[number].compute(scheduler="synchronous") == 4
        ex = daskperiment.Experiment(f"e{number}", backend=place.backend)
        assert ex.get_history()["Result"].tolist() == [4, 4]


def test_experiments_that_are_read(place, forget, monkeypatch):
    """Thirty that somebody looked at hold no more than the few that stay awake."""
    monkeypatch.setattr(heartbeat, "IDLE_TICKS", 10_000)
    for number in range(MANY):
        _twice_of(f"e{number}", place.backend).compute(scheduler="synchronous")
    forget()
    few, opened = 0, []
    for number in range(MANY):
        opened.append(daskperiment.Experiment(f"e{number}", backend=place.backend))
        assert opened[-1].get_history()["Result"].tolist() == [4]
        few = _held() if number == heartbeat._AWAKE + 1 else few
    assert _held() <= few + SOME
    assert daskperiment.list_experiments(place.backend).shape[0] == MANY
    assert _held() <= few + SOME
