"""What a sweep is to be: the user's wishes, checked before anything runs, and its record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from daskperiment.codec import NotPlainError, from_plain, to_plain
from daskperiment.execution.lifecycle import undefined
from daskperiment.execution.random_state import check_seed, fresh_seed
from daskperiment.formatting import shorten
from daskperiment.graph.result import ResultNode
from daskperiment.sweep.records import Done, Sweep, find_sweep
from daskperiment.sweep.samplers import Sampler, grid, scattered
from daskperiment.sweep.space import Choices, Drawn, Searched, Space, is_optuna, make_space

__all__ = ["Planned", "Wish", "begin_anew", "make_sampler", "resume"]

NAMES = ("grid", "random", "tpe")
_DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True)
class Wish:
    """What the user asked for; raises if that is no sweep."""

    space: Any
    n_trials: int | None
    sampler: Any
    seed: int | None
    on_error: str
    direction: str | None

    def __post_init__(self) -> None:
        if self.on_error not in ("continue", "raise"):
            raise ValueError(f"on_error is {self.on_error!r}; expected 'continue' or 'raise'")
        if self.direction not in (None, *_DIRECTIONS):
            raise ValueError(f"direction is {self.direction!r}; expected one of {_DIRECTIONS}")
        n = self.n_trials
        if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
            raise ValueError(f"n_trials is {n!r}; expected an integer of at least 1, or None")
        check_seed(self.seed)
        describe(self.sampler)


class Planned(NamedTuple):
    """A sweep that is ready to run."""

    record: Sweep
    space: Space
    sampler: Any
    """The name, or the object that the user gave."""
    n_trials: int | None


def describe(sampler: Any) -> str:
    """Name a sampler as a sweep's record does.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    if isinstance(sampler, str):
        if sampler in NAMES:
            return sampler
        listed = ", ".join(map(repr, NAMES))
        raise ValueError(
            f"There is no sampler {sampler!r}; expected one of {listed}, an Optuna study, or a "
            "sampler such as optuna.samplers.GPSampler()."
        )
    if is_optuna(sampler, "study"):
        return "optuna.Study"
    if is_optuna(sampler, "samplers") and not isinstance(sampler, type):
        return f"{type(sampler).__module__}.{type(sampler).__qualname__}"
    raise TypeError(
        f"The sampler is {shorten(repr(sampler), 60)} ({type(sampler).__name__}); expected a name "
        f"({', '.join(map(repr, NAMES))}), an Optuna study, or one of Optuna's samplers."
    )


def begin_anew(result: ResultNode, wish: Wish) -> Planned:
    """Plan a new sweep.

    Raises
    ------
    ParameterUndeclaredError, ParameterUndefinedError, TypeError, ValueError
        If it could not run. Nothing is recorded then.
    """
    if wish.space is None:
        raise ValueError(
            "A sweep needs a space, such as {'lr': [0.1, 0.2]}, or the id of a sweep to resume."
        )
    space = make_space(wish.space)
    record = Sweep(
        id=uuid.uuid4().hex[:12], result=result.name, started=time.time(),
        latest=result._planner.store.state().latest, space=space.recorded,
        sampler=describe(wish.sampler), n_trials=_integer(wish.n_trials),
        seed=check_seed(wish.seed),
        entropy=fresh_seed() if wish.seed is None else int(wish.seed),
        direction=_direction(wish), others=_others(result, space.dimensions),
    )  # fmt: skip
    return Planned(record, space, wish.sampler, wish.n_trials)


def _integer(number: int | None) -> int | None:
    return None if number is None else int(number)


def _direction(wish: Wish) -> str | None:
    if describe(wish.sampler) in ("grid", "random"):
        if wish.direction is not None:
            raise ValueError(
                f"direction is {wish.direction!r}, but the sampler {wish.sampler!r} does not look "
                "at results; leave it out."
            )
        return None
    directions = getattr(wish.sampler, "directions", None)
    if directions is None:
        return wish.direction or "minimize"
    own: list[str] = [direction.name.lower() for direction in directions]
    if own not in (["minimize"], ["maximize"]):
        raise ValueError(f"The study has the directions {own!r}; a sweep takes one objective.")
    if wish.direction not in (None, own[0]):
        raise ValueError(
            f"direction is {wish.direction!r}, but the study's is {own[0]!r}; leave it out."
        )
    return own[0]


def _others(result: ResultNode, names: Iterable[str]) -> dict[str, Any]:
    """Check that every parameter has a value; give those that the sweep does not vary."""
    parameters = result._planner.parameters
    parameters.check_declared(names)
    values = parameters.current(result._options.values)
    missing = parameters.missing(result._template.parameters, {**values, **dict.fromkeys(names)})
    if missing:
        raise undefined(missing)
    return {name: form for name, form in _forms(values) if name not in names}


def _forms(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        try:
            yield name, to_plain(value)
        except NotPlainError:
            continue  # cannot be compared when the sweep is resumed


# Resuming ----------------------------------------------------------------------------------------


def resume(result: ResultNode, id: Any, wish: Wish) -> Planned:
    """Plan to go on with a sweep.

    Raises
    ------
    ValueError
        If the experiment has no such sweep, or what is asked for is not what the sweep is.
    """
    if not isinstance(id, str):
        raise ValueError(f"resume is {id!r}; expected a sweep's id: df.attrs['sweep'] of its table")
    record = find_sweep(result._planner.store, id)
    if record.result != result.name:
        raise ValueError(
            f"Sweep {id!r} is one of the result {record.result!r}, not of {result.name!r}; resume "
            "it there, or leave resume out to begin a new one."
        )
    _check_same(record, wish, result)
    n_trials = record.n_trials if wish.n_trials is None else wish.n_trials
    is_named = record.sampler in NAMES
    sampler = record.sampler if is_named else wish.sampler
    return Planned(record, _space_of(record, wish), sampler, n_trials)


def _check_same(record: Sweep, wish: Wish, result: ResultNode) -> None:
    space = make_space(wish.space).recorded if wish.space is not None else record.space
    _same(record, "space", record.space, space)
    _same(record, "seed", record.seed, record.seed if wish.seed is None else check_seed(wish.seed))
    given = describe(wish.sampler)
    if given == "grid" and record.sampler not in NAMES:
        raise ValueError(
            f"Sweep {record.id!r} has the sampler {record.sampler!r}, which is an object that no "
            "record can hold; give it again with sampler=."
        )
    # "grid" is what stands there if nothing is given.
    _same(record, "sampler", record.sampler, record.sampler if given == "grid" else given)
    direction = record.direction if wish.direction is None else wish.direction
    _same(record, "direction", record.direction, direction)
    now = _others(result, record.space)
    for name in sorted(record.others.keys() & now.keys()):
        _same(record, f"parameter {name!r}", record.others[name], now[name])


def _same(record: Sweep, what: str, before: Any, now: Any) -> None:
    # As JSON, where 1, 1.0 and True differ.
    if msgspec.json.encode(before, order="sorted") == msgspec.json.encode(now, order="sorted"):
        return
    raise ValueError(
        f"Sweep {record.id!r} cannot be resumed with another {what}: it began with "
        f"{shorten(repr(before), 80)}, now it is {shorten(repr(now), 80)}. Give what it began "
        "with, or leave resume out to begin a new sweep."
    )


def _space_of(record: Sweep, wish: Wish) -> Space:
    """Make the space anew; as its record orders it, which is the order of its grid."""
    given = {} if wish.space is None else make_space(wish.space).dimensions
    return Space(
        {
            name: given[name] if name in given else _dimension(record, name, form)
            for name, form in record.space.items()
        }
    )


def _dimension(record: Sweep, name: str, form: Mapping[str, Any]) -> Any:
    if "values" in form:
        made = make_space({name: [from_plain(value) for value in form["values"]]})
        return made.dimensions[name]
    if "optuna" in form:
        from optuna.distributions import json_to_distribution  # noqa: PLC0415  # an extra

        return Searched(json_to_distribution(msgspec.json.encode(form["optuna"]).decode()))
    raise ValueError(
        f"Parameter {name!r} of sweep {record.id!r} is drawn from {form.get('drawn')!r}, which is "
        "an object that no record can hold; give the space again."
    )


# Samplers ----------------------------------------------------------------------------------------


def make_sampler(plan: Planned, done: Iterable[Done]) -> Sampler:
    """Make the sampler of a sweep.

    Raises
    ------
    ImportError
        If it takes Optuna, which is not installed.
    TypeError, ValueError
        If it does not fit the space.
    """
    if plan.sampler == "grid":
        return grid(plan.space, plan.n_trials)
    if plan.sampler == "random":
        return scattered(plan.space, plan.n_trials, plan.record.entropy)
    drawn = plan.space.others(Choices, Searched)
    if drawn:
        raise TypeError(
            f"Parameter {', '.join(map(repr, drawn))} has {Drawn.__name__.lower()} values (rvs), "
            "which go with sampler='random'; give a distribution of Optuna, such as "
            "optuna.distributions.FloatDistribution(0.001, 0.1, log=True)."
        )
    try:
        from daskperiment.sweep import asking  # noqa: PLC0415  # Optuna is an extra
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The sampler {plan.record.sampler!r} takes Optuna: pip install 'daskperiment[optuna]'"
        ) from error
    study = asking.make_study(
        plan.sampler, plan.record.direction or "minimize", plan.record.entropy
    )
    made = asking.Asking(study, plan.space, plan.record.id, plan.n_trials)
    made.recall(done)
    return made
