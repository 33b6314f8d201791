"""Keeps libraries that draw random numbers in threads of their own away from the steps' state.

Dask's estimates of sizes, a worker's event loop and the drivers of servers draw from the module
``random`` at any moment. A step that runs meanwhile would draw other numbers than the last time.
"""

from __future__ import annotations

import random
import sys
from types import ModuleType

__all__ = ["Apart"]

_PACKAGES = frozenset({"distributed", "gridfs", "pymongo", "redis", "tornado"})
_MODULES = frozenset({"dask.sizeof"})


class Apart:
    """Gives these libraries a generator of their own, as they are imported."""

    def __init__(self) -> None:
        self._generator = random.Random()
        self._module = ModuleType(random.__name__)
        vars(self._module).update(vars(random))
        self._replace(self._module)
        self._seen: set[str] = set()
        self._count = 0

    def look(self) -> None:
        """Look at what was imported since the last time."""
        if len(sys.modules) == self._count:
            return
        self._count = len(sys.modules)
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            if name in _MODULES or name.partition(".")[0] in _PACKAGES:
                self._replace(sys.modules.get(name))

    def _replace(self, module: ModuleType | None) -> None:
        """Have a module call our generator where it would call the one that steps draw from."""
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is random:
                setattr(module, name, self._module)
            elif getattr(value, "__self__", None) is _SHARED:
                setattr(module, name, getattr(self._generator, value.__name__))


_SHARED = random.random.__self__  # type: ignore[attr-defined]  # typeshed calls it a function
"""The generator behind the functions of the module ``random``."""
