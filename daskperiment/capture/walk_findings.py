"""What a walk through the user's code finds, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

from daskperiment.capture.encoding import combine
from daskperiment.capture.members import is_own_class
from daskperiment.capture.origin import distribution, module_of, origin_of
from daskperiment.capture.source import SourceInfo

__all__ = [
    "CodeUnit",
    "Constant",
    "Lookups",
    "ModuleFile",
    "PartsOf",
    "is_same_list",
    "name_of_root",
    "unit_of_foreign",
]


@dataclass(frozen=True, slots=True)
class CodeUnit:
    """A function, class or file of the user's own code."""

    name: str
    info: SourceInfo
    bare: bool = False
    """Whether its own decorators do not count."""

    @property
    def fingerprint(self) -> str:
        """Of its own code, without what it uses."""
        return self.info.bare if self.bare else self.info.fingerprint


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module's file that is imported while a function runs."""

    module: str
    path: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that a unit reads."""

    owner: int
    label: str
    """The name as the unit has it."""
    name: str
    """The name as people should see it."""
    value: Any
    state: bool = False
    """Whether the code changes the value itself."""


PartsOf = Callable[[Any], Iterable[tuple[str, Any]]]
"""Gives what a library's function or object holds: names, and code or settings."""


def is_same_list(before: Sequence[tuple[str, Any]], now: Iterable[tuple[str, Any]]) -> bool:
    """Whether names and objects are the same ones, in the same order."""
    found = list(now)
    return len(before) == len(found) and all(
        old[0] == new[0] and old[1] is new[1] for old, new in zip(before, found, strict=True)
    )


@dataclass(slots=True)
class Lookups:
    """What was looked up: a walk is valid while all of it is the same."""

    names: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    cells: list[tuple[Any, Any]] = field(default_factory=list)
    functions: list[tuple[FunctionType, CodeType, Any, dict[str, Any]]] = field(
        default_factory=list
    )
    """Functions, with the code and the defaults that they had."""
    files: dict[str, None] = field(default_factory=dict)
    classes: dict[type, int] = field(default_factory=dict)
    """Classes, and how many attributes they have: one more may take the place of a base's."""
    watched: dict[int, Any] = field(default_factory=dict)
    """Values that may change in place, by their id, besides the constants."""

    parts: list[tuple[Any, PartsOf, list[tuple[str, Any]]]] = field(default_factory=list)
    """Functions and objects of libraries, and the code and settings that they held."""

    def hold(self, value: Any, parts_of: PartsOf) -> list[tuple[str, Any]]:
        """Return what a library's function or object holds, which may be others later."""
        found = list(parts_of(value))
        # What is made anew each time it is asked for says nothing by being another object.
        if found and is_same_list(found, parts_of(value)):
            self.parts.append((value, parts_of, found))
        return found

    def add(self, other: Lookups) -> None:
        """Add what another walk looked up, each thing once."""
        known = {(id(variables), name) for variables, name, _ in self.names}
        for variables, name, value in other.names:
            if (id(variables), name) not in known:
                known.add((id(variables), name))
                self.names.append((variables, name, value))
        self.cells += other.cells
        self.functions += other.functions
        self.parts += other.parts
        self.files.update(other.files)
        self.classes.update(other.classes)
        self.watched.update(other.watched)


def unit_of_foreign(root: Any) -> CodeUnit:
    """Return what stands for a step whose function is no code of the user's."""
    module = module_of(root) or module_of(type(root)) or ""
    name = getattr(root, "__qualname__", None) or type(root).__qualname__
    found = distribution(module) if origin_of(module) == "installed" else None
    note = "no source: part of " + (" ".join(found) if found else module or "Python")
    fingerprint = combine("foreign", module, name, *(found or ()))
    return CodeUnit(f"{module}.{name}", SourceInfo(fingerprint, fingerprint, note=note))


def name_of_root(root: Any) -> str:
    """Return the module of a function, and the class of a callable object, which has no name."""
    if isinstance(root, type) or hasattr(root, "__qualname__") or not is_own_class(type(root)):
        return module_of(root) or ""
    return f"{type(root).__module__}.{type(root).__qualname__}"
