"""Draws from the operating system, which knows no seed.

NumPy asks it for the seed of a generator that is made without one, as in ``default_rng()``. In a
step that seed follows from the step's, so that the generator draws the same again. What a user's own
code draws from ``os.urandom``, ``secrets``, ``random.SystemRandom`` and ``uuid.uuid4`` stays what it
is: the step counts as drawing. Libraries name temporary files in this way; that does not count.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from daskperiment.capture.origin import is_own
from daskperiment.errors import UncertainStepError
from daskperiment.execution.context import ACTIVE, CURRENT
from daskperiment.execution.helper_threads import running_step

__all__ = ["watch_system_entropy"]

_NUMPY = "numpy.random.bit_generator"
_BETWEEN = frozenset({"os", "random", "secrets", "uuid"})
"""Modules through which code draws from the operating system."""


def watch_system_entropy() -> None:
    """Observe the draws of steps from the operating system, from now on in this process."""
    if getattr(os.urandom, "__wrapped__", None) is None:
        os.urandom = _observed(os.urandom)
        if hasattr(random, "_urandom"):
            setattr(random, "_urandom", os.urandom)  # noqa: B010  # what SystemRandom calls
    module: Any = sys.modules.get(_NUMPY)
    if hasattr(module, "randbits") and not hasattr(module.randbits, "__wrapped__"):
        module.randbits = _seeded(module.randbits)


def _seeded(randbits: Callable[[int], int]) -> Callable[[int], int]:
    @wraps(randbits)
    def bits_of_step(k: int) -> int:
        try:
            step = running_step()
        except UncertainStepError:
            for each in ACTIVE:
                each.stochastic = True
            return randbits(k)
        return randbits(k) if step is None or step.halted else step.entropy(k)

    return bits_of_step


def _observed(urandom: Callable[[int], bytes]) -> Callable[[int], bytes]:
    @wraps(urandom)
    def read(size: int, /) -> bytes:
        step = CURRENT.get()
        if step is not None and not step.stochastic and _is_asked_for(sys._getframe(1)):
            step.stochastic = True
        return urandom(size)

    read.__module__ = "os"  # where pickle finds it
    return read


def _is_asked_for(frame: FrameType | None) -> bool:
    """Return whether a user's own code draws, and no library for its own sake."""
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame is not None and is_own(frame.f_globals.get("__name__"))
