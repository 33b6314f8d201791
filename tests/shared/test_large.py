"""Large values."""

from __future__ import annotations

import numpy as np
import pytest

import daskperiment
from tests.shared.conftest import open_again


@pytest.mark.parametrize("kind", ["folder", "redis", "mongo"])
def test_array_of_200_megabytes(kind, make_place):
    """A persisted array of 200 MB comes back equal, and can be written to."""
    place = make_place(kind)
    ex = daskperiment.Experiment("large", backend=place.backend)
    array = np.random.default_rng(0).integers(0, 256, 200_000_000, np.uint8)

    @ex.persist
    def make():
        return array

    @ex.result
    def measure(x):
        return x.nbytes

    assert measure(make()).compute() == 200_000_000
    back = open_again("large", place.backend).get_persisted("make", 1)
    assert back.dtype == array.dtype
    assert back.flags.writeable
    assert np.array_equal(back, array)
