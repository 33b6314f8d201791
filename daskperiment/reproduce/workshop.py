"""Puts recorded functions and classes in the places that they had.

Each module of the user's that takes part has a stand-in with the names that recorded code reads
there. What a name means is found by what it means today: if that, with all of the user's own code
behind it, is still as recorded, it is used as it is; else the record of it is made anew.
"""

from __future__ import annotations

import builtins
import copy
import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from daskperiment.capture.found import MISSING
from daskperiment.capture.origin import home, is_own, module_of
from daskperiment.capture.references import Read
from daskperiment.codec import describe
from daskperiment.records import Code, Function
from daskperiment.reproduce.making import Definition, Made, NotMadeError
from daskperiment.reproduce.names import (
    cells_of,
    fill_cells,
    full_name,
    has_private,
    innermost,
    is_ours,
    is_postponed,
    module_name,
    qualname_of,
)
from daskperiment.reproduce.record import Record
from daskperiment.reproduce.standin import StandIn, stand_in
from daskperiment.reproduce.travel import Sources

__all__ = ["Workshop"]


class Workshop:
    """Makes the functions of one trial; what several steps use is made once.

    Parameters
    ----------
    record : Record
        The trial's code.
    today : Code
        The steps' code as it is now.
    functions : iterable of callable
        Today's functions of the steps.
    """

    def __init__(self, record: Record, today: Code, functions: Iterable[Any]) -> None:
        self.missing: dict[str, None] = {}
        """Names that recorded code reads and that mean nothing any more."""
        self._record = record
        self._still = {(each.name, each.fingerprint) for each in today.functions.values()}
        self._made: dict[str, Made] = {}
        self._begun: set[str] = set()
        self._modules: dict[str, StandIn] = {}
        self._today: dict[str, Mapping[str, Any]] = {}
        for function in functions:
            inner = innermost(function)
            if isinstance(inner, FunctionType):
                self._today.setdefault(module_name(inner), inner.__globals__)

    def step(self, functions: list[Function], today: Any) -> Any:
        """Make a step's function, of today's and of what is recorded of the step.

        Raises
        ------
        NotMadeError
            If it cannot be made.
        """
        inner = innermost(today)
        if isinstance(inner, functools.partial):
            return self._partial(module_of(inner) or "", inner, early=False)
        if not isinstance(inner, FunctionType):
            raise NotMadeError(f"it is {describe(inner)[1]}, whose content is not recorded")
        known = [function for function in functions if function.name == full_name(inner)]
        # Else it was written in another place, of which nothing is known today.
        return (
            self._make(self._only(known), inner).value
            if known
            else self._make(functions[0], None).value
        )

    def sources(self) -> Sources:
        """Give the sources of all that was made."""
        made = self._made.values()
        texts = {file: text for one in made for file, text in one.sources.texts.items()}
        return Sources(texts, tuple(pair for one in made for pair in one.sources.classes))

    # Making

    def _make(self, function: Function, today: Any) -> Made:
        key = f"{function.name} {function.fingerprint}"
        if key not in self._made:
            if key in self._begun:
                raise NotMadeError(f"{function.name} is needed to define itself")
            self._begun.add(key)
            definition = Definition.of(function, is_postponed(today))
            self._define(key, definition, today)
        return self._made[key]

    def _define(self, key: str, definition: Definition, today: Any) -> None:
        qualname = qualname_of(today, definition.own_name)
        _check_place(definition, qualname, today)
        module = definition.name[: -len(qualname)].rstrip(".") or "__main__"
        cells = cells_of(today)
        dropped = self._dropped(definition, module, cells)
        reads = definition.reads(dropped)
        early = definition.early() | (set(cells) if definition.is_class else set())
        inside = {read.name: MISSING for read in reads if read.name in cells}
        for read in (read for read in reads if read.name in early):
            self._bind(definition, module, read, cells, inside, early=True)
        variables = vars(self._module(module))
        made = definition.make(qualname, variables, _filled(inside), dropped)
        self._made[key] = made
        for read in (read for read in reads if read.name not in early):
            self._bind(definition, module, read, cells, inside, early=False)
        fill_cells(made.bare, inside)

    def _bind(
        self, definition: Definition, module: str, read: Read, cells: Mapping[str, Any],
        inside: dict[str, Any], early: bool,
    ) -> None:  # fmt: skip
        """Give a name that a definition reads its meaning."""
        if read.name in inside:
            if read.name != definition.own_name:
                label = f"{definition.name}.{read.name}"
                inside[read.name] = self._value(label, cells[read.name], read.attributes, early)
            return
        variables, today = vars(self._module(module)), self._variables(module)
        if read.name in variables and not isinstance(variables[read.name], StandIn):
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

    def _dropped(self, definition: Definition, module: str, cells: Mapping[str, Any]) -> set[int]:
        """Find the decorators of the experiment: they say how a step is recorded.

        One whose name is not found counts as such: it stands in the function around the step.
        """
        names = {**self._variables(module), **cells}
        return {n for n, d in enumerate(definition.decorators) if is_ours(d, names)}

    # What a name means

    def _value(self, name: str, today: Any, attributes: tuple[str, ...], early: bool) -> Any:
        if today is MISSING:
            return self._gone(name)
        if isinstance(today, ModuleType) and is_own(today.__name__):
            return self._own_module(today, attributes, early)
        if self._record.covers(name, today):
            return today
        return self._changed(name, today, early)

    def _own_module(self, today: ModuleType, attributes: tuple[str, ...], early: bool) -> Any:
        if not attributes:
            if self._record.covers(today.__name__, today):
                return today
            raise NotMadeError(f"module {today.__name__} is used as a whole, and has changed")
        self._today.setdefault(today.__name__, vars(today))
        module = self._module(today.__name__)
        name, *rest = attributes
        if name not in vars(module) or isinstance(vars(module)[name], StandIn):
            found = vars(today).get(name, MISSING)
            value = self._value(f"{today.__name__}.{name}", found, tuple(rest), early)
            if value is MISSING:
                self.missing[f"{today.__name__}.{name}"] = None
            else:
                setattr(module, name, value)
        return module

    def _changed(self, name: str, today: Any, early: bool) -> Any:
        """Make what a name means today as it was."""
        inner = innermost(today)
        if isinstance(inner, (FunctionType, type)):
            known = self._record.functions(full_name(inner))
            if known:
                return _wrapped_like(today, self._make(self._only(known), inner))
        if isinstance(today, functools.partial):
            return self._partial(name, today, early)
        found = self._gone(name)
        if found is MISSING and early:
            # Such as a decorator: not recorded itself, but what comes of it is compared.
            return today
        return found

    def _partial(self, name: str, today: functools.partial[Any], early: bool) -> Any:
        args = [self._value(f"{name}({n})", v, (), early) for n, v in enumerate(today.args)]
        named = {k: self._value(f"{name}({k})", v, (), early) for k, v in today.keywords.items()}
        return functools.partial(self._value(name, today.func, (), early), *args, **named)

    def _gone(self, name: str) -> Any:
        """Make what a name meant, of the record alone; `MISSING` if that says nothing."""
        if self._record.has_constant(name):
            raise NotMadeError(
                f"{name} has not the value that it had, of which only a fingerprint is recorded"
            )
        known = self._record.functions(name) or self._record.ending(name.rpartition(".")[2])
        return self._make(self._only(known), None).value if known else MISSING

    def _only(self, functions: list[Function]) -> Function:
        """Choose of several with one name, such as lambdas, the one that is no longer there."""
        gone = [each for each in functions if (each.name, each.fingerprint) not in self._still]
        left = gone or functions
        if len(left) > 1:
            raise NotMadeError(f"several functions of the name {left[0].name} are recorded")
        return left[0]

    # Modules

    def _module(self, name: str) -> StandIn:
        if name not in self._modules:
            self._modules[name] = stand_in(name, self._variables(name))
        return self._modules[name]

    def _variables(self, name: str) -> Mapping[str, Any]:
        """Give what a module's names mean today."""
        if name not in self._today:
            module = sys.modules.get(name)
            try:
                self._today[name] = vars(module or importlib.import_module(name))
            except ModuleNotFoundError as error:
                if not _is_within(name, error.name):
                    raise _not_imported(name, error) from error
                self._today[name] = {}  # the module is gone: its names have what is recorded
            except Exception as error:  # importing runs the user's code
                raise _not_imported(name, error) from error
        return self._today[name]


def _is_within(name: str, other: str | None) -> bool:
    return other is not None and (name == other or name.startswith(f"{other}."))


def _not_imported(name: str, error: Exception) -> NotMadeError:
    return NotMadeError(
        f"module {name} cannot be imported any more: {type(error).__name__}: {error}"
    )


def _check_place(definition: Definition, qualname: str, today: Any) -> None:
    """Refuse what a definition cannot be taken out of."""
    parent = qualname.rpartition(".")[0]
    if "<locals>" in definition.name and today is None:
        raise NotMadeError(
            f"{definition.name} was defined inside a function, whose variables are not recorded"
        )
    method = parent and not parent.endswith("<locals>") and not definition.is_class
    if method and has_private(definition.node()):
        raise NotMadeError(f"{definition.name} is a method that uses private names of its class")


def _filled(inside: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value is MISSING else value for name, value in inside.items()}


def _wrapped_like(today: Any, made: Made) -> Any:
    """Put what was made where today's has a wrapper of ours around it."""
    if home(type(today).__module__) != "daskperiment" or not hasattr(today, "__wrapped__"):
        return made.value
    wrapper = copy.copy(today)
    wrapper.__wrapped__ = made.value
    return wrapper
