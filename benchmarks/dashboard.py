"""What the dashboard costs: ``python -m benchmarks.dashboard``.

It needs the extra ``dashboard``, Playwright and Chromium. The server runs in a process of its own,
as it does for ``daskperimentboard``. With ``--minutes 10`` it follows one running experiment for so
long, beside the same experiment that nobody looks at.
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


FIRST_TABLE = 2.0
FIRST_OF_MILLION = 4.0
"""Seconds, up to a hundred thousand trials and up to a million."""


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
        seconds: list[float] = []
        wholes: list[float] = []
        megabytes: list[float] = []
        for _ in range(3):
            with board(folder / f"of_{count}") as server:
                page = chromium.new_context().new_page()
                start = time.perf_counter()
                page.goto(f"{server.url}?experiment=demo", wait_until="commit")
                page.wait_for_selector("tr[data-trial]", timeout=120_000)
                seconds.append(time.perf_counter() - start)
                page.wait_for_selector("progress", state="hidden", timeout=120_000)
                wholes.append(time.perf_counter() - start)
                megabytes.append(server.megabytes)
                page.close()
        # The first server reads all records; those after it, which read nothing before, columns.
        budget = FIRST_TABLE if count <= 100_000 else FIRST_OF_MILLION
        missed = " MISSED" if seconds[0] > budget else ""
        print(f"first table of {count:,} trials: {seconds[0]:.2f} s ({budget:g}{missed}) where no "
              f"columns are kept, all are read after {wholes[0]:.2f} s; {min(seconds[1:]):.2f} s "
              f"where they are, server {max(megabytes):.0f} MB")  # fmt: skip


ACTIONS = {
    "sort by a parameter": "thead button:has-text('depth')",
    "sort by the result": "thead button:has-text('Result')",
    "only the failed": "button:has-text('failed')",
    "next page": "[aria-label='Next page']",
    "last page": "[aria-label='Last page']",
}


OTHER_ROWS = """before => new Promise((done) => {
  const look = () => (document.querySelector("tbody").innerText !== before
    ? done() : requestAnimationFrame(look));
  look();
})"""


def using(folder: Path, count: int) -> None:
    """From a click until other rows stand there, on a table of so many trials."""
    with board(folder / f"of_{count}") as server, browser() as chromium:
        page = chromium.new_context().new_page()
        page.goto(f"{server.url}?experiment=demo")
        page.wait_for_selector("tr[data-trial]")
        for name, selector in ACTIONS.items():
            if page.query_selector(selector) is None:  # of few trials all stand on the first page
                continue
            print(f"  {name}: {_until_other_rows(page, lambda s=selector: page.click(s)):.2f} s")
        page.goto(f"{server.url}?experiment=demo")
        page.wait_for_selector("tr[data-trial]")
        for text in ("lr>1000 depth=7", "kind=rbf result<500", "bad"):
            seconds = _until_other_rows(page, lambda t=text: page.fill("#filter", t))
            print(f"  filter {text!r}: {seconds:.2f} s, of which 0.25 s wait for the next letter")
        print(f"  server then: {server.megabytes:.0f} MB")


def _until_other_rows(page: Any, act: Any) -> float:
    before = page.inner_text("tbody")
    start = time.perf_counter()
    act()
    page.evaluate(OTHER_ROWS, before)
    return time.perf_counter() - start


CURVES = 400
SEVERAL = """
import sys
import daskperiment
ex = daskperiment.Experiment("curves", backend=sys.argv[1])
lr = ex.parameter("lr")
@ex.result
def train(lr):
    count = int(sys.argv[2]) if lr == 0 else 1
    for epoch in range(200):
        for number in range(count):
            ex.save_metric(f"m{number}", epoch, (lr + number + 1) / (epoch + 1))
score = train(lr)
for number in range(int(sys.argv[2])):
    ex.set_parameters(lr=float(number))
    score.compute(scheduler="synchronous")
"""


def curves(folder: Path) -> None:
    """From the question until curves are drawn: one metric of many trials, many of one trial.

    The first time the server has read no point, and has not loaded Bokeh yet.
    """
    script = folder / "several.py"
    script.write_text(SEVERAL, encoding="utf-8")
    store = folder / "several"
    subprocess.run([sys.executable, "-W", "ignore", script, store, str(CURVES)], check=True)
    for name, asked in {
        f"a metric of {CURVES} trials": "found=1&metric=m0", f"{CURVES} metrics": "trials=1",
    }.items():  # fmt: skip
        with board(store) as server, browser() as chromium:
            seconds = []
            for _ in range(2):
                page = chromium.new_context().new_page()
                start = time.perf_counter()
                page.goto(f"{server.url}?experiment=curves&tab=metrics&{asked}")
                page.wait_for_selector(".plot canvas", timeout=120_000)
                seconds.append(time.perf_counter() - start)
                drawn = page.locator(".plot").count()
                page.close()
            print(f"curves of {name}, {drawn} charts: {seconds[0]:.2f} s the first time, "
                  f"{seconds[1]:.2f} s again, server {server.megabytes:.0f} MB")  # fmt: skip


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


PACED = """
import sys, time
import daskperiment
ex = daskperiment.Experiment("demo", backend=sys.argv[1])
a = ex.parameter("a", default=1)
@ex.result
def train(a):
    end = time.perf_counter() + float(sys.argv[2])
    work, save, epoch = [], [], 0
    while time.perf_counter() < end:
        first = time.perf_counter()
        sum(range(20_000))
        second = time.perf_counter()
        ex.save_metric("loss", epoch, 1 / (epoch + 1))
        ex.save_metric("accuracy", epoch, 1 - 1 / (epoch + 1))
        work.append(second - first)
        save.append(time.perf_counter() - second)
        epoch += 1
        time.sleep(0.05)
    middle = epoch // 2
    print(epoch, *(sorted(times)[middle] * 1e6 for times in (work, save)), sum(save) * 1e6 / epoch)
    return epoch
train(a).compute()
"""


def watch(folder: Path, minutes: float, trials: int) -> None:
    """Follow a running experiment, and tell memory and speed beside one that nobody follows.

    Both run at the same time, each in a store with as many ended trials; a page with the table and
    one with the metrics follow the first.
    """
    script = folder / "paced.py"
    script.write_text(PACED, encoding="utf-8")
    stores = [folder / name for name in ("followed", "alone")]
    for store in stores:
        fill(FileStore(store / "demo"), trials)
    with board(stores[0]) as server, browser() as chromium:
        runs = [_paced(script, store, minutes) for store in stores]
        pages = [chromium.new_context().new_page() for _ in range(2)]
        pages[0].goto(f"{server.url}?experiment=demo")
        pages[0].wait_for_selector(".badge.running")
        pages[1].goto(f"{server.url}?experiment=demo&tab=metrics&trials={trials + 1}")
        pages[1].wait_for_selector(".plot canvas")
        tools = [page.context.new_cdp_session(page) for page in pages]
        print("seconds  server MB  table's heap MB  charts' heap MB")
        start = time.monotonic()
        cpu = sum(server.process.cpu_times()[:2])
        while runs[0].poll() is None:
            heaps = [tool.send("Runtime.getHeapUsage")["usedSize"] / 1e6 for tool in tools]
            seconds = time.monotonic() - start
            print(f"{seconds:7.0f}  {server.megabytes:9.1f}  {heaps[0]:15.1f}  {heaps[1]:15.1f}",
                  flush=True)  # fmt: skip
            pages[0].wait_for_timeout(10_000)
        cpu = sum(server.process.cpu_times()[:2]) - cpu
        print(f"processor time of the server: {cpu / (time.monotonic() - start):.1%} of one core")
    for store, run in zip(stores, runs, strict=True):
        epochs, work, save, mean = map(float, run.communicate()[0].split())
        print(f"{store.name}: {epochs:,.0f} epochs, median of the work {work:.0f} µs, "
              f"of saving two points {save:.0f} µs, mean {mean:.0f} µs")  # fmt: skip


def _paced(script: Path, store: Path, minutes: float) -> subprocess.Popen[str]:
    # It differs from the trials that were made up, of course.
    command = [sys.executable, "-W", "ignore", str(script), str(store), str(minutes * 60)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def polling(folder: Path, count: int) -> None:
    """What one look at a table of so many trials costs the server when nothing is new."""
    with board(folder / f"of_{count}") as server:
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
    parser.add_argument("--minutes", type=float, help="only follow one experiment for so long")
    parser.add_argument("--trials", type=int, default=10_000, help="in the store that is followed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    arguments = parser.parse_args()
    print(f"daskperiment {daskperiment.__version__}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.minutes:
            watch(folder, arguments.minutes, arguments.trials)
            return
        for count in arguments.sizes:
            first_table(folder, count)
            using(folder, count)
        curves(folder)
        polling(folder, arguments.sizes[0])
        follow(folder, arguments.epochs, arguments.rounds)


if __name__ == "__main__":
    main()
