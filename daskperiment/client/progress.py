"""Showing a trial while it runs: steps done, running and failed.

In this process Dask's own callbacks tell of the tasks of a trial, on every local scheduler. On a
cluster a step tells of itself, by an event that clients subscribe to. A trial that nobody watches
tells nothing.
"""

from __future__ import annotations

import importlib
import threading
import time
import uuid
import weakref
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from dask.callbacks import Callback

from daskperiment import cluster
from daskperiment.execution.trial import PROGRESS_TOPIC

__all__ = ["Display", "ProgressReporter", "StepBar", "reporting"]

_REFRESH = 0.1
"""Seconds between two drawings, at least."""


class Display(Protocol):
    """What shows how far a trial is."""

    def show(self, key: str, event: str) -> None:
        """Note a step: ``running``, ``succeeded``, ``failed`` or ``interrupted``.

        Called from any thread, for one step again if it is tried again.
        """

    def close(self, error: BaseException | None) -> None:
        """Show how it ended: well, or with an error."""


class ProgressReporter(Callback):
    """Tells a display of a trial's steps, from wherever they run.

    Parameters
    ----------
    display : Display
    """

    def __init__(self, display: Display) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Dask is annotated in part only
        self.id = uuid.uuid4().hex
        self._display = display
        self._steps: Mapping[Hashable, str] = {}

    def watch(self, steps: Mapping[Hashable, str]) -> ProgressReporter:
        """Watch a trial whose steps have these keys in its graph: a context manager."""
        self._steps = steps
        return self

    def show(self, key: str, event: str) -> None:
        """Show what became of a step. Never raises: a display is no reason for a step to fail."""
        with suppress(Exception):
            self._display.show(key, event)

    # What Dask's local schedulers call

    def _pretask(self, key: Hashable, dsk: Any, state: Any) -> None:
        if key in self._steps:
            self.show(self._steps[key], "running")

    def _posttask(self, key: Hashable, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        if key in self._steps:
            self.show(self._steps[key], "succeeded")

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        # Dask has no event for a task that failed: what still runs is what failed.
        for key in state["running"] if errored else ():
            if key in self._steps:
                self.show(self._steps[key], "failed")


# An event of a cluster names a reporter by its id alone.
_REPORTERS: weakref.WeakValueDictionary[str, ProgressReporter] = weakref.WeakValueDictionary()


@contextmanager
def reporting(display: Display) -> Iterator[ProgressReporter]:
    """Show on a display what its reporter is told.

    Parameters
    ----------
    display : Display
        Closed at the end.

    Yields
    ------
    ProgressReporter
        For the steps of a trial.
    """
    ended: BaseException | None = None
    reporter = ProgressReporter(display)
    _REPORTERS[reporter.id] = reporter
    cluster.subscribe(PROGRESS_TOPIC, _on_event)
    try:
        yield reporter
    except BaseException as error:
        ended = error
        raise
    finally:
        _REPORTERS.pop(reporter.id, None)
        if not _REPORTERS:
            cluster.unsubscribe(PROGRESS_TOPIC)
        display.close(ended)


def _on_event(event: tuple[float, Any]) -> None:
    id, key, what = event[1]
    reporter = _REPORTERS.get(id)
    if reporter is not None:
        reporter.show(key, what)


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
        """Note a step, and draw unless that was done a moment ago."""
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
