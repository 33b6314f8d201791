"""What a walk through code finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

from daskperiment.capture.source import Written

__all__ = ["MISSING", "Constant", "File", "Seen", "Unit", "cell_value", "parts_now"]

MISSING: Any = object()
"""Stands for a name that is not bound."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A function, class or file of the user's own code."""

    name: str
    written: Written
    bare: bool = False
    """Whether its own decorators do not count."""

    @property
    def fingerprint(self) -> str:
        """Of its own code."""
        return self.written.bare if self.bare else self.written.fingerprint


@dataclass(frozen=True, slots=True)
class File:
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


@dataclass(slots=True)
class Seen:
    """What was looked up: a walk is valid while all of it is the same."""

    names: list[tuple[Callable[[str, Any], Any], str, Any]] = field(default_factory=list)
    cells: list[tuple[Any, Any]] = field(default_factory=list)
    functions: list[tuple[FunctionType, CodeType, Any, Any]] = field(default_factory=list)
    files: dict[str, None] = field(default_factory=dict)
    classes: dict[type, int] = field(default_factory=dict)
    """Classes, and how many attributes they have: one more may take the place of a base's."""
    watched: dict[int, Any] = field(default_factory=dict)
    """Values that may change in place, by their id, besides the constants."""

    def add(self, other: Seen) -> None:
        """Take in what another walk saw, each thing once."""
        known = {(id(get.__self__), name) for get, name, _ in self.names}  # type: ignore[attr-defined]
        for get, name, value in other.names:
            if (id(get.__self__), name) not in known:  # type: ignore[attr-defined]
                known.add((id(get.__self__), name))  # type: ignore[attr-defined]
                self.names.append((get, name, value))
        self.cells += other.cells
        self.functions += other.functions
        self.files.update(other.files)
        self.classes.update(other.classes)
        self.watched.update(other.watched)


def cell_value(cell: Any) -> Any:
    """Read a closure's cell; `MISSING` if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def parts_now(function: FunctionType) -> tuple[CodeType, Any, Any]:
    """Give what a function consists of, to be compared later."""
    # The defaults by keyword are a dict, which may change in place.
    named = function.__kwdefaults__
    return function.__code__, function.__defaults__, named and tuple(named.items())
