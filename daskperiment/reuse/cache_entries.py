"""What a store knows of the outputs that cache keys led to.

Two kinds of records of the stream ``outputs`` belong to a cache key: what is known of the output
that it led to, with further generations for outputs that took the place of lost ones, and that it
once led to two outputs, so that neither may be reused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from daskperiment.capture.files import difference
from daskperiment.codec import decode, has_signature, is_object
from daskperiment.errors import CorruptRecordError
from daskperiment.records import (
    CacheEntry,
    FileState,
    cache_entry_id,
    impure_key_id,
    is_replacement_id,
)
from daskperiment.store.protocol import Store

__all__ = [
    "CHANGED",
    "NOT_KEPT",
    "UNKNOWN",
    "Answers",
    "CacheEntries",
    "Hit",
    "latest",
    "look_up",
    "outdated",
    "reads_with",
    "why_not",
    "worth_writing",
]

CHANGED, UNKNOWN, NOT_KEPT = "is changed by the code", "has no fingerprint", "output not kept"
"""Parts of the reasons for which a step always runs, as long as its code is the same."""

GENERATIONS = 2
"""How many outputs of one cache key are asked for at once."""


class Hit(Struct, frozen=True, gc=False):
    """An output that stands in for a step."""

    cache_key: str
    entry: CacheEntry

    @property
    def digest(self) -> str | None:
        """Digest of the output's object, None if it is plain data."""
        form = self.entry.kept["value"]
        return form["digest"] if is_object(form) else None


class Answers(NamedTuple):
    """What the store said when a plan was decided."""

    ids: Collection[str]
    """Those of the outputs that it was asked for."""
    bodies: Mapping[str, bytes]
    """Id -> record, of those that are there."""
    digests: Collection[str]
    """Of the objects whose sizes it was asked for."""
    sizes: Mapping[str, int]
    rest_on_files: bool
    """Whether anything in the records does: files change without the store."""

    def are_those_of(self, store: Store) -> bool:
        """Whether a store says the same now; raises StoreError if it cannot be read."""
        found = store.find(self.ids)
        if {record.id: record.body for record in found} != self.bodies:
            return False
        return not self.digests or store.sizes(self.digests) == self.sizes


class CacheEntries:
    """What a store knows under cache keys; with a signing key, what is signed with it."""

    def __init__(self, store: Store, signing_key: bytes | None = None) -> None:
        self._store = store
        self._signing_key = signing_key
        self._entries: dict[str, list[CacheEntry]] = {}
        self.asked: dict[str, None] = {}
        """Ids of all records that the store was asked for."""
        self.bodies: dict[str, bytes] = {}
        """Id -> record, of those that are there."""
        self.impure: set[str] = set()
        self.some_read = False
        """Whether what was made of files is among them."""
        self.some_on_files = False
        """Whether what was made of files, or left some, is among them."""
        self.some_noted = False
        """Whether one is among them that must not be reused."""

    def read(self, cache_keys: Collection[str]) -> None:
        """Read what is known under some cache keys, a few outputs of each."""
        # Most keys have one output; a lost one was replaced a few times at most. Whoever has as
        # many as were asked for is asked again.
        wanted, first = [key for key in cache_keys if key not in self._entries], 0
        self._entries.update({key: [] for key in wanted})
        while wanted:
            found = self._find(wanted, range(first, first + GENERATIONS))
            for key, entries in found.items():
                self._entries[key] += entries
            first += GENERATIONS
            wanted = [key for key in wanted if len(self._entries[key]) == first]

    def _find(
        self, cache_keys: list[str], generations: Iterable[int]
    ) -> dict[str, list[CacheEntry]]:
        ids = {cache_entry_id(key, n): key for key in cache_keys for n in generations}
        impure = {impure_key_id(key): key for key in cache_keys}
        found: dict[str, list[CacheEntry]] = {}
        wanted = [*ids, *impure]
        bodies = {record.id: record.body for record in self._store.find(wanted)}
        self.asked.update(dict.fromkeys(wanted))
        self.bodies.update(bodies)
        self.impure.update([impure[id] for id in bodies if id in impure])
        for id, cache_key in ids.items():
            if id in bodies:
                entry = self._decoded(id, bodies[id])
                found.setdefault(cache_key, []).append(entry)
                self.some_read = self.some_read or bool(entry.reads)
                self.some_on_files = self.some_on_files or bool(entry.reads or entry.written)
                self.some_noted = self.some_noted or bool(entry.note)
        return found

    def _decoded(self, id: str, body: bytes) -> CacheEntry:
        key = self._signing_key
        try:
            entry = decode(body, CacheEntry)
        except CorruptRecordError as error:
            return CacheEntry(0, "", "", note=f"its record is damaged: {error}")
        if key is None or has_signature(entry, key, self._store.address, id):
            return entry
        note = "its record is not signed with the signing key, or was changed"
        return msgspec.structs.replace(entry, note=note, kept=None)

    def all(self, cache_key: str) -> list[CacheEntry]:
        """Return what is known of the outputs that a key led to, oldest first."""
        return self._entries.get(cache_key, [])

    def hit(self, base: str, seeded: str, drew: bool) -> Hit | None:
        """Return the output that stands in for a step, if there is one.

        Parameters
        ----------
        base, seeded : str
            The step's cache key, without and with the trial's seeds; both were read.
        drew : bool
            Whether anything before the step drew random numbers.
        """
        if base in self.impure:
            return None
        drew = drew or any(entry.drew for entry in self.all(base))
        cache_key = seeded if drew else base
        entry = latest([entry for entry in self.all(cache_key) if not entry.partial])
        return Hit(cache_key, entry) if entry is not None else None

    def next_id(self, cache_key: str) -> str:
        """Return the id of one more output of a key."""
        return cache_entry_id(cache_key, len(self.all(cache_key)))


def worth_writing(ids: Sequence[str], entry: CacheEntry) -> list[str]:
    """Return the ids to write an entry under: another output of a key only if it is of use.

    It is if it can be reused, or tells of a step that keeps none what could not be trusted before.
    """
    is_plain = entry.kept is None and entry.note is None
    return [id for id in ids if is_plain or not is_replacement_id(id) or why_not(entry) is None]


def look_up(
    store: Store, base: str, seeded: str, drew: bool, since: Collection[str],
    signing_key: bytes | None = None,
) -> Hit | None:  # fmt: skip
    """Find the output of a step that another trial may have run since the trial was arranged.

    Parameters
    ----------
    store : Store
    base, seeded : str
        The step's cache key, without and with the trial's seeds.
    drew : bool
        Whether anything before the step drew random numbers.
    since : collection of str
        Ids of the records that the trial itself would write. What was there before had been
        looked at when it was arranged, and was not good enough.
    signing_key : bytes, optional
        What is not signed with it does not count.
    """
    entries = CacheEntries(store, signing_key)
    entries.read([base, seeded])
    hit = entries.hit(base, seeded, drew)
    if hit is None:
        return None
    until = entries.all(hit.cache_key).index(hit.entry) + 1
    new = any(cache_entry_id(hit.cache_key, number) in since for number in range(until))
    return hit if new else None


def latest(entries: Sequence[CacheEntry]) -> CacheEntry | None:
    """Return the newest output that can be reused."""
    good = (entry for entry in reversed(entries) if why_not(entry) is None)
    return next((entry for entry in good if outdated(entry) is None), None)


def outdated(entry: CacheEntry) -> str | None:
    """Return what of the files that an output rests on is not as it was; None if all is."""
    for state in entry.reads:
        if (what := difference(state)) is not None:
            return f"{what} since {state.step or entry.key} read it"
    for state in entry.written:
        if (what := difference(state)) is not None:
            return f"{what} since {entry.key} wrote it"
    return None


def reads_with(*entries: Iterable[FileState]) -> list[FileState]:
    """Return what several lists name, each once."""
    found = {(each.kind, each.name, each.digest, each.relative): each
             for states in entries for each in states}  # fmt: skip
    return list(found.values())


def why_not(entry: CacheEntry) -> str | None:
    """Return why an output cannot be reused; None if it can."""
    if entry.note:
        return f"the output of trial {entry.trial} is not to be trusted: {entry.note}"
    if entry.kept is None:
        return "its output was not kept: the step was not persisted"
    form = entry.kept.get("value")
    if is_object(form) and not form.get("digest"):
        return f"{NOT_KEPT}: {form.get('reason') or 'no reason is known'}"
    return None
