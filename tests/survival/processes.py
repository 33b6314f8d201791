"""Processes that compute trials, and what must be left of them when they are killed."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import daskperiment

__all__ = ["Nursery", "check_survivors", "kill_at_random_moments", "nursery"]

PROGRAM = Path(__file__).with_name("trials.py")
_PATIENCE = 120


class Nursery:
    """A process that forks others: they start in no time, because all is imported already.

    Parameters
    ----------
    program : Path, optional
        What the process runs.
    """

    def __init__(self, program: Path = PROGRAM) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                # Newer Pythons warn of a fork beside threads, which numerical libraries start.
                "PYTHONWARNINGS": "error,ignore:This process:DeprecationWarning",
                "OPENBLAS_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, name: str, backend: Any, *arguments: Any) -> int:
        """Start one of the programs in ``trials.py``, and give its pid."""
        self._send(["start", name, str(backend), *arguments])
        return self._receive()

    def join(self, pid: int) -> int:
        """Wait for a program's end, and give its exit code."""
        self._send(["join", pid])
        return self._receive()

    def kill(self, pid: int) -> None:
        """End a program with SIGKILL."""
        os.kill(pid, signal.SIGKILL)
        assert self.join(pid) == -signal.SIGKILL

    def close(self) -> None:
        """End the process, and those that it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE)
        self._process.stdout.close()

    def _send(self, order: Sequence[Any]) -> None:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def _receive(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Make a nursery, and close it."""
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def kill_at_random_moments(
    place: Nursery, backend: Any, folder: Path, rounds: int, generator: random.Random,
    at_once: int, least: int,
) -> int:  # fmt: skip
    """Kill writing processes again and again, while others write; give how many trials they did.

    Parameters
    ----------
    place : Nursery
        Where the processes come from.
    backend : Path or str
        What they write to.
    folder : Path
        For their logs.
    rounds : int
        How many are killed.
    generator : random.Random
        Each is killed after another while.
    at_once : int
        How many write at the same time.
    least : int
        Trials: where they did fewer, on a slow machine, more are killed, up to tenfold.
    """
    folder.mkdir()
    running: list[tuple[int, Path]] = []
    total = 0
    for round_ in itertools.count():
        if round_ < rounds or (total < least and round_ < 10 * rounds):
            log = folder / f"log{round_}"
            running.append((place.start("endless", backend, str(log)), log))
        elif not running:
            break
        if round_ >= at_once:
            pid, log = running.pop(0)
            _wait_for(log)
            time.sleep(generator.random() * 0.1)
            place.kill(pid)
            with _paused(folder):
                total += check_survivors(backend, log, round_ + 1)
    return total


@contextmanager
def _paused(folder: Path) -> Iterator[None]:
    """Let the others begin no trial: the more they write, the longer what is there is looked at."""
    pause = folder / "pause"
    pause.touch()
    try:
        yield
    finally:
        pause.unlink()


def _wait_for(log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not log.exists() or not log.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _told(log: Path) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Read what a killed process had said before."""
    points, trials = [], {}
    for line in log.read_text().split("\n")[:-1]:
        what, trial, number = line.split()
        if what == "point":
            points.append((int(trial), int(number)))
        else:
            trials[int(trial)] = int(number)
    return points, trials


def check_survivors(backend: Any, log: Path, lost: int) -> int:
    """Everything that had returned before the kill is there, once; the rest is lost, not failed."""
    points, trials = _told(log)
    ex = daskperiment.Experiment("endless", backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = ex.get_history(verbose=True, running=True)
    assert history.index.tolist() == list(range(1, len(history) + 1))
    for trial, value in trials.items():
        assert history.loc[trial, "Status"] == "succeeded"
        assert history.loc[trial, "Result"] == value == history.loc[trial, "number"]
    assert set(history["Status"]) <= {"succeeded", "lost", "running"}
    assert (history["Status"] == "lost").sum() <= lost
    counts = Counter(trial for trial, _ in points)
    found = ex.load_metric("loss", list(counts))
    for trial, count in counts.items():
        saved = found[trial].dropna()
        # The last point may have been saved and not yet told.
        assert count <= len(saved) <= count + 1
        assert saved.tolist() == [history.loc[trial, "number"] + e for e in range(len(saved))]
    return len(trials)
