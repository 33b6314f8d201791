"""The first reading of a long history by a thread of its own, while a page shows the latest."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any

from daskperiment.errors import DaskperimentError
from daskperiment.history.curated import Curated, curated
from daskperiment.history.kept_columns import EndedTrials
from daskperiment.records import CURATED, record_kind
from daskperiment.store.protocol import Store

__all__ = ["FirstReading", "KnownTrials"]

_PAUSE = 2.0
"""Seconds after which what failed is tried again at the earliest."""


class KnownTrials:
    """What is known of the trials of a store that ended, and what people said of trials."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard = 0
        self.ended = EndedTrials(store, warn=False)
        self.said: dict[int, Curated] = {}

    def follow(self) -> bool:
        """Read which trials ended since, and return whether there is anything new."""
        return self.ended.follow()

    def listen(self) -> bool:
        """Read what people said of trials since; return whether they said anything."""
        new = list(self._store.read("notes", after=self._heard))
        if not new:
            return False
        trials = {one.trial for one in new if record_kind(one.id) == CURATED}
        # A trial is told of anew as a whole: what was said later counts.
        if trials:
            self.said = {**self.said, **curated(self._store, trials)}
        self._heard = new[-1].position
        return True


class FirstReading:
    """A thread that reads all of a history; whoever needs it may wait.

    Parameters
    ----------
    known : KnownTrials
        Nobody else uses it until the thread is done.
    count : int
        The highest id of a trial when it began.
    """

    def __init__(self, known: KnownTrials, count: int) -> None:
        self.known = known
        self.count = count
        self._done: Future[None] = Future()
        self._begun = time.monotonic()
        self._ended = self._begun
        thread = threading.Thread(target=self._run, name="dashboard-history", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are too many threads
            self._run()

    def _run(self) -> None:
        try:
            self.known.follow()
            self.known.listen()
        except BaseException as error:
            self._ended = time.monotonic()
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

    @property
    def has_failed(self) -> bool:
        """Whether it ended before it had read all."""
        return self._done.done() and self._done.exception() is not None

    @property
    def may_be_tried_again(self) -> bool:
        """Whether it failed as long ago as it had taken, or a while."""
        spent = self._ended - self._begun
        return self.has_failed and time.monotonic() - self._ended > max(spent, _PAUSE)

    def is_done(self, seconds: float = 0.0) -> bool:
        """Whether all is read, or is within so many seconds."""
        wait([self._done], seconds)
        return self._done.done() and not self.has_failed

    def wait(self) -> None:
        """Wait for the end; if it failed, its error is raised."""
        with suppress(CancelledError):  # whoever stopped it begins anew
            self._done.result()

    def progress(self) -> dict[str, Any]:
        """Return how far it came, as plain data; what is a fault of this program is raised."""
        error = self._done.exception() if self._done.done() else None
        if isinstance(error, CancelledError):
            error = None  # whoever looked at it meanwhile has what stands there
        if error is not None and not isinstance(error, DaskperimentError | OSError):
            raise error
        reached = min(self.known.ended.reached, self.count)
        return {"read": reached, "of": self.count, "problem": "" if error is None else str(error)}

    def stop(self) -> None:
        """Have the thread end before it read all, and wait for that."""
        self.known.ended.stop()
        wait([self._done])
