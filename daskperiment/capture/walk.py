"""Follow a function to all of the user's own code that it uses.

A walk starts at a function, class or callable object and collects, in a fixed order:

* *units*: functions and classes of the user's own code, and files that are imported late;
* *edges*: which name of which unit means which other unit;
* *names*: which name means which function, class or module that is not the user's;
* *constants*: the other values that are read by name, from a closure, or are defaults, and
  whether they are state that the code itself changes;
* *packages*: the installed distributions where the walk stopped;
* *clocks*: the names of the clocks that the code asks for the time;
* *lookups*: the bindings that were looked up, to see later whether they still hold.

Values are not fingerprinted here, only collected.
"""

from __future__ import annotations

import builtins
import enum
import functools
import logging
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from daskperiment.capture import class_members, members, source, text_names
from daskperiment.capture.class_members import NameOf, functions_behind
from daskperiment.capture.clocks import clocks_imported, clocks_of
from daskperiment.capture.code_objects import (
    MISSING,
    ChangedState,
    ImportStatement,
    NameRead,
    cell_value,
    cells_of,
    defaults_in,
    name_of_function,
    names_of,
)
from daskperiment.capture.library_settings import (
    SETTING,
    depends_on,
    has_settings,
    settings_of_library,
)
from daskperiment.capture.members import ATOMS, is_own_class, wrapped_by
from daskperiment.capture.origin import (
    distribution,
    file_of_module,
    is_own,
    module_of,
    origin_of,
    origin_of_file,
)
from daskperiment.capture.source import SourceInfo, SourceMark, belongs
from daskperiment.capture.walk_findings import (
    CodeUnit,
    Constant,
    Lookups,
    ModuleFile,
    PartsOf,
    name_of_root,
    unit_of_foreign,
)

__all__ = ["Walk"]

_LOGGERS = (logging.Logger, logging.LoggerAdapter)
_FOLLOWED = (FunctionType, MethodType, ModuleType, type)


class Walk:
    """The user's own code behind a function, class or callable object.

    If the root is a step's function, its own decorators do not count.
    """

    def __init__(self, root: Any, step: bool = False) -> None:
        self._state = ChangedState()
        # State may be read before the code that changes it is found: then once more.
        for _ in range(3):
            known = len(self._state)
            self._walk(root, step)
            if len(self._state) == known:
                break

    def _walk(self, root: Any, step: bool) -> None:
        self.units: list[CodeUnit] = []
        self.edges: dict[tuple[int, str, int], None] = {}
        self.names: dict[tuple[int, str, str], None] = {}
        self.constants: dict[tuple[int, str, int], Constant] = {}
        self.packages: dict[str, str] = {}
        self.clocks: set[str] = set()
        self.lookups = Lookups()
        self._libraries: dict[str, None] = {}
        self._attributes: set[str] = set()
        """Names of all attributes that the code reads or sets, and of what it uses."""
        self._extended: set[type] = set()
        self._foreign: dict[type, None] = {}
        """Classes of libraries that the code names."""
        self._making: set[FunctionType] = set()
        """Functions that run when a class is made."""
        self._places: dict[int, int] = {}
        self._files: dict[ModuleFile, ModuleFile] = {}
        self._kept: list[Any] = []
        self._waiting: deque[tuple[int, Any]] = deque()
        self._visit(-1, "", name_of_root(root), root, bare=step)
        self._look_into_all()
        while self._add_what_was_put_on() or (self._asking and self._add_subclasses()):
            self._look_into_all()
        if step and not self.units:
            self.units.append(unit_of_foreign(root))
        if step:
            self._add_settings()

    def sources(self) -> dict[SourceMark, SourceInfo]:
        """Return the sources of the functions and classes, to go where these go by value."""
        pairs = zip(self._kept, self.units, strict=True)
        code = [(value, unit.info) for value, unit in pairs if not isinstance(value, ModuleFile)]
        return {source.source_mark(value): info for value, info in code if info.source is not None}

    def _is_state(self, name: str, value: Any) -> bool:
        if members.changes_by_use(value):
            return True
        # Code that is bound anew is followed as it is now.
        return self._state.covers(name, value) and not isinstance(value, _FOLLOWED)

    # What a value is decides how it is followed.

    def _visit(self, owner: int, label: str, name: str, value: Any, bare: bool = False) -> None:
        # Exactly these types: a subclass has code of its own.
        if type(value) in ATOMS or self._is_state(name, value):
            self._add_constant(owner, label, name, value)
        elif type(value) is FunctionType:  # not isinstance, which a proxy deceives
            self._visit_function(owner, label, name, value, bare)
        elif issubclass(type(value), type):
            self._visit_class(owner, label, value)
        elif issubclass(type(value), ModuleType):
            self._visit_module(owner, label, value)
        elif type(value) is MethodType:
            self._visit(owner, label, name, value.__func__, bare)
            self._visit(owner, f"{label}.self", f"{name}.self", value.__self__)
        elif isinstance(value, BuiltinFunctionType) and members.is_free(value):
            self._add_foreign(owner, label, value)
        else:
            self._visit_object(owner, label, name, value, bare)

    def _visit_function(
        self, owner: int, label: str, name: str, value: FunctionType, bare: bool
    ) -> None:
        # Not __module__, which a decorator copies from the function that it wraps.
        module = value.__globals__.get("__name__")
        if is_own(module):
            info = source.function_source(value)
            self._add_unit(owner, label, value, name_of_function(value), info, bare)
            return
        self._add_foreign(owner, label, value, module)
        inner = wrapped_by(value)
        if inner is not None:
            self._visit(owner, label, name, inner, bare)
        for key, item in self.lookups.hold(value, members.code_held_by):
            if item is not inner:
                self._visit(owner, f"{label}<{key}>", f"{name}<{key}>", item)

    def _visit_class(self, owner: int, label: str, value: type) -> None:
        if not is_own_class(value):
            self._add_foreign(owner, label, value)
            return
        info = source.class_source(value) or class_members.class_without_source(value)
        self._add_unit(owner, label, value, f"{value.__module__}.{value.__qualname__}", info)

    def _visit_module(self, owner: int, label: str, value: ModuleType) -> None:
        file = getattr(value, "__file__", None)
        if is_own(value.__name__) and value.__name__ != "__main__" and isinstance(file, str):
            self._visit_file(owner, label, ModuleFile(value.__name__, file))
        else:
            self._add_foreign(owner, label, value, value.__name__)

    def _visit_file(self, owner: int, label: str, file: ModuleFile) -> None:
        known = self._files.setdefault(file, file)
        info = source.file_source(file.path)
        if info is not None:
            self.lookups.files[file.path] = None
            self._add_unit(owner, label, known, file.module, info)

    def _visit_object(self, owner: int, label: str, name: str, value: Any, bare: bool) -> None:
        kind = type(value)
        of = origin_of(kind.__module__)
        inner = wrapped_by(value)
        if inner is not None:
            # A step's decorators say how it is recorded, not what it does.
            self._visit(owner, label, name, inner, bare or of == "daskperiment")
            if of != "daskperiment":
                self._visit_wrapper(owner, label, name, value)
        elif isinstance(value, functools.partial):
            self._visit(owner, label, name, value.func, bare)
            self.lookups.watched[id(value.keywords)] = value.keywords
            for key, item in [*enumerate(value.args), *value.keywords.items()]:
                self._visit(owner, f"{label}({key})", f"{name}({key})", item)
        elif isinstance(value, _LOGGERS):
            # What is logged is no output, and its name is another where a module is a script.
            self._visit(owner, f"{label}:type", f"{name}:type", kind)
        elif of == "installed" and (parts := self.lookups.hold(value, members.parts_of_callable)):
            for key, item in parts:
                self._visit(owner, f"{label}{key}", f"{name}{key}", item)
        elif of != "daskperiment":
            self._visit(owner, f"{label}:type", f"{name}:type", kind)
            self._add_constant(owner, label, name, value)
            for key, item in members.code_in(value):
                self._visit(owner, f"{label}[{key}]", f"{name}[{key}]", item)

    def _visit_wrapper(self, owner: int, label: str, name: str, value: Any) -> None:
        self._visit(owner, f"{label}:type", f"{name}:type", type(value))
        # Not the whole: what it copied from what it wraps, such as the docstring, says nothing.
        if is_own_class(type(value)):
            parts_of: PartsOf = members.settings_of
        elif origin_of(type(value).__module__) != "python":
            parts_of = members.parts_inside
        else:
            return
        for key, item in self.lookups.hold(value, parts_of):
            self._visit(owner, f"{label}{key}", f"{name}{key}", item)

    def _look_into_all(self) -> None:
        while self._waiting:
            place, value = self._waiting.popleft()
            self._look_into(place, value)

    @property
    def _asking(self) -> bool:
        """Whether the code finds classes by asking another one which classes extend it."""
        return "__subclasses__" in self._attributes

    def _add_subclasses(self) -> bool:
        """Visit the classes that extend those found so far; return whether there are new ones."""
        known = len(self.units)
        for place, value in list(enumerate(self._kept)):
            if isinstance(value, type) and value not in self._extended:
                self._extended.add(value)
                found = class_members.own_subclasses(value)
                self.lookups.parts.append((value, class_members.own_subclasses, found))
                for name, item in found:
                    self._visit(place, f"subclass {name}", "", item)
        return len(self.units) > known

    def _add_what_was_put_on(self) -> bool:
        """Visit what the user put on classes of libraries; return whether there is something."""
        known = len(self.units)
        for named in list(self._foreign):
            for cls in [each for each in named.__mro__[:-1] if each not in self.lookups.classes]:
                self.lookups.classes[cls] = len(vars(cls))
                for name, item in members.put_on(cls):
                    label = f"{cls.__qualname__}.{name}"
                    self._look_up(vars(cls), name)
                    self._visit(0, label, label, item)
        return len(self.units) > known

    def _add_settings(self) -> None:
        """Add what was set for the whole process, of the libraries that the code uses."""
        if {"parse_args", "parse_known_args"} & self._attributes:
            self._add_constant(0, "sys.argv", "sys.argv", sys.argv)
        for library in filter(has_settings, sorted(self._libraries)):
            if depends_on(library, self._attributes):
                found = settings_of_library(library)
                self.lookups.parts.append((library, settings_of_library, found))
                for name, value in found:
                    self._add_constant(0, SETTING + name, SETTING + name, value)

    # Units, and what they use.

    def _add_unit(
        self, owner: int, label: str, value: Any, name: str, info: SourceInfo, bare: bool = False
    ) -> None:
        place = self._places.get(id(value))
        if place is None:
            place = self._places[id(value)] = len(self.units)
            self.units.append(CodeUnit(name, info, bare))
            self._kept.append(value)
            self._waiting.append((place, value))
        if owner >= 0:
            self.edges[owner, label, place] = None

    def _look_into(self, place: int, value: Any) -> None:
        if type(value) is FunctionType:
            inner = wrapped_by(value)
            if inner is not None:
                # The decorators of a decorated step are its own, too.
                self._visit(place, "__wrapped__", "", inner, self.units[place].bare)
            self._scan(place, "", value)
        elif isinstance(value, type):
            self._scan_class(place, value)
        elif isinstance(value, ModuleFile):
            code = compile(self.units[place].info.source or "", value.path, "exec")
            self.clocks.update(clocks_imported(code))
            for item in source.imports_of_file(value.path):
                self._late(place, "", item, source.package_of(value.module, value.path))
            self._set_since(place, value)

    def _scan_class(self, place: int, cls: type) -> None:
        for base in cls.__bases__:
            self._visit(place, f"base {base.__qualname__}", "", base)
        for name, item in self.lookups.hold(cls, members.registered_with):
            self._visit(place, f"registered {name}", "", item)
        if type(cls) is not type:
            self._visit(place, "metaclass", "", type(cls))
        name = f"{cls.__module__}.{cls.__qualname__}"
        self.lookups.classes[cls] = len(vars(cls))
        for key, value in class_members.members_of(cls):
            self._look_up(vars(cls), key)
            functions = list(functions_behind(value))
            for function in functions:
                if class_members.makes_classes(cls, key):
                    self._making.add(function)
                if belongs(function, cls):
                    self._scan(place, f"{key}.", function)
            foreign = value if not functions or wrapped_by(value) else None
            others = [f for f in functions if not belongs(f, cls)]
            for item in others if foreign is None else [foreign]:
                self._visit(place, key, f"{name}.{key}", item)
        self._scan_declarations(place, name, cls)
        if issubclass(cls, enum.Enum):
            values = {key: member.value for key, member in cls.__members__.items()}
            self._visit(place, "members", name, values)

    def _scan(self, place: int, prefix: str, function: FunctionType) -> None:
        names = names_of(function.__code__)
        self._attributes.update(names.attributes, function.__code__.co_names)
        if (
            function not in self._making
        ):  # what is put down when a class is made is no change while a step runs
            self._state.add(function, self.units[place].info.assigned, names)
        self.clocks.update(clocks_of(function))
        # The defaults by keyword are a dict, which may change in place.
        named = dict(function.__kwdefaults__ or {})
        self.lookups.functions.append((function, function.__code__, function.__defaults__, named))
        for read in names.globals:
            self._read_global(place, prefix, function, read)
        for name, cell in cells_of(function).items():
            if name != "__class__":
                reads = [read for read in names.cells if read.name == name]
                self._read_cell(place, prefix, function, cell, reads or [NameRead(name)])
        self._scan_annotations(place, prefix, function)
        for cls, key, item in members.registered(names.attributes):
            self._look_up(vars(cls), key)
            label = f"{cls.__name__}.{key}"
            self._visit(place, f"{prefix}.{label}", label, item)
        for name, value in defaults_in(function):
            self._visit(place, f"{prefix}({name})", f"{name_of_function(function)}({name})", value)
        for item in names.imports:
            self._late(place, prefix, item, function.__globals__.get("__package__"))
        self._read_by_text(place, prefix, function)

    def _read_by_text(self, place: int, prefix: str, function: FunctionType) -> None:
        variables = function.__globals__
        for name in text_names.variables_named(function):
            self._read_global(place, prefix, function, NameRead(name))
        for name in text_names.modules_named(function):
            if name not in variables and name.partition(".")[0] not in sys.stdlib_module_names:
                self._late(place, prefix, ImportStatement(name), None)
        if text_names.takes_all_variables(function):
            found = text_names.all_variables(variables)
            self.lookups.parts.append((variables, text_names.all_variables, found))
            for name, _ in found:
                self._read_global(place, prefix, function, NameRead(name))

    def _scan_declarations(self, place: int, name: str, cls: type) -> None:
        for key, item in class_members.declarations_of(cls):
            self._visit_declared(place, key, f"{name}.{key}", item)
        if class_members.has_fields(cls):
            others = class_members.other_defaults(cls)
            self.lookups.parts.append((cls, class_members.other_defaults, others))
            for key, item in others:
                self._visit(place, key, f"{name}.{key}", item)
        forms = list(class_members.annotations_of(cls).items())
        forms += [("base", form) for form in vars(cls).get("__orig_bases__", ())]
        for key, form in forms:
            for number, part in enumerate(class_members.parts_of_annotation(form)):
                if type(part) is NameOf:
                    self.names[place, f"{key}: {number}", str(part)] = None
                else:
                    self._visit_declared(place, f"{key}: {number}", f"{name}.{key}", part)

    def _scan_annotations(self, place: int, prefix: str, function: FunctionType) -> None:
        # Classes that are named there only say what comes, and the source shows the text.
        for key, form in class_members.annotations_of(function).items():
            label, name = f"{prefix}({key}: ", f"{name_of_function(function)}({key})"
            for number, part in enumerate(class_members.parts_of_annotation(form)):
                self._libraries |= class_members.libraries_named(part, function.__globals__)
                if not isinstance(part, (NameOf, type)):
                    self._visit_declared(place, f"{label}{number}", name, part)

    def _visit_declared(self, place: int, label: str, name: str, value: Any) -> None:
        for key, item in members.parts_of(value):
            self._visit(place, f"{label}{key}", f"{name}{key}", item)

    def _look_up(self, variables: Mapping[str, Any], name: str) -> Any:
        value = variables.get(name, MISSING)
        self.lookups.names.append((variables, name, value))
        return value

    def _read_global(self, place: int, prefix: str, function: FunctionType, read: NameRead) -> None:
        variables = function.__globals__
        value = self._look_up(variables, read.name)
        if value is MISSING and members.is_set(vars(builtins), read.name):
            value = self._look_up(vars(builtins), read.name)
        name = f"{variables.get('__name__', '?')}.{read.name}"
        self._read(place, f"{prefix}{read.name}", name, value, read.attributes)

    def _read_cell(
        self, place: int, prefix: str, function: FunctionType, cell: Any, reads: list[NameRead]
    ) -> None:
        value = cell_value(cell)
        self.lookups.cells.append((cell, value))
        for read in reads:
            name = f"{name_of_function(function)}.{read.name}"
            self._read(place, f"{prefix}{read.name}", name, value, read.attributes)

    def _read(
        self, place: int, label: str, name: str, value: Any, attributes: tuple[str, ...]
    ) -> None:
        for done, attribute in enumerate(attributes):
            own = isinstance(value, ModuleType) and is_own(value.__name__)
            if not own or attribute == "__dict__":
                self._read_from(place, label, value, attributes[done:])
                break
            name, label = f"{value.__name__}.{attribute}", f"{label}.{attribute}"
            value = self._attribute_of(place, label, value, attribute)
        if value is not MISSING:
            self._visit(place, label, name, value)

    def _attribute_of(self, place: int, label: str, module: ModuleType, name: str) -> Any:
        """Return what a name means in a module of the user's, by its ``__getattr__`` if need be."""
        value = self._look_up(vars(module), name)
        hook, file = vars(module).get("__getattr__"), getattr(module, "__file__", None)
        if hook is None or not isinstance(file, str) or name in source.names_bound(file):
            return value
        # Before and after it was asked for the first time, when it may have been kept.
        self._visit(place, f"{label} by __getattr__", f"{module.__name__}.__getattr__", hook)
        if value is MISSING:
            with suppress(Exception):
                value = getattr(module, name)
        return value

    def _read_from(self, place: int, label: str, value: Any, attributes: tuple[str, ...]) -> None:
        """Visit attributes that users may have put on functions and on foreign modules."""
        if attributes[0] == "__doc__" and members.is_own_code(value):
            self._add_constant(place, f"{label}.__doc__", f"{label}.__doc__", value.__doc__)
        elif isinstance(value, FunctionType) and attributes[0] in vars(value):
            key = attributes[0]
            item = self._look_up(vars(value), key)
            self._visit(place, f"{label}.{key}", f"{name_of_function(value)}.{key}", item)
        elif isinstance(value, (ModuleType, type)) and not members.is_own_code(value):
            for variables, key, item in members.follow_attributes(value, attributes):
                home, label = variables.get("__name__", label), f"{label}.{key}"
                self._look_up(variables, key)
                if members.is_own_code(item):
                    self._visit(place, label, label, item)
                elif isinstance(item, type):
                    self._foreign[item] = None
                elif members.is_plain(home, key, item):
                    self._add_constant(place, label, f"{home}.{key}", item)

    # Imports that happen while a function runs.

    def _late(self, place: int, prefix: str, item: ImportStatement, package: str | None) -> None:
        for name in source.resolve_import(item, package):
            self._libraries[name.partition(".")[0]] = None
            file = file_of_module(name)
            if file is None:
                self._add_package(name)
            elif origin_of_file(file) == "installed":
                # Not by its module, which may not be loaded before the step ran.
                self._add_distribution(name)
            elif origin_of_file(file) == "own" and origin_of(name) != "daskperiment":
                self._visit_file(place, f"{prefix}import {name}", ModuleFile(name, file))

    def _set_since(self, place: int, file: ModuleFile) -> None:
        """Visit what a loaded module has been given in place of what its file says."""
        variables = getattr(sys.modules.get(file.module), "__dict__", {})
        for key, literal in source.file_literals(file.path).items() if variables else ():
            value = self._look_up(variables, key)
            if isinstance(value, (list, dict, set)):
                self.lookups.watched[id(value)] = value
            if value is not MISSING and not members.is_literal(value, literal, variables):
                self._visit(place, key, f"{file.module}.{key}", value)

    # Constants and packages.

    def _add_constant(self, owner: int, label: str, name: str, value: Any) -> None:
        state = self._is_state(name, value)
        # State is the same constant whatever its value.
        key = 0 if state else id(value)
        self.constants[owner, label, key] = Constant(owner, label, name, value, state)

    def _add_package(self, module: str | None) -> None:
        if module is not None and origin_of(module) == "installed":
            self._add_distribution(module)

    def _add_distribution(self, module: str) -> None:
        found = distribution(module)
        if found is not None:
            self.packages[found[0]] = found[1]

    def _add_foreign(self, owner: int, label: str, value: Any, module: str | None = None) -> None:
        self.names[owner, label, members.foreign_name(value)] = None
        if isinstance(value, type):
            self._foreign[value] = None
        module = module or module_of(value)
        self._libraries[(module or "").partition(".")[0]] = None
        self._add_package(module)
