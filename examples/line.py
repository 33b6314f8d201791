"""Finds the slope of a noisy line by gradient descent.

Run it as it is, ``python examples/line.py``, or give values to its parameters:
``daskperiment run examples/line.py rate=0.5 --seed 2``.
"""

from __future__ import annotations

import numpy as np

import daskperiment

ex = daskperiment.Experiment("line", seed=1)
rate = ex.parameter("rate", default=0.1)
noise = ex.parameter("noise", default=0.5)


@ex.persist(reuse=True)
def measure(noise: float) -> np.ndarray:
    """Return 50 points of a line with slope 3."""
    x = np.linspace(0, 1, 50)
    return np.stack([x, 3 * x + ex.rng.normal(scale=noise, size=x.size)])


@ex.result
def slope(points: np.ndarray, rate: float) -> float:
    """Go downhill in 20 steps."""
    x, y = points
    guess = 0.0
    for epoch in range(20):
        deviations = guess * x - y
        ex.save_metric("loss", epoch, float((deviations**2).mean()))
        guess -= rate * 2 * float((deviations * x).mean())
    return round(guess, 4)


result = slope(measure(noise), rate)

if __name__ == "__main__":
    print(result.compute())
