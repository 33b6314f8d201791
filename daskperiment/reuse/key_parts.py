"""What the cache keys of nodes are made of, as far as the graph tells, before any trial."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import Struct

from daskperiment.capture.files import FileSource
from daskperiment.reuse.parameter_fields import ParameterField

__all__ = [
    "DefaultValue",
    "FileContent",
    "FileInput",
    "Key",
    "KeyOf",
    "KeySpec",
    "LiveValue",
    "Part",
    "UsedFunction",
]

Key = Hashable


class KeyOf(Struct, frozen=True, gc=False):
    """Stands for another node, or for a parameter."""

    key: Key


class LiveValue(NamedTuple):
    """Stands for an argument that may change in place: fingerprinted for every trial."""

    value: Any


class DefaultValue(NamedTuple):
    """Stands for the default of an argument that the call leaves out.

    Unlike an argument it may have no fingerprint: the step's code tells which it is.
    """

    value: Any


class UsedFunction(NamedTuple):
    """Stands for a function that is no step."""

    function: str
    """Its label in :attr:`KeySpecs.functions`."""


class FileContent(NamedTuple):
    """Stands for what the files of an ``ex.file`` hold when the trial is planned."""

    source: FileSource | ParameterField
    """Or the parameter, or its part, that names them, of an empty name if only a step tells."""


FileInput = FileContent | LiveValue | ParameterField
"""What may name files; a value, or a parameter or a part of one, does if it is a path."""

Part = str | KeyOf | LiveValue | DefaultValue | UsedFunction | FileContent


@dataclass(frozen=True, slots=True)
class KeySpec:
    """How the cache key of one node is made."""

    key: Key
    parts: tuple[Part, ...]
    place: str = ""
    """The node's place in the trial's graph; empty for what runs no code of the user."""
    step: str = ""
    """The step's name; empty if it is none."""
    parameter: str = ""
    """Name of the parameter that it computes; empty if it is none."""
    version: str = ""
    persist: bool = False
    reuse: bool | None = None
    """Whether the step's output may be reused; None leaves it to the experiment."""
    taken: ParameterField | None = None
    """The part of a parameter that it takes, if it does nothing else."""
    arguments: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    """The parts that each argument of a step contributes."""
    ignored: tuple[str, ...] = ()
    """Names of the arguments that are no part of the cache key."""
    beside: tuple[Key, ...] = ()
    """Keys of what the node takes for these."""
    turned: tuple[str, ...] = ()
    """Names of its arguments in their order, where that counts."""
    given: Mapping[str, Key | LiveValue] = field(default_factory=dict)
    """Argument, or a member of it -> key of what gives it, where others see that, too; or what
    stands in the call itself."""
    counting: tuple[Key, ...] = field(init=False)
    """Keys of what the node takes and its output depends on."""

    inputs: tuple[Key, ...] = field(init=False)
    """Keys of all that the node takes."""

    def __post_init__(self) -> None:
        counting = tuple(part.key for part in self.parts if isinstance(part, KeyOf))
        object.__setattr__(self, "counting", counting)
        object.__setattr__(self, "inputs", (*counting, *self.beside))
