"""Time that passes while the machine goes on, to tell whether something is waited for once."""

from __future__ import annotations

import threading
import time

__all__ = ["AwakeTime"]

_PAUSE = 0.01
_STEP = 0.1
"""Seconds that count at most from one pause to the next: what is more, the machine stood still."""


class AwakeTime:
    """Counts the seconds of a ``with`` block, without those in which no thread had its turn.

    Attributes
    ----------
    seconds : float
        How many there were until now.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> AwakeTime:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        before = time.monotonic()
        while not self._over.wait(_PAUSE):
            now = time.monotonic()
            self.seconds += min(now - before, _STEP)
            before = now
