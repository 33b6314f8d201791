"""A million trials: their table, pages of it, and pages of long histories on servers.

``python -m benchmarks million`` takes some minutes and 1 GB of disk.
"""

from __future__ import annotations

import subprocess
import sys
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


def run(folder: Path) -> Iterator[Figure]:
    """Measure a million trials in a folder, and pages on each server."""
    yield from history.of_size(folder, MILLION)
    yield _cold(f"{MILLION:,} trials in a folder", str(folder), f"history{MILLION}")
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

    def page() -> object:
        return get_history(store, history.NAMES, **history.PAGE)

    yield Figure(f"{label}: page of 50, first reader", best(page, 1), 2.0, "s", 1)
    yield _cold(label, url, name)
    yield Figure(f"{label}: page of 50, warm", best(page, 5), 0.2, "s", 1)
    store.close()


def _cold(label: str, backend: str, name: str) -> Figure:
    """A page for a process that has read nothing, where columns are kept."""
    command = [sys.executable, "-c", _COLD, backend, name]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Figure(f"{label}: page of 50, cold", float(found), 2.0, "s", 1)
