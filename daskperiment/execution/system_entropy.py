"""Draws from the operating system, which knows no seed.

NumPy asks it for the seed of a generator that is made without one, as in ``default_rng()``. In a
step that seed follows from the step's, so that the generator draws the same again. What the code of
a user draws from ``os.urandom``, ``secrets``, ``random.SystemRandom`` or ``uuid.uuid4`` stays what
it is: the step counts as drawing. Libraries name temporary files in this way: that does not count.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from daskperiment.capture.origin import is_own
from daskperiment.errors import UncertainStepError
from daskperiment.execution.context import ACTIVE, CURRENT
from daskperiment.execution.helper_threads import running_step

__all__ = ["SystemDraws", "seed_unseeded"]

_NUMPY = "numpy.random.bit_generator"
_BETWEEN = frozenset({__name__, "os", "random", "secrets", "uuid"})
"""Modules through which code draws from the operating system."""


def seed_unseeded() -> None:
    """Let NumPy's generators that a step makes without a seed follow it, from now on."""
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


class SystemDraws:
    """Stands for ``os.urandom`` while steps run, and notices which of them draw."""

    def __init__(self) -> None:
        self.read: Callable[[int], bytes] = os.urandom
        """The function that it stands for."""
        self.__module__ = "os"  # where pickle finds it

    def __call__(self, size: int, /) -> bytes:
        """Return random bytes; the step whose own code asks for them counts as drawing."""
        step = CURRENT.get()
        if step is not None and not step.stochastic and _is_asked_for(inspect.currentframe()):
            step.stochastic = True
        return self.read(size)

    def __reduce__(self) -> str:
        return "urandom"


def _is_asked_for(frame: FrameType | None) -> bool:
    """Return whether a user's own code draws, and no library for its own sake."""
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame is not None and is_own(frame.f_globals.get("__name__"))
