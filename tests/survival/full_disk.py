"""A trial on a disk that fills while it runs."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

import daskperiment

disk, role, *how = sys.argv[1:]
ballast = Path(disk) / "ballast"
warnings.simplefilter("always", daskperiment.errors.StoreWarning)
if "nowhere" in how:
    tempfile.tempdir = disk  # where even the system's own folder has no room
ex = daskperiment.Experiment("full", backend=Path(disk) / "store")


def fill():
    """Leave no room for a byte, or for a file."""
    ballast.mkdir(exist_ok=True)
    with suppress(OSError):
        if "files" in how:
            for number in range(1000):
                (ballast / str(number)).touch()
        with open(ballast / "bytes", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))


@ex
def train():
    ex.save_metric("loss", 0, 0.0)
    fill()
    if "artifacts" in how:
        ex.save("weights", np.arange(200_000.0))
        ex.save("report", {"accuracy": 0.5})
        print("saved", file=sys.stderr)
    for epoch in range(1, 300):
        ex.save_metric("loss", epoch, float(epoch))
    if "much" in how:
        for number in range(4000):
            print("line", number, "x" * 40, file=sys.stderr)
    if "killed" in how:
        os.kill(os.getpid(), signal.SIGKILL)
    return 42


@ex.persist
def small(x):
    return np.arange(2000.0)


@ex.persist(reuse=True)
def large(x):
    return np.arange(400_000.0)


@ex.result
def last(x, y, z):
    return x


if "full" in how:
    fill()
if role == "trial":
    trained = train()
    print(last(trained, small(trained), large(trained)).compute(scheduler="synchronous"))
    print("waiting" if "records for the store" in repr(ex) else "all there")
    if "stay" not in how:
        for path in ballast.iterdir():
            path.unlink()
        ex.flush()
elif role == "look":
    print(len(ex.get_history(running=True)))
elif role == "artifacts":
    said = [line.partition(" stderr: ")[2] for line in ex.get_log(1).splitlines()]
    print(
        ex.load("weights", 1)[-1],
        ex.load("report", 1),
        "saved" in said,
        len(ex.load_metric("loss", 1)),
        *(["line 3999" in ex.get_log(1)] if "much" in how else ()),
    )
else:
    row = ex.get_history(verbose=True, running=True).loc[1]
    print(
        row["Status"], row["Result"], "points", len(ex.load_metric("loss", 1)),
        "steps", len(ex.get_steps(1)),
        "kept", len(ex.get_persisted("small", 1)), len(ex.get_persisted("large", 1)),
    )  # fmt: skip
