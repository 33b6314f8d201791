"""Programs that tests start, and kill: ``python trials.py NAME FOLDER …``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import daskperiment


def squares(backend, first, count, ready=None):
    """Compute so many trials, each with a parameter of its own."""
    ex = daskperiment.Experiment("many", backend=backend)
    a = ex.parameter("a")

    @ex
    def square(a):
        return a * a

    @ex.result
    def keep(x):
        return x

    result = keep(square(a))
    for i in range(int(first), int(first) + int(count)):
        result.bind(a=i).compute(scheduler="synchronous")


def endless(backend, log):
    """Compute trials until killed; tell in a file what had returned."""
    ex = daskperiment.Experiment("endless", backend=backend)
    number = ex.parameter("number")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @ex
    def train(number):
        for epoch in range(5):
            ex.save_metric("loss", epoch, number + epoch)
            os.write(file, f"point {ex.current_trial_id} {epoch}\n".encode())
        return number

    @ex.result
    def keep(x):
        return x

    result = keep(train(number))
    i = 0
    while True:
        i += 1
        value = result.bind(number=i).compute(scheduler="synchronous")
        os.write(file, f"trial {ex.trial_id} {value}\n".encode())


if __name__ == "__main__":
    name, backend, *rest = sys.argv[1:]
    if "://" not in backend:
        backend = Path(backend)
    globals()[name](backend, *rest)
