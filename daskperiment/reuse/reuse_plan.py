"""What a trial reuses, shares and runs: plain data, by the keys of its result's template."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daskperiment.records import CacheEntry
from daskperiment.reuse.cache_entries import CHANGED, NOT_KEPT, UNKNOWN, Hit
from daskperiment.reuse.cache_keys import StepKeys

__all__ = ["NEVER_RUN", "ReusePlan", "with_cure"]

NEVER_RUN = "never run"
"""Reason of a step of which the store knows no output."""

_CURES = {
    CHANGED: "make it an argument, or something that only the step's own call has",
    UNKNOWN: "make it in the step, or say what counts of its class with "
    "daskperiment.register_fingerprint()",
    NOT_KEPT: "return something that can be pickled, or what it can be made of",
}


def with_cure(reason: str) -> str | None:
    """Return a reason that lasts, with what to do about it; None if another trial has another."""
    cure = next((cure for part, cure in _CURES.items() if part in reason), None)
    return None if cure is None else f"{reason}; {cure}"


Key = Hashable


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
    never: Mapping[Key, str] = field(default_factory=dict)
    """Why some of them must always run, and what would change that."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Place -> why what is known under a step's cache key is not taken: it has another seed, or
    files that changed. What changed since the step ran last goes before it as a reason."""
    known_calls: Mapping[Key, CacheEntry] = field(default_factory=dict)
    """Step that is no hit -> an output of the same call, which holds if its inputs are the same."""
    in_flight: frozenset[str] = frozenset()
    """Cache keys whose content the trial makes, so that others can share it meanwhile."""
