"""The functions are tested as they are: no store, no trial."""

from __future__ import annotations

import numpy as np
from model import data, fitting
from settings import FitSettings
from train import fit

from daskperiment.testing import no_trial

ROWS = np.array([[-2.0], [-1.0], [1.0], [2.0]])
LABELS = np.array([0.0, 0.0, 1.0, 1.0])


def test_both_fits_tell_what_is_easy_to_tell() -> None:
    """Rows on two sides of zero are told apart."""
    for weights in (
        fitting.ridge(ROWS, LABELS, 0.1),
        list(fitting.descent(ROWS, LABELS, 0.1, 20))[-1][1],
    ):
        assert fitting.share_correct(weights, ROWS, LABELS) == 1.0


def test_a_step_is_tested_without_a_trial() -> None:
    """The function behind a step saves metrics, which go nowhere."""
    parts = data.Parts(ROWS, LABELS, ROWS, LABELS)
    with no_trial():
        weights = fit.__wrapped__(parts, FitSettings(steps=5))
    assert weights.shape == (2,)


def test_no_row_is_lost() -> None:
    """Rows to fit with and rows to test with are all rows."""
    parts = data.divided(ROWS, LABELS, 0.25, np.arange(4))
    assert sorted([*parts.rows[:, 0], *parts.test_rows[:, 0]]) == ROWS[:, 0].tolist()
