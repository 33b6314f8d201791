"""Long histories: tables, pages, listings and points, against what SQL needs for the same."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import daskperiment
from benchmarks.histories import fill, size_of
from benchmarks.timing import Figure, best, side_by_side
from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.history import overview
from daskperiment.history.tables import get_history
from daskperiment.recording.registry import close_recorders
from daskperiment.store.opening import columns_folder, open_store
from daskperiment.store.protocol import Store

__all__ = ["NAMES", "PAGE", "of_size", "run"]

SIZES = (10_000, 100_000)
MANY = 1_000
QUICK = 15
"""Rounds of what takes milliseconds, which one noisy moment would double."""
_COLUMNS = """SELECT trial, b.body ->> '$.parameters.lr' lr, b.body ->> '$.parameters.depth' depth,
    b.body ->> '$.parameters.kind' kind, e.body ->> '$.value' result, e.body ->> '$.status' status,
    e.body ->> '$.finished' finished, e.body ->> '$.elapsed' elapsed,
    e.body ->> '$.failure.description' description
    FROM trials b JOIN trials e USING (trial) WHERE b.id = 'begun' AND e.id LIKE 'ended%'"""
_COUNT = "SELECT count(*) FROM trials WHERE id = 'begun'"
NAMES = ("lr", "depth", "kind")
PAGE: dict[str, Any] = {
    "where": "lr > 3 and kind == 'rbf' and Success", "sort": "-Result", "limit": 50,
}  # fmt: skip
"""A filtered and sorted page."""


def run(folder: Path, sizes: tuple[int, ...] = SIZES) -> Iterator[Figure]:
    """Measure histories of each size, and a folder of many experiments."""
    for size in sizes:
        yield from of_size(folder, size)
    yield from _listing(folder)
    close_recorders()


def of_size(folder: Path, size: int) -> Iterator[Figure]:
    """Measure a history of so many trials in a folder."""
    store = open_store(folder, f"history{size}")
    fill(store, size)
    connection = _plain(folder / f"plain{size}.db", store)

    def ask(**asked: Any) -> pd.DataFrame:
        return get_history(store, NAMES, **asked)

    def sql(query: str) -> pd.DataFrame:
        return pd.read_sql(query, connection)

    label, rounds = f"history of {size:,}", 3 if size < 500_000 else 1
    yield Figure(f"{label}: first reader", best(ask, 1), best(lambda: sql(_COLUMNS), 1), "s", 2)
    for name in columns_folder(store).glob("*"):
        name.unlink()
    ask()
    yield Figure(f"{label}: all", *side_by_side(ask, lambda: sql(_COLUMNS), rounds), "s",
                 2 if size < 500_000 else 1.2)  # fmt: skip
    yield Figure(f"{label}: filtered, sorted page of 50", best(lambda: ask(**PAGE), rounds), 0.2,
                 "s", 1)  # fmt: skip
    latest = f"{_COLUMNS} ORDER BY trial DESC LIMIT 20"
    last = side_by_side(lambda: ask(last=20), lambda: sql(latest), QUICK)
    yield Figure(f"{label}: the last 20", *last, "s", 5)
    yield Figure(f"{label}: one line of a list",
                 *side_by_side(lambda: overview.experiment_row("x", store),
                               lambda: sql(_COUNT), QUICK), "s", 5)  # fmt: skip
    yield Figure(f"{label}: memory / the table's own", *_memory(folder, f"history{size}"), "MB", 4)
    store.close()
    yield Figure(f"{label}: bytes a trial, written straight", size_of(folder / f"history{size}")
                 / size, 900, "B", 1)  # fmt: skip


def _plain(path: Path, store: Store) -> sqlite3.Connection:
    """Return a database in which each record stands as JSON, for SQL to look into."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE trials (position INTEGER PRIMARY KEY, trial, id, body, UNIQUE (trial, id))"
    )
    insert = "INSERT INTO trials VALUES (?, ?, ?, CAST(? AS TEXT))"
    connection.executemany(insert, store.read("trials"))
    connection.commit()
    return connection


_MEASURE = """
import re, sys
from pathlib import Path
from daskperiment.history.tables import get_history
from daskperiment.store.opening import open_store
import pandas
store = open_store(Path(sys.argv[1]), sys.argv[2])
get_history(store, (), last=1)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
frame = get_history(store, ("lr", "depth", "kind"))
print((peak() - before) / 1024, frame.memory_usage(deep=True).sum() / 1e6)
"""


def _memory(folder: Path, name: str) -> tuple[float, float]:
    command = [sys.executable, "-c", _MEASURE, str(folder), name]
    # Arrow's own pool takes some 4 MB at its first column of text, whatever that holds.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    ours, frame = done.stdout.split()
    return float(ours), float(frame)


def _listing(folder: Path) -> Iterator[Figure]:
    place = folder / "many"
    for number in range(MANY):
        store = open_store(place, f"e{number}")
        fill(store, 3)
        store.close()
    cold = best(lambda: daskperiment.list_experiments(place), 1)
    yield Figure(f"list of {MANY:,} experiments, the first time", cold, 0.3, "s", 1)
    warm = best(lambda: daskperiment.list_experiments(place), 5)
    yield Figure(f"list of {MANY:,} experiments", warm, 0.3, "s", 1)
    page = DashboardAPI(Source(place))
    cold = best(page.experiments, 1)
    yield Figure(f"front page of {MANY:,} experiments, the first time", cold, 0.5, "s", 1)
    yield Figure(f"front page of {MANY:,} experiments", best(page.experiments, 5), 0.5, "s", 1)
    page.close()
