"""The processes of a cluster; this file is run by `clusters.Hatchery`."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import warnings
from collections import Counter

import pandas
from distributed.cli import dask_scheduler, dask_worker

from daskperiment import experiment
from tests.survival.forks import take_orders

__all__ = ["client", "scheduler", "sweep", "worker"]

PRELOADED = (experiment, pandas)
"""What the programs need sooner or later, imported before they are forked."""

_NEW_MOUNTS = 0x00020000


def scheduler(file):
    """Be a scheduler that writes its address into a file."""
    arguments = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", file]
    arguments += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    dask_scheduler.main(arguments, standalone_mode=False)


def worker(address, name, folder, hidden, resources, stranger):
    """Be a worker, in a working directory of its own.

    Parameters
    ----------
    address : str
        The scheduler's.
    name : str
        The worker's.
    folder : str
        Its working directory.
    hidden : str
        A folder that it sees empty, in a mount namespace of its own; or nothing.
    resources : str
        Such as ``GPU=1``; or nothing.
    stranger : bool
        Whether the hidden folder has an experiment of its own there.
    """
    os.chdir(folder)
    if hidden:
        hide(hidden)
    if stranger:
        mine = experiment.Experiment(os.path.basename(hidden), os.path.dirname(hidden))
        mine.result(os.getpid)().compute(scheduler="synchronous")
    arguments = [address, "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    arguments += ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    arguments += ["--local-directory", folder]
    arguments += ["--resources", resources] if resources else []
    dask_worker.main(arguments, standalone_mode=False)


def client(address, backend, marker):
    """Be a client that submits a long trial, says so, and waits."""
    import pathlib

    import distributed

    import daskperiment

    ex = daskperiment.Experiment("clients", backend=pathlib.Path(backend))

    @ex.result
    def wait(path):
        import time

        pathlib.Path(path).touch()
        time.sleep(30)

    with distributed.Client(address) as connected:
        connected.compute(wait(ex.parameter("path", marker))).result()


def sweep(address, backend, folder, detach=False):
    """Be a client that runs a sweep whose trials leave files in a folder."""
    import pathlib

    import distributed

    import daskperiment

    ex = daskperiment.Experiment("swept", backend=pathlib.Path(backend))

    @ex.result
    def double(a, folder):
        return noted(a, folder)

    with distributed.Client(address):
        result = double(ex.parameter("a"), ex.parameter("folder", folder))
        result.sweep({"a": list(range(6))}, seed=1, progress=False, detach=detach)


def runs(folder):
    """Count how often `noted` was run with each number."""
    return Counter(int(path.name.partition("-")[0]) for path in folder.glob("*-*"))


def noted(a, folder):
    """Leave a file that names the process; wait for the gate, unless it is one of the first three.

    Which numbers come first, and on which worker, is for the scheduler to say.
    """
    import contextlib
    import pathlib
    import time

    place = pathlib.Path(folder)
    (place / f"{a}-{os.getpid()}-{time.time_ns()}").touch()
    for number in range(3):
        # Whoever makes one of these is among the first: two can not make the same.
        with contextlib.suppress(FileExistsError):
            (place / f"first{number}").touch(exist_ok=False)
            return 2 * a
    while not (place / "gate").exists():
        time.sleep(0.02)
    return 2 * a


def hide(folder):
    """Mount an empty file system over a folder, for this process alone."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


def run(name, *arguments):
    """Run a program to the end of its process."""
    globals()[name](*arguments)
    os._exit(0)


if __name__ == "__main__":
    warnings.simplefilter("default")  # what Dask warns of is none of these tests' business
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    take_orders(run)
