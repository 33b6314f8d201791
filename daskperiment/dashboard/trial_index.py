"""The trials of an experiment, kept up to date by reading what is new in its store."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from daskperiment.dashboard.damage import begins_with, first_token
from daskperiment.dashboard.first_reading import FirstReading, KnownTrials
from daskperiment.dashboard.metric_cache import MetricSummaries
from daskperiment.errors import FilterError, StoreError
from daskperiment.history.curated import Curated, curated
from daskperiment.history.filtering.language import Path
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.kept_columns import latest_columns
from daskperiment.history.table_columns import Column, absent
from daskperiment.history.trial_columns import TrialColumns, endless_columns, settled
from daskperiment.store.protocol import Store, last_deletion

__all__ = ["LatestTrials", "TrialIndex"]

_JUDGE = 2.0
"""Seconds after which the trials without an end are judged again."""
_LONG = 20_000
"""Trials of a history from which on a page does not wait until all are read."""
_LATEST = 1_000
"""Of them, so many are shown meanwhile."""
_PATIENCE = 0.5
"""Seconds in which all may be read, as where columns are kept, before the latest are shown."""


class LatestTrials(HistoryTable):
    """Some trials of an experiment: a column that none of them has older ones may have."""

    @property
    def alone(self) -> HistoryTable:
        """The same, as if there were no others."""
        return self.take(np.arange(len(self)))

    def column(self, path: Path) -> Column:
        """Return the column that a path leads to; what there is not is missing in all rows."""
        try:
            return super().column(path)
        except FilterError:
            return absent(len(self))


class TrialIndex:
    """The trials of one experiment, as a table of history. Any number of threads may ask."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._is_closed = False
        self.version = 0
        """Grows whenever a trial began, ended, was judged otherwise or something was said of it."""
        self.resets = 0
        """How often the experiment was found deleted and begun anew."""
        self._clear()

    def _clear(self) -> None:
        self._known = KnownTrials(self.store)
        self._reading: FirstReading | None = None
        self._is_read = False
        """Whether all trials were read once."""
        self._is_due = False
        """Whether something is new that the table does not have yet."""
        self._first: tuple[int, str] | None = None
        self._deletion: str | None = None
        """What names the last deletion of the experiment before anything was read."""
        self._endless = endless_columns(self.store, (), True)
        self._judged = float("-inf")
        self._said: dict[int, Curated] = {}
        self.latest = MetricSummaries(self.store)
        self.table = self._made(self._endless)

    @property
    def damaged(self) -> int:
        """Records that could not be read and are left out."""
        return self._known.ended.damaged

    @property
    def ids(self) -> Sequence[int]:
        """Ids of all trials, growing."""
        ids: list[int] = self.table.columns.trials.tolist()
        return ids

    @property
    def running(self) -> bool:
        """Whether a trial runs."""
        return "running" in self._statuses(self._endless)

    @property
    def is_reading(self) -> bool:
        """Whether a thread reads all trials for the first time, and nobody knows how it ended."""
        return self._reading is not None

    @property
    def reading(self) -> dict[str, Any] | None:
        """How far the first reading came, as plain data; ``None`` if the table has all trials."""
        reading = self._reading
        return None if reading is None else reading.progress()

    def refresh(self) -> int:
        """Read what is new, and return the version."""
        while True:
            with self._lock:
                self._recognise()
                self._begin()
                reading = self._reading
                if reading is None or reading.is_done():
                    return self._follow()
            # Without the lock, for others look at the latest trials meanwhile.
            reading.wait()

    def glance(self) -> int:
        """Do the same, but do not wait for a long history that nobody read yet.

        Until a thread has read it the table has the latest trials alone, and `reading` tells so.
        """
        with self._lock:
            self._recognise()
            before = self._reading
            if before is None or before.may_be_tried_again:
                self._begin()
            reading = self._reading
        if reading is not None and reading is not before:
            reading.is_done(_PATIENCE)
        with self._lock:
            reading = self._reading
            if reading is None or reading.is_done():
                return self._follow()
            self._look_at_latest()
            return self.version

    def stop(self) -> None:
        """Read no more of a long history. Who still waits for it has it begun anew."""
        with self._lock:
            if self._reading is not None:
                self._reading.stop()

    def close(self) -> None:
        """Read no more of a long history, and never again: who waits for it is told so."""
        self._is_closed = True
        self.stop()

    def _begin(self) -> None:
        """Have a long history read by a thread, if nobody did it."""
        if self._is_read or (self._reading is not None and not self._reading.has_failed):
            return
        count = self.store.state().latest
        if count < _LONG:
            self._reading = None
            return
        if self._is_closed:
            raise StoreError(f"The dashboard was stopped before it had read {self.store.address}.")
        # Before the thread has the processor, and the store.
        self._look_at_latest()
        self._known = KnownTrials(self.store)
        self._reading = FirstReading(self._known, count)

    def _look_at_latest(self) -> None:
        now = time.monotonic()
        if now - self._judged < _JUDGE:
            return
        self._judged = now
        self._endless = latest_columns(self.store, _LATEST, True, warn=False)
        trials = self._endless.trials.tolist()
        self._said = curated(self.store, trials)
        self.table = self._made(self._endless, LatestTrials)
        self.version += 1
        self._learn_first(trials)

    def _recognise(self) -> None:
        """Begin anew if the experiment was deleted since it was read."""
        if self._first is not None and not begins_with(self.store, *self._first):
            self._begin_anew()
        if self._deletion is None:
            self._deletion = last_deletion(self.store)

    def _learn_first(self, trials: Sequence[int]) -> None:
        """Learn by what to recognise the experiment; begin anew if it is not what was read."""
        if self._first is not None:
            return
        first = first_token(self.store, trials)
        if first is not None and last_deletion(self.store) != self._deletion:
            self._begin_anew()
        else:
            self._first = first

    def _begin_anew(self) -> None:
        if self._reading is not None:
            self._reading.stop()
        self._clear()
        self._deletion = last_deletion(self.store)
        self.version += 1
        self.resets += 1

    def _follow(self) -> int:
        known = self._known
        # Each is told once, and the store may go away before the table has it.
        self._is_due |= known.follow()
        self._is_due |= self._judge(self._is_due or not self._is_read)
        self._is_due |= known.listen()
        if self._is_due or not self._is_read:
            self._is_read, self._reading, self._said = True, None, known.said
            self.table = self._made(settled([*known.ended.parts, self._endless]))
            self.version += self._is_due or bool(len(self.table))
            self._learn_first(self.table.columns.trials[:1].tolist())
            self._is_due = False
        return self.version

    def again(self) -> HistoryTable:
        """Return the table with the metrics that trials have by now."""
        with self._lock:
            self.table = self._made(self.table.columns, type(self.table))
            return self.table

    def _made(self, columns: TrialColumns, kind: type[HistoryTable] = HistoryTable) -> HistoryTable:
        said = self._said
        return kind(columns, self.store, (), cache(lambda: said), self.latest.get)

    def _judge(self, is_new: bool) -> bool:
        """Find out which of the trials without an end are lost; return whether that changed."""
        now = time.monotonic()
        if not is_new and now - self._judged < _JUDGE:
            return False
        self._judged = now
        before = self._statuses(self._endless)
        self._endless = endless_columns(self.store, self._known.ended.pending, True)
        return self._statuses(self._endless) != before

    @staticmethod
    def _statuses(columns: TrialColumns) -> list[str]:
        return columns.fields["status"].to_list()
