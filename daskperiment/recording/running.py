"""The trials that this process keeps alive, and those that it ended lately."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

__all__ = ["RunningTrial", "RunningTrials", "remember"]

REMEMBERED = 256


class RunningTrial(NamedTuple):
    """A trial that this process keeps alive."""

    trial: int
    since: float
    finalizer: weakref.finalize[[str], Any] | None


class RunningTrials:
    """Which trials run here: begun and not ended, or another process's while one step runs."""

    def __init__(self) -> None:
        self._running: dict[str, RunningTrial] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._dropped: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._running)

    @property
    def numbers(self) -> set[int]:
        """Ids of the trials that run."""
        return {running.trial for running in list(self._running.values())}

    def begin(self, trial: int, token: str, handle: object | None = None) -> None:
        """Count a trial as running until it ends.

        Parameters
        ----------
        trial : int
            Its id.
        token : str
        handle : object, optional
            Counts as dropped when this is garbage; without one whoever follows the trial knows.
        """
        finalizer = None
        if handle is not None:
            # A garbage collector may run this anywhere: it must take no lock.
            finalizer = weakref.finalize(handle, self._dropped.append, token)
            finalizer.atexit = False  # whoever closes asks for those that are left
        self._running[token] = RunningTrial(trial, time.time(), finalizer)

    def end(self, token: str) -> None:
        """Count a trial as ended."""
        running = self._running.pop(token, None)
        if running is not None and running.finalizer is not None:
            running.finalizer.detach()
        remember(self._ended, token, "")

    def has_ended(self, token: str) -> bool:
        """Whether the trial ended in this process, lately."""
        return token in self._ended

    @contextmanager
    def visit(self, trial: int, token: str) -> Iterator[None]:
        """Count a trial of another process as running while one of its steps runs here."""
        visit = f"{token}/{threading.get_ident()}"
        self._running[visit] = RunningTrial(trial, time.time(), None)
        try:
            yield
        finally:
            self._running.pop(visit, None)

    def take_dropped(self) -> list[RunningTrial]:
        """Return the trials whose computation was dropped before they ended, each once."""
        found = []
        while self._dropped:
            running = self._running.pop(self._dropped.popleft(), None)
            if running is not None:
                found.append(running)
        return found

    def drop_all(self) -> None:
        """Count all as dropped: the process ends."""
        self._dropped.extend(self._running)

    def forget_ended(self) -> None:
        """Forget which trials ended here."""
        self._ended.clear()


T = TypeVar("T")


def remember(known: OrderedDict[str, T], item: str, value: T) -> None:
    """Add to a mapping that keeps the latest few hundred."""
    known[item] = value
    while len(known) > REMEMBERED:
        try:
            known.popitem(last=False)
        except KeyError:  # another thread was faster
            return
