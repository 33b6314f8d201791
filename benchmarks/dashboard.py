"""What the dashboard costs: ``python -m benchmarks.dashboard``.

It needs the extra ``dashboard``, Playwright and Chromium. The server runs in a process of its own,
as it does for ``daskperimentboard``.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import daskperiment
from benchmarks.histories import fill
from daskperiment.store.file import FileStore

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SERVE = """
import sys
from daskperiment import dashboard
server = dashboard.start(sys.argv[1], port=0)
print(server.port, flush=True)
server.wait()
"""


class Board(NamedTuple):
    """A dashboard in a process of its own."""

    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def megabytes(self) -> float:
        return float(self.process.memory_info().rss / 1e6)


@contextmanager
def board(folder: Path) -> Iterator[Board]:
    command = [sys.executable, "-c", SERVE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Board(int(process.stdout.readline()), psutil.Process(process.pid))
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


def first_table(folder: Path, count: int) -> None:
    """From opening the address until the first row stands, by a server that has read nothing."""
    fill(FileStore(folder / f"of_{count}" / "demo"), count)
    with browser() as chromium:
        seconds = []
        for _ in range(3):
            with board(folder / f"of_{count}") as server:
                page = chromium.new_context().new_page()
                start = time.perf_counter()
                page.goto(f"{server.url}?experiment=demo", wait_until="commit")
                page.wait_for_selector("tr[data-trial]")
                seconds.append(time.perf_counter() - start)
                megabytes = server.megabytes
                page.close()
        table = statistics.median(seconds)
        print(f"first table of {count:,} trials: {table:.2f} s, server {megabytes:.0f} MB")


def running(folder: Path, points: int, watched: bool) -> tuple[float, list[float]]:
    """Time an experiment that saves points, and tell the server's memory meanwhile."""
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    store = tempfile.mkdtemp(dir=folder)
    arguments = [sys.executable, str(script), store, str(points)]
    memory: list[float] = []
    with (
        board(Path(store)) as server,
        browser() as chromium,
        subprocess.Popen(arguments, stdout=subprocess.PIPE) as process,
    ):
        page = chromium.new_page()
        if watched:
            page.goto(f"{server.url}?experiment=demo&tab=metrics&trials=1")
        while process.poll() is None:
            page.wait_for_timeout(1000)
            memory.append(server.megabytes)
        assert process.stdout is not None
        seconds = float(process.stdout.read())
    return seconds, memory


SCRIPT = """
import sys, time
import daskperiment
ex = daskperiment.Experiment("demo", backend=sys.argv[1])
a = ex.parameter("a", default=1)
@ex.result
def train(a):
    start = time.perf_counter()
    busy = 0.0
    for epoch in range(int(sys.argv[2])):
        until = time.perf_counter()
        x = sum(range(20_000))
        ex.save_metric("loss", epoch, 1 / (epoch + 1))
        ex.save_metric("accuracy", epoch, 1 - 1 / (epoch + 1))
        busy += time.perf_counter() - until
        time.sleep(0.01)
    return busy
print(train(a).compute())
"""


def follow(folder: Path, points: int, rounds: int) -> None:
    """Compare the experiment's own time, with a page open and without, in turn."""
    alone, watched, memory = [], [], []
    for _ in range(rounds):
        alone.append(running(folder, points, False)[0])
        seconds, memory = running(folder, points, True)
        watched.append(seconds)
    ratio = statistics.median(watched) / statistics.median(alone)
    print(f"work of {points:,} epochs: {statistics.median(alone):.2f} s without a page, "
          f"{statistics.median(watched):.2f} s with one, ratio {ratio:.2f}")  # fmt: skip
    parts = [memory[int(len(memory) * part)] for part in (0.1, 0.5, 0.9)]
    told = ", ".join(f"{one:.0f}" for one in parts)
    print(f"server while it follows for {len(memory)} s: {told} MB after 10, 50 and 90 %")


def polling(folder: Path) -> None:
    """What one look at a table of 10,000 trials costs the server when nothing is new."""
    with board(folder / "of_10000") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        path = "/api/experiments/demo/trials?seen="
        connection.request("GET", path)
        version = connection.getresponse().read()[12:].partition(b'"')[0]
        before, start = server.process.cpu_times(), time.perf_counter()
        for _ in range(200):
            connection.request("GET", path + version.decode())
            connection.getresponse().read()
        spent, wall = server.process.cpu_times(), time.perf_counter() - start
        cpu = spent.user + spent.system - before.user - before.system
        print(f"a look when nothing is new: {wall * 5:.2f} ms, {cpu * 5:.2f} ms of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--epochs", type=int, default=1500, help="of the experiment followed")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"daskperiment {daskperiment.__version__}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (10_000, 100_000):
            first_table(folder, count)
        polling(folder)
        follow(folder, arguments.epochs, arguments.rounds)


if __name__ == "__main__":
    main()
