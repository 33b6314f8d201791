"""A sampler whose points Optuna suggests: a study is asked for each, and told its result."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from daskperiment.codec import from_plain, named, to_plain
from daskperiment.formatting import shorten
from daskperiment.sweep.space import Choices, OptunaDistribution, Space, SweepPoint, identity
from daskperiment.sweep.sweep_plan import SweepPlan, SweepTrial

__all__ = ["OptunaSampler", "make_optuna_sampler"]

_TRIES = 20
"""How often a sampler may suggest points that the sweep had before, until one is chosen for it."""

_SWEEP_ATTRIBUTE = "daskperiment sweep"
"""The attribute of a study's trials that holds the id of the sweep they belong to."""


def make_optuna_sampler(plan: SweepPlan, done: Iterable[SweepTrial]) -> OptunaSampler:
    """Return the sampler of a sweep by Optuna, which knows what was done before."""
    study = _study_of(plan.sampler, plan.record.direction or "minimize", plan.record.entropy)
    sampler = OptunaSampler(study, plan.space, plan.record.id, plan.n_trials)
    sampler.recall(done)
    return sampler


def _study_of(sampler: Any, direction: Any, seed: int) -> optuna.Study:
    """Return the study of a sampler's name, of one of Optuna's samplers, or of a study itself."""
    if isinstance(sampler, optuna.Study):
        return sampler
    with _quiet():
        if sampler == "tpe":
            # constant_liar keeps points whose trials still run from being suggested again.
            sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        return optuna.create_study(sampler=sampler, direction=direction)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna: its log of a study nobody asked for, its warning that an option is new."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


class OptunaSampler:
    """The points that a study with one objective suggests, each once; `sweep` is the sweep's id."""

    adaptive = True

    def __init__(self, study: optuna.Study, space: Space, sweep: str, n_trials: int | None) -> None:
        self._study = study
        self._sweep = sweep
        self._axes = {name: _OptunaAxis(d) for name, d in space.dimensions.items()}
        self._distributions = {name: axis.distribution for name, axis in self._axes.items()}
        self._size = _size(self._axes.values())
        self._seen: set[str] = set()
        self._asked: dict[str, optuna.Trial] = {}
        known = [number for number in (n_trials, self._size) if number is not None]
        if not known:
            raise ValueError(
                "How many trials? There is no end to the points of this space; give n_trials."
            )
        self.total = min(known)

    def ask(self) -> SweepPoint | None:
        """Return a point that the sweep did not have yet; None if it had all."""
        for number in range(2 * _TRIES):
            if self._size is not None and len(self._seen) >= self._size:
                return None
            if number >= _TRIES and self._size is not None:
                self._study.enqueue_trial(self._unseen())
            trial = self._study.ask(self._distributions)
            point = self._point(trial.params)
            if point.identity not in self._seen:
                trial.set_user_attr(_SWEEP_ATTRIBUTE, self._sweep)
                self._seen.add(point.identity)
                self._asked[point.identity] = trial
                return point
            self._study.tell(trial, state=TrialState.PRUNED)
        raise RuntimeError(
            f"The sampler {type(self._study.sampler).__name__} suggested nothing but points that "
            f"the sweep had already, {2 * _TRIES} times in a row; give it a larger space, or fewer "
            "trials."
        )

    def tell(self, point: SweepPoint, value: Any, failed: bool) -> None:
        """Pass on to the study how a trial ended; raise TypeError if the result is no number."""
        trial = self._asked.pop(point.identity)
        number = None if failed else _number(value)
        known = number is not None and not math.isnan(number)
        state = TrialState.COMPLETE if known else TrialState.FAIL
        self._study.tell(trial, number if known else None, state)
        if not failed and number is None:
            raise TypeError(
                f"The result is {shorten(repr(value), 60)} ({type(value).__name__}) at "
                f"{shorten(repr(point.values), 60)}; a sampler needs a number to compare. Return "
                "one from the result's step."
            )

    def drop(self) -> None:
        """Pass on to the study that the results which it waits for will not come."""
        for trial in self._asked.values():
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        self._asked.clear()

    def recall(self, done: Iterable[SweepTrial]) -> None:
        """Learn which trials an earlier part of the sweep did."""
        # A study that outlived the sweep was told of its trials then; it must not count them twice.
        told = {self._point(trial.params).identity for trial in self._earlier()}
        for one in done:
            self._seen.add(one.identity)
            if one.identity not in told:
                self._study.add_trial(self._finished_trial(one))

    def _earlier(self) -> Iterator[Any]:
        """Yield the study's own finished trials of this sweep, and end those that were cut off."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.user_attrs.get(_SWEEP_ATTRIBUTE) != self._sweep:
                continue
            if trial.state.is_finished():
                yield trial
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _finished_trial(self, one: SweepTrial) -> optuna.trial.FrozenTrial:
        number = _number(from_plain(one.value)) if one.status == "succeeded" else None
        failed = number is None or math.isnan(number)
        return optuna.trial.create_trial(
            params={name: axis.parameter(one.forms[name]) for name, axis in self._axes.items()},
            distributions=self._distributions,
            value=None if failed else number,
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            user_attrs={_SWEEP_ATTRIBUTE: self._sweep},
        )

    def _point(self, parameters: Mapping[str, Any]) -> SweepPoint:
        values = {name: axis.value(parameters[name]) for name, axis in self._axes.items()}
        forms = {name: to_plain(named(value)) for name, value in values.items()}
        return SweepPoint(values, identity(forms))

    def _unseen(self) -> dict[str, Any]:
        """Return the study's parameters of a point that the sweep did not have yet."""
        size = self._size or 0
        start = random.Random(len(self._seen)).randrange(size)
        for offset in range(size):
            parameters = self._parameters_at((start + offset) % size)
            if self._point(parameters).identity not in self._seen:
                return parameters
        raise AssertionError("no point is left")  # asked for only while there is one

    def _parameters_at(self, index: int) -> dict[str, Any]:
        parameters = {}
        for name, axis in self._axes.items():
            index, i = divmod(index, axis.size or 1)
            parameters[name] = axis.at(i)
        return parameters


def _number(value: Any) -> float | None:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value.item()
    return float(value) if isinstance(value, (Real, np.number, np.bool_)) else None


def _size(axes: Iterable[_OptunaAxis]) -> int | None:
    sizes = [axis.size for axis in axes]
    return None if None in sizes else math.prod(size for size in sizes if size)


class _OptunaAxis:
    """One dimension of the space, as Optuna knows it: its parameters stand for our values."""

    def __init__(self, dimension: Any) -> None:
        self._values: list[Any] | None = None
        self._forms: list[Any] = []
        self.distribution: BaseDistribution
        if isinstance(dimension, Choices):
            # Optuna takes a category once; a repeated value is no point of its own here.
            first = [i for i, repeat in enumerate(dimension.repeats) if not repeat]
            self._values = [dimension.values[i] for i in first]
            self._forms = [dimension.forms[i] for i in first]
            # By number where Optuna would confuse the values or cannot store them.
            named = _is_simple(self._values)
            self._labels: list[Any] = self._values if named else list(range(len(first)))
            self.distribution = CategoricalDistribution(self._labels)
        else:
            assert isinstance(dimension, OptunaDistribution)
            self.distribution = dimension.distribution
        self.size = _value_count(self.distribution)

    def value(self, parameter: Any) -> Any:
        """Return the value that a study's parameter stands for."""
        return parameter if self._values is None else self._values[self._labels.index(parameter)]

    def parameter(self, form: Any) -> Any:
        """Return the study's parameter for the plain form of a value."""
        return from_plain(form) if self._values is None else self._labels[self._forms.index(form)]

    def at(self, number: int) -> Any:
        """Return the study's parameter of this number, of those in the distribution."""
        inner = self.distribution
        if isinstance(inner, CategoricalDistribution):
            return inner.choices[number]
        if isinstance(inner, FloatDistribution):
            return inner.low if inner.step is None else inner.low + number * inner.step
        assert isinstance(inner, IntDistribution)
        return inner.low + number * inner.step


def _is_simple(values: list[Any]) -> bool:
    simple = all(v is None or type(v) in (bool, int, float, str) for v in values)
    return simple and len(set(values)) == len(values) and all(v == v for v in values)


def _value_count(distribution: BaseDistribution) -> int | None:
    """Return how many values a distribution has; None if there is no end to them."""
    if distribution.single():
        return 1
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return None
