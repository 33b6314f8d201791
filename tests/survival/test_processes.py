"""Many processes on one store, and processes that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest

import daskperiment

PROGRAM = Path(__file__).with_name("trials.py")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "PYTHONWARNINGS": "error",
}


def start(*arguments):
    """Start one of the programs in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    )


def test_four_processes_on_one_folder(tmp_path):
    """4 processes x 50 trials, on a folder that all create at once: ids 1..200, own rows."""
    processes = [start("squares", tmp_path / "new", 100 * i, 50) for i in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    history = daskperiment.Experiment("many", backend=tmp_path / "new").get_history()
    assert history.index.tolist() == list(range(1, 201))
    assert sorted(history["a"]) == sorted(100 * i + j for i in range(4) for j in range(50))
    assert (history["Result"] == history["a"] ** 2).all()


def told(log):
    """Read what a killed process had said before."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    points = [tuple(map(int, line.split()[1:])) for line in lines if line.startswith("point")]
    trials = [tuple(map(int, line.split()[1:])) for line in lines if line.startswith("trial")]
    return points, dict(trials)


def check_survivors(backend, log, rounds):
    """Everything that had returned before the kill is there, once; the rest is lost, not failed."""
    points, trials = told(log)
    ex = daskperiment.Experiment("endless", backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = ex.get_history(verbose=True, running=True)
    for trial, value in trials.items():
        assert history.loc[trial, "Status"] == "succeeded"
        assert history.loc[trial, "Result"] == value == history.loc[trial, "number"]
    assert set(history["Status"]) <= {"succeeded", "lost"}
    assert (history["Status"] == "lost").sum() <= rounds
    for trial, count in Counter(trial for trial, _ in points).items():
        found = ex.load_metric("loss", trial)[trial]
        # The last point may have been saved and not yet told.
        assert count <= len(found) <= count + 1
        assert found.tolist() == [history.loc[trial, "number"] + e for e in range(len(found))]
    return len(trials)


def kill_at_random_moments(backend, log_folder, rounds, generator):
    """Kill a writing process again and again, each time after another while."""
    total = 0
    for round_ in range(rounds):
        log = log_folder / f"log{round_}"
        process = start("endless", backend, log)
        deadline = time.monotonic() + 60
        while not log.exists() or not log.stat().st_size:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(generator.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        total += check_survivors(backend, log, round_ + 1)
    return total


@pytest.mark.timeout(400)
def test_sigkill_at_random_moments(tmp_path):
    """SIGKILL at 100 random moments: the folder opens, and nothing is missing."""
    assert kill_at_random_moments(tmp_path / "store", tmp_path, 100, random.Random(7)) > 100
