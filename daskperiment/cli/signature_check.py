"""Looking over the signatures of an experiment's records: what was changed, swapped or removed.

A record has a signature over all that it says and what it is for. Each step run has a number, too,
counted by whoever wrote it: a number that is missing is of a record that was removed. The end of a
trial says how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from daskperiment.codec import decode, has_signature
from daskperiment.compare.evidence import collect
from daskperiment.errors import CorruptRecordError
from daskperiment.formatting import listed
from daskperiment.history.trial_records import read_trials
from daskperiment.records import (
    BEGUN,
    COMPUTED,
    ENDED,
    REMOVED,
    Begun,
    Computed,
    Ended,
    StepRun,
    record_kind,
)
from daskperiment.store.protocol import Store, Stored

__all__ = ["SignatureCheck", "SignatureFault"]

_MANY = 10
"""How many trials or numbers one line names."""
_RESTORE = "restore it from a backup; do not rely on what it says"
_CHANGED = "its signature does not fit: it was changed, or belongs to another trial"
_TYPES: dict[str, type[Ended | Computed]] = {ENDED: Ended, COMPUTED: Computed}


class SignatureFault(NamedTuple):
    """Something that its writer did not write like this."""

    place: str
    what: str
    remedy: str


class SignatureCheck:
    """One look over the signatures of a store.

    Parameters
    ----------
    store : Store
    key : bytes
        The signing key.
    late : callable
        Whether the time is up.
    """

    def __init__(self, store: Store, key: bytes, late: Callable[[], bool]) -> None:
        self._store = store
        self._key = key
        self._late = late
        self._begun: dict[int, Begun] = {}
        """First records that are signed with the key."""
        self._foreign: list[int] = []
        """Trials that are not."""
        self._removed: set[int] = set()
        self._numbers: dict[tuple[int, str], set[int]] = {}
        """Trial and writer -> numbers of the step runs that are there."""
        self._counts: dict[tuple[int, str], int] = {}
        """How many there were, by what other records say."""

    def run(self) -> Iterator[SignatureFault]:
        """Yield what is found."""
        for stream, look in (("trials", self._trials), ("steps", self._steps)):
            for one in self._store.read(stream):
                if self._late():
                    return
                try:
                    fault = look(one)
                except CorruptRecordError:
                    continue  # told of where damage is looked for
                if fault:
                    place = f"record {one.id!r} of trial {one.trial} in {stream!r}"
                    yield SignatureFault(place, fault, _RESTORE)
        if not self._begun:
            return
        running = {n for n, trial in read_trials(self._store).items() if trial.status == "running"}
        yield from self._gaps(running)
        yield from self._absent()
        yield from self._incomplete()

    def _trials(self, one: Stored) -> str:
        """Return what is wrong with a record of the stream of trials."""
        if one.id == REMOVED:
            self._removed.add(one.trial)
        if one.id == BEGUN:
            begun = decode(one.body, Begun)
            if has_signature(begun, self._key, self._store.address):
                self._begun[one.trial] = begun
            else:
                self._foreign.append(one.trial)
            return ""
        begun_with, kind = self._begun.get(one.trial), _TYPES.get(record_kind(one.id))
        if begun_with is None or kind is None or not begun_with.numbered:
            return ""
        record = decode(one.body, kind)
        if has_signature(record, self._key, self._store.address, begun_with.token):
            self._count(one.trial, record.serial)
            return ""
        return _CHANGED if record.signature else "it is not signed, though its trial is"

    def _steps(self, one: Stored) -> str:
        """Return what is wrong with a step run."""
        begun = self._begun.get(one.trial)
        if begun is None:
            return ""
        run = decode(one.body, StepRun)
        if not has_signature(run, self._key, self._store.address, one.trial):
            return _CHANGED if run.signature else "it is not signed, though its trial is"
        writer, number = self._count(one.trial, run.serial)
        if run.reused is None and number:
            self._numbers.setdefault((one.trial, writer), set()).add(number)
        return ""

    def _count(self, trial: int, serial: str | None) -> tuple[str, int]:
        writer, _, number = (serial or "").rpartition(":")
        count = int(number) if number.isdigit() else 0
        self._counts[trial, writer] = max(count, self._counts.get((trial, writer), 0))
        return writer, count

    def _gaps(self, running: Iterable[int]) -> Iterator[SignatureFault]:
        for (trial, writer), count in sorted(self._counts.items()):
            there = self._numbers.get((trial, writer), set())
            if trial not in running and len(there) < count:
                numbers = [n for n in range(1, count + 1) if n not in there]
                what = (
                    f"{len(numbers)} step runs that {writer} wrote are missing: "
                    f"{listed(numbers, _MANY)}"
                )
                yield SignatureFault(f"trial {trial}", what, "restore the store from a backup")

    def _absent(self) -> Iterator[SignatureFault]:
        known = {*self._begun, *self._foreign, *self._removed}
        if absent := [n for n in range(1, self._store.state().latest + 1) if n not in known]:
            what = "they have no first record: it was removed, or is damaged"
            yield SignatureFault(
                f"trials {listed(absent, _MANY)}", what, "restore the store from a backup"
            )
        if self._foreign:
            what = "not signed with this key: recorded without it, or changed since"
            remedy = "rely on what others than its holders can write no more than on them"
            yield SignatureFault(f"trials {listed(self._foreign, _MANY)}", what, remedy)

    def _incomplete(self) -> Iterator[SignatureFault]:
        """Find trials that succeeded, though a step has neither a run nor a reason for none."""
        for number, trial in read_trials(self._store, sorted(self._begun)).items():
            if self._late():
                return
            if trial.status == "succeeded" and self._begun[number].numbered:
                found = collect(self._store, trial)
                missing = found.nodes.keys() - found.runs.keys() - found.spared
                if found.wired and missing:
                    what = f"it succeeded, and no run of {listed(sorted(missing), _MANY)} is there"
                    remedy = "restore the store from a backup"
                    yield SignatureFault(f"trial {number}", what, remedy)
