"""Looking over the signatures of an experiment's records: what was changed, swapped or removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from daskperiment.compare.evidence import collect
from daskperiment.formatting import listed
from daskperiment.history.trial_records import read_trials
from daskperiment.recording.witness import latest_seen, note_seen
from daskperiment.records import BEGUN
from daskperiment.store.opening import seen_file
from daskperiment.store.protocol import Owner, Store
from daskperiment.vouching import Vouching

__all__ = ["SignatureCheck", "SignatureFault"]

_MANY = 10
"""How many trials one line names."""
_RESTORE = "restore it from a backup; do not rely on what it says"
_BACKUP = "restore the store from a backup"
_STREAMS = ("trials", "steps", "points", "logs", "notes", "outputs")
"""Those that tell how many there were come first: meanwhile others may be written."""


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
        self._vouching = Vouching(key, store.address)

    def run(self) -> Iterator[SignatureFault]:
        """Yield what is found."""
        for one in self._store.read("trials"):
            if one.id == BEGUN:  # it may stand behind an end of its trial
                self._vouching.look("trials", one)
        if not self._vouching.begun:
            yield from self._unseen()
            return
        for stream in _STREAMS:
            yield from self._faults(stream)
            if self._late():
                return
        self._expect_notes()
        running = {n for n, trial in read_trials(self._store).items() if trial.status == "running"}
        for gap in self._vouching.missing():
            if gap.trial not in running:
                yield SignatureFault(f"trial {gap.trial}", str(gap), _BACKUP)
        yield from self._absent()
        yield from self._unseen()
        yield from self._incomplete()

    def _faults(self, stream: str) -> Iterator[SignatureFault]:
        for one in self._store.read(stream):
            if self._late():
                return
            fault = self._vouching.look(stream, one)[1]
            if fault:
                place = f"record {one.id!r} of trial {one.trial} in {stream!r}"
                yield SignatureFault(place, fault, _RESTORE)

    def _absent(self) -> Iterator[SignatureFault]:
        known, foreign = self._vouching.knows, sorted(self._vouching.foreign)
        if absent := [n for n in range(1, self._store.state().latest + 1) if not known(n)]:
            what = "they have no first record: it was removed, or is damaged"
            yield SignatureFault(f"trials {listed(absent, _MANY)}", what, _BACKUP)
        if foreign:
            what = "not signed with this key: recorded without it, or changed since"
            remedy = "rely on what others than its holders can write no more than on them"
            yield SignatureFault(f"trials {listed(foreign, _MANY)}", what, remedy)

    def _expect_notes(self) -> None:
        """Count on the notes that this machine saw written: nothing else tells of the latest."""
        seen = latest_seen(self._store, self._key)
        trials = {begun.token: trial for trial, begun in self._vouching.begun.items()}
        for name, number in seen.notes.items() if seen is not None else ():
            token, _, writer = name.partition(" ")
            if token in trials:
                self._vouching.expect(trials[token], "notes", writer, number)

    def _unseen(self) -> Iterator[SignatureFault]:
        """Find that the latest trials are gone, by what this machine saw of them."""
        look, seen = self._vouching, latest_seen(self._store, self._key)
        tokens = {begun.token: trial for trial, begun in look.begun.items()}
        there = seen is None or not seen.trial or seen.token in tokens
        if seen is not None and not there and seen.trial not in look.removed:
            day = datetime.fromtimestamp(seen.time, UTC).strftime("%Y-%m-%d %H:%M")
            what = (
                f"this machine saw trial {seen.trial} at {day} UTC, and it is not there as it was: "
                "it was removed, or the store was deleted, emptied or put back"
            )
            remedy = f"{_BACKUP}, or remove {seen_file(self._store)} if it is meant to be so"
            yield SignatureFault(f"trials up to {seen.trial}", what, remedy)
        elif tokens:
            token = max(tokens, key=lambda one: tokens[one])
            note_seen(self._store, Owner(tokens[token], token), self._key)

    def _incomplete(self) -> Iterator[SignatureFault]:
        """Find trials that succeeded, though a step has neither a run nor a reason for none."""
        begun = self._vouching.begun
        for number, trial in read_trials(self._store, sorted(begun)).items():
            if self._late():
                return
            if trial.status == "succeeded" and begun[number].numbered:
                found = collect(self._store, trial)
                missing = found.nodes.keys() - found.runs.keys() - found.spared
                if found.wired and missing:
                    what = f"it succeeded, and no run of {listed(sorted(missing), _MANY)} is there"
                    yield SignatureFault(f"trial {number}", what, _BACKUP)
