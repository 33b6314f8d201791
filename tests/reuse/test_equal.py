"""Whatever is reused, a trial returns what it returns without reuse."""

from __future__ import annotations

import tempfile
from pathlib import Path

import dask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import daskperiment
from tests.reuse.graphs import build, orders, plots

EXAMPLES = 10


def values(plot, asked, scheduler, at_once):
    """Compute trials of a graph in a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        ex = daskperiment.Experiment("random", backend=Path(folder))
        results = [build(plot, ex).with_options(order) for order in asked]
        if at_once:
            return list(dask.compute(*results, scheduler=scheduler))
        return [result.compute(scheduler=scheduler) for result in results]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_random_graphs(scheduler, at_once):
    """Trials of random graphs are equal with and without reuse, one by one and all at once."""
    # What is drawn from the global state while steps run side by side depends on timing.
    sources = ["no", "rng"] if scheduler == "threads" else ["no", "no", "rng", "global"]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plots(sources), st.lists(orders(), min_size=2, max_size=5))
    def check(plot, asked):
        plain = [order.refined(reuse=False) for order in asked]
        expected = values(plot, plain, "synchronous", at_once=False)
        assert values(plot, asked, scheduler, at_once) == expected

    check()
