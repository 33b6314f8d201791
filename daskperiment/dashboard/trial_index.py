"""The trials of an experiment, kept up to date by reading what is new in its store."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import cache

from daskperiment.dashboard.damage import begins_with, first_token
from daskperiment.dashboard.metric_cache import MetricSummaries
from daskperiment.history.curated import curated
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.kept_columns import EndedTrials
from daskperiment.history.trial_columns import TrialColumns, endless_columns, settled
from daskperiment.store.protocol import Store

__all__ = ["TrialIndex"]

_JUDGE = 2.0
"""Seconds after which the trials without an end are judged again."""


class TrialIndex:
    """The trials of one experiment, as a table of history. Any number of threads may ask."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self.version = 0
        """Grows whenever a trial began, ended, was judged otherwise or something was said of it."""
        self.resets = 0
        """How often the experiment was found deleted and begun anew."""
        self._clear()

    def _clear(self) -> None:
        self._ended = EndedTrials(self.store, warn=False)
        self._first: tuple[int, str] | None = None
        self._endless = endless_columns(self.store, (), True)
        self._said = curated(self.store, ())
        self._said_position = 0
        self._judged = float("-inf")
        self.latest = MetricSummaries(self.store)
        self.table = self._made()

    @property
    def damaged(self) -> int:
        """Records that could not be read and are left out."""
        return self._ended.damaged

    @property
    def ids(self) -> Sequence[int]:
        """Ids of all trials, growing."""
        ids: list[int] = self.table.columns.trials.tolist()
        return ids

    @property
    def running(self) -> bool:
        """Whether a trial runs."""
        return "running" in self._statuses(self._endless)

    def refresh(self) -> int:
        """Read what is new, and return the version."""
        with self._lock:
            if self._first is not None and not begins_with(self.store, *self._first):
                self._clear()
                self.version += 1
                self.resets += 1
            is_new = self._ended.follow()
            is_new |= self._judge(is_new) | self._listen()
            if is_new:
                self.table = self._made()
                self.version += 1
                if self._first is None:
                    self._first = first_token(self.store, self.table.columns.trials[:1].tolist())
            return self.version

    def again(self) -> HistoryTable:
        """Return the table with the metrics that trials have by now."""
        self.table = self._made()
        return self.table

    def _made(self) -> HistoryTable:
        columns = settled([*self._ended.parts, self._endless])
        said = self._said
        return HistoryTable(columns, self.store, (), cache(lambda: said), self.latest.get)

    def _judge(self, is_new: bool) -> bool:
        """Find out which of the trials without an end are lost; return whether that changed."""
        now = time.monotonic()
        if not is_new and now - self._judged < _JUDGE:
            return False
        self._judged = now
        before = self._statuses(self._endless)
        self._endless = endless_columns(self.store, self._ended.pending, True)
        return self._statuses(self._endless) != before

    @staticmethod
    def _statuses(columns: TrialColumns) -> list[str]:
        return columns.fields["status"].to_list()

    def _listen(self) -> bool:
        """Read what people said of trials since; return whether they said anything."""
        new = list(self.store.read("notes", after=self._said_position))
        if not new:
            return False
        self._said_position = new[-1].position
        trials = {one.trial for one in new}
        # A trial is told of anew as a whole: what was said later counts.
        self._said = {**self._said, **curated(self.store, trials)}
        return True
