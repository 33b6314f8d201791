"""What containers, decorators and foreign functions hold that may be the user's code.

Where code is not the user's, a walk stops: its package and version stand for what it does. But
which function, class or module of it a name means is part of the user's code: ``from statistics
import mean as average`` may become ``median`` with no other line changed. And it may hold code of
the user's, as a decorator does.
"""

from __future__ import annotations

import abc
import datetime
import decimal
import fractions
import functools
import gc
import operator
import re
import sys
import types
from collections.abc import Iterator
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import MISSING, cell_value, cells_of
from daskperiment.capture.origin import is_own, module_of, origin_of

__all__ = [
    "ATOMS",
    "changes_by_use",
    "code_held_by",
    "code_in",
    "follow_attributes",
    "foreign_name",
    "foreign_parts",
    "is_absent",
    "is_free",
    "is_literal",
    "is_own_class",
    "is_own_code",
    "is_plain",
    "is_set",
    "is_users_variable",
    "parts_inside",
    "parts_of",
    "parts_of_callable",
    "put_on",
    "registered",
    "registered_with",
    "settings_of",
    "state_of",
    "wrapped_by",
]

ATOMS = (type(None), bool, int, float, complex, str, bytes)
"""Types of values that hold nothing."""
_TABLES = (dict, list, tuple, types.MappingProxyType)
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_COMPILED = (types.WrapperDescriptorType, types.MethodDescriptorType)
_ITERATING = ("builtins", "itertools")
_COORDINATING = (
    *("threading", "queue", "_queue"),
    *("multiprocessing.synchronize", "multiprocessing.queues"),
)
"""Modules whose objects are there for threads and processes to wait for each other."""
_DEPTH = 3
_DEEP = 6
_ITEMS = 256
_CODE = (FunctionType, MethodType, type, functools.partial)


def wrapped_by(value: Any) -> Any:
    """Return the function that a decorator's object wraps; ``None`` if there is none."""
    try:
        inner = getattr(value, "__wrapped__", None)
        if inner is None and type(value).__name__ == "ufunc":
            # Made by np.frompyfunc: NumPy tells it to nobody but the garbage collector.
            inner = next(filter(callable, gc.get_referents(value)), None)
        return inner if callable(inner) else None
    except Exception:
        return None


def settings_of(wrapper: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a decorator's object holds besides what it copied from the function."""
    copied = {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__"}
    inner = getattr(wrapper, "__wrapped__", None)
    for key, item in list(getattr(wrapper, "__dict__", {}).items()):
        if key not in copied and item is not inner:
            yield f".{key}", item


def state_of(value: Any) -> dict[str, Any]:
    """Return the attributes that an object keeps, in slots and in its dict."""
    found: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__):
        for name, item in list(vars(kind).items()):
            if isinstance(item, _SLOTS) and not name.startswith("__"):
                item = getattr(value, name, MISSING)
                if item is not MISSING:
                    found[name] = item
    # A proxy, which says that it is of another class, gives the dict of what it stands for.
    held = getattr(value, "__dict__", None) if value.__class__ is type(value) else None
    return {**found, **(held if isinstance(held, dict) else {})}


_NO_SETTING = re.compile(
    "stamp|^_*(count|calls|hits|misses|stats|statistics|cache|seen|local|lock|doc|location|store_backend)$|^__|^_func_code"
    "|^_(sigspec|has_unknown_args|original_|complete$|final$|qualifiers$|attributes_set$)"
)
"""Attributes of libraries' objects that change by themselves or follow from the others."""
_DRAWN = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""A name that was drawn at random, as that of each function that Dask delays."""
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that was written in Python
_VALUES = (
    *(bytearray, range, slice, re.Pattern, operator.itemgetter, operator.attrgetter),
    *(datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction),
    *(type(...), frozenset, set),
)


def is_absent(value: Any) -> bool:
    """Whether a setting says nothing: most parts of a field are not given."""
    if value is None or type(value).__name__ in _SENTINELS:
        return True
    return isinstance(value, (dict, types.MappingProxyType)) and not value


_SENTINELS = frozenset({"PydanticUndefinedType", "UndefinedType", "_MISSING_TYPE", "_Nothing"})


def parts_inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the functions, classes and settings inside a library's object that wraps a function.

    What changes by itself, such as a count or the time of a call, is no setting, and what is
    neither a setting nor code is passed over.
    """
    return (each for each in _attributes(value, _DEEP, {id(value)}) if _is_simple(each[1]))


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value consists of: itself, or the parts of a library's object of settings.

    Such are the validators and constraints of fields, and functions made of functions. Where an
    object holds anything else, as a table does, it counts as a whole.
    """
    return _part(value, _DEEP, set())


def parts_of_callable(value: Any) -> list[tuple[str, Any]]:
    """Return the parts of a library's callable object, if it is nothing but code and settings."""
    parts = list(parts_of(value)) if callable(value) else []
    return [] if len(parts) == 1 and parts[0][1] is value else parts


def _attributes(value: Any, depth: int, within: set[int]) -> Iterator[tuple[str, Any]]:
    inner, copied = wrapped_by(value), functools.WRAPPER_ASSIGNMENTS
    for key, item in list(state_of(value).items())[:_ITEMS]:
        drawn = isinstance(item, str) and _DRAWN.search(item)
        if item is not inner and key not in copied and not (drawn or _NO_SETTING.search(key)):
            yield from ((f".{key}{rest}", found) for rest, found in _part(item, depth, within))


def _part(item: Any, depth: int, within: set[int]) -> Iterator[tuple[str, Any]]:
    kind = type(item)
    if kind.__name__ in _SENTINELS:
        return
    if kind is MethodType and not is_own(type(item.__self__).__module__):
        yield "()", item.__func__
        if id(item.__self__) not in within:  # one of its own methods
            yield from _part(item.__self__, depth - 1, within)
    elif kind in (list, tuple, dict, types.MappingProxyType) and depth > 0:
        for key, each in list(_items_by_name(item))[:_ITEMS]:
            yield from ((f"[{key}]{rest}", found) for rest, found in _part(each, depth - 1, within))
    elif _is_simple(item) or depth <= 0 or not _is_open(kind):
        yield "", item
    else:
        parts = list(islice(_attributes(item, depth - 1, {*within, id(item)}), _ITEMS))
        simple = parts and all(_is_simple(found) for _, found in parts)
        yield from [(":type", kind), *parts] if simple else [("", item)]


def _is_simple(item: Any) -> bool:
    """Whether this is a plain value or code."""
    if type(item) in ATOMS or isinstance(item, (*_CODE, BuiltinFunctionType, *_VALUES)):
        return True
    return wrapped_by(item) is not None or is_own(type(item).__module__)


def _is_open(kind: type) -> bool:
    """Whether objects of a library's class keep all that they are in attributes."""
    compiled = any(not base.__flags__ & _HEAP for base in kind.__mro__[:-1])
    return not compiled and origin_of(kind.__module__) == "installed"


def _items_by_name(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((str(place), item) for place, item in enumerate(value))
    else:
        # Other keys are those of memories.
        yield from ((repr(key), item) for key, item in value.items() if isinstance(key, ATOMS))


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
    if module not in sys.modules and any(isinstance(v, _COMPILED) for v in vars(value).values()):
        return False  # of compiled code, which may say another name than it is imported by
    return is_own(module) or (module == "types" and not hasattr(types, value.__name__))


def is_own_code(value: Any) -> bool:
    """Whether something is a function or class of the user's."""
    if type(value) is FunctionType:
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
        elif type(item) is FunctionType and not is_own_code(item):
            inner = code_held_by(item, depth - 1) if depth else ()
            yield from ((f"{name}.{key}", found) for key, found in inner)
        elif isinstance(item, _TABLES):
            found_in = code_in(dict(item) if isinstance(item, types.MappingProxyType) else item)
            yield from ((f"{name}[{key}]", found) for key, found in found_in if is_own_code(found))
        elif is_own_code(item) or isinstance(item, MethodType):
            yield name, item
        elif settings and origin_of(type(item).__module__) == "installed":
            yield from ((f"{name}{key}", found) for key, found in parts_inside(item))


def _contents(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in cells_of(function).items():
        value = cell_value(cell)
        if value is not MISSING and value is not function:
            yield name, value


_EXTENDED = {
    "pandas": ("DataFrame", "Series", "Index"),
    "xarray": ("Dataset", "DataArray", "DataTree"),
    "polars": ("DataFrame", "LazyFrame", "Series", "Expr"),
    "dask.dataframe": ("DataFrame", "Series", "Index"),
}
"""Classes of libraries that users put accessors and methods on."""


def registered(attributes: frozenset[str]) -> Iterator[tuple[type, str, Any]]:
    """Yield class, name and code of the attributes that the user gave to classes of libraries."""
    loaded = [
        (sys.modules[name], kinds) for name, kinds in _EXTENDED.items() if name in sys.modules
    ]
    for cls in [vars(module).get(kind) for module, kinds in loaded for kind in kinds]:
        if not isinstance(cls, type):
            continue
        for name in sorted(attributes & vars(cls).keys()):
            value = vars(cls)[name]
            for item in (value, *state_of(value).values()):
                if is_own_code(item):
                    yield cls, name, item


def put_on(cls: type) -> list[tuple[str, Any]]:
    """Return the user's code that was put on a class of a library, by its names."""
    found, own = [], {}
    for name, value in list(vars(cls).items()):
        inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        inner = inner.fget if isinstance(inner, property) else inner
        if type(inner) is FunctionType:
            module = inner.__globals__.get("__name__")
            if module not in own:
                own[module] = is_own(module)
            found += [(name, inner)] if own[module] else []
    return found


def changes_by_use(value: Any) -> bool:
    """Whether it is another one after its use, or there to wait for others."""
    module = type(value).__module__
    # Whoever takes from an iterator changes it, and who waits for others at a barrier.
    return module in _COORDINATING or (module in _ITERATING and isinstance(value, Iterator))


def is_plain(module: str, name: str, value: Any) -> bool:
    """Whether a variable of a library is a plain value that people may set, or the arguments."""
    if module == "sys" and name == "argv":
        return True
    return _is_public_value(name, value)


def is_users_variable(name: str, value: Any) -> bool:
    """Whether a variable holds code of the user's, or a plain value under a public name."""
    return is_own_code(value) or _is_public_value(name, value)


def _is_public_value(name: str, value: Any) -> bool:
    return type(value) in ATOMS and not name.startswith("_")


def is_set(variables: dict[str, Any], name: str) -> bool:
    """Whether the user made a name known to all modules, among those that Python gives."""
    return is_users_variable(name, variables.get(name, MISSING))


def registered_with(cls: type) -> list[tuple[str, Any]]:
    """Return the classes of the user's that were registered with an abstract class."""
    if not isinstance(cls, abc.ABCMeta):
        return []
    # Nothing public tells them, but the dump that is made for those who look for faults.
    held = getattr(abc, "_get_dump")(cls)[0]  # noqa: B009
    found = [each for each in (reference() for reference in held) if isinstance(each, type)]
    return sorted([(f"{each.__module__}.{each.__qualname__}", each) for each in found], key=str)


def follow_attributes(
    module: ModuleType | type, attributes: tuple[str, ...]
) -> Iterator[tuple[Any, str, Any]]:
    """Yield variables, name and value of each step through a foreign module or class.

    The user's code, or a value of the user's, may have been put there.
    """
    value: Any = module
    for name in attributes:
        if isinstance(value, type):
            holders = [vars(cls) for cls in value.__mro__ if name in vars(cls)]
            variables: Any = holders[0] if holders else {}
        elif isinstance(value, ModuleType):
            variables = vars(value)
        else:
            return
        value = variables.get(name, MISSING)
        yield variables, name, value


def is_free(function: BuiltinFunctionType) -> bool:
    """Whether a function of compiled code is no method of some object."""
    return isinstance(function.__self__, (ModuleType, type, type(None)))


def is_literal(value: Any, literal: Any, variables: dict[str, Any]) -> bool:
    """Whether a module's variable is what its file says literally, `...` for a function."""
    if literal is ...:
        return isinstance(value, FunctionType) and value.__globals__ is variables
    if type(value) is not type(literal):
        return False
    if isinstance(literal, set):  # the order of a set says nothing
        return sorted(map(repr, value)) == sorted(map(repr, literal))
    return repr(value) == repr(literal)
