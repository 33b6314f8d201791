"""Graphs whose steps write down that they run, for several processes to import."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

import daskperiment

__all__ = ["again", "fits", "ran", "write"]


def write(log, name):
    """Write down that a step runs."""
    with open(log, "a") as file:
        file.write(f"{name}\n")


def ran(log):
    """Tell how often each step ran since the last call."""
    path = Path(log)
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return dict(Counter(names))


def fits(ex, log, load_is_kept=True):
    """Make six results: two settings of features, three learning rates."""
    size = ex.parameter("size", default=1)
    rate = ex.parameter("rate", default=0.1)

    @(ex.persist if load_is_kept else ex)
    def load():
        write(log, "load")
        return np.arange(6.0)

    @ex.persist
    def features(data, size):
        write(log, "features")
        ex.save_metric("norm", 0, float(size))
        return data * size

    @ex.persist
    def fit(data, rate):
        write(log, "fit")
        return data.sum() * rate

    @ex.result
    def score(value):
        return float(value)

    result = score(fit(features(load(), size), rate))
    return [result.bind(size=size, rate=rate) for size in (1, 2) for rate in (1, 2, 3)]


VALUES = [15.0, 30.0, 45.0, 30.0, 60.0, 90.0]
ONCE = {"load": 1, "features": 2, "fit": 6}
"""What runs if nothing is done twice."""


def again(backend, log):
    """Compute the six results one by one in a process of its own."""
    ex = daskperiment.Experiment("fits", backend=backend, reuse=True)
    assert [result.compute() for result in fits(ex, log)] == VALUES


if __name__ == "__main__":
    from tests.reuse import work

    work.again(*sys.argv[1:])
