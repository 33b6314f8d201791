"""A store whose records are held against their signatures while they are read.

Whoever asks with a signing key sees what its holders wrote. A record that somebody else wrote or
changed is left out with a warning, as a damaged one is, and of what was removed a warning tells,
too, as far as numbers tell it. Trials that are not signed at all are shown, and named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from toolz import partition_all

from daskperiment.codec import signing_key_in_force
from daskperiment.errors import CorruptRecordError, StoreWarning
from daskperiment.formatting import listed
from daskperiment.records import BEGUN, REMOVED
from daskperiment.store.protocol import Buffer, Store, Stored
from daskperiment.vouching.record_vouching import Vouching
from daskperiment.warn import warn_user

__all__ = ["Doubts", "VouchedStore", "silently", "vouched"]

_PIECE = 1000
_FIRST = (BEGUN, REMOVED)
_COUNTED = ("steps", "points", "logs", "notes")


class Doubts(NamedTuple):
    """What is not to be relied on of what was read, by trial."""

    faults: list[tuple[int, str]]
    """What was left out, or is missing, and why."""
    foreign: list[int]
    """Trials that nothing vouches for."""


def vouched(
    store: Store, tell: Callable[[Doubts], object] | None = None, key: bytes | None = None
) -> Store:  # fmt: skip
    """Return a store as whoever reads it is to see it: with a signing key, a `VouchedStore`.

    Parameters
    ----------
    store : Store
    tell : callable, optional
        Told of what is left out; without it, the user is warned.
    key : bytes, optional
        The signing key; without it, that of the configuration, if there is one.
    """
    key = signing_key_in_force(key)
    if key is None or isinstance(store, VouchedStore):
        return store
    return VouchedStore(store, key, _warn if tell is None else tell)


def silently(doubts: Doubts) -> None:
    """Tell nobody: for those who look at what was before only to plan what comes."""


def _warn(doubts: Doubts) -> None:
    if doubts.faults:
        text = (
            "Records are missing, or left out because nobody with daskperiment.signing-key "
            f"wrote them as they stand: {listed([each for _, each in doubts.faults], 3)}. Restore "
            "the store from a backup if they matter; `daskperiment check` tells all."
        )
        warn_user(StoreWarning(text))
    if doubts.foreign:
        text = (
            f"Nothing vouches for trials {listed(doubts.foreign, 10)}: they were recorded without "
            "daskperiment.signing-key, or changed since."
        )
        warn_user(StoreWarning(text))


class VouchedStore:
    """The records of a store that a signing key vouches for; all else is the store's.

    Parameters
    ----------
    store : Store
    key : bytes
        The signing key.
    tell : callable
        Told of what is left out, by `Doubts`.

    Attributes
    ----------
    unchecked : Store
        The store itself.
    """

    def __init__(
        self, store: Store, key: bytes, tell: Callable[[Doubts], object] = _warn
    ) -> None:  # fmt: skip
        self.unchecked = store
        self._vouching = Vouching(key, store.address)
        self._tell = tell
        self._told: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unchecked, name)

    def get(self, digest: str) -> Buffer:
        """Return an object's bytes, see `Store.get`, if they are what a trial began with.

        Raises
        ------
        CorruptRecordError
            If they are other bytes, whose digest was made the same.
        """
        data = self.unchecked.get(digest)
        if fault := self._vouching.object_fault(digest, data):
            raise CorruptRecordError(fault)
        return data

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream, see `Store.read`, but for what nobody with the key vouches for."""
        if stream == "beats":
            return self.unchecked.read(stream, trials, after)
        return self._read(stream, trials, after)

    def _read(self, stream: str, trials: Collection[int] | None, after: int) -> Iterator[Stored]:
        look = self._vouching.anew()
        learnt: set[int] = set()
        # Numbers tell what is missing where all of a trial is read.
        whole = trials is not None and not after and stream in _COUNTED
        if whole and trials is not None:
            for other in ("trials", "steps"):
                if other != stream:
                    for _ in self._looked_at(look, other, trials, 0, learnt, []):
                        pass
        faults: list[tuple[int, str]] = []
        seen: set[int] = set()
        for one, good in self._looked_at(look, stream, trials, after, learnt, faults):
            seen.add(one.trial)
            if good is not None:
                yield good
        if whole:
            gaps = (gap for gap in look.missing((stream,)) if gap.trial in look.ended)
            faults += [(gap.trial, f"of trial {gap.trial} {gap}") for gap in gaps]
        foreign = sorted(self._vouching.foreign.intersection(seen) - self._told)
        self._told.update(foreign)
        if faults or foreign:
            self._tell(Doubts(faults, foreign))

    def _looked_at(
        self, look: Vouching, stream: str, trials: Collection[int] | None, after: int,
        learnt: set[int], faults: list[tuple[int, str]],
    ) -> Iterator[tuple[Stored, Stored | None]]:  # fmt: skip
        """Yield each record, and as much of it as is vouched for; note what is wrong with it."""
        for piece in partition_all(_PIECE, self.unchecked.read(stream, trials, after)):
            self._learn(stream, piece, learnt)
            for one in piece:
                good, fault = look.look(stream, one)
                if fault and one.trial and one.trial not in learnt:
                    # Since it was read how the trial began, another one may have got its id.
                    self._read_first([one.trial], learnt)
                    good, fault = look.look(stream, one)
                if fault:
                    faults.append((one.trial, f"{one.id!r} of trial {one.trial} ({fault})"))
                yield one, good

    def _learn(self, stream: str, piece: Sequence[Stored], learnt: set[int]) -> None:
        """Learn how the trials of some records began, where that is not known yet."""
        if stream == "trials":
            for one in piece:
                if one.id in _FIRST:
                    self._vouching.look(stream, one)
                    learnt.add(one.trial)
        trials = {one.trial for one in piece}
        self._read_first([trial for trial in trials if not self._vouching.knows(trial)], learnt)

    def _read_first(self, trials: Sequence[int], learnt: set[int]) -> None:
        for one in self.unchecked.read("trials", trials) if trials else ():
            if one.id in _FIRST:
                self._vouching.look("trials", one)
        learnt.update(trials)
