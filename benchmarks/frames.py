"""Fingerprints of wide frames against pickle of them and one hash of the bytes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from xxhash import xxh3_128

from benchmarks.timing import Figure, best, side_by_side
from daskperiment.capture.fingerprint import fingerprint

__all__ = ["run"]

WIDTH = 20_000
ROWS = 100
BUDGET = 3.0
_LONG = 0.05
"""Seconds of a run that is not repeated as often."""
KINDS = (np.arange(ROWS), np.linspace(0, 1, ROWS), np.arange(ROWS) % 2 == 0)
NULLABLE = ("Int64", "Float64", "boolean")
SHARED = pd.CategoricalDtype(["a", "b"])


def run(folder: Path) -> Iterator[Figure]:
    """Measure frames that are made in ways in which wide frames are made."""
    for name, make in FRAMES.items():
        frame = make()
        pair = (
            lambda frame=frame: fingerprint(frame),
            lambda frame=frame: xxh3_128(pickle.dumps(frame, 5)).digest(),
        )
        # What a pickle takes is mostly a matter of whether the system has pages at hand for its
        # bytes: 1.2 ms where the allocator recycles them, and 4 to 12 where it asks for others.
        side_by_side(*pair, rounds=2)
        ours, floor = side_by_side(*pair, rounds=5 if best(pair[1], 1) > _LONG else 40)
        yield Figure(
            f"fingerprint of {WIDTH:,} columns, {name} / pickle, hash",
            ours * 1e3, floor * 1e3, "ms", BUDGET,
        )  # fmt: skip


def _numbers() -> pd.DataFrame:
    values = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
    return pd.DataFrame(values, columns=[f"c{n}" for n in range(WIDTH)])


def _by_column(column: Callable[[int], object]) -> pd.DataFrame:
    return pd.DataFrame({f"c{n}": column(n) for n in range(WIDTH)})


def _mixed() -> pd.DataFrame:
    return _by_column(lambda n: KINDS[n % len(KINDS)]).copy()


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "numbers": _numbers,
    "mixed numbers": _mixed,
    "many blocks": lambda: _by_column(lambda n: pd.array(np.arange(ROWS), dtype="Int64")),
    "a block for each column": lambda: pd.DataFrame(
        {f"c{n}": KINDS[n % len(KINDS)].copy() for n in range(WIDTH)}, copy=False
    ),
    "nullable": lambda: _by_column(lambda n: pd.array([1, None] * 50, dtype=NULLABLE[n % 3])),
    "categories": lambda: _by_column(lambda n: pd.Categorical(["a", "b"] * 50, dtype=SHARED)),
    "a list of categories for each": lambda: _by_column(
        lambda n: pd.Categorical(["a", f"b{n}"] * (ROWS // 2))
    ),
    "dates": lambda: _by_column(lambda n: pd.date_range("2020", periods=ROWS)).copy(),
    "texts": lambda: _by_column(lambda n: ["a", f"b{n}"] * (ROWS // 2)),
    "text beside numbers": lambda: _by_column(
        lambda n: ["a", f"b{n}"] * (ROWS // 2) if n % 10 == 0 else np.linspace(n, 1, ROWS)
    ),
}
