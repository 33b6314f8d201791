"""All experiments at a glance, kept up to date by reading what is new."""

from __future__ import annotations

import threading
from typing import Any

from msgspec import Struct

from daskperiment.dashboard.following import tolerant
from daskperiment.dashboard.sources import Source
from daskperiment.errors import StoreError, StoreUnavailableError
from daskperiment.history.decoding import chunks
from daskperiment.history.reading import read_trials
from daskperiment.records import EndStatus
from daskperiment.store.protocol import Store

__all__ = ["Outline", "Outlines"]

_BETTER = {"succeeded": 0, "failed": 1, "interrupted": 2}


class _End(Struct, gc=False):
    status: EndStatus
    finished: float


class _Start(Struct, gc=False):
    token: str
    started: float


class Outline:
    """Counts the trials of one experiment without keeping them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._position = 0
        self._first: tuple[int, str] | None = None
        self._begun: set[int] = set()
        self._ended: dict[int, str] = {}
        self._latest: float | None = None

    def tell(self) -> dict[str, Any]:
        """Read what is new, and give the counts."""
        with self._lock:
            if self._first is not None and not self._is_same():
                self._clear()
            for chunk in chunks(self._store.read("trials", after=self._position)):
                self._position = chunk[-1].position
                self._count([one for one in chunk if one.id == "begun"], chunk)
            pending = self._begun - self._ended.keys()
            rest = read_trials(self._store, pending) if pending else {}
            statuses = list(self._ended.values())
            statuses += [trial.status for trial in rest.values()]
            counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
            return {"trials": len(self._begun), "counts": counts, "latest": self._latest}

    def _is_same(self) -> bool:
        first, token = self._first or (0, "")
        begun = [one for one in self._store.read("trials", [first]) if one.id == "begun"]
        found, _ = tolerant(begun, _Start)
        return bool(begun) and (not found or found[0][1].token == token)

    def _count(self, begun: list[Any], chunk: list[Any]) -> None:
        starts, _ = tolerant(begun, _Start)
        for one, start in starts:
            self._begun.add(one.trial)
            self._first = self._first or (one.trial, start.token)
            self._latest = max(self._latest or start.started, start.started)
        ends, _ = tolerant([one for one in chunk if one.id[:5] == "ended"], _End)
        for one, end in ends:
            known = self._ended.get(one.trial, end.status)
            self._ended[one.trial] = min(known, end.status, key=_BETTER.__getitem__)
            self._latest = max(self._latest or end.finished, end.finished)


class Outlines:
    """The outlines of a source's experiments."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._outlines: dict[str, Outline] = {}

    def tell(self) -> list[dict[str, Any]]:
        """Give a row for each experiment; one that cannot be read hides no other.

        Raises
        ------
        StoreUnavailableError
            If the store is away, and so nothing can be told.
        """
        return [self._row(id) for id in self._source.experiments()]

    def _row(self, id: str) -> dict[str, Any]:
        try:
            with self._lock:
                outline = self._outlines.get(id)
                if outline is None:
                    outline = self._outlines[id] = Outline(self._source.store(id))
            return {"experiment": id, **outline.tell()}
        except StoreUnavailableError:
            raise
        except StoreError as error:
            return {"experiment": id, "problem": str(error)}
