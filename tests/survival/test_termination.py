"""SIGTERM, as a queue sends it: trials are interrupted, nothing is lost, and the process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import daskperiment
from tests.reproduce.loops import BREAK, define
from tests.survival.terminated import WAYS

ROOT = Path(__file__).parents[2]


def run(*args, **more):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [sys.executable, "-m", *args], cwd=ROOT, env=env, timeout=100, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Tell processes to end, and return the folder of their trials and how each ended."""
    folder = tmp_path_factory.mktemp("told")
    done = run("tests.survival.terminated", str(folder))
    return folder, dict(map(json.loads, done.stdout.splitlines())), done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_told_to_end(told, way):
    """The process ends as the signal or its own handler would end it, its trials as they should."""
    folder, statuses, errors = told
    _, status, trials = WAYS[way]
    assert statuses.get(way) == status, errors
    ex = daskperiment.Experiment(way, backend=folder)
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == trials
    last = len(trials)
    assert len(ex.load_metric("loss", last)) == 7
    heard = list(folder.rglob("heard"))
    assert bool(heard) or way != "own_later"


def test_in_a_pool_of_processes(tmp_path):
    """A queue tells the process that computes; its pool ends, too, and the checkpoint stands."""
    store = str(tmp_path / "store")
    done = run("tests.reproduce.loops", store, "run", "processes", **{BREAK: "7 SIGTERM parent"})
    assert done.returncode == -signal.SIGTERM, done.stderr
    ex = daskperiment.Experiment("loops", backend=store)
    assert ex.get_history(verbose=True)["Status"].tolist() == ["interrupted"]
    result = define(ex).resume(1, scheduler="synchronous")
    assert result == define(ex).compute(scheduler="synchronous", seed=5)
    assert ex.load_metric("loss", 2).index.tolist() == list(range(1, 11))
