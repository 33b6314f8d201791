"""Many processes on one store, and processes that are killed."""

from __future__ import annotations

import random

import pytest

import daskperiment
from tests.survival.processes import kill_at_random_moments, nursery


@pytest.fixture
def processes(make_place, journal_root):
    """Start processes quickly; they end before what they write to is removed."""
    with nursery() as place:
        yield place


@pytest.mark.parametrize("kind", ["folder", "redis", "mongo-set"])
def test_eight_processes(kind, make_place, processes):
    """8 processes x 100 trials on a store that none has used: ids 1..800, own rows."""
    backend = make_place(kind).backend
    pids = [processes.start("squares", backend, 1000 * i, 100) for i in range(8)]
    assert [processes.join(pid) for pid in pids] == [0] * 8
    history = daskperiment.Experiment("many", backend=backend).get_history()
    assert history.index.tolist() == list(range(1, 801))
    assert sorted(history["a"]) == sorted(1000 * i + j for i in range(8) for j in range(100))
    assert (history["Result"] == history["a"] ** 2).all()


@pytest.mark.parametrize("kind", ["redis", "mongo"])
def test_sigkill_at_random_moments(kind, make_place, processes, tmp_path):
    """SIGKILL at 50 random moments while others write: nothing is missing, nothing is twice."""
    args = (make_place(kind).backend, tmp_path / "logs", 50, random.Random(7), 4)
    assert kill_at_random_moments(processes, *args, least=11) > 10
