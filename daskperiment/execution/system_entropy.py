"""Draws from the operating system, which knows no seed.

NumPy asks it for the seed of a generator that is made without one, as in ``default_rng()``, and so
does ``random.Random()``. In a step that seed follows from the step's, so that the generator draws
the same again. What the code of
a user draws from ``os.urandom``, ``secrets``, ``random.SystemRandom`` or ``uuid.uuid4`` stays what
it is: the step counts as drawing. Libraries name temporary files in this way: that does not count.
"""

from __future__ import annotations

import inspect
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

__all__ = ["ISOLATED_PACKAGES", "SystemDraws", "seed_unseeded"]

ISOLATED_PACKAGES = frozenset({"distributed", "gridfs", "pymongo", "redis", "tornado"})
"""Libraries that draw at any moment, for their own sake."""

_NUMPY = "numpy.random.bit_generator"
_BETWEEN = frozenset({__name__, "os", "random", "secrets", "uuid"})
"""Modules through which code draws from the operating system."""


def seed_unseeded() -> None:
    """Let generators that a step makes without a seed follow it, from now on."""
    numpy: Any = sys.modules.get(_NUMPY)
    if hasattr(numpy, "randbits") and not hasattr(numpy.randbits, "__wrapped__"):
        numpy.randbits = _seeded(numpy.randbits)
    if not hasattr(random.Random.seed, "__wrapped__"):
        # The function was made of the method when the module was imported.
        _replace_seed(random.Random, _with_seed_of_step(random.Random.seed))
        _replace_seed(random, _function_with_seed_of_step(random.seed))


def _replace_seed(owner: Any, seed: Callable[..., None]) -> None:
    owner.seed = seed


def _seeded(randbits: Callable[[int], int]) -> Callable[[int], int]:
    @wraps(randbits)
    def bits_of_step(k: int) -> int:
        bits = _bits_of_step(k)
        return randbits(k) if bits is None else bits

    return bits_of_step


def _with_seed_of_step(give: Callable[..., None]) -> Callable[..., None]:
    @wraps(give)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        give(self, _seed_instead() if a is None else a, version)

    return seed


def _function_with_seed_of_step(give: Callable[..., None]) -> Callable[..., None]:
    @wraps(give)
    def seed(a: Any = None, version: int = 2) -> None:
        give(_seed_instead() if a is None else a, version)

    return seed


def _seed_instead() -> int | None:
    """Return the seed of a generator for which a user or a user's library names none."""
    if not ACTIVE:
        return None
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    package = str(frame.f_globals.get("__name__")).partition(".")[0] if frame else ""
    if package in ISOLATED_PACKAGES or package in sys.stdlib_module_names - {"__main__"}:
        return None  # as for the names of temporary files
    return _bits_of_step(256)


def _bits_of_step(count: int) -> int | None:
    """Return bits that follow from the step's seed; None where it is not certain which it is."""
    try:
        step = running_step()
    except UncertainStepError:
        for each in ACTIVE:
            each.stochastic = True
        return None
    return None if step is None or step.halted else step.entropy(count)


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
