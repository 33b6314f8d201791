"""What the page may ask: questions about a source, answered with plain data."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from daskperiment.dashboard import curves, influence
from daskperiment.dashboard.detail import detail
from daskperiment.dashboard.differences import differences
from daskperiment.dashboard.outlines import Outlines
from daskperiment.dashboard.query import Query
from daskperiment.dashboard.sources import Source
from daskperiment.dashboard.table import Desk

__all__ = ["Room"]

_DESKS = 6
"""Experiments that are remembered at once: those that somebody looked at last."""


class Room:
    """Answers all questions about the experiments of a source. Any number of threads may ask."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._outlines = Outlines(source)
        self._lock = threading.Lock()
        self._desks: OrderedDict[str, Desk] = OrderedDict()

    def experiments(self) -> dict[str, Any]:
        """List the experiments."""
        return {"address": self._source.address, "experiments": self._outlines.tell()}

    def trials(
        self, experiment: str, look: dict[str, Any], start: int, size: int, seen: str
    ) -> dict[str, Any]:
        """Give one page of the table of trials; nothing new if the page has seen all."""
        desk = self._desk(experiment)
        version = str(desk.refresh())
        if version == seen and not desk.trials.running:
            return {"unchanged": True, "version": version}
        page = desk.page(self._query(desk, look), start, size)
        return {**page, "version": version, "address": desk.store.address}

    def metrics(
        self,
        experiment: str,
        trials: Sequence[int],
        names: Sequence[str],
        style: curves.Style,
        with_figures: bool,
    ) -> dict[str, Any]:
        """Give the curves of trials."""
        desk = self._desk(experiment)
        desk.refresh()
        return curves.draw(desk, trials, names, style, with_figures)

    def influence(
        self, experiment: str, trials: Sequence[int], look: dict[str, Any], wish: influence.Wish
    ) -> dict[str, Any]:
        """Draw parameters against results, of some trials or of those that a filter finds."""
        desk = self._desk(experiment)
        desk.refresh()
        chosen = trials or desk.found(self._query(desk, look))
        return influence.draw(desk, chosen, wish)

    def compare(self, experiment: str, first: int, second: int) -> dict[str, Any]:
        """Compare two trials."""
        return differences(self._source.store(experiment), first, second)

    def trial(self, experiment: str, trial: int) -> dict[str, Any]:
        """Describe one trial."""
        return detail(self._source.store(experiment), trial)

    def close(self) -> None:
        """Let go of the stores."""
        self._source.close()

    def _desk(self, experiment: str) -> Desk:
        store = self._source.store(experiment)
        with self._lock:
            desk = self._desks.get(experiment)
            if desk is None:
                desk = self._desks[experiment] = Desk(store)
            self._desks.move_to_end(experiment)
            while len(self._desks) > _DESKS:
                self._desks.popitem(last=False)
            return desk

    def _query(self, desk: Desk, look: dict[str, Any]) -> Query:
        statuses = [status for status in look["status"].split(",") if status]
        return Query.read(look["filter"], desk.trials.names, statuses, look["sort"])
