"""Recipes: digests of all that determines an output.

The cache_key of a node covers its code with all of the user's own code that it uses, its arguments
and the cache_keys of the nodes that it takes. It comes twice: *base* leaves seeds out, *seeded* has
the seeds of the node and of all before it. Which of them counts is known once the steps have run:
the first if none of them drew random numbers.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.fingerprint import NoFingerprintError, combine, exact_fingerprint
from daskperiment.execution.random_state import step_seed
from daskperiment.records import StepCode

__all__ = [
    "KeySpec",
    "KeySpecs",
    "CacheKey",
    "LiveValue",
    "AnyCacheKey",
    "KeyOf",
    "NoCacheKey",
    "UsedFunction",
    "series_of",
]

SCHEME = "cache_key 1"
"""To be raised when cache_keys are made in another way."""

Key = Hashable


def series_of(version: str) -> str:
    """Give the part of Python's version that outputs may hang on, as ``sum`` of floats does."""
    return ".".join(version.split(".")[:2])


class KeyOf(NamedTuple):
    """Stands for another node, or for a parameter."""

    key: Key


class LiveValue(NamedTuple):
    """Stands for an argument that may change in place: fingerprinted for every trial."""

    value: Any


class UsedFunction(NamedTuple):
    """Stands for a function that is no step."""

    function: str
    """Its label in :attr:`KeySpecs.functions`."""


Part = str | KeyOf | LiveValue | UsedFunction


@dataclass(frozen=True, slots=True)
class KeySpec:
    """How the cache_key of one node is made."""

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

    @property
    def refs(self) -> list[Key]:
        """Keys of what the node takes."""
        return [part.key for part in self.parts if isinstance(part, KeyOf)]


class CacheKey(NamedTuple):
    """A cache_key."""

    base: str
    seeded: str


class NoCacheKey(NamedTuple):
    """Why a node has no cache_key."""

    reason: str


AnyCacheKey = CacheKey | NoCacheKey


class KeySpecs:
    """The specs of one result's graph.

    Parameters
    ----------
    specs : sequence of KeySpec
        Inputs before those who take them.
    functions : mapping
        Label -> function that is no step.
    parameters : mapping
        Key of a parameter that is not computed -> its name.
    """

    def __init__(
        self, specs: Sequence[KeySpec], functions: Mapping[str, Callable[..., Any]],
        parameters: Mapping[Key, str],
    ) -> None:  # fmt: skip
        self.specs = specs
        self.functions = functions
        self._parameters = parameters
        self._capture = CodeCapture()

    def cache_keys(
        self, values: Mapping[str, Any], steps: Mapping[str, StepCode], seed: int
    ) -> dict[Key, AnyCacheKey]:
        """Write the cache_key of every node for one trial.

        Parameters
        ----------
        values : mapping
            Parameter values.
        steps : mapping
            Step or place -> its code.
        seed : int
            The trial's seed.
        """
        found: dict[Key, AnyCacheKey] = {
            key: _of_value(values, name) for key, name in self._parameters.items()
        }
        functions = self._capture.capture(self.functions).steps if self.functions else {}
        for spec in self.specs:
            found[spec.key] = _write(spec, found, values, {**functions, **steps}, seed)
        return found


def _write(
    spec: KeySpec, found: Mapping[Key, AnyCacheKey], values: Mapping[str, Any],
    codes: Mapping[str, StepCode], seed: int,
) -> AnyCacheKey:  # fmt: skip
    if spec.parameter in values:
        return _of_value(values, spec.parameter)
    before = [found[key] for key in spec.refs]
    known = [cache_key for cache_key in before if isinstance(cache_key, CacheKey)]
    if len(known) < len(before):
        return next(cache_key for cache_key in before if isinstance(cache_key, NoCacheKey))
    try:
        code = _code(codes, spec.place, spec.step) if spec.step else ""
        parts = [_digest(part, found, codes) for part in spec.parts]
    except NoFingerprintError as error:
        return NoCacheKey(str(error))
    base = combine(
        SCHEME, series_of(platform.python_version()), spec.step, spec.version, code, *parts
    )
    own = str(step_seed(seed, spec.place)) if spec.place else ""
    return CacheKey(base, combine(base, own, *(cache_key.seeded for cache_key in known)))


def _digest(part: Part, found: Mapping[Key, AnyCacheKey], codes: Mapping[str, StepCode]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, KeyOf):
        cache_key = found[part.key]
        return cache_key.base if isinstance(cache_key, CacheKey) else ""
    if isinstance(part, UsedFunction):
        return _code(codes, part.function)
    try:
        return exact_fingerprint(part.value)
    except NoFingerprintError as error:
        raise NoFingerprintError(f"an argument has no fingerprint: {error}") from None


def _code(codes: Mapping[str, StepCode], *names: str) -> str:
    code = next(codes[name] for name in names if name in codes)
    for name, value in code.constants.items():
        if value is None:
            raise NoFingerprintError(
                f"{name}, which its code reads, has no fingerprint or is changed by the code"
            )
    return code.fingerprint


def _of_value(values: Mapping[str, Any], name: str) -> AnyCacheKey:
    if name not in values:
        return NoCacheKey(f"parameter {name!r} has no value")
    try:
        known = exact_fingerprint(values[name])
    except NoFingerprintError as error:
        return NoCacheKey(f"the value of parameter {name!r} has no fingerprint: {error}")
    return CacheKey(known, known)
