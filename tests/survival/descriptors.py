"""A process with many experiments that has no more descriptors, and later has some again.

It is given a folder and how many descriptors are left to it, and prints what each trial came to.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import daskperiment
from daskperiment.errors import StoreError

MANY = 12


def define(folder: Path, number: int) -> tuple[Any, Any]:
    ex = daskperiment.Experiment(f"e{number}", backend=folder)
    n = ex.parameter("n", default=number)

    @ex.persist
    def keep(n: int) -> list[int]:
        return [n] * 10

    @ex.result
    def total(kept: list[int]) -> int:
        ex.save_metric("loss", 0, 1.0)
        return sum(kept)

    return ex, total(keep(n))


def take_all(held: list[int], left: int) -> None:
    """Open files until only so many descriptors are left."""
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(min(left, len(held))):
            os.close(held.pop())


def main(folder: Path, left: int) -> None:
    """Compute a trial of each experiment without descriptors, then another one with them."""
    warnings.simplefilter("ignore")
    every = [define(folder, number) for number in range(MANY)]
    every[0][1].compute(scheduler="synchronous")
    limit = len(os.listdir("/proc/self/fd")) + 40
    usual, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    held: list[int] = []
    done, errors = [], []
    for number, (_, result) in enumerate(every):
        take_all(held, left)
        try:
            result.compute(scheduler="synchronous")
            done.append(number)
        except StoreError as error:
            errors.append(str(error))
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual, hard))
    for number, (ex, result) in enumerate(every):
        before = ex.get_history(running=True, verbose=True)["Status"].tolist()
        assert before == ["succeeded"] * ((number in done) + (number == 0)), (number, before)
        result.compute(scheduler="synchronous")
        trials = range(1, ex.trial_id + 1)
        assert [ex.get_persisted("keep", one) for one in trials] == [[number] * 10] * len(trials)
        assert ex.load_metric("loss", list(trials)).shape == (1, len(trials))
    print(json.dumps({"done": done, "errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
