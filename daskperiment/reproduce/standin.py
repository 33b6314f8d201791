"""Modules that hold recorded code, in the place of the user's own."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from types import ModuleType
from typing import Any

__all__ = ["StandIn", "stand_in"]

_KEPT = ("__package__", "__path__", "__file__")


class StandIn(ModuleType):
    """A module of recorded code: imported by nobody, and pickled with what it holds."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"recorded code of module {self.__name__!r} has no attribute {name!r}: a name that "
            "is put together while a step runs cannot be found in the record"
        )

    def __reduce__(self) -> Any:
        # Pickle would import the module of this name, which holds today's code.
        state = {k: v for k, v in vars(self).items() if k != "__builtins__"}
        return _empty, (self.__name__,), state, None, None, _fill


def stand_in(name: str, today: Mapping[str, Any]) -> StandIn:
    """Make a module that takes the place of another; without what that one holds."""
    module = _empty(name)
    vars(module).update({key: today[key] for key in _KEPT if key in today})
    return module


def _empty(name: str) -> StandIn:
    module = StandIn(name)
    # Without a loader, sources are looked up by the name of the file alone.
    vars(module).pop("__loader__", None)
    vars(module)["__builtins__"] = builtins
    return module


def _fill(module: StandIn, state: dict[str, Any]) -> None:
    vars(module).update(state)
