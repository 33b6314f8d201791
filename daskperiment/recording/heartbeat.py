"""A background thread that is there only while there is something to do."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["Heartbeat"]

TICK = 1.0
IDLE_TICKS = 10


class Ticking(Protocol):
    """What a heartbeat drives."""

    def tick(self) -> None:
        """Do what is due."""

    @property
    def busy(self) -> bool:
        """Whether there is anything to do, now or soon."""


class Heartbeat:
    """Calls ``tick`` once a second, from its start until nothing was to do for some seconds.

    Parameters
    ----------
    driven : Ticking
        Held weakly: a heartbeat keeps nothing alive.

    Attributes
    ----------
    runs : bool
        Whether the thread is there, so that nobody has to start it.
    """

    def __init__(self, driven: Ticking) -> None:
        self._driven = weakref.ref(driven)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.runs = False

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self._thread is None:
                stop = self._stop = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(stop,), name="daskperiment-recorder", daemon=True
                )
                # Without a thread to be had, what waits is delivered at the end of a trial.
                with suppress(RuntimeError):
                    thread.start()
                    self._thread, self.runs = thread, True

    def stop(self, patience: float = 5.0) -> None:
        """End the thread, and wait for it some seconds."""
        with self._lock:
            thread, self._thread, self.runs = self._thread, None, False
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    def _run(self, stop: threading.Event) -> None:
        idle = 0
        while not stop.wait(TICK):
            driven = self._driven()
            if driven is None:
                return
            idle = 0 if driven.busy else idle + 1
            driven.tick()
            if idle >= IDLE_TICKS and self._rest(driven, stop):
                return
            del driven

    def _rest(self, driven: Ticking, stop: threading.Event) -> bool:
        # Under the lock: whoever has something to do by now finds the thread gone and starts it.
        with self._lock:
            if driven.busy or self._stop is not stop:
                return False
            self._thread, self.runs = None, False
            return True
