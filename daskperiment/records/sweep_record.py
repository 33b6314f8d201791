"""What is recorded of a sweep."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["Sweep"]


class Sweep(Struct, frozen=True, omit_defaults=True):
    """The record of a sweep: all that is needed to resume it."""

    id: str
    result: str
    """Name of the step whose call is the result."""
    started: float
    latest: int
    """The highest trial id before the sweep: its trials are above. No signature covers it, so that
    whoever has no key can copy a signed sweep."""
    space: dict[str, Any]
    """Parameter -> its recorded dimension."""
    sampler: str
    entropy: int
    """Seed of the random order and draws."""
    n_trials: int | None = None
    seed: int | None = None
    """The seed that was given: the trials' seeds are derived from it."""
    direction: str | None = None
    others: dict[str, Any] = {}
    """Plain values of the other parameters."""
    signature: str | None = None
    """Of the record and what it is for, with the signing key; ``None`` where there was none."""
