"""What classes and containers hold that may be code."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from itertools import islice
from types import FunctionType, MethodType
from typing import Any

from daskperiment.capture.digest import combine
from daskperiment.capture.normal import fingerprint_code
from daskperiment.capture.origin import is_own
from daskperiment.capture.source import NO_SOURCE, Written, belongs, methods

__all__ = [
    "class_without_source",
    "code_in",
    "made_by",
    "members_of",
    "parts_of",
    "settings_of",
    "wrapped_by",
]

_ADDRESS = re.compile(" at 0x[0-9a-f]+", re.IGNORECASE)
_DEPTH = 3
_ITEMS = 256
_CODE = (FunctionType, MethodType, type, functools.partial)


def wrapped_by(value: Any) -> Any:
    """Get the function that a decorator's object wraps; ``None`` if there is none."""
    try:
        inner = getattr(value, "__wrapped__", None)
        return inner if callable(inner) else None
    except Exception:
        return None


def members_of(cls: type) -> Iterator[tuple[str, Any]]:
    """List a class's attributes that its behaviour depends on."""
    if issubclass(cls, enum.Enum):
        yield from ((k, v) for k, v in vars(cls).items() if isinstance(v, FunctionType))
        return
    for key, value in list(vars(cls).items()):
        special = key.startswith("__") and key.endswith("__")
        if not _is_generated(key, value, special):
            yield key, value


def _is_generated(key: str, value: Any, special: bool) -> bool:
    if key == "_abc_impl":
        return True
    functions = [_innermost(function) for function in parts_of(value)]
    if not functions:
        # Neither slots and the like nor what Python writes into every class.
        return special or (hasattr(type(value), "__get__") and not is_own(type(value).__module__))
    # Dataclasses and others write special methods, which follow from the class's source.
    return (
        special
        and all(f.__code__.co_filename.startswith("<") for f in functions)
        and all(
            not f.__code__.co_qualname.endswith(f".{key}")
            or "__create_fn__" in f.__code__.co_qualname
            for f in functions
        )
    )


def _innermost(function: Any) -> FunctionType:
    while isinstance(inner := wrapped_by(function), FunctionType):
        function = inner
    found: FunctionType = function
    return found


def parts_of(value: Any) -> Iterator[FunctionType]:
    """List the functions behind a class's attribute: a method, a property, a static method."""
    if isinstance(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        inner = [value.func]
    else:
        inner = [getattr(value, "__func__", value)]
    for item in inner:
        if isinstance(item, FunctionType):
            yield item
        elif item is not None and isinstance(found := wrapped_by(item), FunctionType):
            yield found


def made_by(cls: type) -> Iterator[tuple[str, Any]]:
    """List the functions and classes from which a class's generated methods take initial values."""
    for name, each in vars(cls).get("__dataclass_fields__", {}).items():
        if callable(each.default_factory) and name in _annotations(cls):
            yield f"{name}()", each.default_factory
    for each in vars(cls).get("__attrs_attrs__", ()):
        default = getattr(each.default, "factory", None)
        parts = {"()": default, " converter": each.converter, " validator": each.validator}
        yield from ((f"{each.name}{key}", item) for key, item in parts.items() if callable(item))


def settings_of(wrapper: Any) -> Iterator[tuple[str, Any]]:
    """List what a decorator's object holds besides what it copied from the function."""
    copied = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__"}
    inner = getattr(wrapper, "__wrapped__", None)
    for key, item in list(getattr(wrapper, "__dict__", {}).items()):
        if key not in copied and item is not inner:
            yield key, item


def class_without_source(cls: type) -> Written:
    """Describe a class by the code of its methods and the names of its attributes."""
    own = [f for f in methods(cls) if belongs(f, cls)]
    codes = sorted(f"{f.__name__} {fingerprint_code(f.__code__)}" for f in own)
    names = sorted(key for key, _ in members_of(cls))
    bases = [base.__qualname__ for base in cls.__bases__]
    kinds = [_ADDRESS.sub("", f"{k}: {v}") for k, v in _annotations(cls).items()]
    parts = [cls.__qualname__, "bases", *bases, "names", *names, "kinds", *kinds, "code", *codes]
    fingerprint = combine(*parts)
    return Written(fingerprint, fingerprint, note=NO_SOURCE)


def _annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = vars(cls).get("__annotations__", {})
    return found


def code_in(value: Any, depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """List the functions and classes inside a container or an object of the user's class."""
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
