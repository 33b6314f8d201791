"""Finds what each name in recorded code means, and builds what has changed from its source.

Each of the user's modules that takes part is replaced by one with the names that recorded code
reads there. What a name means is found by what it means today: if that, with all of the user's own
code behind it, is still as recorded, it is used as it is; else it is built from its record.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import MISSING, NameRead, cell_value
from daskperiment.capture.origin import is_own, module_of, origin_of
from daskperiment.capture.source import methods
from daskperiment.codec import describe
from daskperiment.records import Code, Function
from daskperiment.reproduce.recorded_code import (
    POSTPONED,
    NotRebuiltError,
    RebuiltObject,
    RecordedCode,
    RecordedDefinition,
    RecordedSources,
)

__all__ = ["CodeResolver", "RecordedModule"]

_KEPT = ("__package__", "__path__", "__file__")
"""What a module of recorded code takes over from the module of today."""


class RecordedModule(ModuleType):
    """A module of recorded code: imported by nobody, and pickled with what it holds.

    It has the name of the module that it replaces. `today` are the variables of that module, of
    which it takes only those that say where it is.
    """

    def __init__(self, name: str, today: Mapping[str, Any] | None = None) -> None:
        super().__init__(name)
        variables = vars(self)
        # Without a loader, sources are looked up by the name of the file alone.
        variables.pop("__loader__", None)
        variables["__builtins__"] = builtins
        variables.update({key: today[key] for key in _KEPT if today and key in today})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"recorded code of module {self.__name__!r} has no attribute {name!r}: a name that "
            "is put together while a step runs cannot be found in the record"
        )

    def __reduce__(self) -> Any:
        # Pickle would import the module of this name, which holds today's code.
        state = {k: v for k, v in vars(self).items() if k != "__builtins__"}
        return RecordedModule, (self.__name__,), state, None, None, _fill


def _fill(module: RecordedModule, state: dict[str, Any]) -> None:
    vars(module).update(state)


class CodeResolver:
    """Builds the functions of one trial; what several steps use is built once.

    `record` is the trial's code, `today` the steps' code and `functions` their functions as they
    are now.
    """

    def __init__(self, record: RecordedCode, today: Code, functions: Iterable[Any]) -> None:
        self.missing: dict[str, None] = {}
        """Names that recorded code reads and that mean nothing any more."""
        self._record = record
        self._still = {(each.name, each.fingerprint) for each in today.functions.values()}
        self._built: dict[str, RebuiltObject] = {}
        self._begun: set[str] = set()
        self._modules: dict[str, RecordedModule] = {}
        self._today: dict[str, Mapping[str, Any]] = {}
        for function in functions:
            inner = _unwrapped(function)
            if isinstance(inner, FunctionType):
                self._today.setdefault(_module_name(inner), inner.__globals__)

    def step_function(self, functions: list[Function], today: Any) -> Any:
        """Return a step's function, built from its record; NotRebuiltError if it cannot be."""
        inner = _unwrapped(today)
        if isinstance(inner, functools.partial):
            return self._partial(module_of(inner) or "", inner, early=False)
        if not isinstance(inner, FunctionType):
            raise NotRebuiltError(f"it is {describe(inner)[1]}, whose content is not recorded")
        known = [function for function in functions if function.name == _full_name(inner)]
        if not known:  # it was written in another place, of which nothing is known today
            return self._build(functions[0], None).value
        return self._build(self._only(known), inner).value

    def sources(self) -> RecordedSources:
        """Return the sources of all that was built."""
        built = self._built.values()
        texts = {file: text for one in built for file, text in one.sources.texts.items()}
        return RecordedSources(texts, tuple(pair for one in built for pair in one.sources.classes))

    # Building

    def _build(self, function: Function, today: Any) -> RebuiltObject:
        key = f"{function.name} {function.fingerprint}"
        if key not in self._built:
            if key in self._begun:
                raise NotRebuiltError(f"{function.name} is needed to define itself")
            self._begun.add(key)
            definition = RecordedDefinition.of(function, _is_postponed(today))
            self._define(key, definition, today)
        return self._built[key]

    def _define(self, key: str, definition: RecordedDefinition, today: Any) -> None:
        qualname = _qualname(today, definition.own_name)
        _check_context(definition, qualname, today)
        module = definition.name[: -len(qualname)].rstrip(".") or "__main__"
        closure = _closure(today)
        dropped = self._dropped(definition, module, closure)
        reads = definition.reads(dropped)
        early = definition.early_names() | (set(closure) if definition.is_class else set())
        bound = {read.name: MISSING for read in reads if read.name in closure}
        # Only what is read while it is defined is bound before: the rest may need it in turn.
        for read in (read for read in reads if read.name in early):
            self._bind(definition, module, read, closure, bound, early=True)
        variables = vars(self._module(module))
        cells = {name: None if value is MISSING else value for name, value in bound.items()}
        built = self._built[key] = definition.build(qualname, variables, cells, dropped)
        for read in (read for read in reads if read.name not in early):
            self._bind(definition, module, read, closure, bound, early=False)
        _fill_closure(built.bare, bound)

    def _bind(
        self, definition: RecordedDefinition, module: str, read: NameRead,
        closure: Mapping[str, Any], bound: dict[str, Any], early: bool,
    ) -> None:  # fmt: skip
        """Bind a name that a definition reads, in its closure or in its module."""
        if read.name in bound:
            if read.name != definition.own_name:
                label = f"{definition.name}.{read.name}"
                bound[read.name] = self._value(label, closure[read.name], read.attributes, early)
            return
        variables, today = vars(self._module(module)), self._variables(module)
        if read.name in variables and not isinstance(variables[read.name], RecordedModule):
            return
        found, name = today.get(read.name, MISSING), f"{module}.{read.name}"
        own = found is not MISSING or self._record.functions(name)
        if not own and hasattr(builtins, read.name):
            return
        value = self._value(name, found, read.attributes, early)
        if value is MISSING:
            self.missing[name] = None
        else:
            variables[read.name] = value

    def _dropped(
        self, definition: RecordedDefinition, module: str, closure: Mapping[str, Any]
    ) -> set[int]:
        """Return the positions of the experiment's decorators: they only say what is recorded.

        One whose name is not found counts as such: it stands in the function around the step.
        """
        names = {**self._variables(module), **closure}
        return {n for n, d in enumerate(definition.decorators) if _is_experiments(d, names)}

    # What a name means

    def _value(self, name: str, today: Any, attributes: tuple[str, ...], early: bool) -> Any:
        if today is MISSING:
            return self._from_record(name)
        if isinstance(today, ModuleType) and is_own(today.__name__):
            return self._own_module(today, attributes, early)
        if self._record.covers(name, today):
            return today
        return self._changed(name, today, early)

    def _own_module(self, today: ModuleType, attributes: tuple[str, ...], early: bool) -> Any:
        if not attributes:
            if self._record.covers(today.__name__, today):
                return today
            raise NotRebuiltError(f"module {today.__name__} is used as a whole, and has changed")
        self._today.setdefault(today.__name__, vars(today))
        module = self._module(today.__name__)
        name, *rest = attributes
        if name not in vars(module) or isinstance(vars(module)[name], RecordedModule):
            found = vars(today).get(name, MISSING)
            value = self._value(f"{today.__name__}.{name}", found, tuple(rest), early)
            if value is MISSING:
                self.missing[f"{today.__name__}.{name}"] = None
            else:
                setattr(module, name, value)
        return module

    def _changed(self, name: str, today: Any, early: bool) -> Any:
        """Return what stood in the trial for something that is another today."""
        inner = _unwrapped(today)
        if isinstance(inner, (FunctionType, type)):
            known = self._record.functions(_full_name(inner))
            if known:
                return _wrapped_like(today, self._build(self._only(known), inner))
        if isinstance(today, functools.partial):
            return self._partial(name, today, early)
        found = self._from_record(name)
        if found is MISSING and early:
            # Such as a decorator: not recorded itself, but what comes of it is compared.
            return today
        return found

    def _partial(self, name: str, today: functools.partial[Any], early: bool) -> Any:
        args = [self._value(f"{name}({n})", v, (), early) for n, v in enumerate(today.args)]
        named = {k: self._value(f"{name}({k})", v, (), early) for k, v in today.keywords.items()}
        return functools.partial(self._value(name, today.func, (), early), *args, **named)

    def _from_record(self, name: str) -> Any:
        """Return what a name meant, by the record alone; `MISSING` if that does not have it."""
        if self._record.has_constant(name):
            raise NotRebuiltError(
                f"{name} has not the value that it had, of which only a fingerprint is recorded"
            )
        last = name.rpartition(".")[2]
        known = self._record.functions(name) or self._record.functions_ending(last)
        return self._build(self._only(known), None).value if known else MISSING

    def _only(self, functions: list[Function]) -> Function:
        """Return the one of several with one name, such as lambdas, that is not there any more."""
        gone = [each for each in functions if (each.name, each.fingerprint) not in self._still]
        left = gone or functions
        if len(left) > 1:
            raise NotRebuiltError(f"several functions of the name {left[0].name} are recorded")
        return left[0]

    # Modules

    def _module(self, name: str) -> RecordedModule:
        if name not in self._modules:
            self._modules[name] = RecordedModule(name, self._variables(name))
        return self._modules[name]

    def _variables(self, name: str) -> Mapping[str, Any]:
        """Return what a module's names mean today."""
        if name not in self._today:
            module = sys.modules.get(name)
            try:
                self._today[name] = vars(module or importlib.import_module(name))
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise _not_imported(name, error) from error
                self._today[name] = {}  # the module is gone: its names have what is recorded
            except Exception as error:  # importing runs the user's code
                raise _not_imported(name, error) from error
        return self._today[name]


def _not_imported(name: str, error: Exception) -> NotRebuiltError:
    return NotRebuiltError(
        f"module {name} cannot be imported any more: {type(error).__name__}: {error}"
    )


def _check_context(definition: RecordedDefinition, qualname: str, today: Any) -> None:
    """Refuse a definition that means another thing outside of its function or class."""
    parent = qualname.rpartition(".")[0]
    if "<locals>" in definition.name and today is None:
        raise NotRebuiltError(
            f"{definition.name} was defined inside a function, whose variables are not recorded"
        )
    method = parent and not parent.endswith("<locals>") and not definition.is_class
    if method and definition.uses_mangled_names:
        raise NotRebuiltError(f"{definition.name} is a method that uses private names of its class")


def _wrapped_like(today: Any, built: RebuiltObject) -> Any:
    """Return what was built, in the same wrapper of this package as today's, if that has one."""
    if origin_of(type(today).__module__) != "daskperiment" or not hasattr(today, "__wrapped__"):
        return built.value
    wrapper = copy.copy(today)
    wrapper.__wrapped__ = built.value
    return wrapper


# Functions and classes of today ------------------------------------------------------------------


def _unwrapped(value: Any) -> Any:
    """Return a function or class without its decorators, as far as they say what they wrap."""
    try:
        return inspect.unwrap(value)
    except Exception:  # a user's attribute may fail, or lead in a circle
        return value


def _module_name(function: FunctionType) -> str:
    return str(function.__globals__.get("__name__", "__main__"))


def _full_name(value: Any) -> str:
    """Return the name under which a function or class is recorded."""
    if isinstance(value, FunctionType):
        name = f"{_module_name(value)}.{value.__code__.co_qualname}"
    else:
        name = f"{value.__module__}.{value.__qualname__}"
    return name.removeprefix("__main__.")


def _qualname(today: Any, default: str) -> str:
    """Return the name within its module that something of today has; else a default."""
    if isinstance(today, FunctionType):
        return today.__code__.co_qualname
    return today.__qualname__ if isinstance(today, type) else default


def _is_postponed(today: Any) -> bool:
    """Return whether annotations are not evaluated where something was written."""
    functions = methods(today) if isinstance(today, type) else [today]
    codes = [getattr(function, "__code__", None) for function in functions]
    return any(code is not None and code.co_flags & POSTPONED for code in codes)


def _closure(today: Any) -> dict[str, Any]:
    """Return the variables of the function around a function."""
    if not isinstance(today, FunctionType):
        return {}
    cells = zip(today.__code__.co_freevars, today.__closure__ or (), strict=False)
    return {name: cell_value(cell) for name, cell in cells}


def _fill_closure(built: Any, bound: Mapping[str, Any]) -> None:
    if isinstance(built, FunctionType):
        cells = zip(built.__code__.co_freevars, built.__closure__ or (), strict=False)
        for name, cell in cells:
            if bound.get(name, MISSING) is not MISSING:
                cell.cell_contents = bound[name]


def _is_experiments(decorator: ast.expr, names: Mapping[str, Any]) -> bool:
    """Return whether a decorator is an experiment's, such as ``@lab.ex.persist(reuse=True)``."""
    path: list[str] = []
    node: Any = decorator.func if isinstance(decorator, ast.Call) else decorator
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    value = names.get(node.id, MISSING) if isinstance(node, ast.Name) else None
    if value is MISSING and isinstance(node, ast.Name):
        return not hasattr(builtins, node.id)
    while value is not None:
        if origin_of(type(value).__module__) == "daskperiment":
            return True
        value = getattr(value, path.pop(), None) if path else None
    return False
