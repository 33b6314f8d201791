"""The latest reuse plan that took all it could, for as long as the store answers as it did.

What is decided of a trial follows from its cache keys and from what the store says of them. Where
both are as they were, which one question for each kind tells, nothing is decided anew.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import NamedTuple
from weakref import ref

from daskperiment.records import cache_key_of
from daskperiment.reuse.cache_entries import Answers
from daskperiment.reuse.cache_keys import CacheKey, KeySpecs, NoCacheKey
from daskperiment.reuse.key_parts import LiveValue
from daskperiment.reuse.reuse_plan import ReusePlan
from daskperiment.store.protocol import Store

__all__ = ["KeptPlan"]

Key = Hashable


class KeptPlan(NamedTuple):
    """A plan, with all that it was decided by."""

    specs: ref[KeySpecs]
    """Not held: what a graph holds goes when nobody computes it any more."""
    reusable: list[Key]
    bases: dict[Key, str | NoCacheKey]
    """What determines each node's output, without seeds."""
    signing_key: bytes | None
    answers: Answers
    plan: ReusePlan

    @classmethod
    def of(
        cls, specs: KeySpecs, reusable: Collection[Key],
        cache_keys: Mapping[Key, CacheKey | NoCacheKey], signing_key: bytes | None,
        answers: Answers, plan: ReusePlan,
    ) -> KeptPlan | None:  # fmt: skip
        """Return a plan to be kept, None if another trial may have another with the same answers.

        It may where seeds or the files of this machine have a say, or where something must run.
        """
        if not specs.is_steady:
            return None
        if any(isinstance(each, LiveValue) for spec in specs.specs for each in spec.given.values()):
            return None
        if not reusable or plan.hits.keys() != set(reusable):
            return None
        if answers.rest_on_files or plan.never or plan.unfit or plan.known_calls:
            return None
        # By seeds nothing may be named: neither what is taken, nor what runs, nor what it leaves.
        named = {key: hit.cache_key for key, hit in plan.hits.items()}
        for key, name in (*named.items(), *plan.shared.items()):
            found = cache_keys[key]
            if isinstance(found, NoCacheKey) or name != found.base:
                return None
        for keys in plan.step_keys.values():
            if any(cache_key_of(id) != keys.base for id in keys.ids):
                return None
        return cls(ref(specs), [*reusable], _bases(cache_keys), signing_key, answers, plan)

    def holds_for(
        self, specs: KeySpecs, reusable: Collection[Key],
        cache_keys: Mapping[Key, CacheKey | NoCacheKey], signing_key: bytes | None, store: Store,
    ) -> bool:  # fmt: skip
        """Whether a trial has this plan; raises StoreError if the store cannot be read."""
        if (
            specs is not self.specs()
            or reusable != self.reusable
            or signing_key != self.signing_key
            or _bases(cache_keys) != self.bases
        ):
            return False
        return self.answers.are_those_of(store)

    def of_trial(
        self, specs: KeySpecs, cache_keys: Mapping[Key, CacheKey | NoCacheKey]
    ) -> ReusePlan:
        """Return the plan of another trial, which may have other seeds."""
        plan = self.plan
        seeded, step_keys = dict(plan.seeded), dict(plan.step_keys)
        for spec in specs.specs:
            key, place = spec.key, spec.place
            found = cache_keys[key]
            if isinstance(found, NoCacheKey):
                continue
            if key in seeded:
                seeded[key] = found.seeded
            if place in step_keys:
                step_keys[place] = step_keys[place].seeded_as(found.seeded)
        return ReusePlan(
            step_keys=step_keys, hits=plan.hits, shared=plan.shared, seeded=seeded,
            computed=plan.computed, needed=plan.needed, reasons=plan.reasons,
            in_flight=plan.in_flight,
        )  # fmt: skip


def _bases(cache_keys: Mapping[Key, CacheKey | NoCacheKey]) -> dict[Key, str | NoCacheKey]:
    return {
        key: found.base if type(found) is CacheKey else found  # type: ignore[misc]
        for key, found in cache_keys.items()
    }
