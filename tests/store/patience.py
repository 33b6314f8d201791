"""Waiting for a server that comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from daskperiment.errors import StoreUnavailableError

__all__ = ["once_back"]

T = TypeVar("T")


def once_back(call: Callable[[], T]) -> T:
    """Call until the server, which was started again or goes on, answers in time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except StoreUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
