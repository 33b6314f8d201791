"""Programs that tests start, and kill; this file is run by `processes.Nursery`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import distributed
import git
import pymongo
import redis

import daskperiment
from daskperiment import experiment
from daskperiment.recording.claims import Claims
from tests.survival.forks import take_orders

__all__ = ["abroad", "claimant", "endless", "job", "squares", "waiting"]

PRELOADED = (experiment, distributed, git, pymongo, redis)
"""What the programs need sooner or later, imported before they are forked."""


def claimant(folder, gate):
    """Claim something beside journals, and give it back when a file is there."""
    claims = Claims(Path(folder))
    claim = claims.take("a", Path(folder, "comes").touch)
    Path(folder, "claimed").touch()
    while not os.path.exists(gate):
        time.sleep(0.01)
    if claim is not None:
        claims.give_back(claim)


def squares(backend, first, count):
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
    for i in range(first, first + count):
        result.bind(a=i).compute(scheduler="synchronous")


def endless(backend, log):
    """Compute trials until killed, but for pauses; tell in a file what had returned."""
    pause = os.path.join(os.path.dirname(log), "pause")
    ex = daskperiment.Experiment("endless", backend=backend)
    number = ex.parameter("number")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    trial = 0

    @ex
    def train(number):
        nonlocal trial
        trial = ex.current_trial_id
        for epoch in range(5):
            ex.save_metric("loss", epoch, number + epoch)
            os.write(file, f"point {trial} {epoch}\n".encode())
        return number

    @ex.result
    def keep(x):
        return x

    result = keep(train(number))
    i = 0
    while True:
        while os.path.exists(pause):
            time.sleep(0.005)
        i += 1
        value = result.bind(number=i).compute(scheduler="synchronous")
        os.write(file, f"trial {trial} {value}\n".encode())


def job(backend, folder, number, hold):
    """Compute one trial of many that have steps in common, as a job of an array does.

    The step that all have in common notes in the folder that it runs, and waits for a file there.
    """
    ex = daskperiment.Experiment("array", backend=backend)
    place, n, gate = Path(folder), ex.parameter("n"), hold

    @ex.persist(reuse=True, ignore=["place", "gate"])
    def data(place, gate):
        (place / f"data-{os.getpid()}").touch()
        while not (place / gate).exists():
            time.sleep(0.005)
        return [1, 2, 3]

    @ex.persist(reuse=True, ignore=["place"])
    def noise(data, place):
        (place / f"noise-{os.getpid()}").touch()
        return ex.rng.random()

    @ex.result
    def score(data, noise, n):
        return sum(data) * n + noise

    rows = data(place, gate)
    result = score(rows, noise(rows, place), n)
    (place / f"ready-{os.getpid()}").touch()
    result.bind(n=number).compute(scheduler="synchronous")


def abroad(backend, seconds, count):
    """Compute trials on what counts as another machine, whose clock differs by so many seconds."""
    _travel(seconds)
    squares(backend, seconds, count)


def waiting(backend, seconds, log, gate):
    """Compute one trial on such a machine; its step ends when a file is there."""
    _travel(seconds)
    ex = daskperiment.Experiment("waiting", backend=backend)

    @ex.result
    def wait(log, gate):
        Path(log).write_text(str(ex.current_trial_id))
        while not Path(gate).exists():
            time.sleep(0.05)
        return 1

    result = wait(ex.parameter("log"), ex.parameter("gate"))
    result.bind(log=log, gate=gate).compute(scheduler="synchronous")


def _travel(seconds):
    real = time.time
    time.time = lambda: real() + seconds
    socket.gethostname = lambda: f"{seconds} seconds from here"


def run(name, backend, *arguments):
    """Run a program."""
    globals()[name](backend if "://" in backend else Path(backend), *arguments)


if __name__ == "__main__":
    take_orders(run)
