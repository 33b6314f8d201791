"""The trials that this process keeps alive, and those that it ended lately."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from daskperiment.execution.lifecycle import Trial

__all__ = ["Alive", "AliveTrials", "remember"]

REMEMBERED = 256


class Alive(NamedTuple):
    """A trial that this process keeps alive."""

    trial: int
    since: float
    finalizer: weakref.finalize[[str], Trial] | None


class AliveTrials:
    """Which trials are alive here: begun and not ended, or visiting for one step."""

    def __init__(self) -> None:
        self._active: dict[str, Alive] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._dropped: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._active)

    @property
    def numbers(self) -> set[int]:
        """Ids of the trials that are alive."""
        return {alive.trial for alive in list(self._active.values())}

    def begun(self, trial: Trial) -> None:
        """Count a trial as alive until it ends, or until its computation is dropped."""
        # A garbage collector may run this anywhere: it must take no lock.
        finalizer = None
        if not trial.followed:  # else whoever follows it knows better
            finalizer = weakref.finalize(trial, self._dropped.append, trial.token)
            finalizer.atexit = False  # whoever closes asks for those that are left
        self._active[trial.token] = Alive(trial.trial, time.time(), finalizer)

    def ended(self, token: str) -> None:
        """Count a trial as ended."""
        alive = self._active.pop(token, None)
        if alive is not None and alive.finalizer is not None:
            alive.finalizer.detach()
        remember(self._ended, token, "")

    def has_ended(self, token: str) -> bool:
        """Whether the trial ended in this process, lately."""
        return token in self._ended

    @contextmanager
    def visiting(self, trial: Trial) -> Iterator[None]:
        """Count a trial of another process as alive while one of its steps runs here."""
        visit = f"{trial.token}/{threading.get_ident()}"
        self._active[visit] = Alive(trial.trial, time.time(), None)
        try:
            yield
        finally:
            self._active.pop(visit, None)

    def abandoned(self) -> Iterator[Alive]:
        """Take the trials whose computation was dropped before they ended."""
        while self._dropped:
            alive = self._active.pop(self._dropped.popleft(), None)
            if alive is not None:
                yield alive

    def abandon_all(self) -> None:
        """Count all as dropped: the process ends."""
        self._dropped.extend(self._active)

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
