"""Where a sweep's next trial is: grids and random points. Optuna's are in a module of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from daskperiment.codec import to_plain
from daskperiment.sweep.space import Choices, Drawn, Point, Searched, Space, identity

__all__ = ["Listed", "Sampler", "grid", "scattered"]

_SHUFFLED = 100_000
"""Spaces of up to so many points are shuffled as a whole."""


class Sampler(Protocol):
    """Says where the next trial is."""

    adaptive: bool
    """Whether results matter for what comes next: then few trials are in flight at once."""

    @property
    def total(self) -> int | None:
        """How many points there are at most, if that is known."""

    def ask(self) -> Point | None:
        """Give the next point; None if there is none left."""

    def tell(self, point: Point, value: Any, failed: bool) -> None:
        """Take note of how a trial ended; of `value` only if the sampler is adaptive."""

    def drop(self) -> None:
        """Take note that the trials which have not ended will not do so in this sweep."""


class Listed:
    """Gives points that do not depend on results, one after the other.

    Parameters
    ----------
    points : iterator of Point
        Made one by one.
    total : int
        How many there are.
    """

    adaptive = False

    def __init__(self, points: Iterator[Point], total: int) -> None:
        self._points = points
        self.total = total

    def ask(self) -> Point | None:
        """Give the next point."""
        return next(self._points, None)

    def tell(self, point: Point, value: Any, failed: bool) -> None:
        """Nothing depends on results."""

    def drop(self) -> None:
        """Nothing depends on results."""


def grid(space: Space, n_trials: int | None) -> Listed:
    """Go through all combinations, or the first so many.

    Raises
    ------
    ValueError
        If a parameter has a distribution instead of values.
    """
    endless = space.others(Choices)
    if endless:
        raise ValueError(
            f"A grid takes lists of values, but {_names(endless)} has a distribution. List values, "
            "or choose another sampler: 'random', 'tpe', or one of Optuna."
        )
    total = space.size if n_trials is None else min(n_trials, space.size)
    return Listed(map(space.point, range(total)), total)


def scattered(space: Space, n_trials: int | None, entropy: int) -> Listed:
    """Go through random points, without repetition if all parameters have lists of values.

    Raises
    ------
    ValueError
        If there is no end to the points and no number of trials is given.
    """
    searched = space.others(Choices, Drawn)
    if searched:
        raise ValueError(
            f"Parameter {_names(searched)} has a distribution of Optuna, which takes one of its "
            "samplers: sampler='tpe', or sampler=optuna.samplers.RandomSampler()."
        )
    endless = space.others(Choices, Searched)
    if not endless:
        total = space.size if n_trials is None else min(n_trials, space.size)
        numbered = zip(range(total), _permuted(space.size, entropy), strict=False)
        return Listed((space.point(number) for _, number in numbered), total)
    if n_trials is None:
        raise ValueError(
            f"How many trials? There is no end to the values of {_names(endless)}; give n_trials."
        )
    return Listed((_drawn(space, entropy, number) for number in range(n_trials)), n_trials)


def _permuted(size: int, entropy: int) -> Iterator[int]:
    """Give each number below size once; how many are taken changes nothing about those before."""
    generator = random.Random(entropy)
    if size <= _SHUFFLED:
        numbers = list(range(size))
        generator.shuffle(numbers)
        yield from numbers
        return
    seen: set[int] = set()
    while len(seen) < size:
        number = generator.randrange(size)
        if number not in seen:
            seen.add(number)
            yield number


def _drawn(space: Space, entropy: int, number: int) -> Point:
    # A generator for each point: it does not depend on how many were drawn before.
    generator = np.random.default_rng([entropy, number])
    values, forms = {}, {}
    for name, dimension in space.dimensions.items():
        if isinstance(dimension, Drawn):
            values[name] = dimension.draw(generator)
            forms[name] = to_plain(values[name])
        elif isinstance(dimension, Choices):
            i = int(generator.integers(len(dimension.values)))
            values[name], forms[name] = dimension.values[i], dimension.forms[i]
    return Point(values, identity(forms), str(number))


def _names(dimensions: Any) -> str:
    return ", ".join(map(repr, dimensions))
