"""A million trials: their table, pages of it, the dashboard's first, and pages on servers.

``python -m benchmarks million`` takes some minutes and 1 GB of disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import history
from benchmarks.histories import fill
from benchmarks.timing import Figure, best
from daskperiment.history.tables import get_history
from daskperiment.store.opening import open_store
from tests.store import mongo_server, redis_server

__all__ = ["run"]

MILLION = 1_000_000
SIZES = (10_000, 100_000)
"""Of histories on servers."""
_COLD = """
import sys, time
from daskperiment.history.tables import get_history
from daskperiment.store.opening import open_store
from benchmarks.history import NAMES, PAGE
store = open_store(sys.argv[1], sys.argv[2])
get_history(store, (), last=1)
start = time.perf_counter()
get_history(store, NAMES, **PAGE)
print(time.perf_counter() - start)
"""
_DASHBOARD = """
import sys, time
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.table import Look
from daskperiment.execution.running import peak_memory
peak_memory()  # of which it then knows what came with the process that began this
api = DashboardAPI(Source(sys.argv[1]))
start = time.perf_counter()
page = api.trials(sys.argv[2], Look(), 0, 50, "")
first = time.perf_counter() - start
assert len(page["rows"]) == 50
assert len(api.found(sys.argv[2], Look())["ids"]) >= page["total"]
print(first, time.perf_counter() - start, peak_memory() / 1e6)
api.close()
"""


def run(folder: Path) -> Iterator[Figure]:
    """Measure a million trials in a folder, and pages on each server."""
    yield from history.of_size(folder, MILLION)
    label, name = f"{MILLION:,} trials in a folder", f"history{MILLION}"
    yield _cold(label, str(folder), name)
    for one in (folder / name / "columns").glob("*"):
        one.unlink()
    yield from _dashboard(label, str(folder), name, 4.0)
    with ExitStack() as stack:
        program = redis_server.server_of_wheel()
        first = stack.enter_context(redis_server.redis_server(program, folder / "redis"))
        second = stack.enter_context(mongo_server.running(folder / "mongo"))
        for url in (first.url, second.url("bench")):
            for size in SIZES:
                yield from _on_server(url, size)


def _on_server(url: str, size: int) -> Iterator[Figure]:
    name, store = f"history{size}", open_store(url, f"history{size}")
    label = f"{size:,} trials on {url.partition(':')[0]}"
    fill(store, size)
    yield from _dashboard(label, url, name, 2.0)

    def page() -> object:
        return get_history(store, history.NAMES, **history.PAGE)

    yield Figure(f"{label}: page of 50, first reader", best(page, 1), 2.0, "s", 1)
    yield _cold(label, url, name)
    yield Figure(f"{label}: page of 50, warm", best(page, 5), 0.2, "s", 1)
    store.close()


def _dashboard(label: str, backend: str, name: str, seconds: float) -> Iterator[Figure]:
    """The first page of a dashboard that reads records where no columns are kept."""
    command = [sys.executable, "-c", _DASHBOARD, backend, name]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    first, whole, most = map(float, done.stdout.split())
    yield Figure(f"{label}: the dashboard's first page, first reader", first, seconds, "s", 1)
    yield Figure(f"{label}: the same, until all trials are read", whole, 0, "s")
    yield Figure(f"{label}: the same, memory of its process", most, 250.0, "MB", 1)


def _cold(label: str, backend: str, name: str) -> Figure:
    """A page for a process that has read nothing, where columns are kept."""
    command = [sys.executable, "-c", _COLD, backend, name]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Figure(f"{label}: page of 50, cold", float(found), 2.0, "s", 1)
