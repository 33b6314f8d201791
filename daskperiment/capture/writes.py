"""What code changes outside of itself: a counter, a memory, a model that is made once.

Such a value is state, not a constant. Its content says what happened before, and must not count as
a change of the code; and a step that keeps state cannot be known by its inputs alone.
"""

from __future__ import annotations

import collections
from types import FunctionType, ModuleType
from typing import Any

from daskperiment.capture.found import MISSING, cell_value
from daskperiment.capture.origin import is_own
from daskperiment.capture.references import Names, Store
from daskperiment.capture.source import Written

__all__ = ["Writes", "follow"]

_CONTAINERS = (list, dict, set, bytearray, collections.deque)
_UNCHANGED = (type(None), bool, int, float, complex, str, bytes, tuple, FunctionType)
_MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop"}
    | {"popitem", "popleft", "remove", "reverse", "setdefault", "sort", "update"}
)


class Writes:
    """The bindings and objects that the code of a walk changes."""

    def __init__(self) -> None:
        self.bindings: set[str] = set()
        """Names of variables that are bound anew, as people should see them."""
        self.objects: dict[int, Any] = {}
        """Objects that are changed in place, by their id."""

    def __len__(self) -> int:
        return len(self.bindings) + len(self.objects)

    def cover(self, name: str, value: Any) -> bool:
        """Tell whether a value that is read under a name is state."""
        return name in self.bindings or id(value) in self.objects

    def add(self, function: FunctionType, home: str, written: Written, names: Names) -> None:
        """Note what a function changes.

        Parameters
        ----------
        function : function
        home : str
            What the names of its closure variables start with.
        written : Written
            The function, or the class around it.
        names : Names
        """
        known = _Variables(function, names)
        module = function.__globals__.get("__name__", "?")
        for name in names.rebound:
            self.bindings.add(f"{home if name in known.cells else module}.{name}")
        for store in written.stores:
            self._add_store(known.find(store.of.name), store)
        for read in (*names.globals, *names.cells):
            self._add_call(known.find(read.name), read.attributes)

    def _add_store(self, value: Any, store: Store) -> None:
        value, rest = follow(value, store.of.attributes)
        if isinstance(value, (type, ModuleType)):
            name = value.__name__ if isinstance(value, ModuleType) else _name_of_class(value)
            changed = rest[0] if rest else store.attribute
            self.bindings.add(f"{name}.{changed}")
        elif isinstance(value, FunctionType):
            home = value.__globals__.get("__name__", "?")
            changed = rest[0] if rest else store.attribute
            self.bindings.add(f"{home}.{value.__code__.co_qualname}.{changed}")
        elif value is not MISSING and not isinstance(value, _UNCHANGED):
            self.objects[id(value)] = value

    def _add_call(self, value: Any, attributes: tuple[str, ...]) -> None:
        value, rest = follow(value, attributes)
        if rest and rest[0] in _MUTATORS and isinstance(value, _CONTAINERS):
            self.objects[id(value)] = value


def _name_of_class(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class _Variables:
    """The variables that a function reads from outside."""

    def __init__(self, function: FunctionType, names: Names) -> None:
        free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
        self.cells = dict(free)
        self._globals = function.__globals__
        self._read = {read.name for read in names.globals}

    def find(self, name: str) -> Any:
        """Give a variable's value; a local variable is `MISSING`."""
        if name in self.cells:
            return cell_value(self.cells[name])
        return self._globals.get(name, MISSING) if name in self._read else MISSING


def follow(value: Any, attributes: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Follow attributes through the user's modules; give what is reached, and what is left."""
    rest = attributes
    while rest and isinstance(value, ModuleType) and is_own(value.__name__):
        value, rest = vars(value).get(rest[0], MISSING), rest[1:]
    return value, rest
