"""The progress of a sweep on a terminal or in a notebook."""

from __future__ import annotations

import time
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Progress"]

_REFRESH = 0.1
"""Seconds between two drawings of what began, at least."""


class _Bar(tqdm):  # type: ignore[misc]  # tqdm ships no types
    """A bar without the thread that watches over bars: trials bring it forward often enough."""

    monitor_interval = 0


class Progress:
    """Counts the trials of a sweep, and shows them if that is wanted.

    Parameters
    ----------
    sweep : str
        The sweep's id.
    total : int, optional
        How many trials it has, if that is known.
    before : int
        How many of them an earlier part of the sweep did.
    shown : bool
    """

    def __init__(self, sweep: str, total: int | None, before: int, shown: bool) -> None:
        self._failed = 0
        self._running = 0
        self._drawn = 0.0
        self._bar: Any = _Bar(
            desc=f"sweep {sweep}", total=total, initial=before, unit="trial", disable=not shown
        )

    def running(self, number: int) -> None:
        """Say how many trials are in flight."""
        self._running = number
        self._tell()
        # Else nothing would be seen of the first trials before one of them has ended.
        if not self._bar.disable and time.monotonic() - self._drawn >= _REFRESH:
            self._drawn = time.monotonic()
            self._bar.refresh()

    def ended(self, failed: bool) -> None:
        """Count one more trial."""
        self._failed += failed
        self._running -= 1
        self._tell()
        self._bar.update()

    def _tell(self) -> None:
        if not self._bar.disable:
            self._bar.set_postfix(running=self._running, failed=self._failed, refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
