"""What of a trial's graph need not run, because its output is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daskperiment.records import cache_entry_id
from daskperiment.reuse.cache_entries import CacheEntries, Hit, latest, why_not
from daskperiment.reuse.cache_keys import AnyCacheKey, CacheKey, KeySpec, NoCacheKey
from daskperiment.store.protocol import Store

__all__ = [
    "ReusePlan",
    "KeyMark",
    "NEVER_RUN",
    "plan_reuse",
    "marks_without_reuse",
]

Key = Hashable

NEVER_RUN = "never run"


class KeyMark(NamedTuple):
    """What a step run writes down of its cache_key."""

    base: str
    """Empty, as the other, if the step has none."""
    seeded: str
    ids: tuple[str, ...] = ()
    """Ids of the records that tell later trials of the output."""
    reusable: bool = False
    reason: str | None = None
    """Why it runs, where its output might have been reused."""


@dataclass(frozen=True)
class ReusePlan:
    """What runs in a trial, what is taken from earlier ones and what trials can share."""

    marks: Mapping[str, KeyMark] = field(default_factory=dict)
    """By place."""
    hits: Mapping[Key, Hit] = field(default_factory=dict)
    shared: Mapping[Key, str] = field(default_factory=dict)
    """Nodes that trials in flight run once for all -> what names their content."""
    seeded: Mapping[Key, str] = field(default_factory=dict)
    """Recipes with the trial's seeds."""
    computed: Mapping[Key, Sequence[Any]] = field(default_factory=dict)
    """Hit -> the parameters before it that are computed."""
    needed: frozenset[Key] = frozenset()
    reasons: Mapping[Key, str] = field(default_factory=dict)
    """Why those of the reusable steps that are no hits must run."""

    @property
    def making(self) -> frozenset[str]:
        """What names the content that the trial makes and others can share."""
        running = self.needed - self.hits.keys()
        return frozenset(name for key, name in self.shared.items() if key in running)


def plan_reuse(
    store: Store, specs: Iterable[KeySpec], cache_keys: Mapping[Key, AnyCacheKey],
    reusable: Collection[Key], in_flight: Callable[[str], bool],
) -> ReusePlan:  # fmt: skip
    """Decide what runs.

    Parameters
    ----------
    store : Store
        Where outputs of earlier trials are.
    specs : iterable of KeySpec
        Inputs before those who take them; the result is the last.
    cache_keys : mapping
        Of every node.
    reusable : collection
        Keys of the steps whose outputs may be reused.
    in_flight : callable
        Tells whether a trial in flight makes what has this name.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    table = {spec.key: spec for spec in specs}
    return _ReusePlanning(store, table, cache_keys, reusable, in_flight).reuse_plan()


class _ReusePlanning:
    def __init__(
        self, store: Store, specs: Mapping[Key, KeySpec], cache_keys: Mapping[Key, AnyCacheKey],
        reusable: Collection[Key], in_flight: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.store = store
        self.specs = specs
        self.cache_keys = cache_keys
        self.last = list(specs)[-1]
        self.reusable = set(reusable)
        self.in_flight = in_flight
        self.entries = CacheEntries(store)
        self.before = self._ancestors(self.reusable)
        self.drew: dict[Key, bool | None] = {}
        self.suspects: dict[Key, str] = {}
        self.reasons: dict[Key, str] = {}

    def reuse_plan(self) -> ReusePlan:
        known = {key: r for key in self.before if isinstance(r := self.cache_keys[key], CacheKey)}
        self.entries.read_keys({cache_key.base for cache_key in known.values()})
        for key in self.before:
            self.drew[key] = self._draws(key)
        self.entries.read_keys({r.seeded for key, r in known.items() if self.drew[key]})
        self.suspects = self._distrusted()
        shared = self._shared()
        hits = self._present({key: hit for key in self.reusable if (hit := self._hit(key))})
        computed = {key: self._computed(key) for key in hits}
        return ReusePlan(
            marks={spec.place: self._mark(spec) for spec in self._marked()},
            hits=hits, shared=shared, computed=computed,
            seeded={key: cache_key.seeded for key, cache_key in known.items()},
            needed=self._needed(hits, computed), reasons=self.reasons,
        )  # fmt: skip

    def _ancestors(self, keys: Iterable[Key]) -> list[Key]:
        """List nodes and all before them, inputs first."""
        found: set[Key] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found and key in self.specs:
                found.add(key)
                waiting += self.specs[key].refs
        return [key for key in self.specs if key in found]

    def _draws(self, key: Key) -> bool | None:
        """Tell whether a node or any before it draws random numbers; None if nobody knows."""
        spec, cache_key = self.specs[key], self.cache_keys[key]
        before = [self.drew.get(ref, False) for ref in spec.refs]
        if any(before):
            return True
        if isinstance(cache_key, NoCacheKey):
            return None
        if spec.place and cache_key.base != cache_key.seeded:
            entries = self.entries.all(cache_key.base)
            before.append(any(entry.drew for entry in entries) if entries else None)
        return True if any(before) else None if None in before else False

    def _name(self, key: Key) -> str:
        """Name what determines a node's output: with seeds where they matter."""
        cache_key = self.cache_keys[key]
        assert isinstance(cache_key, CacheKey)
        return cache_key.seeded if self.drew.get(key) else cache_key.base

    def _distrusted(self) -> dict[Key, str]:
        """Find the nodes whose outputs cache_keys do not determine, and say of each why."""
        found: dict[Key, str] = {}
        for key in self.before:
            why = self._suspicion(key) or self._suspicion_before(key, found)
            if why:
                found[key] = why
        return found

    def _suspicion(self, key: Key) -> str | None:
        cache_key = self.cache_keys[key]
        if isinstance(cache_key, NoCacheKey):
            return None
        if cache_key.base in self.entries.impure:
            return "impure: with nothing changed, it once returned another output"
        entries = self.entries.all(self._name(key)) or self.entries.all(cache_key.base)
        if entries and all(entry.note for entry in entries):
            return why_not(entries[-1])
        return None

    def _suspicion_before(self, key: Key, found: Mapping[Key, str]) -> str | None:
        refs = (ref for ref in self.specs[key].refs if ref in found)
        ref = next(refs, None)
        if ref is None:
            return None
        place, why = self.specs[ref].place, found[ref]
        return why if why.startswith("before it") or not place else f"before it, {place}: {why}"

    def _hit(self, key: Key) -> Hit | None:
        cache_key = self.cache_keys[key]
        if isinstance(cache_key, NoCacheKey):
            self.reasons[key] = cache_key.reason
            return None
        if key in self.suspects:
            self.reasons[key] = self.suspects[key]
            return None
        if self.in_flight(self._name(key)):
            # By the key that is in flight, so that what follows has the same keys too.
            self.reasons[key] = "a trial in flight runs it"
            return None
        entries = [] if self.drew[key] is None else self.entries.all(self._name(key))
        entry = latest(entries)
        if entry is not None:
            # Where it comes from tells why, should it turn out that it cannot be loaded.
            self.reasons[key] = f"the output that trial {entry.trial} kept could not be loaded"
            return Hit(self._name(key), entry)
        self.reasons[key] = (why_not(entries[-1]) if entries else None) or NEVER_RUN
        return None

    def _present(self, hits: dict[Key, Hit]) -> dict[Key, Hit]:
        digests = {hit.digest for hit in hits.values() if hit.digest}
        there = self.store.sizes(digests) if digests else {}
        for key, hit in hits.items():
            if hit.digest and hit.digest not in there:
                self.reasons[key] = (
                    f"the output that trial {hit.entry.trial} kept is no longer in the store"
                )
        return {key: hit for key, hit in hits.items() if not hit.digest or hit.digest in there}

    def _computed(self, key: Key) -> list[Key]:
        return [k for k in self._ancestors([key]) if self.specs[k].parameter]

    def _needed(
        self, hits: Mapping[Key, Hit], computed: Mapping[Key, Sequence[Key]]
    ) -> frozenset[Key]:
        needed: set[Key] = set()
        waiting = [self.last]
        while waiting:
            key = waiting.pop()
            if key not in needed:
                needed.add(key)
                spec = self.specs.get(key)
                waiting += computed[key] if key in hits else spec.refs if spec else ()
        return frozenset(needed)

    def _shared(self) -> dict[Key, str]:
        shared: dict[Key, str] = {}
        for key in self.before:
            cache_key = self.cache_keys[key]
            refs = [ref for ref in self.specs[key].refs if ref in self.specs]
            if (
                isinstance(cache_key, CacheKey)
                and all(ref in shared for ref in refs)
                and key not in self.suspects
            ):
                shared[key] = self._name(key)
        return shared

    def _marked(self) -> list[KeySpec]:
        known = {
            key for key, cache_key in self.cache_keys.items() if isinstance(cache_key, CacheKey)
        }
        return [f for f in self.specs.values() if f.place and f.key in known | self.reusable]

    def _mark(self, spec: KeySpec) -> KeyMark:
        cache_key, key = self.cache_keys[spec.key], spec.key
        reason = self.reasons.get(key)
        if isinstance(cache_key, NoCacheKey):
            return KeyMark("", "", (), reusable=True, reason=reason)
        return KeyMark(
            cache_key.base, cache_key.seeded, self._ids(key), key in self.reusable, reason
        )

    def _ids(self, key: Key) -> tuple[str, ...]:
        """Make the ids of the records to write: none for what is known already."""
        if key not in self.drew:
            return ids_of(self.specs[key], self.cache_keys[key])
        cache_key, drew = self.cache_keys[key], self.drew[key]
        assert isinstance(cache_key, CacheKey)
        if cache_key.base in self.entries.impure:
            return ()
        persisted = self.specs[key].persist
        wanted = [] if drew and self.entries.all(cache_key.base) else [cache_key.base]
        if persisted and drew is not False:
            wanted.append(cache_key.seeded)
        counts = [(name, len(self.entries.all(name))) for name in wanted]
        return tuple(
            cache_entry_id(name, count) for name, count in counts if persisted or not count
        )


def ids_of(spec: KeySpec, cache_key: AnyCacheKey) -> tuple[str, ...]:
    """Make the ids of the records to write where nothing was looked up."""
    assert isinstance(cache_key, CacheKey)
    wanted = [cache_key.base, cache_key.seeded] if spec.persist else [cache_key.base]
    return tuple(map(cache_entry_id, wanted))


def marks_without_reuse(
    specs: Iterable[KeySpec], cache_keys: Mapping[Key, AnyCacheKey]
) -> dict[str, KeyMark]:
    """Make the marks of a trial that reuses nothing, so that later ones may reuse it."""
    return {
        spec.place: KeyMark(cache_key.base, cache_key.seeded, ids_of(spec, cache_key))
        for spec in specs
        if spec.place and isinstance(cache_key := cache_keys[spec.key], CacheKey)
    }
