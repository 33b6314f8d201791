"""Seeds of trials and of their steps, as plain numbers.

A step's seed follows from the trial's seed and the step's place in the graph alone, so that
neither the scheduler nor timing has a part in it.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from operator import index
from typing import Any

__all__ = ["check_seed", "fresh_seed", "step_seed"]


def fresh_seed() -> int:
    """Draw a seed for a trial that was given none: 32 bits, easy to read and to pass on."""
    return secrets.randbits(32)


def check_seed(seed: Any) -> int | None:
    """Return the seed if it is one.

    Raises
    ------
    ValueError
        If it is neither None nor an integer from 0 to 2**63 - 1.
    """
    if seed is None:
        return None
    try:
        number = None if isinstance(seed, bool) else index(seed)
    except TypeError:
        number = None
    if number is not None and 0 <= number < 2**63:
        return number
    raise ValueError(f"seed is {seed!r}; expected None or an integer from 0 to 2**63 - 1")


def step_seed(trial_seed: int, key: str) -> int:
    """Derive a step's seed (64 bits) from the trial's seed and the step's place in the graph."""
    digest = blake2b(f"{trial_seed}/{key}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")
