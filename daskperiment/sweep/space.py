"""The space of a sweep: for each parameter, the values that it may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from math import prod
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from daskperiment.codec import NotPlainError, named, to_plain
from daskperiment.formatting import shorten

__all__ = [
    "Choices",
    "OptunaDistribution",
    "RandomDistribution",
    "Space",
    "SweepPoint",
    "identity",
    "is_optuna",
    "listed_secrets",
    "make_space",
]

MOST_VALUES = 1_000_000
"""More values of one parameter than this are taken for an iterable without an end."""


class SweepPoint(NamedTuple):
    """One point of a space: the parameter values that a trial of the sweep runs with."""

    values: dict[str, Any]
    identity: str
    """Digest of the values, equal for equal ones."""
    occurrence: str = ""
    """Differs between points of equal values, where a list repeats a value."""


@dataclass(frozen=True)
class Choices:
    """A parameter that takes one of some values."""

    values: tuple[Any, ...]
    forms: tuple[Any, ...]
    """The plain form of each value, as it is recorded."""
    repeats: tuple[int, ...]
    """For each value, how often it stands in the list before."""

    @property
    def recorded(self) -> Any:
        """What a sweep's record has of it."""
        return {"values": list(self.forms)}


@dataclass(frozen=True)
class RandomDistribution:
    """A parameter drawn from an object with ``rvs``, such as a distribution of ``scipy.stats``."""

    distribution: Any

    @property
    def recorded(self) -> Any:
        """A description: the distribution itself is not plain data."""
        frozen = self.distribution
        inner = getattr(frozen, "dist", None)
        name = getattr(inner, "name", None) or type(frozen).__qualname__
        arguments = [repr(item) for item in getattr(frozen, "args", ())]
        named = getattr(frozen, "kwds", {})
        arguments += [f"{key}={named[key]!r}" for key in sorted(named)]
        return {"drawn": f"{name}({', '.join(arguments)})"}

    def draw(self, generator: np.random.Generator) -> Any:
        """Return a random value; a NumPy number becomes Python's own."""
        value = self.distribution.rvs(random_state=generator)
        is_number = isinstance(value, (np.generic, np.ndarray)) and value.shape == ()
        return value.item() if is_number else value


@dataclass(frozen=True)
class OptunaDistribution:
    """A parameter that a sampler of Optuna chooses from one of Optuna's distributions."""

    distribution: Any

    @property
    def recorded(self) -> Any:
        """Optuna's own JSON, decoded, so that it stands in the record as data and not as text."""
        from optuna.distributions import distribution_to_json  # noqa: PLC0415  # an extra

        return {"optuna": msgspec.json.decode(distribution_to_json(self.distribution))}


Dimension = Choices | RandomDistribution | OptunaDistribution
D = TypeVar("D", Choices, RandomDistribution, OptunaDistribution)


@dataclass(frozen=True)
class Space:
    """The dimensions of a sweep, by parameter."""

    dimensions: Mapping[str, Dimension]

    @property
    def recorded(self) -> dict[str, Any]:
        """What a sweep's record has of it."""
        return {name: dimension.recorded for name, dimension in self.dimensions.items()}

    @property
    def choices(self) -> dict[str, Choices]:
        """The dimensions that are lists of values."""
        return self.of(Choices)

    def of(self, kind: type[D]) -> dict[str, D]:
        """Return the dimensions of one kind."""
        return {name: d for name, d in self.dimensions.items() if isinstance(d, kind)}

    def listing(self, listed: Mapping[str, Iterable[Any]]) -> Space:
        """Return the space with other lists of values for some parameters."""
        made = {name: _dimension(name, values) for name, values in listed.items()}
        return Space({**self.dimensions, **made})

    @property
    def size(self) -> int:
        """The number of points that the lists of values make."""
        return prod(len(dimension.values) for dimension in self.choices.values())

    def point(self, index: int) -> SweepPoint:
        """Return one point of a space of lists; the last parameter changes fastest.

        Computed from the index, so that a grid larger than memory costs nothing.
        """
        values, forms, repeats = {}, {}, []
        for name, dimension in reversed(self.choices.items()):
            index, i = divmod(index, len(dimension.values))
            values[name], forms[name] = dimension.values[i], dimension.forms[i]
            repeats.append(dimension.repeats[i])
        ordered = {name: values[name] for name in self.dimensions}
        # Empty where nothing repeats: seeds are derived from it.
        occurrence = ",".join(map(str, repeats)) if any(repeats) else ""
        return SweepPoint(ordered, identity(forms), occurrence)


def identity(forms: Mapping[str, Any]) -> str:
    """Return a digest of the plain forms of a point's values."""
    # A store may give JSON back with its keys in another order.
    body = msgspec.json.encode(dict(forms), order="sorted")
    return blake2b(body, digest_size=16).hexdigest()


# Reading what the user gave ----------------------------------------------------------------------


def make_space(given: Any) -> Space:
    """Return the space that a user described, as :meth:`Result.sweep` takes it.

    Raises TypeError or ValueError if it is something else, or empty.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"A sweep's space is {shorten(repr(given), 60)} ({type(given).__name__}); expected a "
            "dict of parameter -> values, such as {'lr': [0.1, 0.2]}."
        )
    if not given:
        raise ValueError(
            "A sweep's space is empty; name at least one parameter and its values, such as "
            "{'lr': [0.1, 0.2]}."
        )
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"A sweep's space names {name!r}; expected a parameter's name as text.")
    return Space({name: _dimension(name, values) for name, values in given.items()})


def _dimension(name: str, given: Any) -> Dimension:
    if is_optuna(given, "distributions"):
        return OptunaDistribution(given)
    if callable(getattr(given, "rvs", None)) and not isinstance(given, type):
        return RandomDistribution(given)
    values = _listed(name, given)
    if not values:
        raise ValueError(
            f"The space has no values for parameter {name!r}; give it at least one, or leave the "
            "parameter out."
        )
    forms = tuple(_form(name, value) for value in values)
    if isinstance(given, (set, frozenset)):
        # A set of texts has another order in each process; a resumed grid needs the same one.
        places = sorted(range(len(values)), key=lambda i: msgspec.json.encode(forms[i]))
        values, forms = [values[i] for i in places], tuple(forms[i] for i in places)
    return Choices(tuple(values), forms, tuple(_repeats(forms)))


def is_optuna(given: Any, module: str) -> bool:
    """Return whether something comes from a module of Optuna, without importing Optuna."""
    return any(kind.__module__.startswith(f"optuna.{module}") for kind in type(given).__mro__)


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(
            f"The space has {shorten(repr(given), 60)} ({type(given).__name__}) for parameter "
            f"{name!r}; expected a list of values. For a single value write "
            f"[{shorten(repr(given), 60)}]."
        )
    kind = getattr(getattr(given, "dtype", None), "kind", "")
    if kind in tuple("biuf") and hasattr(given, "tolist"):
        given = given.tolist()  # numbers of NumPy and pandas become Python's own
    if not isinstance(given, Iterable):
        raise TypeError(f"The space has one number for parameter {name!r}; expected a list.")
    values = list(islice(iter(given), MOST_VALUES + 1))
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"The space has more than {MOST_VALUES:,} values for parameter {name!r}; give fewer, "
            "or a distribution to draw from."
        )
    return values


def listed_secrets(name: str, given: Any) -> list[Any]:
    """Return the values of a secret parameter; TypeError if it is no list, which says no value."""
    plain = isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, Iterable)
    if plain or is_optuna(given, "distributions") or callable(getattr(given, "rvs", None)):
        raise TypeError(
            f"The space has a {type(given).__name__} for the secret parameter {name!r}; expected a "
            "list of values."
        )
    return list(islice(iter(given), MOST_VALUES))


def _form(name: str, value: Any) -> Any:
    try:
        return to_plain(named(value))
    except NotPlainError as error:
        raise TypeError(
            f"The space has {shorten(repr(value), 60)} ({type(value).__name__}) for parameter "
            f"{name!r}, which is no plain value ({error}), so that an interrupted sweep could not "
            "be resumed. Give names or numbers, and make the object from them in a step."
        ) from error


def _repeats(forms: Iterable[Any]) -> Iterator[int]:
    seen: dict[bytes, int] = {}
    for form in forms:
        key = msgspec.json.encode(form, order="sorted")
        seen[key] = seen.get(key, -1) + 1
        yield seen[key]
