"""What is done for a graph grows with its size and no faster."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import dask
import pytest

import daskperiment
from daskperiment.graph import compiling
from daskperiment.recording.registry import close_recorders
from tests.helpers.calls import calls_of, let_surroundings_rest
from tests.helpers.garbage import collect

SIZES = (100, 400)
WIDTH = 10


def add(*values):
    return sum(values) % 1000


def chain(step, start, size):
    """Return the last node of a chain."""
    value = start
    for _ in range(size):
        value = step(value, 1)
    return [value]


def spread(step, start, size):
    """Return the nodes of a map."""
    return [step(start, number) for number in range(size)]


def grid(step, start, size):
    """Return the last row of a grid in which each step takes two of the row before it."""
    row = [step(start, number) for number in range(WIDTH)]
    for _ in range(size // WIDTH - 1):
        row = [step(row[i], row[i - 1]) for i in range(WIDTH)]
    return row


def operations(folder, shape, size):
    """Build, plan, compute, explain and compare, and return the calls of each."""
    ex = daskperiment.Experiment("growth", backend=folder / str(size), seed=0)
    start = ex.parameter("start", default=0)

    @ex.result
    def last(values):
        return len(values)

    def build(size):
        return last(shape(ex.persist(add, reuse=True), start, size))

    def compute(node):  # in one thread: how often another one is waited for is a matter of luck
        return node.compute(scheduler="synchronous")

    compute(build(WIDTH))  # what is done once in a process or a store
    built = []
    counts = {"build": calls_of(lambda: built.append(build(size)))}
    result, changed = built[0], built[0].bind(start=1)
    counts["compile"] = calls_of(lambda: result.definition.template.key_specs)
    counts["compute"] = calls_of(lambda: compute(result))
    counts["plan of hits"] = calls_of(result.definition.trial_graph)
    counts["hits"] = calls_of(lambda: compute(result))
    counts["explain hits"] = calls_of(lambda: ex.explain(result))
    counts["plan of a change"] = calls_of(changed.definition.trial_graph)
    counts["explain a change"] = calls_of(lambda: ex.explain(changed))
    counts["compute a change"] = calls_of(lambda: compute(changed))
    counts["explain a trial"] = calls_of(lambda: ex.explain(4))
    counts["compare"] = calls_of(lambda: str(ex.compare(2, 4)))
    assert ex.explain(changed)["add"].verdict in ("hit", "not needed")
    return counts


@pytest.mark.skipif(
    not hasattr(dask, "_expr"), reason="older versions of Dask look at each layer for each step"
)
@pytest.mark.parametrize("shape", [chain, spread, grid])
def test_linear(tmp_path, shape, monkeypatch):
    """Whatever is done for a graph of four times the steps takes less than five times the calls."""
    let_surroundings_rest(monkeypatch)
    small, large = (operations(tmp_path, shape, size) for size in SIZES)
    ratios = {name: round(large[name] / small[name], 2) for name in small}
    assert max(ratios.values()) < 5, ratios


def test_what_others_left_is_not_counted():
    """Calls are those of what is done, and not of garbage that is collected meanwhile."""

    class Left:
        def __del__(self):
            return [abs(number) for number in range(10)]

    for _ in range(100):
        left = Left()
        left.itself = left
    del left
    assert calls_of(lambda: [[number] for number in range(100_000)]) < 10


class Paths(tuple):
    """Paths of members that count how often they were gone through for one of them."""

    __slots__ = ()
    asked = 0

    def __contains__(self, path: object) -> bool:
        Paths.asked += 1
        return super().__contains__(path)


def test_a_list_of_many_nodes_is_not_gone_through_for_each(tmp_path, monkeypatch):
    """Of the nodes in one argument each is looked up: what one call hides grows with the square."""
    known: list[int] = []

    def noted(call, **changes):
        if "given" in changes:
            given = {name: Paths(paths) for name, paths in changes["given"].items()}
            known.extend(map(len, given.values()))
            changes["given"] = given
        return replace(call, **changes)

    monkeypatch.setattr(compiling, "replace", noted)
    ex = daskperiment.Experiment("list", backend=tmp_path)
    start = ex.parameter("start", default=0)
    last = ex.result(len)(spread(ex.persist(add, reuse=True), start, 50))
    Paths.asked = 0
    assert last.definition.template.key_specs
    assert max(known) == 50
    assert Paths.asked == 0


def tracked(action: Callable[[], Any]) -> tuple[Any, int]:
    """Return what an action gives, and how many of its objects stay that the collector sees."""
    collect()
    gc.freeze()  # what was there before is not listed, nor missed if it goes meanwhile
    try:
        found = action()
        collect()
        return found, len(gc.get_objects())
    finally:
        gc.unfreeze()


OBJECTS = {
    "build": {chain: 7, spread: 8},  # four of them, or five, are a task of Dask's
    "compile": {chain: 5, spread: 5},
    "plan": {chain: 0, spread: 0},
    "graph": {chain: 0, spread: 12},
    "change": {chain: 0, spread: 0},
}
"""Objects for each step that Python's garbage collector has to look at, by what was done."""


def objects_of(folder, shape, size):
    """Build, compile and plan, and return the objects of each that stay."""
    ex = daskperiment.Experiment("objects", backend=folder / str(size), seed=0)
    start, step = ex.parameter("start", default=0), ex.persist(add, reuse=True)
    last = ex.result(lambda values: len(values))
    last(shape(step, start, WIDTH)).compute(scheduler="synchronous")
    counts = {}
    result, counts["build"] = tracked(lambda: last(shape(step, start, size)))
    counts["compile"] = tracked(lambda: result.definition.template.key_specs)[1]
    result.compute(scheduler="synchronous")
    close_recorders()  # what is being delivered is of objects, too
    changed = result.bind(start=1)
    for node in (result, changed):  # what the first plan makes stays for the next ones
        node.definition.plan()
    counts["plan"] = tracked(result.definition.plan)[1]
    counts["graph"] = tracked(result.definition.trial_graph)[1]
    counts["change"] = tracked(changed.definition.plan)[1]
    return counts


@pytest.mark.parametrize("shape", [chain, spread])
def test_objects(tmp_path, shape):
    """Few objects stand for a step, as each is one more for Python's garbage collector."""
    small, large = ({}, {})
    for round, (counts, size) in product(range(2), zip((small, large), SIZES, strict=True)):
        # Threads of other tests make objects, too: the fewer ones are ours.
        for name, count in objects_of(tmp_path / str(round), shape, size).items():
            counts[name] = min(count, counts.get(name, count))
    # Of what is there once, whatever the size, it tells nothing; one more for each step would.
    more = SIZES[1] - SIZES[0]
    steps = {name: (large[name] - small[name]) / more for name in small}
    most = {name: 0.6 + limits[shape] for name, limits in OBJECTS.items()}
    if not hasattr(dask, "_expr"):  # a task of older versions of Dask is of more objects
        most = {name: limit + 4 if name in ("build", "graph") else limit
                for name, limit in most.items()}  # fmt: skip
    assert all(count <= most[name] for name, count in steps.items()), steps


class Heavy:
    """An argument that may be large, and may refer to the graph that it is in."""

    graph: object = None

    def __dask_tokenize__(self) -> str:
        return "heavy"

    def __reduce__(self) -> tuple[type[Heavy], tuple[()]]:
        return Heavy, ()


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", None])
def test_graphs_that_are_made_anew_go(ex, reuse, scheduler):
    """Of graphs that are made for each trial, or explained, the last one stays at most."""

    @ex.persist(reuse=reuse)
    def take(x, heavy):
        return x

    @ex.result
    def done(x):
        return x

    left = []
    for number in range(6):
        heavy = Heavy()
        heavy.graph = result = done(take(ex.parameter("x"), heavy)).bind(x=number % 4)
        if scheduler is None:
            str(ex.explain(result))
        else:
            result.compute(scheduler=scheduler)
        left.append(weakref.ref(heavy))
    del heavy, result
    collect()
    assert sum(one() is not None for one in left) <= 1
