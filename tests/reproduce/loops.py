"""A training loop that draws from all generators, and breaks where the environment says so.

As a program it runs or resumes a trial: ``python -m tests.reproduce.loops STORE run synchronous``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

import numpy as np

import daskperiment

__all__ = ["BREAK", "EPOCHS", "define"]

BREAK = "DASKPERIMENT_TEST_BREAK"
"""Where it breaks: at ``7``, by ``7 SIGKILL``, or by ``7 SIGTERM parent`` to the process before."""
EPOCHS = 10


def _break_at(epoch: int) -> None:
    at, *signals = os.environ.get(BREAK, "0").split()
    if str(epoch) == at:
        if not signals:
            raise RuntimeError(f"broken at {epoch}")
        os.kill(os.getppid() if "parent" in signals else os.getpid(), signal.Signals[signals[0]])
        time.sleep(20)


def draw(rng: np.random.Generator) -> float:
    """Draw from each generator that a step has, in ways that leave something behind."""
    spawned = rng.spawn(1)[0].random() + np.random.default_rng().random()
    both = random.gauss(0, 1) + np.random.randn() + random.random() + np.random.rand()
    return float(spawned + both + rng.random())


def define(ex: daskperiment.Experiment) -> Any:
    """Make a result: a kept step, and a loop that goes on from its checkpoint."""
    lr = ex.parameter("lr", default=0.5)

    @ex.persist(reuse=False)
    def prepare(lr: float) -> list[float]:
        return [lr, ex.current_trial_id]

    @ex.result
    def train(prepared: list[float], lr: float) -> list[float]:
        weights, last = ex.restore(default=([], 0))
        for epoch in range(last + 1, EPOCHS + 1):
            weights = [*weights, lr * draw(ex.rng)]
            ex.save_metrics({"loss": weights[-1], "prepared": prepared[1]}, epoch)
            ex.checkpoint(weights, epoch)
            _break_at(epoch)
        return weights

    return train(prepare(lr), lr)


def _main(store: str, what: str, scheduler: str, seed: int = 5) -> None:
    ex = daskperiment.Experiment("loops", backend=store, seed=seed)
    result = define(ex)
    if what == "run":
        print(result.compute(scheduler=scheduler), flush=True)
    else:
        print(result.resume(int(what), scheduler=scheduler), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
