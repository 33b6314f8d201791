"""What steps returned, held against what they returned before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from daskperiment.codec import decode
from daskperiment.records import Output
from daskperiment.store.protocol import Record

__all__ = ["Conflict", "ObservedOutputs", "remember"]

REMEMBERED = 256

Conflict = tuple[Output, Output]
"""An output seen now, and the other one seen earlier for the same code, inputs and seed."""


class ObservedOutputs:
    """The outputs of this process's steps, from the moment they are written to their delivery."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Output]] = {}
        self._known: OrderedDict[str, str] = OrderedDict()
        self._conflicts: list[Conflict] = []
        self.found_conflicts = False
        self._lock = threading.RLock()

    def has(self, id: str, output: str = "") -> bool:
        """Return whether the store has a record of this process, with this output."""
        return self._known.get(id) == output

    def unknown(self, ids: Iterable[str]) -> list[str]:
        """Return those of some ids under which this process has written nothing."""
        found = []
        for id in ids:
            if id not in self._known:
                found.append(id)
        return found

    def add(self, id: str, output: Output, write: Callable[[], None]) -> None:
        """Write an output down, and hold it against earlier ones when it is delivered."""
        with self._lock:  # whoever delivers meanwhile finds both, or neither
            self._waiting.setdefault(id, []).append(output)
            write()

    def delivered(self, id: str, output: str = "") -> None:
        """Remember that the store has a record."""
        remember(self._known, id, output)

    @contextmanager
    def compared(self) -> Iterator[list[Record]]:
        """Hold what waits against the records that a delivery finds in its place.

        Yields
        ------
        list of Record
            To be filled with those records.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        existing: list[Record] = []
        try:
            yield existing
        except BaseException:
            self._take_back(waiting)
            raise
        if waiting:
            self._compare(waiting, existing)

    def _take_back(self, waiting: dict[str, list[Output]]) -> None:
        with self._lock:
            for id, outputs in waiting.items():
                self._waiting[id] = outputs + self._waiting.get(id, [])

    def _compare(self, waiting: dict[str, list[Output]], existing: list[Record]) -> None:
        found = [
            (ours, theirs)
            for record in existing
            for ours in waiting.get(record.id, ())
            if _conflict(ours, theirs := decode(record.body, Output))
        ]
        with self._lock:
            self._conflicts += found
            self.found_conflicts |= bool(found)
        strange = {ours.output for ours, _ in found}
        for id, outputs in waiting.items():
            if outputs[0].output not in strange:
                self.delivered(id, outputs[0].output)

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts that were found since the last call."""
        with self._lock:
            found, self._conflicts = self._conflicts, []
            self.found_conflicts = False
        return found

    def forget(self) -> None:
        """Remember no longer what the store has."""
        self._known.clear()


def _conflict(ours: Output, theirs: Output) -> bool:
    same_run = (ours.trial, ours.key) == (theirs.trial, theirs.key)
    return ours.output != theirs.output and not same_run


T = TypeVar("T")


def remember(known: OrderedDict[str, T], item: str, value: T) -> None:
    """Add to a mapping that keeps the latest few hundred."""
    known[item] = value
    while len(known) > REMEMBERED:
        try:
            known.popitem(last=False)
        except KeyError:  # another thread was faster
            return
