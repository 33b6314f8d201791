"""A trial during which its server is killed; as a program: ``python outage.py BACKEND PID``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import dask
import numpy as np
import psutil

import daskperiment

__all__ = ["POINTS", "compute_through"]

POINTS = 50


def compute_through(ex: daskperiment.Experiment, kill: Callable[[], object]) -> int:
    """Compute a trial in whose step the server is killed; give its result."""

    @ex.persist
    def train(size):
        ex.save_metric("loss", 0, 0.0)
        kill()
        for epoch in range(1, POINTS):
            ex.save_metric("loss", epoch, epoch / 2)
        return np.arange(size)

    @ex.result
    def total(array):
        return int(array.sum())

    return int(total(train(ex.parameter("size", default=1000))).compute())


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone; nobody waits long for it from now on."""
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    dask.config.set({"daskperiment.timeout": 5})


if __name__ == "__main__":
    backend, server = sys.argv[1:]
    print(
        compute_through(
            daskperiment.Experiment("outage", backend=backend), lambda: kill(int(server))
        )
    )
