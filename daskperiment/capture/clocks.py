"""Clocks that code asks for the time.

Nothing tells when a clock is read, and the types of `datetime` cannot be watched: what tells is the
names in the user's own code. So a clock that a library reads by itself is not found.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import (
    MISSING,
    ImportStatement,
    cell_value,
    cells_of,
    names_of,
)

__all__ = ["clocks_imported", "clocks_of"]

_OF_TIME = (
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime"),
    *("clock_gettime_ns", "localtime", "gmtime", "ctime", "strftime"),
)
_OF_DATES = ("now", "utcnow", "today")
_CLASSES = ("datetime.datetime", "datetime.date", "pandas.Timestamp", "arrow", "pendulum")
_CLOCKS = frozenset({
    *(f"time.{name}" for name in _OF_TIME), "os.times", "timeit.default_timer", "uuid.uuid1",
    *(f"{cls}.{name}" for cls in _CLASSES for name in _OF_DATES),
})  # fmt: skip
"""Where clocks are found by those who import the module."""


def clocks_of(function: FunctionType) -> Iterator[str]:
    """Yield the names of the clocks that a function, or one within it, reads.

    Examples
    --------
    >>> import time
    >>> list(clocks_of(lambda: time.time()))
    ['time.time']
    """
    names, cells = names_of(function.__code__), cells_of(function)
    for read in names.globals:
        yield from _found(function.__globals__.get(read.name, MISSING), read.attributes)
    for read in names.cells:
        if read.name in cells:
            yield from _found(cell_value(cells[read.name]), read.attributes)
    yield from clocks_imported(function.__code__)


def clocks_imported(code: CodeType) -> Iterator[str]:
    """Yield the names of the clocks that code may read of the modules that it imports itself."""
    names = names_of(code)
    for item in names.imports:
        for clock in sorted(_CLOCKS):
            if clock.startswith(f"{item.module}.") and _may_read(item, clock, names.attributes):
                yield clock


def _may_read(item: ImportStatement, clock: str, attributes: frozenset[str]) -> bool:
    path = clock.removeprefix(f"{item.module}.").split(".")
    if item.names:
        return path[0] in item.names and attributes.issuperset(path[1:])
    return not item.level and attributes.issuperset(path)


def _found(value: Any, attributes: tuple[str, ...]) -> Iterator[str]:
    """Yield the clock that attributes of a value lead to, if they do."""
    for number, name in enumerate(attributes):
        if isinstance(value, ModuleType):
            path = f"{value.__name__}.{'.'.join(attributes[number:])}."
            clock = next((clock for clock in _CLOCKS if path.startswith(f"{clock}.")), None)
            if clock is not None:
                yield clock
                return
            value = vars(value).get(name, MISSING)
        elif isinstance(value, type):
            yield from _of_class(value, name)
            return
        else:
            return
    if isinstance(value, (BuiltinFunctionType, FunctionType)):
        # Imported by itself, or kept under another name.
        owner = getattr(value, "__self__", None)
        if isinstance(owner, type):
            yield from _of_class(owner, value.__name__)
        elif (clock := f"{value.__module__}.{value.__name__}") in _CLOCKS:
            yield clock


def _of_class(cls: type, name: str) -> Iterator[str]:
    if issubclass(cls, datetime.date) and name in _OF_DATES:
        yield f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}.{name}"
