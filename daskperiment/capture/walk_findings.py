"""What a walk through the user's code finds, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

from daskperiment.capture.source import SourceInfo

__all__ = ["CodeUnit", "Constant", "Lookups", "ModuleFile"]


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

    def add(self, other: Lookups) -> None:
        """Add what another walk looked up, each thing once."""
        known = {(id(variables), name) for variables, name, _ in self.names}
        for variables, name, value in other.names:
            if (id(variables), name) not in known:
                known.add((id(variables), name))
                self.names.append((variables, name, value))
        self.cells += other.cells
        self.functions += other.functions
        self.files.update(other.files)
        self.classes.update(other.classes)
        self.watched.update(other.watched)
