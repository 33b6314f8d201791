"""Metrics of what trials use of the machine, every few seconds of those that run that long.

The background thread of recorders looks, once a second, whether any is due: a short trial, and the
steps of a long one, do nothing for it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import DecodeError, Struct, json

from daskperiment.cluster import worker
from daskperiment.recording.machine_use import MachineUse, used_between
from daskperiment.recording.outputs import remember
from daskperiment.records import SYSTEM, Point
from daskperiment.store.protocol import Owner

__all__ = ["SystemMetrics", "WatchedTrial"]

_STALE = 60.0
"""Seconds after which what was used before says nothing of now."""
_LATELY = 0.5
"""Seconds in which two trials that are due get the same values."""


class WatchedTrial(NamedTuple):
    """A trial, or a step of another process's trial, that runs here."""

    owner: Owner
    since: float
    """Since when it runs here."""
    every: float
    """Seconds between two looks at what it uses of the machine."""
    key: bytes | None
    """By which its records are signed."""
    at_home: bool
    """Whether this process computes it."""


class _RecordedStart(Struct, gc=False):
    started: float


class SystemMetrics:
    """When each trial of this process is due, and what was used until now.

    Parameters
    ----------
    look : callable
        Returns what is used now.
    clock : callable
        Returns the seconds since the Unix epoch.
    """

    def __init__(
        self, look: Callable[[], MachineUse] = MachineUse.now,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._look = look
        self._clock = clock
        self._due: OrderedDict[Owner, float] = OrderedDict()
        self._before: MachineUse | None = None
        self._values: tuple[float, dict[str, float]] = (0.0, {})
        self.place = ""
        """What tells this process from that which computes the trial, with a slash behind it."""

    def note_place(self, pid: int) -> None:
        """Note which process this is, of those that run steps of trials of another one."""
        if not self.place:
            found = worker()
            name = f"process-{pid}" if found is None else found.name
            name = f"worker-{name}" if name.isdigit() else name.partition("://")[2] or name
            self.place = name.replace("/", "-") + "/"

    def points(
        self, running: Iterable[WatchedTrial], first_record: Callable[[Owner], bytes | None]
    ) -> list[tuple[WatchedTrial, Point]]:
        """Return the points of the trials that are due now."""
        now = self._clock()
        watched = {each.owner: each for each in running if now - each.since >= 1}
        if not watched:
            return []
        if self._before is None or time.monotonic() - self._before.moment > _STALE:
            self._before = self._look()
            return []
        starts = {owner: _start(first_record(owner), each) for owner, each in watched.items()}
        for owner, each in watched.items():
            if owner not in self._due:
                remember(self._due, owner, starts[owner] + each.every)
        due = [owner for owner in watched if self._due[owner] <= now]
        values = self._values_now(now) if due else {}
        found = []
        for owner in due:
            each, passed = watched[owner], max(0.0, now - starts[owner])
            turn = max(1, round(passed / each.every))
            self._due[owner] = starts[owner] + (turn + 1) * each.every
            where = "" if each.at_home else self.place
            found += [(each, Point(f"{SYSTEM}{where}{name}", _plain(turn * each.every), value, now))
                      for name, value in values.items()]  # fmt: skip
        return found

    def _values_now(self, now: float) -> dict[str, float]:
        moment, values = self._values
        if not values or not 0 <= now - moment < _LATELY:
            assert self._before is not None
            before, self._before = self._before, self._look()
            values = used_between(before, self._before)
            self._values = now, values
        return values


def _start(first_record: bytes | None, running: WatchedTrial) -> float:
    """Return when a trial began: steps of it may come here later."""
    if first_record is not None:
        try:
            return json.decode(first_record, type=_RecordedStart).started
        except DecodeError:
            pass
    return running.since


def _plain(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds
