"""Plain outputs are kept once, and make room as others do."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

import daskperiment

VALUES = {
    "text": lambda n: random.Random(n).randbytes(20_000).hex(),
    "list": lambda n: [n + i for i in range(2000)],
    "dict": lambda n: {f"key {i}": n for i in range(500)},
    "bytes": lambda n: random.Random(n).randbytes(5000),
    "tuple": lambda n: tuple(range(n, n + 1000)),
}


def make(backend, value, **options):
    """Make a result of one reusable step."""
    ex = daskperiment.Experiment("plain", backend=backend, seed=1, **options)
    n, k = ex.parameter("n"), ex.parameter("k", default=0)

    @ex.persist(reuse=True)
    def tokens(n):
        return value(n)

    @ex.result
    def out(value, k):
        return len(value) + k

    return ex, out(tokens(n), k)


@pytest.mark.parametrize("kind", VALUES)
def test_prune(tmp_path, kind):
    """Plain outputs count, are dropped, run again, and are kept again."""
    ex, result = make(tmp_path, VALUES[kind])
    expected = [result.bind(n=n).compute() for n in range(3)]
    kept = ex.get_persisted("tokens", 1)
    assert kept == VALUES[kind](0)
    assert type(kept) is type(VALUES[kind](0))
    assert len(ex.prune(max_bytes=0, dry_run=True)) == 3
    assert len(ex.prune(max_bytes=0)) == 3
    assert ex.explain(result.bind(n=0))["tokens"].verdict == "miss"
    assert [result.bind(n=n).compute() for n in range(3)] == expected
    assert ex.explain(result.bind(n=0))["tokens"].verdict == "hit"
    assert len(ex.prune(max_bytes=0)) == 3


def test_kept_once(tmp_path):
    """An output is in the store once, however many trials have it."""
    ex, result = make(tmp_path, VALUES["text"])
    for k in range(5):
        result.bind(n=0, k=k).compute()
    ex.flush()
    text = VALUES["text"](0)
    with closing(sqlite3.connect(tmp_path / "plain" / "records.sqlite")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = 0
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                cells = [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
                found += sum(text.encode() in cell for cell in cells)
    assert found == 1
