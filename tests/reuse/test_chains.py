"""A graph may be deeper than Python's stack: reuse walks it without recursion."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

import numpy as np
import pytest

import daskperiment
from daskperiment.errors import StoreWarning

DEPTH = 300
ARRAYS = "instr(body, CAST('NUMPY' AS BLOB))"


def add(value):
    return value + 1


def damage(folder, where):
    """Change the last byte of objects, and return how many there were."""
    with closing(sqlite3.connect(folder / "deep" / "records.sqlite")) as database, database:
        changed = "CAST(substr(body, 1, length(body) - 1) || '!' AS BLOB)"
        return database.execute(f"UPDATE _objects SET body = {changed} WHERE {where}").rowcount


def chain(ex, first, depth=DEPTH, step=None):
    """Make a result of a chain of reusable steps."""
    step = step or ex.persist(add, reuse=True)
    value = first
    for _ in range(depth):
        value = step(value)

    @ex.result
    def last(value):
        return float(np.sum(value))

    return last(value)


@pytest.fixture
def shallow():
    """Leave Python a stack that is not as deep as the chain."""
    before = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 220)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("shallow")
def test_shallow_stack(tmp_path):
    """Computing, explaining and comparing a chain need no stack as deep as the chain."""
    ex = daskperiment.Experiment("deep", backend=tmp_path, seed=0)
    start = ex.parameter("start", default=0)
    result = chain(ex, start)
    assert result.compute() == DEPTH
    assert [step.verdict for step in ex.explain(result)][-2:] == ["hit", "run"]
    assert result.compute() == DEPTH
    assert ex.get_steps(2)["Reused From"].dropna().tolist() == [1]
    assert result.bind(start=1).compute() == DEPTH + 1
    assert ex.explain(result.bind(start=-1000))["add"].verdict == "miss"
    assert ex.compare(1, 2).steps


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.usefixtures("shallow")
def test_lost_outputs(tmp_path, scheduler):
    """Where no output of a chain can be loaded, the steps run again, whatever their number."""
    ex = daskperiment.Experiment("deep", backend=tmp_path, seed=0)
    result = chain(ex, np.zeros(200), 30 if scheduler == "processes" else DEPTH)
    expected = result.compute()
    assert damage(tmp_path, ARRAYS) > 20
    if scheduler == "processes":  # which say it in their own output
        assert result.compute(scheduler=scheduler) == expected
    else:
        with pytest.warns(StoreWarning, match="cannot be loaded"):
            assert result.compute(scheduler=scheduler) == expected


@pytest.mark.usefixtures("shallow")
def test_unchecked_chain(tmp_path):
    """What comes through a chain of outputs that nobody can compare is found without recursion."""
    ex = daskperiment.Experiment("deep", backend=tmp_path, seed=0)

    @ex
    def hide(holder):
        value = holder if isinstance(holder, int) else next(holder)
        return iter([value])

    value = ex.parameter("start", default=0)
    for _ in range(DEPTH):
        value = hide(value)

    @ex.result
    def last(holder):
        return next(holder)

    result = last(value)
    assert result.compute(scheduler="synchronous") == 0
    assert result.bind(start=1).compute(scheduler="synchronous") == 1
    assert "parameter start 0 -> 1 by way of step 'hide'" in str(ex.compare(1, 2))


def test_nearest_output(tmp_path):
    """Where one output cannot be loaded, only its step runs, on what was kept before it."""
    ex = daskperiment.Experiment("deep", backend=tmp_path, seed=0)
    log = tmp_path / "log"

    @ex.persist(reuse=True)
    def grow(values, log):
        with open(log, "a") as file:
            file.write("x")
        return np.append(values, len(values))

    value = np.zeros(200)
    for _ in range(10):
        value = grow(value, str(log))

    @ex.result
    def last(values):
        return float(values.sum())

    result = last(value)
    expected = result.compute()
    longest = f"SELECT max(length(body)) FROM _objects WHERE {ARRAYS}"
    assert damage(tmp_path, f"{ARRAYS} AND length(body) = ({longest})") == 1
    log.unlink()
    with pytest.warns(StoreWarning, match="cannot be loaded"):
        assert result.compute() == expected
    assert log.read_text() == "x"


def test_cluster(tmp_path, client):
    """A chain that is reused goes to a cluster in one piece, as one that runs does."""
    ex = daskperiment.Experiment("deep", backend=tmp_path, seed=0)
    result = chain(ex, 0)
    assert result.compute() == DEPTH
    assert client.compute(result).result() == DEPTH
    assert ex.get_steps(2)["Reused From"].dropna().tolist() == [1]
