"""Many processes on one folder, and processes that are killed."""

from __future__ import annotations

import random

import pytest

import daskperiment
from tests.survival.processes import kill_at_random_moments, nursery


def test_four_processes_on_one_folder(tmp_path):
    """4 processes x 50 trials, on a folder that all create at once: ids 1..200, own rows."""
    with nursery() as place:
        pids = [place.start("squares", tmp_path / "new", 100 * i, 50) for i in range(4)]
        assert [place.join(pid) for pid in pids] == [0] * 4
    history = daskperiment.Experiment("many", backend=tmp_path / "new").get_history()
    assert history.index.tolist() == list(range(1, 201))
    assert sorted(history["a"]) == sorted(100 * i + j for i in range(4) for j in range(50))
    assert (history["Result"] == history["a"] ** 2).all()


@pytest.mark.parametrize("at_once", [1, 4])
def test_sigkill_at_random_moments(tmp_path, at_once):
    """SIGKILL at 50 random moments, also while others write: nothing is missing."""
    with nursery() as place:
        generator = random.Random(7)
        args = (tmp_path / "store", tmp_path / "logs", 50, generator, at_once)
        assert kill_at_random_moments(place, *args, least=21) > 20
