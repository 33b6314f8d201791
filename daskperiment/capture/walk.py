"""Follow a function to all of the user's own code that it uses.

A walk starts at a function, class or callable object and collects, in a fixed order:

* *units*: functions and classes of the user's own code, and files that are imported late;
* *edges*: which name of which unit means which other unit;
* *names*: which name means which function, class or module that is not the user's;
* *constants*: the other values that are read by name, from a closure, or are defaults, and
  whether they are state that the code itself changes;
* *packages*: the installed distributions where the walk stopped;
* *seen*: the bindings that were looked up, so that a later look can tell whether they still hold.

Values are not fingerprinted here, only collected.
"""

from __future__ import annotations

import enum
import functools
import sys
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from daskperiment.capture import modules
from daskperiment.capture.digest import combine
from daskperiment.capture.foreign import (
    foreign_name,
    held_by,
    is_own_class,
    is_own_code,
    patched,
)
from daskperiment.capture.found import (
    MISSING,
    Constant,
    File,
    Seen,
    Unit,
    cell_value,
    parts_now,
)
from daskperiment.capture.members import (
    class_without_source,
    code_in,
    made_by,
    members_of,
    parts_of,
    settings_of,
    wrapped_by,
)
from daskperiment.capture.origin import distribution, home, home_of_file, is_own, module_of
from daskperiment.capture.references import Import, Read, names_of
from daskperiment.capture.source import Written, belongs, of_class, of_function
from daskperiment.capture.writes import Writes

__all__ = ["Walk"]

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_FOLLOWED = (FunctionType, MethodType, ModuleType, type)


class Walk:
    """The user's own code behind a function, class or callable object.

    Parameters
    ----------
    root : callable
    step : bool
        Whether the root is a step's function: its own decorators do not count then.
    """

    def __init__(self, root: Any, step: bool = False) -> None:
        self._writes = Writes()
        # State may be read before the code that changes it is found: then once more.
        for _ in range(3):
            known = len(self._writes)
            self._walk(root, step)
            if len(self._writes) == known:
                break

    def _walk(self, root: Any, step: bool) -> None:
        self.units: list[Unit] = []
        self.edges: dict[tuple[int, str, int], None] = {}
        self.names: dict[tuple[int, str, str], None] = {}
        self.constants: dict[tuple[int, str, int], Constant] = {}
        self.packages: dict[str, str] = {}
        self.seen = Seen()
        self._places: dict[int, int] = {}
        self._files: dict[File, File] = {}
        self._kept: list[Any] = []
        self._waiting: deque[tuple[int, Any]] = deque()
        self._visit(-1, "", module_of(root) or "", root, bare=step)
        while self._waiting:
            place, value = self._waiting.popleft()
            self._look_into(place, value)
        if step and not self.units:
            self._add_root(root)

    def _is_state(self, name: str, value: Any) -> bool:
        # Code that is bound anew is followed as it is now.
        return self._writes.cover(name, value) and not isinstance(value, _FOLLOWED)

    # What a value is decides how it is followed.

    def _visit(self, owner: int, label: str, name: str, value: Any, bare: bool = False) -> None:
        # Exactly these types: a subclass has code of its own.
        if type(value) in _ATOMS or self._is_state(name, value):
            self._add_constant(owner, label, name, value)
        elif isinstance(value, FunctionType):
            self._visit_function(owner, label, name, value, bare)
        elif isinstance(value, type):
            self._visit_class(owner, label, value)
        elif isinstance(value, ModuleType):
            self._visit_module(owner, label, value)
        elif isinstance(value, MethodType):
            self._visit(owner, label, name, value.__func__, bare)
            self._visit(owner, f"{label}.self", f"{name}.self", value.__self__)
        elif isinstance(value, BuiltinFunctionType) and _is_free(value):
            self._add_foreign(owner, label, value)
        else:
            self._visit_object(owner, label, name, value, bare)

    def _visit_function(
        self, owner: int, label: str, name: str, value: FunctionType, bare: bool
    ) -> None:
        # Not __module__, which a decorator copies from the function that it wraps.
        module = value.__globals__.get("__name__")
        if is_own(module):
            self._add_unit(owner, label, value, _name_of(value), of_function(value), bare)
            return
        self._add_foreign(owner, label, value, module)
        inner = wrapped_by(value)
        if inner is not None:
            self._visit(owner, label, name, inner, bare)
        for key, item in held_by(value):
            if item is not inner:
                self._visit(owner, f"{label}<{key}>", f"{name}<{key}>", item)

    def _visit_class(self, owner: int, label: str, value: type) -> None:
        if not is_own_class(value):
            self._add_foreign(owner, label, value)
            return
        written = of_class(value) or class_without_source(value)
        self._add_unit(owner, label, value, f"{value.__module__}.{value.__qualname__}", written)

    def _visit_module(self, owner: int, label: str, value: ModuleType) -> None:
        file = getattr(value, "__file__", None)
        if is_own(value.__name__) and value.__name__ != "__main__" and isinstance(file, str):
            self._visit_file(owner, label, File(value.__name__, file))
        else:
            self._add_foreign(owner, label, value, value.__name__)

    def _visit_file(self, owner: int, label: str, file: File) -> None:
        known = self._files.setdefault(file, file)
        written = modules.written(file.path)
        if written is not None:
            self.seen.files[file.path] = None
            self._add_unit(owner, label, known, file.module, written)

    def _visit_object(self, owner: int, label: str, name: str, value: Any, bare: bool) -> None:
        kind = type(value)
        of = home(kind.__module__)
        inner = wrapped_by(value)
        if inner is not None:
            # A step's decorators say how it is recorded, not what it does.
            self._visit(owner, label, name, inner, bare or of == "daskperiment")
            if of != "daskperiment":
                self._visit_wrapper(owner, label, name, value)
        elif isinstance(value, functools.partial):
            self._visit(owner, label, name, value.func, bare)
            self.seen.watched[id(value.keywords)] = value.keywords
            for key, item in [*enumerate(value.args), *value.keywords.items()]:
                self._visit(owner, f"{label}({key})", f"{name}({key})", item)
        elif of != "daskperiment":
            self._visit(owner, f"{label}:type", f"{name}:type", kind)
            self._add_constant(owner, label, name, value)
            for key, item in code_in(value):
                self._visit(owner, f"{label}[{key}]", f"{name}[{key}]", item)

    def _visit_wrapper(self, owner: int, label: str, name: str, value: Any) -> None:
        self._visit(owner, f"{label}:type", f"{name}:type", type(value))
        if is_own_class(type(value)):
            # Not the whole: what it copied from what it wraps, such as the docstring, says nothing.
            for key, item in settings_of(value):
                self._visit(owner, f"{label}.{key}", f"{name}.{key}", item)

    # Units, and what they use.

    def _add_unit(
        self, owner: int, label: str, value: Any, name: str, written: Written, bare: bool = False
    ) -> None:
        place = self._places.get(id(value))
        if place is None:
            place = self._places[id(value)] = len(self.units)
            self.units.append(Unit(name, written, bare))
            self._kept.append(value)
            self._waiting.append((place, value))
        if owner >= 0:
            self.edges[owner, label, place] = None

    def _look_into(self, place: int, value: Any) -> None:
        if isinstance(value, FunctionType):
            inner = wrapped_by(value)
            if inner is not None:
                # The decorators of a decorated step are its own, too.
                self._visit(place, "__wrapped__", "", inner, self.units[place].bare)
            self._scan(place, "", value)
        elif isinstance(value, type):
            self._scan_class(place, value)
        elif isinstance(value, File):
            for item in modules.imports_of_file(value.path):
                self._late(place, "", item, modules.package_of(value.module, value.path))
            self._set_since(place, value)

    def _scan_class(self, place: int, cls: type) -> None:
        for base in cls.__bases__:
            self._visit(place, f"base {base.__qualname__}", "", base)
        if type(cls) is not type:
            self._visit(place, "metaclass", "", type(cls))
        name = f"{cls.__module__}.{cls.__qualname__}"
        self.seen.classes[cls] = len(vars(cls))
        for key, value in members_of(cls):
            self.seen.names.append((vars(cls).get, key, value))
            functions = list(parts_of(value))
            for function in functions:
                if belongs(function, cls):
                    self._scan(place, f"{key}.", function)
            foreign = value if not functions or wrapped_by(value) else None
            others = [f for f in functions if not belongs(f, cls)]
            for item in others if foreign is None else [foreign]:
                self._visit(place, key, f"{name}.{key}", item)
        for key, item in made_by(cls):
            self._visit(place, key, f"{name}.{key}", item)
        if issubclass(cls, enum.Enum):
            members = {key: member.value for key, member in cls.__members__.items()}
            self._visit(place, "members", name, members)

    def _scan(self, place: int, prefix: str, function: FunctionType) -> None:
        names = names_of(function.__code__)
        self._writes.add(function, _name_of(function), self.units[place].written, names)
        self.seen.functions.append((function, *parts_now(function)))
        for read in names.globals:
            self._read_global(place, prefix, function, read)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        for name, cell in cells.items():
            if name != "__class__":
                reads = [read for read in names.cells if read.name == name]
                self._read_cell(place, prefix, function, cell, reads or [Read(name)])
        for name, value in _defaults(function):
            self._visit(place, f"{prefix}({name})", f"{_name_of(function)}({name})", value)
        for item in names.imports:
            self._late(place, prefix, item, function.__globals__.get("__package__"))

    def _read_global(self, place: int, prefix: str, function: FunctionType, read: Read) -> None:
        variables = function.__globals__
        value = variables.get(read.name, MISSING)
        self.seen.names.append((variables.get, read.name, value))
        if value is not MISSING:
            name = f"{variables.get('__name__', '?')}.{read.name}"
            self._read(place, f"{prefix}{read.name}", name, value, read.attributes)

    def _read_cell(
        self, place: int, prefix: str, function: FunctionType, cell: Any, reads: list[Read]
    ) -> None:
        value = cell_value(cell)
        self.seen.cells.append((cell, value))
        for read in reads:
            if value is not MISSING:
                name = f"{_name_of(function)}.{read.name}"
                self._read(place, f"{prefix}{read.name}", name, value, read.attributes)

    def _read(
        self, place: int, label: str, name: str, value: Any, attributes: tuple[str, ...]
    ) -> None:
        for done, attribute in enumerate(attributes):
            if not isinstance(value, ModuleType) or not is_own(value.__name__):
                self._read_from(place, label, value, attributes[done:])
                break
            name, label = f"{value.__name__}.{attribute}", f"{label}.{attribute}"
            variables = vars(value)
            value = variables.get(attribute, MISSING)
            self.seen.names.append((variables.get, attribute, value))
        if value is not MISSING:
            self._visit(place, label, name, value)

    def _read_from(self, place: int, label: str, value: Any, attributes: tuple[str, ...]) -> None:
        """Look at attributes that users may have put on functions and on foreign modules."""
        if isinstance(value, FunctionType) and attributes[0] in vars(value):
            key, item = attributes[0], vars(value)[attributes[0]]
            self.seen.names.append((vars(value).get, key, item))
            self._visit(place, f"{label}.{key}", f"{_name_of(value)}.{key}", item)
        elif isinstance(value, ModuleType):
            for variables, key, item in patched(value, attributes):
                label = f"{label}.{key}"
                self.seen.names.append((variables.get, key, item))
                if is_own_code(item):
                    self._visit(place, label, label, item)

    # Imports that happen while a function runs.

    def _late(self, place: int, prefix: str, item: Import, package: str | None) -> None:
        for name in modules.resolve(item, package):
            file = modules.file_of(name)
            if file is None or home_of_file(file) == "installed":
                self._add_package(name)
            elif home_of_file(file) == "own" and home(name) != "daskperiment":
                self._visit_file(place, f"{prefix}import {name}", File(name, file))

    def _set_since(self, place: int, file: File) -> None:
        """Visit what a loaded module has been given in place of what its file says."""
        variables = getattr(sys.modules.get(file.module), "__dict__", {})
        for key, literal in modules.literals(file.path).items() if variables else ():
            value = variables.get(key, MISSING)
            self.seen.names.append((variables.get, key, value))
            if isinstance(value, (list, dict, set)):
                self.seen.watched[id(value)] = value
            if value is not MISSING and not _is_literal(value, literal, variables):
                self._visit(place, key, f"{file.module}.{key}", value)

    # Constants and packages.

    def _add_constant(self, owner: int, label: str, name: str, value: Any) -> None:
        state = self._is_state(name, value)
        # State is the same constant whatever its value.
        key = 0 if state else id(value)
        self.constants[owner, label, key] = Constant(owner, label, name, value, state)

    def _add_package(self, module: str | None) -> None:
        if module is not None and home(module) == "installed":
            found = distribution(module)
            if found is not None:
                self.packages[found[0]] = found[1]

    def _add_foreign(self, owner: int, label: str, value: Any, module: str | None = None) -> None:
        self.names[owner, label, foreign_name(value)] = None
        self._add_package(module or module_of(value))

    def _add_root(self, root: Any) -> None:
        module = module_of(root) or module_of(type(root)) or ""
        name = getattr(root, "__qualname__", None) or type(root).__qualname__
        found = distribution(module) if home(module) == "installed" else None
        note = "no source: part of " + (" ".join(found) if found else module or "Python")
        fingerprint = combine("foreign", module, name, *(found or ()))
        self.units.append(Unit(f"{module}.{name}", Written(fingerprint, fingerprint, note=note)))


def _is_free(function: BuiltinFunctionType) -> bool:
    """Tell whether a function of compiled code is no method of some object."""
    return isinstance(function.__self__, (ModuleType, type, type(None)))


def _is_literal(value: Any, literal: Any, variables: dict[str, Any]) -> bool:
    if literal is ...:
        return isinstance(value, FunctionType) and value.__globals__ is variables
    if type(value) is not type(literal):
        return False
    if isinstance(literal, set):  # the order of a set says nothing
        return sorted(map(repr, value)) == sorted(map(repr, literal))
    return repr(value) == repr(literal)


def _name_of(function: FunctionType) -> str:
    return f"{function.__globals__.get('__name__', '?')}.{function.__code__.co_qualname}"


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    values = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[len(names) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
