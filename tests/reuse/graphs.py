"""Random graphs of steps that draw or do not, are kept or are not."""

from __future__ import annotations

from dataclasses import dataclass, field

import dask
from hypothesis import strategies as st

from daskperiment.planning.planner import TrialOptions

__all__ = ["Plot", "Spot", "build", "orders", "plots"]


@dataclass(frozen=True)
class Spot:
    """One node to be."""

    kind: str
    """``step``, ``kept``, ``pair`` (a kept step with two outputs), ``plain`` (no step)."""
    draws: str
    """``no``, ``rng`` or ``global``: where it draws a random number from."""
    inputs: tuple[int, ...]
    """Which of the parameters and the nodes before it are taken."""
    form: str
    """``apart``, ``list`` or ``dict``: how it takes them."""
    twin: bool = False
    """Whether it calls the function of the node before it, if that is of its kind."""


@dataclass(frozen=True)
class Plot:
    """A graph to be."""

    spots: tuple[Spot, ...]
    computed: str
    """``no``, ``plain`` or ``rng``: whether a parameter is computed, and draws a number."""
    result_is_kept: bool
    last: tuple[int, ...] = field(default=(-1,))


def spots(first, sources):
    """Make nodes that may take anything before them."""
    return st.builds(
        Spot,
        kind=st.sampled_from(["step", "kept", "kept", "pair", "plain"]),
        draws=st.sampled_from(sources),
        inputs=st.lists(st.integers(0, first - 1), max_size=3).map(tuple),
        form=st.sampled_from(["apart", "list", "dict"]),
        twin=st.booleans(),
    )


@st.composite
def plots(draw, sources=("no", "no", "rng", "global")):
    """Make graphs."""
    count = draw(st.integers(1, 5))
    found = tuple(draw(spots(3 + number, sources)) for number in range(count))
    return Plot(
        found,
        draw(st.sampled_from(["no", "plain", "rng"])),
        draw(st.booleans()),
        (*draw(st.lists(st.integers(0, 2 + count), max_size=2)), 2 + count),
    )


@st.composite
def orders(draw):
    """Make what is asked of a few trials: with few seeds and values, so that some are equal."""
    return TrialOptions(
        seed=draw(st.integers(0, 1)),
        values={name: draw(st.integers(0, 1)) for name in ("a", "b")},
        reuse=draw(st.sampled_from([True, True, True, False])),
    )


def total(value):
    """Add up whatever a node takes, with its place in the whole."""
    if isinstance(value, dict):
        return total(list(value.items()))
    if isinstance(value, (list, tuple)):
        return sum((place + 1) * total(item) for place, item in enumerate(value)) % 1_000_003
    return len(value) if isinstance(value, str) else value


def number(ex, draws):
    """Draw a number, or none."""
    import numpy as np

    if draws == "rng":
        return int(ex.rng.integers(1_000_000))
    return int(np.random.randint(1_000_000)) if draws == "global" else 0


def function(ex, place, spot, pair):
    """Make the function of a node."""
    draws = spot.draws

    def run(*args, **named):
        found = total([args, named]) * 31 + place + number(ex, draws)
        return (found, found + 1) if pair else found

    run.__name__ = f"{spot.kind}{place}"
    return run


def arranged(spot, nodes):
    """Give the arguments of a node."""
    taken = [nodes[place] for place in spot.inputs]
    if spot.kind == "plain":
        taken.append(nodes[0])  # what no parameter reaches is Dask's affair, and is not seeded
    if spot.form == "list":
        return [[taken, 1]], {}
    return ([], {"x": dict(enumerate(taken))}) if spot.form == "dict" else (taken, {})


def build(plot, ex):
    """Make the result of a graph."""
    nodes = [ex.parameter("a", default=1), ex.parameter("b", default=2)]
    nodes.append(computed(plot, ex) if plot.computed != "no" else nodes[0])
    step = None
    for place, spot in enumerate(plot.spots):
        pair = spot.kind == "pair"
        if step is None or not spot.twin or step[1] != spot.kind:
            made = function(ex, place, spot, pair)
            decorate = {
                "step": ex, "kept": ex.persist, "pair": ex.persist(nout=2), "plain": dask.delayed,
            }[spot.kind]  # fmt: skip
            step = decorate(made), spot.kind
        args, named = arranged(spot, nodes)
        node = step[0](*args, **named)
        if step[1] == "pair":
            first, second = node
            node = [second, first][place % 2]
        nodes.append(node)
    last = Spot("result", "no", tuple(plot.last), "apart")
    run = function(ex, 99, last, False)
    return ex.result(run, persist=plot.result_is_kept)(*[nodes[place] for place in plot.last])


def computed(plot, ex):
    """Make a parameter that is computed."""
    draws = "rng" if plot.computed == "rng" else "no"

    def c(a):
        return a * 2 + number(ex, draws)

    return ex.parameter(c)
