"""Recorded code on its way to other processes.

A fingerprint of an object counts its class's source. What is made of the record has its source in
no file, so that it travels with the functions.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskperiment.capture.source import learn_class
from daskperiment.execution.tasks import Function

__all__ = ["Remade", "Sources"]


@dataclass(frozen=True)
class Sources:
    """The sources of what was made of a record."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """Name that stands for a file -> text."""
    classes: tuple[tuple[type, str], ...] = ()
    """Classes, each with the name that stands for its file."""

    def unpack(self) -> None:
        """Make the sources known in this process."""
        for file, text in self.texts.items():
            # Without a time, Python never looks for the file.
            lines = text.splitlines(keepends=True)
            linecache.cache[file] = (len(text), None, lines, file)
        for cls, file in self.classes:
            learn_class(cls, self.texts[file], file)


class Remade(Function):
    """A step's function that takes the sources of recorded code along to other processes."""

    __slots__ = ("_sources",)

    def __init__(self, function: Callable[..., Any], sources: Sources) -> None:
        super().__init__(function)
        self._sources = sources

    def __reduce__(self) -> Any:
        return _arrived, (Function(self.__wrapped__), self._sources)


def _arrived(function: Function, sources: Sources) -> Remade:
    sources.unpack()
    return Remade(function.__wrapped__, sources)
