"""One background thread for all recorders of a process, there only while any has something to do.

Whoever had nothing to do for a while rests: its files are closed, and opened again when they are
needed. So a process may have any number of experiments.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

from daskperiment.errors import StoreError

__all__ = ["TICK", "Heartbeat"]

TICK = 1.0
IDLE_TICKS = 5
_SLOW = 1.0
"""Seconds of a tick beyond which the next one has a thread of its own: others must not wait."""
_AWAKE = 4
"""Of those that have nothing to do, so many stay awake at a time."""


class Ticking(Protocol):
    """What a heartbeat drives."""

    def tick(self) -> None:
        """Do what is due."""

    def rest(self) -> None:
        """Let go of what is opened again when it is needed."""

    @property
    def busy(self) -> bool:
        """Whether there is anything to do, now or soon."""


class _HeartbeatThread:
    """The thread of a process, and the heartbeats that it gives their turns."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, without a thread: for a forked child."""
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._beating: dict[int, Heartbeat] = {}
        self._thread: threading.Thread | None = None

    def add(self, heartbeat: Heartbeat) -> list[Heartbeat] | None:
        """Give a heartbeat its turns; return those that should rest to make room for it.

        ``None`` where the process can have no more threads.
        """
        with self._lock:
            self._beating[id(heartbeat)] = heartbeat
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="daskperiment-recorder", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    del self._beating[id(heartbeat)]
                    return None
                self._thread = thread
            self._changed.set()
            return list(self._beating.values())[:-_AWAKE]

    def remove(self, heartbeat: Heartbeat) -> threading.Thread | None:
        """Give a heartbeat no more turns; return the thread if it ends for that."""
        with self._lock:
            self._beating.pop(id(heartbeat), None)
            self._changed.set()
            return None if self._beating else self._thread

    def hasten(self) -> None:
        """Look whose turn it is."""
        self._changed.set()

    def _run(self) -> None:
        while True:
            self._changed.wait(self._until_next())
            self._changed.clear()
            now = time.monotonic()
            for heartbeat in list(self._beating.values()):
                if heartbeat.due <= now:
                    heartbeat.turn()
            with self._lock:
                if not self._beating:
                    self._thread = None
                    return

    def _until_next(self) -> float:
        due = min((one.due for one in list(self._beating.values())), default=0.0)
        return max(0.0, due - time.monotonic())


# The process's: a thread for each of a thousand experiments would be too many.
_THREAD = _HeartbeatThread()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_THREAD.reset)


class Heartbeat:
    """Calls ``tick`` once a second, from its start until nothing was to do for some seconds.

    Parameters
    ----------
    driven : Ticking
        Held weakly: a heartbeat keeps nothing alive.

    Attributes
    ----------
    runs : bool
        Whether it beats, so that nobody has to start it.
    due : float
        When its next turn is, by the monotonic clock.
    """

    def __init__(self, driven: Ticking) -> None:
        self._driven = weakref.ref(driven)
        self._lock = threading.Lock()
        self._turning = threading.Lock()
        self._idle = 0
        self._slow = False
        self.due = 0.0
        self.runs = False

    def start(self) -> None:
        """Begin to beat unless it does."""
        with self._lock:
            if self.runs:
                return
            self._idle, self.due = 0, time.monotonic() + TICK
            crowded = _THREAD.add(self)
            # Without a thread to be had, what waits is delivered at the end of a trial.
            self.runs = crowded is not None
        for other in crowded or ():
            other.rest()

    def stop(self, patience: float = 5.0) -> None:
        """Beat no more, and wait some seconds for a turn that is under way."""
        with self._lock:
            self.runs = False
            thread = _THREAD.remove(self)
        if thread is threading.current_thread():
            return
        if self._turning.acquire(timeout=patience):
            self._turning.release()
        if thread is not None:
            thread.join(patience)

    def hasten(self) -> None:
        """Let the next turn be now."""
        self.due = 0.0
        _THREAD.hasten()

    def turn(self) -> None:
        """Tick, in a thread of its own where that took long the last time."""
        self.due = time.monotonic() + TICK
        if not self._slow:
            self._turn()
        elif not self._turning.locked():
            with suppress(RuntimeError):  # no more threads: it waits for its next turn
                threading.Thread(target=self._turn, name="daskperiment-slow", daemon=True).start()

    def rest(self) -> None:
        """Beat no more, unless there is something to do, and let what it drives rest."""
        driven = self._driven()
        # Under the lock: whoever has something to do by now finds that it rests, and starts it.
        with self._lock:
            if not self.runs or (driven is not None and driven.busy):
                return
            self.runs = False
            _THREAD.remove(self)
        if driven is not None:
            driven.rest()

    def _turn(self) -> None:
        """Take a turn; what fails in one experiment ends the thread of no other."""
        try:
            self._beat()
        except StoreError:  # the next turn may do better, and who asks next is told
            pass
        except Exception:
            told = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(told))

    def _beat(self) -> None:
        driven = self._driven()
        if driven is None:
            self.rest()
            return
        with self._turning:
            self._idle = 0 if driven.busy else self._idle + 1
            start = time.monotonic()
            if self.runs:
                driven.tick()
            self._slow = time.monotonic() - start > _SLOW
        if self._idle >= IDLE_TICKS:
            self.rest()
