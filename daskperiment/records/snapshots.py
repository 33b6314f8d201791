"""What trials have in common while nothing changes: code, environment and graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from daskperiment.records.record_parts import Argument

__all__ = [
    "Code",
    "Environment",
    "Function",
    "Graph",
    "Node",
    "StepCode",
    "changed_arguments",
]


class Function(Struct, frozen=True, omit_defaults=True):
    """A function or class of the user's own code."""

    name: str
    fingerprint: str
    """Of its own normalised code, without what it calls."""
    source: str | None = None
    """``None`` where there is no source, as in a terminal."""
    file: str | None = None
    note: str | None = None


class StepCode(Struct, frozen=True, omit_defaults=True):
    """What one step's behaviour depends on."""

    fingerprint: str
    """Of everything below together."""
    functions: list[str]
    """Keys in :attr:`Code.functions`, the step's own first."""
    constants: dict[str, str | None] = {}
    """Global and closure values it reads: name -> fingerprint (``None``: has none)."""
    packages: dict[str, str] = {}
    """Installed packages it uses: name -> version."""
    states: list[str] = []
    """Names of the constants that the code itself changes."""
    clocks: list[str] = []
    """Names of the clocks that the code reads, such as ``time.time``."""
    data: dict[str, str] = {}
    """Of the constants that hold code of the user's: their fingerprint without it."""


class Code(Struct, frozen=True):
    """The code of a trial's steps."""

    steps: dict[str, StepCode]
    functions: dict[str, Function]


class Environment(Struct, frozen=True):
    """Where a trial ran: category -> name -> text."""

    categories: dict[str, dict[str, str]]


class Node(Struct, frozen=True, omit_defaults=True, gc=False):
    """A step's place in a trial's graph."""

    key: str
    step: str
    steps: tuple[str, ...] = ()
    """Keys of the steps that it takes input from, in order."""
    parameters: tuple[str, ...] = ()
    """Names of the parameters that it takes, in order."""
    parts: dict[str, list[Any]] = {}
    """Of the parameters that it takes nothing else of: the part in words -> the parameter's name,
    then by turns ``item`` or ``attribute`` and which one it is."""
    literals: dict[str, str] = {}
    """Arguments that stand in the call itself: name -> the value in short, empty if that does not
    tell it."""
    arguments: dict[str, Argument] = {}
    """The same with what tells more: values as they were when the trial began, defaults included.
    Those that are told in full by their text have no fingerprint."""
    ignored: tuple[str, ...] = ()
    """Names of the arguments that its output does not depend on."""
    beside: tuple[str, ...] = ()
    """Those of `steps` and `parameters` that it takes for these alone."""

    @property
    def wiring(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Steps and parameters that its output depends on."""
        if not self.beside:
            return self.steps, self.parameters
        beside = set(self.beside)
        steps = tuple([key for key in self.steps if f"step {key}" not in beside])
        taken = [name for name in self.parameters if f"parameter {name}" not in beside]
        return steps, tuple(taken)


def changed_arguments(node: Node, other: Node | None) -> Iterator[tuple[str, Argument, Argument]]:
    """Yield what a call gives a step that is known to be another than what another call gave it.

    With its name, and as either of them had it.
    """
    for name, argument in node.arguments.items():
        before = other.arguments.get(name) if other is not None else None
        if before is not None and _differ(before, argument):
            yield name, argument, before


def _differ(one: Argument, other: Argument) -> bool:
    """Whether two arguments are known to differ: what has neither may be equal or not."""
    if one.fingerprint is not None and other.fingerprint is not None:
        return one.fingerprint != other.fingerprint
    if one.fingerprint is None and other.fingerprint is None:
        return bool(one.text and other.text) and one.text != other.text
    # One of them is told by its text alone, which is that of no other value.
    return bool(one.text if one.fingerprint is None else other.text)


class Graph(Struct, frozen=True):
    """The steps of a trial in graph order: inputs before those who use them."""

    nodes: list[Node]
