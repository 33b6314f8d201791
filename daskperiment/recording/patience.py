"""Waiting for a store that is away, where whoever asks is willing to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from daskperiment.errors import StoreUnavailableError

__all__ = ["patiently"]

T = TypeVar("T")

_PAUSES = (0.05, 1.0)
"""Seconds between two tries, at first and at most."""


def patiently(act: Callable[[], T], seconds: float) -> T:
    """Return what `act` returns, tried again for so long as the store is away.

    Whoever gives a time lets `act` be done twice: what an answer that was lost had done, too.
    """
    deadline, (pause, longest) = time.monotonic() + seconds, _PAUSES
    while True:
        try:
            return act()
        except StoreUnavailableError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                if seconds:
                    error.add_note(f"It was waited {seconds:g} s for it (daskperiment.patience).")
                raise
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest)
