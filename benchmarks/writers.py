"""Points that eight processes save at once on a server, until all of them are there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from benchmarks.timing import Figure

__all__ = ["point_writers"]

WRITERS = 8
EACH = 10_000
ROUNDS = 4
SERVERS = {"redis": "redis-server", "mongo": "mongod"}

WRITER = """
import sys, time
import daskperiment
ex = daskperiment.Experiment("many_points", backend=sys.argv[1])
@ex.result
def train():
    for epoch in range(int(sys.argv[2])):
        ex.save_metric("loss", epoch, 1 / (epoch + 1))
node = train()
print(time.process_time(), flush=True)
for line in sys.stdin:
    node.compute(scheduler="synchronous")
    ex.flush()
    print(time.process_time(), flush=True)
"""
"""Saves points in a trial for each line that it reads, and tells its processor time."""


def point_writers(urls: Mapping[str, str]) -> Iterator[Figure]:
    """Measure servers by their names: points per second, and what each takes of the processors.

    The servers are children of this process.
    """
    for name, url in urls.items():
        seconds, own, server = min(_rounds(url, SERVERS[name]))
        points = WRITERS * EACH
        label = f"{name}: points of {WRITERS} processes"
        yield Figure(f"{label}, delivered", points / seconds / 1e3, 0, "k/s")
        yield Figure(f"{label}: their processor time", own / points * 1e6, 0, "µs")
        yield Figure(f"{label}: the server's", server / points * 1e6, 0, "µs")


def _rounds(url: str, program: str) -> Iterator[tuple[float, float, float]]:
    """Yield the seconds of each round, from the first point until all are delivered.

    Besides, the processor time of the writers, and of the server.
    """
    processes: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(EACH)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(WRITERS)
    ]  # fmt: skip
    spent = _told(processes)
    for number in range(ROUNDS + 1):
        served, start = _time_of(program), time.perf_counter()
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        now = _told(processes)
        passed = time.perf_counter() - start
        if number:  # before that each has loaded what it needs
            yield passed, now - spent, _time_of(program) - served
        spent = now
    for process in processes:
        process.communicate()


def _told(processes: list[Any]) -> float:
    """Return the processor time that all of them tell."""
    lines = [process.stdout.readline() for process in processes]
    if not all(lines):
        raise RuntimeError("a writer failed")
    return sum(map(float, lines))


def _time_of(program: str) -> float:
    """Return the processor time of a server."""
    children = psutil.Process().children(recursive=True)
    times = [child.cpu_times() for child in children if child.name() == program]
    return float(sum(one.user + one.system for one in times))
