"""The data, and how it is divided."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer

Array = npt.NDArray[np.float64]


class Parts(NamedTuple):
    """Rows and labels to fit with, and those to test with."""

    rows: Array
    labels: Array
    test_rows: Array
    test_labels: Array


def scaled(rows: Array) -> Array:
    """Return rows whose columns have mean 0 and deviation 1."""
    deviation = rows.std(axis=0)
    return np.asarray((rows - rows.mean(axis=0)) / np.where(deviation == 0, 1, deviation))


def divided(rows: Array, labels: Array, share: float, order: npt.NDArray[np.int64]) -> Parts:
    """Return parts, of which the first rows in an order are those to test with."""
    test, train = np.split(order, [round(share * len(rows))])
    return Parts(rows[train], labels[train], rows[test], labels[test])


def loaded() -> tuple[Array, Array]:
    """Return rows and labels of a data set that comes with scikit-learn."""
    rows, labels = load_breast_cancer(return_X_y=True)
    return np.asarray(rows, dtype=float), np.asarray(labels, dtype=float)
