"""What a trial reuses, shares and runs: plain data, by the keys of its result's template."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from daskperiment.records import cache_entry_id
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import CacheKey, KeySpec, NoCacheKey

__all__ = ["ReusePlan", "StepKeys", "first_ids", "keys_without_reuse"]

Key = Hashable


class StepKeys(NamedTuple):
    """The cache keys of one step in one trial, and what its run writes down of them."""

    base: str
    """Without seeds. Empty, as the other, if the step has no cache key."""
    seeded: str
    ids: tuple[str, ...] = ()
    """Ids of the records that tell later trials of the output."""
    reusable: bool = False
    """Whether this trial might have reused its output."""
    reason: str | None = None
    """Why it runs, where its output might have been reused."""


@dataclass(frozen=True)
class ReusePlan:
    """What runs in a trial, what is taken from earlier ones and what trials can share."""

    step_keys: Mapping[str, StepKeys] = field(default_factory=dict)
    """By place in the trial's graph."""
    hits: Mapping[Key, Hit] = field(default_factory=dict)
    shared: Mapping[Key, str] = field(default_factory=dict)
    """Nodes that trials in flight run once for all -> the cache key that names their content."""
    seeded: Mapping[Key, str] = field(default_factory=dict)
    """Node -> its cache key with the trial's seeds."""
    computed: Mapping[Key, Sequence[Any]] = field(default_factory=dict)
    """Hit -> the parameters before it that are computed."""
    needed: frozenset[Key] = frozenset()
    """The nodes that the trial's graph consists of; none if it is the template's as it is."""
    reasons: Mapping[Key, str] = field(default_factory=dict)
    """Why those of the reusable steps that are no hits must run."""

    @property
    def in_flight(self) -> frozenset[str]:
        """Cache keys whose content the trial makes, so that others can share it meanwhile."""
        running = self.needed - self.hits.keys()
        return frozenset(name for key, name in self.shared.items() if key in running)


def first_ids(spec: KeySpec, found: CacheKey) -> tuple[str, ...]:
    """Return the ids of the records to write where nothing was looked up."""
    base = cache_entry_id(found.base)
    return (base, cache_entry_id(found.seeded)) if spec.persist else (base,)


def keys_without_reuse(
    specs: Iterable[KeySpec], cache_keys: Mapping[Key, CacheKey | NoCacheKey]
) -> dict[str, StepKeys]:
    """Return the cache keys by place for a trial that reuses nothing, so that later ones may."""
    return {
        spec.place: StepKeys(found.base, found.seeded, first_ids(spec, found))
        for spec in specs
        if spec.place and isinstance(found := cache_keys[spec.key], CacheKey)
    }
