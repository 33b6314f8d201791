"""Recipes: digests of all that determines an output.

The recipe of a node covers its code with all of the user's own code that it uses, its arguments
and the recipes of the nodes that it takes. It comes twice: *base* leaves seeds out, *seeded* has
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
from daskperiment.records import StepCode
from daskperiment.run.seeding import step_seed

__all__ = ["Formula", "Formulas", "Known", "Live", "Recipe", "Ref", "Unknown", "Uses", "series_of"]

SCHEME = "recipe 1"
"""To be raised when recipes are made in another way."""

Key = Hashable


def series_of(version: str) -> str:
    """Give the part of Python's version that outputs may hang on, as ``sum`` of floats does."""
    return ".".join(version.split(".")[:2])


class Ref(NamedTuple):
    """Stands for another node, or for a parameter."""

    key: Key


class Live(NamedTuple):
    """Stands for an argument that may change in place: fingerprinted for every trial."""

    value: Any


class Uses(NamedTuple):
    """Stands for a function that is no step."""

    function: str
    """Its label in :attr:`Formulas.functions`."""


Part = str | Ref | Live | Uses


@dataclass(frozen=True, slots=True)
class Formula:
    """How the recipe of one node is made."""

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
        return [part.key for part in self.parts if isinstance(part, Ref)]


class Known(NamedTuple):
    """A recipe."""

    base: str
    seeded: str


class Unknown(NamedTuple):
    """Why a node has no recipe."""

    reason: str


Recipe = Known | Unknown


class Formulas:
    """The formulas of one result's graph.

    Parameters
    ----------
    formulas : sequence of Formula
        Inputs before those who take them.
    functions : mapping
        Label -> function that is no step.
    parameters : mapping
        Key of a parameter that is not computed -> its name.
    """

    def __init__(
        self, formulas: Sequence[Formula], functions: Mapping[str, Callable[..., Any]],
        parameters: Mapping[Key, str],
    ) -> None:  # fmt: skip
        self.formulas = formulas
        self.functions = functions
        self._parameters = parameters
        self._capture = CodeCapture()

    def recipes(
        self, values: Mapping[str, Any], steps: Mapping[str, StepCode], seed: int
    ) -> dict[Key, Recipe]:
        """Write the recipe of every node for one trial.

        Parameters
        ----------
        values : mapping
            Parameter values.
        steps : mapping
            Step or place -> its code.
        seed : int
            The trial's seed.
        """
        found: dict[Key, Recipe] = {
            key: _of_value(values, name) for key, name in self._parameters.items()
        }
        functions = self._capture.capture(self.functions).steps if self.functions else {}
        for formula in self.formulas:
            found[formula.key] = _write(formula, found, values, {**functions, **steps}, seed)
        return found


def _write(
    formula: Formula, found: Mapping[Key, Recipe], values: Mapping[str, Any],
    codes: Mapping[str, StepCode], seed: int,
) -> Recipe:  # fmt: skip
    if formula.parameter in values:
        return _of_value(values, formula.parameter)
    before = [found[key] for key in formula.refs]
    known = [recipe for recipe in before if isinstance(recipe, Known)]
    if len(known) < len(before):
        return next(recipe for recipe in before if isinstance(recipe, Unknown))
    try:
        code = _code(codes, formula.place, formula.step) if formula.step else ""
        parts = [_digest(part, found, codes) for part in formula.parts]
    except NoFingerprintError as error:
        return Unknown(str(error))
    base = combine(
        SCHEME, series_of(platform.python_version()), formula.step, formula.version, code, *parts
    )
    own = str(step_seed(seed, formula.place)) if formula.place else ""
    return Known(base, combine(base, own, *(recipe.seeded for recipe in known)))


def _digest(part: Part, found: Mapping[Key, Recipe], codes: Mapping[str, StepCode]) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Ref):
        recipe = found[part.key]
        return recipe.base if isinstance(recipe, Known) else ""
    if isinstance(part, Uses):
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


def _of_value(values: Mapping[str, Any], name: str) -> Recipe:
    if name not in values:
        return Unknown(f"parameter {name!r} has no value")
    try:
        known = exact_fingerprint(values[name])
    except NoFingerprintError as error:
        return Unknown(f"the value of parameter {name!r} has no fingerprint: {error}")
    return Known(known, known)
