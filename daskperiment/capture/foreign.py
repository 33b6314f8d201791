"""What is known of code that is not the user's, where a walk stops.

Its package and version stand for what it does; but which function, class or module of it a name
means is part of the user's code: ``from statistics import mean as average`` may become ``median``
with no other line changed. And it may hold code of the user's, as a decorator does.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from daskperiment.capture.found import MISSING, cell_value
from daskperiment.capture.members import code_in
from daskperiment.capture.origin import home, is_own, module_of

__all__ = ["foreign_name", "held_by", "is_own_class", "is_own_code", "patched"]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_TABLES = (dict, list, tuple, types.MappingProxyType)
_DEPTH = 3


def foreign_name(value: Any) -> str:
    """Name a function, class or module, without the version of its package."""
    if isinstance(value, ModuleType):
        return value.__name__
    module = module_of(value) or module_of(getattr(value, "__objclass__", None)) or ""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    return f"{module}.{name}"


def is_own_class(value: type) -> bool:
    """Tell whether a class is the user's own code, or was made by it with `types.new_class`."""
    module = value.__module__
    return is_own(module) or (module == "types" and not hasattr(types, value.__name__))


def is_own_code(value: Any) -> bool:
    """Tell whether something is a function or class of the user's."""
    if isinstance(value, FunctionType):
        return is_own(value.__globals__.get("__name__"))
    return isinstance(value, type) and is_own_class(value)


def held_by(function: FunctionType, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """List the code of the user's that a foreign function holds, as decorators and tables do.

    In a package that is installed also the plain values, such as a decorator's settings; Python's
    own functions keep there what changes by itself.
    """
    settings = home(function.__globals__.get("__name__")) == "installed"
    for name, item in _contents(function):
        if isinstance(item, _ATOMS):
            if settings:
                yield name, item
        elif isinstance(item, FunctionType) and not is_own_code(item):
            if depth:
                inner = held_by(item, depth - 1)
                yield from ((f"{name}.{key}", found) for key, found in inner)
        elif isinstance(item, _TABLES):
            found_in = code_in(dict(item) if isinstance(item, types.MappingProxyType) else item)
            yield from ((f"{name}[{key}]", found) for key, found in found_in if is_own_code(found))
        elif is_own_code(item) or isinstance(item, types.MethodType):
            yield name, item


def _contents(function: FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in cells:
        value = cell_value(cell)
        if value is not MISSING and value is not function:
            yield name, value


def patched(module: ModuleType, attributes: tuple[str, ...]) -> Iterator[tuple[Any, str, Any]]:
    """Follow attributes through a foreign module, where code of the user's may have been put.

    Yields
    ------
    variables, name, value
        Of each module on the way.
    """
    value: Any = module
    for name in attributes:
        if not isinstance(value, ModuleType):
            return
        variables = vars(value)
        value = variables.get(name, MISSING)
        yield variables, name, value
