"""The code of an experiment's steps, with all of the user's own code that it uses."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import logging
import operator
import os
import pathlib
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from daskperiment.capture.code_objects import MISSING, cell_value, fingerprint_code
from daskperiment.capture.encoding import KnownCode, combine
from daskperiment.capture.fingerprint import (
    NoFingerprintError,
    digest_of,
    fingerprint_without_code,
)
from daskperiment.capture.origin import module_of
from daskperiment.capture.source import SourceInfo, SourceMark
from daskperiment.capture.walk import Walk
from daskperiment.capture.walk_findings import CodeUnit, Constant, Lookups, is_same_list
from daskperiment.records import Code, Function, StepCode

__all__ = [
    "CodeCapture",
    "add_numbered",
    "fingerprint_constant",
    "fingerprint_with",
    "shown_name",
    "travelling_sources",
]

_T = TypeVar("_T")

_FIXED = (
    *(type(None), bool, int, float, complex, str, bytes, range, type),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, enum.Enum, pathlib.PurePath, logging.Logger),
)
# Containers with more items are fingerprinted again, which takes no longer then.
_ITEMS = 2000
_END: Any = object()

Check = Callable[[], bool]
"""Whether a value is still the same."""


@dataclass(frozen=True, slots=True)
class _CapturedCode:
    """A capture, and all that it rests on."""

    steps: tuple[tuple[str, Callable[..., Any]], ...]
    code: Code
    lookups: Lookups
    files: tuple[tuple[str, Any], ...]
    checks: tuple[Check, ...]

    def holds_for(self, steps: Mapping[str, Callable[..., Any]]) -> bool:
        """Whether the capture is still true, found out without reading a source."""
        try:
            return self._same_steps(steps) and self._same_bindings() and self._same_contents()
        except Exception:
            # A user's mapping or property failed, or changed while it was looked at.
            return False

    def _same_steps(self, steps: Mapping[str, Callable[..., Any]]) -> bool:
        for name, function in self.steps:
            if steps.get(name) is not function:
                return False
        return len(steps) == len(self.steps)

    def _same_bindings(self) -> bool:
        for variables, name, value in self.lookups.names:
            if variables.get(name, MISSING) is not value:
                return False
        for cell, value in self.lookups.cells:
            if cell_value(cell) is not value:
                return False
        for function, code, defaults, named in self.lookups.functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
            now = function.__kwdefaults__
            if (now or named) and not _same_named(now or {}, named):
                return False
        for value, parts_of, parts in self.lookups.parts:
            if not is_same_list(parts, parts_of(value)):
                return False
        return all(len(vars(cls)) == count for cls, count in self.lookups.classes.items())

    def _same_contents(self) -> bool:
        return all(check() for check in self.checks) and all(
            _stamp(file) == stamp for file, stamp in self.files
        )


class CodeCapture:
    """Captures the code of steps, and remembers it while nothing changes.

    What is looked at on every call: the step functions and their code; every global, attribute of
    a user module or class, closure variable and default that they and their helpers read; the
    content of lists, dicts, arrays and other objects among these; and the stamps of the files that
    are imported inside a function. An edited file takes effect when its module is reloaded, and is
    seen then.

    A value that the code itself changes, such as a counter, is state: it is named among the
    constants without a fingerprint, and its content is no part of the code's. Seen as such are
    names that are bound anew (``global``, ``nonlocal``), assignments to items and attributes, and
    the usual methods of lists, dicts and sets.

    Safe for any number of threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: _CapturedCode | None = None

    def capture(self, steps: Mapping[str, Callable[..., Any]]) -> Code:
        """Return the code of steps as it is now; the same object as before if nothing changed.

        A step is a function, or an object that has it as ``__wrapped__``.
        """
        last = self._last
        if last is not None and last.holds_for(steps):
            return last.code
        with self._lock:
            made = self._last
            # By another thread meanwhile; else it was looked at just now.
            if made is not last and made is not None and made.holds_for(steps):
                return made.code
            new = _capture(dict(steps), made.code if made is not None else None)
            self._last = new
            return new.code


def _same_named(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(now) == list(before) and all(map(operator.is_, now.values(), before.values()))


def _capture(steps: dict[str, Callable[..., Any]], before: Code | None) -> _CapturedCode:
    collector = _CodeCollector()
    found = {name: collector.add(name, function) for name, function in steps.items()}
    code = Code(found, collector.functions)
    lookups = collector.lookups
    files = tuple((file, _stamp(file)) for file in lookups.files)
    for value in lookups.watched.values():
        collector.watch(value)
    if code == before:
        code = before
    checks = tuple(collector.checks.values())
    return _CapturedCode(tuple(steps.items()), code, lookups, files, checks)


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def fingerprint_with(function: Callable[..., Any], packages: Mapping[str, str]) -> str:
    """Return the fingerprint of a step's code if these versions of its packages were installed."""
    walk = Walk(function, step=True)
    walk.packages = {name: packages.get(name, now) for name, now in walk.packages.items()}
    return _CodeCollector().step_code(walk).fingerprint


def travelling_sources(functions: Iterable[Callable[..., Any]]) -> dict[SourceMark, SourceInfo]:
    """Return the sources behind functions, for `register_travelled` where they are unpickled."""
    found: dict[SourceMark, SourceInfo] = {}
    for function in functions:
        # What cannot be read has no source there either.
        with suppress(Exception):
            found.update(Walk(function, step=True).sources())
    return found


class _CodeCollector:
    """Collects the functions of several steps, each once."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.lookups = Lookups()
        self.checks: dict[int, Check] = {}
        self._constants: dict[int, tuple[Any, str | None]] = {}
        self._without_code: dict[int, str] = {}
        """Fingerprints of the values that hold code, as they are without it."""

    def add(self, name: str, function: Callable[..., Any]) -> StepCode:
        """Return the code of one step; whatever goes wrong becomes a note."""
        try:
            return self.step_code(Walk(function, step=True))
        except Exception as error:
            return self._unreadable(name, function, error)

    def step_code(self, walk: Walk) -> StepCode:
        """Return what a walk found, and add its functions and constants."""
        self.lookups.add(walk.lookups)
        keys = [self._add_unit(unit) for unit in walk.units]
        read = walk.constants.values()
        constants = [(each, None if each.state else self.watch(each.value)) for each in read]
        named: dict[str, str | None] = {}
        data: dict[str, str] = {}
        for each, fingerprint in constants:
            name = add_numbered(named, shown_name(each.name), fingerprint)
            if id(each.value) in self._without_code and not each.state:
                data[name] = self._without_code[id(each.value)]
        functions, packages = list(dict.fromkeys(keys)), dict(sorted(walk.packages.items()))
        states = sorted({shown_name(each.name) for each in read if each.state})
        clocks = sorted(walk.clocks)
        return StepCode(
            _fingerprint(walk, constants), functions, named, packages, states, clocks, data
        )

    def _add_unit(self, unit: CodeUnit) -> str:
        info, name = unit.info, shown_name(unit.name)
        function = Function(name, unit.fingerprint, info.source, info.file, info.note)
        return add_numbered(self.functions, name, function)

    def watch(self, value: Any) -> str | None:
        """Return the fingerprint of a value, and watch it for changes."""
        if id(value) not in self._constants:
            fingerprint, check, walks = fingerprint_constant(value)
            self._constants[id(value)] = (value, fingerprint)
            if check is not None:
                self.checks[id(value)] = check
            for walk in walks:
                self._watch_code(walk)
            if any(walk.units for walk in walks):
                with suppress(NoFingerprintError):
                    self._without_code[id(value)] = fingerprint_without_code(value)
        return self._constants[id(value)][1]

    def _watch_code(self, walk: Walk) -> None:
        """Watch what code reads that was found in a value, and nowhere else perhaps."""
        self.lookups.add(walk.lookups)
        for constant in walk.constants.values():
            if not constant.state:
                self.watch(constant.value)

    def _unreadable(self, name: str, function: Any, error: Exception) -> StepCode:
        code = getattr(function, "__code__", None)
        known = fingerprint_code(code) if code is not None else str(module_of(function))
        note = f"no source: the code could not be read: {error!r}"
        fingerprint = combine("unreadable", name, known)
        self.functions.setdefault(name, Function(name, fingerprint, note=note))
        return StepCode(fingerprint, [name])


def _fingerprint(walk: Walk, constants: list[tuple[Constant, str | None]]) -> str:
    parts = [str(len(walk.units)), *(unit.fingerprint for unit in walk.units)]
    for owner, label, target in walk.edges:
        parts += ["edge", str(owner), label, str(target)]
    for owner, label, name in walk.names:
        parts += ["name", str(owner), label, name]
    for constant, fingerprint in constants:
        # Without a fingerprint at least the type counts.
        kind = "state" if constant.state else f"type {type(constant.value).__qualname__}"
        parts += ["constant", str(constant.owner), constant.label, fingerprint or kind]
    for name, version in sorted(walk.packages.items()):
        parts += ["package", name, version]
    return combine(*parts)


def shown_name(name: str) -> str:
    """Return the name of code as people see it: a script's has no module."""
    return name.removeprefix("__main__.").removeprefix("__mp_main__.")


def add_numbered(known: dict[str, _T], name: str, value: _T) -> str:
    """Add a value under a name, with a number if another one has it; return what it is under."""
    # Two functions may have one name, as those that a function makes in a loop.
    key, number = name, 1
    while known.setdefault(key, value) != value:
        number += 1
        key = f"{name}#{number}"
    return key


# Constants: whether the values that code reads are still the same, told quickly.


def _is_fixed(value: Any) -> bool:
    """Whether a value cannot change, or only in ways that are watched elsewhere."""
    if type(value) in (tuple, frozenset):
        return len(value) <= _ITEMS and all(map(_is_fixed, value))
    return issubclass(type(value), _FIXED) or type(value) is object


def fingerprint_constant(value: Any) -> tuple[str | None, Check | None, list[Walk]]:
    """Return the fingerprint of a value that code reads, and how to see whether it is the same.

    And what the code of the functions and classes in it reads, which is to be watched too.

    The fingerprint is ``None`` if it has none, the check if the binding says enough: a value that
    cannot change is the same while the name is bound to the same object. Lists, dicts and sets of
    such values are compared item by item. Other values are fingerprinted again, whatever their
    size: a table that was altered in place would otherwise bring back outputs of the table before
    it. Array data are quick to digest; a large table of texts that steps share is better made by a
    step.
    """
    code: dict[int, KnownCode] = {}
    try:
        digest = digest_of(value, code, exact=True)
    except Exception:
        return None, None, []
    walks = [each.walk for each in code.values()]
    if _is_fixed(value):
        return digest.hex(), None, walks
    items = _flatten(value)
    if items is not None:
        return digest.hex(), functools.partial(_same_content, value, items), walks
    known = {key: KnownCode(each.value, each.written) for key, each in code.items()}
    return digest.hex(), functools.partial(_same_digest, value, digest, known), walks


def _same_content(value: Any, items: list[Any]) -> bool:
    now = _flatten(value)
    return now is not None and len(now) == len(items) and all(map(operator.is_, now, items))


def _same_digest(value: Any, digest: bytes, code: dict[int, KnownCode]) -> bool:
    # The code of classes and functions is watched by itself, and taken from the last time.
    try:
        return digest_of(value, code, exact=True) == digest
    except Exception:
        return False


def _flatten(value: Any) -> list[Any] | None:
    """Return the items of nested containers; ``None`` if they hold what may change unseen."""
    items: list[Any] = []
    return items if _collect(value, items) else None


def _collect(value: Any, items: list[Any]) -> bool:
    kind = type(value)
    if len(items) > _ITEMS:
        return False
    items.append(value)
    if kind is dict:
        found = all(_collect(k, items) and _collect(v, items) for k, v in list(value.items()))
    elif kind in (list, tuple, set, frozenset):
        found = all(_collect(item, items) for item in list(value))
    else:
        return issubclass(kind, _FIXED)
    # Marks where a container ends, so that an item that moves out of it is seen.
    items.append(_END)
    return found
