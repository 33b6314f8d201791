"""A store whose records are held against their signatures while they are read.

Whoever asks with a signing key sees what its holders wrote. A record that somebody else wrote or
changed is left out with a warning, as a damaged one is, and of what was removed a warning tells,
too, as far as numbers tell it. Trials that are not signed at all are shown, and named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from toolz import partition_all

from daskperiment.codec import signing_key_in_force
from daskperiment.errors import StoreWarning
from daskperiment.formatting import listed
from daskperiment.history.vouching import Vouching
from daskperiment.records import BEGUN, REMOVED
from daskperiment.store.protocol import Store, Stored
from daskperiment.warn import warn_user

__all__ = ["VouchedStore", "vouched"]

_PIECE = 1000
_FIRST = (BEGUN, REMOVED)
_COUNTED = ("steps", "points", "logs", "notes")


def vouched(store: Store) -> Store:
    """Return a store as whoever reads it is to see it: with a signing key, a `VouchedStore`."""
    key = signing_key_in_force()
    return store if key is None else VouchedStore(store, key)


class VouchedStore:
    """The records of a store that a signing key vouches for; all else is the store's.

    Parameters
    ----------
    store : Store
    key : bytes
        The signing key.

    Attributes
    ----------
    unchecked : Store
        The store itself.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self.unchecked = store
        self._vouching = Vouching(key, store.address)
        self._told: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unchecked, name)

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream, see `Store.read`, but for what nobody with the key vouches for."""
        if stream == "beats":
            return self.unchecked.read(stream, trials, after)
        return self._read(stream, trials, after)

    def _read(self, stream: str, trials: Collection[int] | None, after: int) -> Iterator[Stored]:
        look = self._vouching.anew()
        # Numbers tell what is missing where all of a trial is read.
        whole = trials is not None and not after and stream in _COUNTED
        if whole and trials is not None:
            self._count(look, stream, trials)
        faults: list[str] = []
        seen: set[int] = set()
        for piece in partition_all(_PIECE, self.unchecked.read(stream, trials, after)):
            seen.update([one.trial for one in piece])
            self._learn({one.trial for one in piece})
            for one in piece:
                good, fault = look.look(stream, one)
                if fault:
                    faults.append(f"{one.id!r} of trial {one.trial} ({fault})")
                if good is not None:
                    yield good
        if whole:
            gaps = (gap for gap in look.missing((stream,)) if gap.trial in look.ended)
            faults += [f"of trial {gap.trial} {gap}" for gap in gaps]
        self._warn(faults, seen)

    def _count(self, look: Vouching, stream: str, trials: Collection[int]) -> None:
        """Learn how many records of a stream trials have; before these are read."""
        for other in ("trials", "steps"):
            if other != stream:
                for one in self.unchecked.read(other, trials):
                    self._learn({one.trial})
                    look.look(other, one)

    def _learn(self, trials: Iterable[int]) -> None:
        """Read how trials began of which that is not known yet."""
        unknown = [trial for trial in trials if not self._vouching.knows(trial)]
        for one in self.unchecked.read("trials", unknown) if unknown else ():
            if one.id in _FIRST:
                self._vouching.look("trials", one)

    def _warn(self, faults: list[str], seen: Iterable[int]) -> None:
        if faults:
            text = (
                "Records are missing, or left out because nobody with daskperiment.signing-key "
                f"wrote them as they stand: {listed(faults, 3)}. Restore the store from a backup "
                "if they matter; `daskperiment check` tells all."
            )
            warn_user(StoreWarning(text))
        foreign = sorted(self._vouching.foreign.intersection(seen) - self._told)
        if foreign:
            self._told.update(foreign)
            text = (
                f"Nothing vouches for trials {listed(foreign, 10)}: they were recorded without "
                "daskperiment.signing-key, or changed since."
            )
            warn_user(StoreWarning(text))
