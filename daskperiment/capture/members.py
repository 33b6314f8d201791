"""What classes, containers, decorators and foreign functions hold that may be the user's code.

Where code is not the user's, a walk stops: its package and version stand for what it does. But
which function, class or module of it a name means is part of the user's code: ``from statistics
import mean as average`` may become ``median`` with no other line changed. And it may hold code of
the user's, as a decorator does.
"""

from __future__ import annotations

import enum
import functools
import re
import types
from collections.abc import Iterator
from itertools import islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import MISSING, cell_value, cells_of, fingerprint_code
from daskperiment.capture.encoding import combine
from daskperiment.capture.origin import is_own, module_of, origin_of
from daskperiment.capture.source import NO_SOURCE, SourceInfo, belongs, methods

__all__ = [
    "ATOMS",
    "class_without_source",
    "code_held_by",
    "code_in",
    "field_functions",
    "follow_attributes",
    "foreign_name",
    "foreign_parts",
    "functions_behind",
    "is_own_class",
    "is_own_code",
    "members_of",
    "settings_of",
    "wrapped_by",
]

ATOMS = (type(None), bool, int, float, complex, str, bytes)
"""Types of values that hold nothing."""
_TABLES = (dict, list, tuple, types.MappingProxyType)
_ADDRESS = re.compile(" at 0x[0-9a-f]+", re.IGNORECASE)
_DEPTH = 3
_ITEMS = 256
_CODE = (FunctionType, MethodType, type, functools.partial)


def wrapped_by(value: Any) -> Any:
    """Return the function that a decorator's object wraps; ``None`` if there is none."""
    try:
        inner = getattr(value, "__wrapped__", None)
        return inner if callable(inner) else None
    except Exception:
        return None


def members_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield a class's attributes that its behaviour depends on."""
    if issubclass(cls, enum.Enum):
        yield from ((k, v) for k, v in vars(cls).items() if isinstance(v, FunctionType))
        return
    yield from ((k, v) for k, v in list(vars(cls).items()) if not _is_generated(k, v))


def _is_generated(key: str, value: Any) -> bool:
    if key == "_abc_impl":
        return True
    special = key.startswith("__") and key.endswith("__")
    functions = [_innermost(function) for function in functions_behind(value)]
    if not functions:
        # Neither slots and the like nor what Python writes into every class.
        return special or (hasattr(type(value), "__get__") and not is_own(type(value).__module__))
    # Dataclasses and others write special methods, which follow from the class's source.
    return special and all(_is_generated_code(key, f.__code__) for f in functions)


def _is_generated_code(key: str, code: CodeType) -> bool:
    name = code.co_qualname
    written = not name.endswith(f".{key}") or "__create_fn__" in name
    return code.co_filename.startswith("<") and written


def _innermost(function: FunctionType) -> FunctionType:
    while isinstance(inner := wrapped_by(function), FunctionType):
        function = inner
    return function


def functions_behind(value: Any) -> Iterator[FunctionType]:
    """Yield the functions behind a class's attribute: a method, a property, a static method."""
    if isinstance(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        inner = [value.func]
    else:
        inner = [getattr(value, "__func__", value)]
    for item in inner:
        found = item if isinstance(item, FunctionType) else wrapped_by(item)
        if isinstance(found, FunctionType):
            yield found


def field_functions(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes that the fields of a dataclass or attrs class call."""
    for name, each in vars(cls).get("__dataclass_fields__", {}).items():
        if callable(each.default_factory) and name in _annotations(cls):
            yield f"{name}()", each.default_factory
    for each in vars(cls).get("__attrs_attrs__", ()):
        default = getattr(each.default, "factory", None)
        parts = {"()": default, " converter": each.converter, " validator": each.validator}
        yield from ((f"{each.name}{key}", item) for key, item in parts.items() if callable(item))


def settings_of(wrapper: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a decorator's object holds besides what it copied from the function."""
    copied = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__"}
    inner = getattr(wrapper, "__wrapped__", None)
    for key, item in list(getattr(wrapper, "__dict__", {}).items()):
        if key not in copied and item is not inner:
            yield key, item


def class_without_source(cls: type) -> SourceInfo:
    """Return what the code of its methods and the names of its attributes say of a class."""
    own = [f for f in methods(cls) if belongs(f, cls)]
    codes = sorted(f"{f.__name__} {fingerprint_code(f.__code__)}" for f in own)
    names = sorted(key for key, _ in members_of(cls))
    bases = [base.__qualname__ for base in cls.__bases__]
    kinds = [_ADDRESS.sub("", f"{k}: {v}") for k, v in _annotations(cls).items()]
    parts = [cls.__qualname__, "bases", *bases, "names", *names, "kinds", *kinds, "code", *codes]
    fingerprint = combine(*parts)
    return SourceInfo(fingerprint, fingerprint, note=NO_SOURCE)


def _annotations(cls: type) -> Any:
    # Not getattr, which would find those of a base.
    return vars(cls).get("__annotations__", {})


def code_in(value: Any, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes inside a container or an object of the user's class."""
    if depth == 0:
        return
    for key, item in islice(_items(value), _ITEMS):
        if isinstance(item, _CODE) or wrapped_by(item) is not None:
            yield key, item
        else:
            if is_own(type(item).__module__):
                yield f"{key}:type", type(item)
            yield from ((f"{key}][{inner}", found) for inner, found in code_in(item, depth - 1))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((repr(key), item) for key, item in list(value.items()))
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), item) for place, item in enumerate(value))
    elif is_own(type(value).__module__):
        yield from list(getattr(value, "__dict__", {}).items())


# Code that is not the user's.


def foreign_name(value: Any) -> str:
    """The name of a function, class or module, without the version of its package."""
    return value.__name__ if isinstance(value, ModuleType) else ".".join(foreign_parts(value))


def foreign_parts(value: Any) -> tuple[str, str]:
    """Return the module of a function or class, and its name there."""
    # Methods of compiled code name the class that they are of in place of a module.
    module = module_of(value) or module_of(getattr(value, "__objclass__", None)) or ""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    return module, str(name)


def is_own_class(value: type) -> bool:
    """Whether a class is the user's own code, or was made by it with `types.new_class`."""
    module = value.__module__
    return is_own(module) or (module == "types" and not hasattr(types, value.__name__))


def is_own_code(value: Any) -> bool:
    """Whether something is a function or class of the user's."""
    if isinstance(value, FunctionType):
        return is_own(value.__globals__.get("__name__"))
    return isinstance(value, type) and is_own_class(value)


def code_held_by(function: FunctionType, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield the code of the user's that a foreign function holds, as decorators and tables do.

    In a package that is installed also the plain values, such as a decorator's settings; Python's
    own functions keep there what changes by itself.
    """
    settings = origin_of(function.__globals__.get("__name__")) == "installed"
    for name, item in _contents(function):
        if isinstance(item, ATOMS):
            if settings:
                yield name, item
        elif isinstance(item, FunctionType) and not is_own_code(item):
            inner = code_held_by(item, depth - 1) if depth else ()
            yield from ((f"{name}.{key}", found) for key, found in inner)
        elif isinstance(item, _TABLES):
            found_in = code_in(dict(item) if isinstance(item, types.MappingProxyType) else item)
            yield from ((f"{name}[{key}]", found) for key, found in found_in if is_own_code(found))
        elif is_own_code(item) or isinstance(item, MethodType):
            yield name, item


def _contents(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in cells_of(function).items():
        value = cell_value(cell)
        if value is not MISSING and value is not function:
            yield name, value


def follow_attributes(
    module: ModuleType, attributes: tuple[str, ...]
) -> Iterator[tuple[Any, str, Any]]:
    """Yield variables, name and value of each step through a foreign module.

    The user's code may have been put there.
    """
    value: Any = module
    for name in attributes:
        if isinstance(value, ModuleType):
            variables = vars(value)
            value = variables.get(name, MISSING)
            yield variables, name, value
