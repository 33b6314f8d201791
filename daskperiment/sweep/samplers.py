"""Samplers: the points of a sweep's space at which its trials run, one after the other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from daskperiment.codec import named, to_plain
from daskperiment.formatting import install_command
from daskperiment.sweep.space import (
    Choices,
    OptunaDistribution,
    RandomDistribution,
    Space,
    SweepPoint,
    identity,
)
from daskperiment.sweep.sweep_plan import SweepPlan, SweepTrial

__all__ = ["FixedSampler", "Sampler", "grid", "make_sampler", "random_points"]

_SHUFFLED = 100_000
"""Spaces of up to so many points are shuffled; larger ones would not fit into memory."""


class Sampler(Protocol):
    """Chooses the point of each trial."""

    adaptive: bool
    """Whether the next point depends on results: then few trials run at once."""

    @property
    def total(self) -> int | None:
        """The highest number of points, if that is known."""

    def ask(self) -> SweepPoint | None:
        """Return the next point; None if there is none left."""

    def tell(self, point: SweepPoint, value: Any, failed: bool) -> None:
        """Learn how a trial ended; `value` is its result only if the sampler is adaptive."""

    def drop(self) -> None:
        """Learn that the trials which have not ended will not do so in this sweep."""


class FixedSampler:
    """A sampler whose points do not depend on results; each is made when it is asked for."""

    adaptive = False

    def __init__(self, points: Iterator[SweepPoint], total: int) -> None:
        self._points = points
        self.total = total

    def ask(self) -> SweepPoint | None:
        """Return the next point; None if there is none left."""
        return next(self._points, None)

    def tell(self, point: SweepPoint, value: Any, failed: bool) -> None:
        """Nothing depends on results."""

    def drop(self) -> None:
        """Nothing depends on results."""


def make_sampler(plan: SweepPlan, done: Iterable[SweepTrial]) -> Sampler:
    """Return the sampler of a sweep; one that learns from results learns from what was done.

    Raises ImportError if it takes Optuna, which is not installed; TypeError or ValueError if it
    does not fit the space.
    """
    if plan.sampler == "grid":
        return grid(plan.space, plan.n_trials)
    if plan.sampler == "random":
        return random_points(plan.space, plan.n_trials, plan.record.entropy)
    drawn = plan.space.of(RandomDistribution)
    if drawn:
        raise TypeError(
            f"Parameter {_names(drawn)} has drawn values (rvs), which go with sampler='random'; "
            "give a distribution of Optuna, such as "
            "optuna.distributions.FloatDistribution(0.001, 0.1, log=True)."
        )
    try:
        from daskperiment.sweep import optuna_sampler  # noqa: PLC0415  # Optuna is an extra
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The sampler {plan.record.sampler!r} takes Optuna: {install_command('optuna')}"
        ) from error
    return optuna_sampler.make_optuna_sampler(plan, done)


def grid(space: Space, n_trials: int | None) -> FixedSampler:
    """Return the sampler of all combinations, or of the first so many."""
    endless = [name for name in space.dimensions if name not in space.choices]
    if endless:
        raise ValueError(
            f"A grid takes lists of values, but {_names(endless)} has a distribution. List values, "
            "or choose another sampler: 'random', 'tpe', or one of Optuna."
        )
    total = space.size if n_trials is None else min(n_trials, space.size)
    return FixedSampler(map(space.point, range(total)), total)


def random_points(space: Space, n_trials: int | None, entropy: int) -> FixedSampler:
    """Return the sampler of random points, without repetition if all parameters have lists."""
    unfit, endless = space.of(OptunaDistribution), space.of(RandomDistribution)
    if unfit:
        raise ValueError(
            f"Parameter {_names(unfit)} has a distribution of Optuna, which takes one of its "
            "samplers: sampler='tpe', or sampler=optuna.samplers.RandomSampler()."
        )
    if not endless:
        total = space.size if n_trials is None else min(n_trials, space.size)
        numbered = zip(range(total), _permuted(space.size, entropy), strict=False)
        return FixedSampler((space.point(number) for _, number in numbered), total)
    if n_trials is None:
        raise ValueError(
            f"How many trials? There is no end to the values of {_names(endless)}; give n_trials."
        )
    points = (_random_point(space, entropy, number) for number in range(n_trials))
    return FixedSampler(points, n_trials)


def _permuted(size: int, entropy: int) -> Iterator[int]:
    """Yield each number below size once; taking fewer of them yields the same first ones."""
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


def _random_point(space: Space, entropy: int, number: int) -> SweepPoint:
    # A generator for each point: a resumed sweep draws the same without those before it.
    generator = np.random.default_rng([entropy, number])
    values, forms = {}, {}
    for name, dimension in space.dimensions.items():
        if isinstance(dimension, RandomDistribution):
            values[name] = dimension.draw(generator)
            forms[name] = to_plain(named(values[name]))
        elif isinstance(dimension, Choices):
            i = int(generator.integers(len(dimension.values)))
            values[name], forms[name] = dimension.values[i], dimension.forms[i]
    return SweepPoint(values, identity(forms), str(number))


def _names(parameters: Iterable[str]) -> str:
    return ", ".join(map(repr, parameters))
