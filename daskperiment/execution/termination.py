"""SIGTERM while a trial runs, as a queue sends it before it kills.

In the main thread it becomes an exception, so that the trial ends as one that is interrupted, and
what was recorded of it is delivered. Then the process ends as the signal would have ended it. What
the user's own code does at the signal comes first, and decides: if its handler returns, all goes
on. Outside of trials the signal does what it did.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any

from daskperiment.execution.context import CURRENT
from daskperiment.recording.registry import close_recorders, has_trials

__all__ = ["TERMINATION", "Terminated", "is_termination", "on_termination"]

_MARK = "_daskperiment_termination"
"""An attribute of exceptions that the user's own handler raised."""


class Terminated(KeyboardInterrupt):
    """What a step gets when its process is told to end."""


class Termination:
    """What this process does when it is told to end.

    Attributes
    ----------
    heard : bool
        Whether it was, and is to end as soon as its trial has.
    """

    def __init__(self) -> None:
        self.heard = False
        self._computing: set[CodeType] = set()
        self._previous: Any = signal.SIG_DFL
        self._asking = False
        self._pid = 0
        """The process that listens: a child that it forked does not."""
        self._forks = self._paused = False

    def listen(self, computing: CodeType) -> None:
        """Hear the signal from now on, where this is the main thread.

        `computing` is the code of the function during which a trial runs.
        """
        self._computing.add(computing)
        if threading.current_thread() is not threading.main_thread():
            return
        with suppress(ValueError):  # not the main interpreter
            previous = signal.signal(signal.SIGTERM, on_termination)
            if previous is not on_termination:
                self._previous = previous
            self._pid = os.getpid()
        if not self._forks and hasattr(os, "register_at_fork"):
            self._forks = True
            os.register_at_fork(
                before=self._pause, after_in_parent=self._go_on, after_in_child=self._pause
            )

    def _pause(self) -> None:
        """Leave the signal to what it did before: a child is told to end by its parent.

        Before the fork, as Python drops signals that a child gets before it has settled.
        """
        with suppress(ValueError):  # in another thread
            if signal.getsignal(signal.SIGTERM) is on_termination:
                signal.signal(signal.SIGTERM, self._previous)
                self._paused = True

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            signal.signal(signal.SIGTERM, on_termination)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Do what the user's own code says; if that says nothing, interrupt the trial."""
        own = self._previous
        if callable(own) and not self._asking:
            self._ask(own, number, frame)
        elif own is signal.SIG_IGN:
            return
        elif os.getpid() == self._pid and self._is_within(frame):
            self.heard = True
            atexit.unregister(self.end)
            atexit.register(self.end)  # where nobody gets so far as to end the process
            raise Terminated("the process was told to end by SIGTERM")
        else:
            self.end()  # the end of a trial that runs in other threads is written down, too

    def _ask(self, own: Any, number: int, frame: FrameType | None) -> None:
        self._asking = True  # it may call what was there before it, which is this
        try:
            own(number, frame)
        except BaseException as error:
            with suppress(AttributeError):  # of a class with slots
                setattr(error, _MARK, True)
            raise
        finally:
            self._asking = False

    def _is_within(self, frame: FrameType | None) -> bool:
        """Whether this thread computes a trial; a pool of Dask's is told to end, too."""
        found, trials = False, has_trials()
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name == "dask.multiprocessing":
                # Dask waits for them, and nobody told them.
                for child in multiprocessing.active_children():
                    child.terminate()
            # Where Dask computes it without us, its tasks here are steps.
            ours = trials and name.startswith("daskperiment.")
            found = found or ours or frame.f_code in self._computing
            frame = frame.f_back
        return found

    def end(self) -> None:
        """Deliver what is recorded, and end the process as the signal does."""
        if self.heard and CURRENT.get() is not None:
            return  # a trial within a step of another one, which has to end first
        if os.getpid() == self._pid:
            self._deliver()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _deliver(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # closed, or whatever stands in its place
                stream.flush()
        with suppress(Exception):  # it is told in a warning, and the process has to end
            close_recorders()


# The process's, as its handlers of signals are.
TERMINATION = Termination()


def on_termination(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM."""
    TERMINATION.hear(number, frame)


def is_termination(error: BaseException) -> bool:
    """Whether an exception is what the process was told to end by."""
    return isinstance(error, Terminated) or getattr(error, _MARK, False)
