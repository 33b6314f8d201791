from __future__ import annotations

import pytest

from tests.history.lab import Lab


@pytest.fixture
def lab() -> Lab:
    """Make an experiment without trials, in a store in memory."""
    return Lab()
