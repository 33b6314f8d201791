"""What steps returned, held against what they returned before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from daskperiment.codec import decode, decode_each
from daskperiment.errors import StoreError
from daskperiment.records import Alteration, Output, SpoiledInput, changed_output_id
from daskperiment.store.protocol import Record

__all__ = ["DREW", "ChangesInPlace", "Conflict", "ObservedOutputs", "remember"]

REMEMBERED = 256

_BY_INPUTS = 50_000
"""Outputs that are remembered by their inputs, and again so many that are being forgotten."""

DREW = "drew"
"""What is remembered of a cache entry whose step drew random numbers."""

Find = Callable[[list[str]], Iterable[Record]]
"""Returns the records that have some ids."""


class Conflict(NamedTuple):
    """An output seen now that differs from the latest for the same code, inputs and seed."""

    ours: Output
    theirs: Output
    id: str
    """By which it is to be found as the latest."""


@dataclass(slots=True)
class ChangesInPlace:
    """What one trial's steps did in this process to values that others see, too."""

    handing: set[str] = field(default_factory=set)
    """Places of the steps that returned what they were given."""
    altered: list[tuple[Any, str]] = field(default_factory=list)
    """What was changed, each with the place of the step that did it; empty if it was no step."""
    passing: dict[str, set[str]] = field(default_factory=dict)
    """Place -> places of the steps that changed what it got of them by right: they returned it."""


class ObservedOutputs:
    """The outputs of this process's steps, from the moment they are written to their delivery."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Output]] = {}
        self._known: OrderedDict[str, str] = OrderedDict()
        self._conflicts: list[Conflict] = []
        self._alterations: list[tuple[int, Alteration | SpoiledInput]] = []
        self.changes: OrderedDict[str, ChangesInPlace] = OrderedDict()
        """What was changed in place, by the token of the trial."""
        self._told: set[tuple[str, str]] = set()
        # Numbers in place of texts: there is one for each step of a long chain.
        self._new_inputs: set[int] = set()
        self._by_inputs: set[int] = set()
        self._by_inputs_before: set[int] = set()
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

    def drew(self, id: str) -> bool:
        """Return whether this process wrote that a step drew, under its cache key without seeds."""
        return self._known.get(id) == DREW

    def note_inputs(self, cache_key: str) -> None:
        """Note that something is written down under a cache key that is made of inputs."""
        with self._lock:
            self._new_inputs.add(hash(cache_key))

    def awaits_inputs(self, cache_key: str) -> bool:
        """Return whether what was written down under such a cache key is not delivered."""
        return hash(cache_key) in self._new_inputs

    def has_inputs(self, cache_key: str) -> bool:
        """Return whether this process wrote something down under such a cache key."""
        number = hash(cache_key)
        known = number in self._by_inputs or number in self._by_inputs_before
        return known or number in self._new_inputs

    def _delivered_inputs(self, numbers: set[int]) -> None:
        with self._lock:
            if len(self._by_inputs) >= _BY_INPUTS:
                self._by_inputs_before, self._by_inputs = self._by_inputs, set()
            self._by_inputs |= numbers
            self._new_inputs -= numbers

    def add(self, id: str, output: Output, write: Callable[[], object]) -> None:
        """Write an output down, and hold it against earlier ones when it is delivered."""
        with self._lock:  # whoever delivers meanwhile finds both, or neither
            self._waiting.setdefault(id, []).append(output)
            write()

    def delivered(self, id: str, output: str = "") -> None:
        """Remember that the store has a record."""
        remember(self._known, id, output)

    @contextmanager
    def compared(self, find: Find) -> Iterator[list[Record]]:
        """Hold what waits against the records that a delivery finds in its place.

        Parameters
        ----------
        find : callable
            Finds outputs in the store, for what followed the first ones.

        Yields
        ------
        list of Record
            To be filled with those records.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            inputs = self._new_inputs and self._new_inputs.copy()
        existing: list[Record] = []
        try:
            yield existing
        except BaseException:
            self._take_back(waiting)
            raise
        if inputs:
            self._delivered_inputs(inputs)
        if waiting:
            self._compare(waiting, existing, find)

    def _take_back(self, waiting: dict[str, list[Output]]) -> None:
        with self._lock:
            for id, outputs in waiting.items():
                self._waiting[id] = outputs + self._waiting.get(id, [])

    def _compare(
        self, waiting: dict[str, list[Output]], existing: list[Record], find: Find
    ) -> None:
        known = [one for one in existing if one.id in waiting]
        pairs = zip(known, decode_each([one.body for one in known], Output), strict=True)
        # A damaged one of the past raises no alarm, and no exception.
        firsts = {one.id: output for one, output in pairs if isinstance(output, Output)}
        changed = _found(find, [changed_output_id(id, 1) for id in firsts])
        found: list[Conflict] = []
        for id, first in firsts.items():
            latest, number = first, 0
            if changed_output_id(id, 1) in changed:
                latest, number = _latest(find, id)
            for ours in waiting[id]:
                if _conflict(ours, latest):
                    number += 1
                    found.append(Conflict(ours, latest, changed_output_id(id, number)))
                    latest = ours
        with self._lock:
            self._conflicts += found
            self.found_conflicts |= bool(found)
        for id, outputs in waiting.items():
            self.delivered(id, outputs[-1].output)

    def altered(self, trial: int, alteration: Alteration | SpoiledInput) -> None:
        """Note that a step of a trial changed what it was given, or got what another had."""
        with self._lock:
            self._alterations.append((trial, alteration))
            self.found_conflicts = True

    def changes_in(self, token: str) -> ChangesInPlace:
        """Return what was changed in place in a trial, to be added to."""
        if token not in self.changes:
            # The values themselves are held: of few trials, should their ends be seen elsewhere.
            remember(self.changes, token, ChangesInPlace(), limit=8)
        return self.changes[token]

    def is_told(self, spoiled: SpoiledInput) -> bool:
        """Return whether somebody asked this before of the same two steps."""
        cause = spoiled.key, spoiled.by
        with self._lock:
            known = cause in self._told
            self._told.add(cause)
        return known

    def alterations(self) -> list[tuple[int, Alteration | SpoiledInput]]:
        """Return what was noted of changed arguments since the last call, with the trials."""
        with self._lock:
            found, self._alterations = self._alterations, []
        return found

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


def _found(find: Find, ids: list[str]) -> dict[str, Output]:
    try:
        return {one.id: decode(one.body, Output) for one in find(ids)} if ids else {}
    except StoreError:
        return {}  # it was there a moment ago: what it does not tell now raises no alarm later


def _latest(find: Find, id: str) -> tuple[Output, int]:
    """Return the latest of the outputs that followed the first, with its number.

    There is one at least; no number is left out, so that few of them are looked up.
    """
    numbers = [2**n for n in range(24)]
    powers = _found(find, [changed_output_id(id, number) for number in numbers])
    below = max(number for number in numbers if changed_output_id(id, number) in powers)
    latest, above = powers[changed_output_id(id, below)], 2 * below
    while above - below > 1:
        middle = (below + above) // 2
        found = list(_found(find, [changed_output_id(id, middle)]).values())
        below, above = (middle, above) if found else (below, middle)
        latest = found[0] if found else latest
    return latest, below


K = TypeVar("K")
T = TypeVar("T")


def remember(known: OrderedDict[K, T], item: K, value: T, limit: int = REMEMBERED) -> None:
    """Add to a mapping that keeps the latest, a few hundred if nothing else is said."""
    known[item] = value
    while len(known) > limit:
        try:
            known.popitem(last=False)
        except KeyError:  # another thread was faster
            return
