"""What the tests of sweeps share."""

from __future__ import annotations

from typing import Any

import pytest

from daskperiment.sweep import sweep
from tests.sweep import hooks


@pytest.fixture
def adding(ex):
    """Make a result that adds two parameters, and fails where they make 13."""
    a = ex.parameter("a")
    b = ex.parameter("b", default=10)

    @ex.result
    def add(a, b):
        if a + b == 13:
            raise ZeroDivisionError("thirteen")
        return a + b

    return add(a, b)


@pytest.fixture
def quiet():
    """Run a sweep without showing its progress."""

    def run(result: Any, *args: Any, **kwargs: Any) -> Any:
        return sweep(result, *args, **{"progress": False, **kwargs})

    return run


@pytest.fixture
def cutting(ex):
    """Make a result whose function calls what a test puts into a list."""
    a = ex.parameter("a")

    @ex.result
    def double(a):
        hooks.call(a)
        return 2 * a, int(ex.rng.integers(1_000_000))

    yield double(a), hooks.HOOKS
    hooks.HOOKS.clear()
