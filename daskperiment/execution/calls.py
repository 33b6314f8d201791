"""Calls of steps, and users' functions, as they stand in graphs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskperiment.capture.signatures import in_order

__all__ = ["SCALARS", "Call", "UserFunction", "member_name"]

SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None)})
"""Types of values that hold no others, and that nobody can change."""


def member_name(argument: str, path: Iterable[Any]) -> str:
    """Return what a part of an argument is called, such as ``frames[0]``."""
    return argument + "".join(f"[{each!r}]" for each in path)


class UserFunction:
    """A user's function on its way to another process.

    A decorated function's name stands for its decorator's object, so pickle cannot find the
    function by name. Where that object can be imported, it leads to the function.
    """

    __slots__ = ("__wrapped__",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> Any:
        function = self.__wrapped__
        module = getattr(function, "__module__", None)
        name = getattr(function, "__qualname__", "<locals>")
        if module and module != "__main__" and "<" not in name:
            found = _lookup(sys.modules.get(module), name)
            if getattr(found, "__wrapped__", None) is function:
                return _by_name, (module, name)
        return UserFunction, (function,)


def _lookup(module: Any, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def _by_name(module: str, name: str) -> UserFunction:
    return UserFunction(_lookup(importlib.import_module(module), name).__wrapped__)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a step, as it stands in a graph."""

    step: str
    function: UserFunction
    persist: bool = False
    seed: int | None = None
    """The experiment's seed: for a step that is computed alone."""
    reuse: bool | None = None
    """Whether its output may be reused; None leaves it to the experiment."""
    version: str = ""
    """Part of its cache key, for what the code does not show."""
    key: str = ""
    """The call's place in the trial's graph."""
    names: tuple[str, ...] = ()
    """What the arguments are for: a name for each of them, in their order."""
    keywords: tuple[str, ...] = ()
    """Names of the last ones, which the function gets by name; the others it gets by position."""
    ignore: tuple[str, ...] = ()
    """Names of the arguments that the output does not depend on."""
    shared: tuple[str, ...] = ()
    """Names of the arguments that others see: literals, parameters and what several steps take."""
    lent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Argument -> places of steps that give it, and may hand on what others see, too."""
    given: Mapping[str, tuple[tuple[Any, ...], ...]] = field(default_factory=dict)
    """Argument -> paths within it to what other nodes give, where others see that, too."""
    handed: bool = False
    """Whether what it returns is seen by more than the one step that takes it."""
    secret: tuple[str, ...] = ()
    """Names of the arguments that are made of secret parameters, without a step between."""
    defaulted: bool = False
    """Whether an argument is left out that has a default."""
    format: str | None = None
    """Name of the format in which its output is kept; None leaves it to the value."""

    def turned(self) -> list[str]:
        """Return the arguments' names in their order, if that counts and is not the usual one."""
        counted = [name for name in self.keywords if name not in self.ignore]
        names = in_order(self.function.__wrapped__, counted)
        return [] if names == in_order(self.function.__wrapped__, sorted(counted)) else names
