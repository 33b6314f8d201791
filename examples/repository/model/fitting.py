"""Two ways to fit weights, and how good they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from model.data import Array


def with_ones(rows: Array) -> Array:
    """Return rows with a column of ones in front."""
    return np.hstack([np.ones((len(rows), 1)), rows])


def descent(
    rows: Array, labels: Array, penalty: float, steps: int
) -> Iterator[tuple[float, Array]]:
    """Yield loss and weights of a logistic fit, step by step."""
    inputs = with_ones(rows)
    weights = np.zeros(inputs.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        loss = -np.mean(np.log(np.where(labels == 1, chance, 1 - chance) + 1e-12))
        weights = weights - inputs.T @ (chance - labels) / len(labels) - 1e-3 * penalty * weights
        yield float(loss), weights


def ridge(rows: Array, labels: Array, penalty: float) -> Array:
    """Return the weights of a linear fit."""
    inputs = with_ones(rows)
    square = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(square, inputs.T @ (2 * labels - 1)), dtype=np.float64)


def share_correct(weights: Array, rows: Array, labels: Array) -> float:
    """Return the share of rows whose label the weights tell."""
    return float(((with_ones(rows) @ weights > 0) == (labels == 1)).mean())
