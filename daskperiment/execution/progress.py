"""Showing a trial while it runs: steps done, running and failed.

A step tells about itself where it runs: in this process directly, on a worker of a cluster by an
event that clients subscribe to, and in another process of this machine by a datagram to a port of
the loopback interface. A trial that nobody watches tells nothing.
"""

from __future__ import annotations

import importlib
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from daskperiment import cluster

__all__ = ["Display", "Reporter", "StepBar", "showing"]

_TOPIC = "daskperiment-progress"
_REFRESH = 0.1
"""Seconds between two drawings, at least."""


class Display(Protocol):
    """What shows how far a trial is."""

    def show(self, key: str, event: str) -> None:
        """Take note of a step: ``running``, ``succeeded``, ``failed`` or ``interrupted``.

        Called from any thread, for one step again if it is tried again.
        """

    def close(self, error: BaseException | None) -> None:
        """Show how it ended: well, or with an error."""


@dataclass(frozen=True)
class Reporter:
    """Tells a display of steps, from wherever they run."""

    id: str
    port: int
    """Where datagrams are heard, on the loopback interface of the display's host."""

    def tell(self, key: str, event: str) -> None:
        """Tell what became of a step. Never raises."""
        with suppress(Exception):  # a display is no reason for a step to fail
            listener = _LISTENERS.get(self.id)
            if listener is not None:
                listener.hear(key, event)
            elif not cluster.log_event(_TOPIC, [self.id, key, event]):
                self.send(f"{event} {key}")

    def send(self, text: str) -> None:
        """Send a datagram to the display."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.sendto(f"{self.id} {text}".encode(), ("127.0.0.1", self.port))


# What tells of steps knows a display by its id alone.
_LISTENERS: weakref.WeakValueDictionary[str, _Listener] = weakref.WeakValueDictionary()


@contextmanager
def showing(display: Display) -> Iterator[Reporter]:
    """Show on a display what its reporter is told.

    Parameters
    ----------
    display : Display
        Closed at the end.

    Yields
    ------
    Reporter
        For the steps of a trial.
    """
    ended: BaseException | None = None
    listener = _Listener(display)
    try:
        yield listener.reporter
    except BaseException as error:
        ended = error
        raise
    finally:
        listener.close()
        display.close(ended)


class _Listener:
    """Hears of steps, by whatever way.

    Parameters
    ----------
    display : Display
        Shows what is heard.
    """

    def __init__(self, display: Display) -> None:
        self._show = display.show
        self._ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ear.bind(("127.0.0.1", 0))
        self.reporter = Reporter(uuid.uuid4().hex, self._ear.getsockname()[1])
        _LISTENERS[self.reporter.id] = self
        cluster.subscribe(_TOPIC, _on_event)
        self._thread = threading.Thread(
            target=self._listen, name="daskperiment-progress", daemon=True
        )
        self._thread.start()

    def hear(self, key: str, event: str) -> None:
        """Show what became of a step."""
        self._show(key, event)

    def close(self) -> None:
        """Hear nothing more."""
        _LISTENERS.pop(self.reporter.id, None)
        if not _LISTENERS:
            cluster.unsubscribe(_TOPIC)
        self.reporter.send("stop")
        self._thread.join(5.0)
        self._ear.close()

    def _listen(self) -> None:
        while True:
            id, event, *key = self._ear.recv(4096).decode(errors="replace").split(" ", 2)
            if id != self.reporter.id:
                continue  # from some other program
            if not key:
                return
            self.hear(key[0], event)


def _on_event(event: tuple[float, Any]) -> None:
    id, key, what = event[1]
    listener = _LISTENERS.get(id)
    if listener is not None:
        listener.hear(key, what)


class StepBar:
    """A bar of steps, in a terminal or a notebook.

    Parameters
    ----------
    total : int
        How many steps there are.
    description : str
        What stands before the bar.
    """

    def __init__(self, total: int, description: str) -> None:
        bar = importlib.import_module("tqdm.auto").tqdm  # slow to load
        self._bar: Any = bar(total=total, desc=description, unit="step")
        self._steps: dict[str, str] = {}
        self._lock = threading.Lock()
        self._drawn = 0.0

    def show(self, key: str, event: str) -> None:
        """Take note of a step, and draw unless that was done a moment ago."""
        with self._lock:
            self._steps[key] = event
            if time.monotonic() - self._drawn >= _REFRESH:
                self._draw(self._count("succeeded"), self._count("running"))

    def close(self, error: BaseException | None) -> None:
        """Draw how it ended: the last steps may not have told it yet."""
        with self._lock:
            done = self._count("succeeded") if error else self._bar.total
            self._draw(done, 0, least=1 if error else 0)
            self._bar.close()

    def _draw(self, done: int, running: int, least: int = 0) -> None:
        failed = max(self._count("failed"), least)
        self._bar.n = done
        self._bar.set_postfix_str(f"{running} running, {failed} failed", refresh=False)
        self._bar.refresh()
        self._drawn = time.monotonic()

    def _count(self, event: str) -> int:
        return sum(seen == event for seen in self._steps.values())
