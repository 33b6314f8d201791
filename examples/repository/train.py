"""The experiment: which functions are steps, and what they take.

``python train.py`` computes a trial, ``python train.py fit.kind=ridge`` another.
"""

from __future__ import annotations

import numpy as np
from model import data, fitting
from settings import FitSettings, Settings

import daskperiment

ex = daskperiment.Experiment("breast-cancer", seed=7, reuse=True)
settings = ex.config(Settings)


@ex.persist
def divide(test_share: float, scaled: bool) -> data.Parts:
    """Return the parts of the data, divided at random."""
    rows, labels = data.loaded()
    order = ex.rng.permutation(len(rows))
    return data.divided(data.scaled(rows) if scaled else rows, labels, test_share, order)


@ex.persist
def fit(parts: data.Parts, how: FitSettings) -> data.Array:
    """Return weights, and save how the loss goes."""
    if how.kind == "ridge":
        return fitting.ridge(parts.rows, parts.labels, how.penalty)
    weights = np.zeros(0)
    found = fitting.descent(parts.rows, parts.labels, how.penalty, how.steps)
    for step, (loss, weights) in enumerate(found):  # noqa: B007  # the last ones are returned
        ex.save_metric("loss", step, loss)
    return weights


@ex.result
def score(weights: data.Array, parts: data.Parts) -> dict[str, float]:
    """Return the shares of rows that are told correctly."""
    return {
        "test": fitting.share_correct(weights, parts.test_rows, parts.test_labels),
        "train": fitting.share_correct(weights, parts.rows, parts.labels),
    }


parts = divide(settings.data.test_share, settings.data.scaled)
result = score(fit(parts, settings.fit), parts)

if __name__ == "__main__":
    result.main()
