"""What a sweep is: the arguments it was called with, checked, and its record in the store.

A sweep's record holds only what defines it. Which trials it has, and which of its points are
missing, is read from the trials, so that a sweep that was killed at any moment can be resumed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from daskperiment.codec import (
    LongValues,
    NotPlainError,
    decode,
    encode,
    from_plain,
    has_signature,
    is_object,
    named,
    signed,
    signing_key_in_force,
    to_plain,
)
from daskperiment.errors import UntrustedObjectError
from daskperiment.execution.lifecycle import undefined
from daskperiment.formatting import shorten
from daskperiment.history import RecordedTrial, read_trials
from daskperiment.parameters import Parameters
from daskperiment.planning.result_node import ResultNode
from daskperiment.records import SWEEP, Sweep, TrialStatus, record_kind, sweep_id
from daskperiment.secret_values import may_differ
from daskperiment.seeds import check_seed, fresh_seed
from daskperiment.store.protocol import Record, Store
from daskperiment.sweep.space import (
    OptunaDistribution,
    Space,
    identity,
    is_optuna,
    listed_secrets,
    make_space,
)
from daskperiment.vouching import vouched

__all__ = [
    "NAMED_SAMPLERS",
    "SweepPlan",
    "SweepRequest",
    "SweepTrial",
    "find_sweep",
    "keep_sweep",
    "known_sweeps",
    "new_plan",
    "resumed_plan",
    "trials_of",
]

NAMED_SAMPLERS = ("grid", "random", "tpe")
_DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True)
class SweepRequest:
    """The arguments of a sweep; raises if one of them is wrong by itself."""

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
        sampler_name(self.sampler)


class SweepPlan(NamedTuple):
    """A sweep that is ready to run."""

    record: Sweep
    space: Space
    sampler: Any
    """The name, or the object that the user gave."""
    n_trials: int | None


def sampler_name(sampler: Any) -> str:
    """Return the name of a sampler that a sweep's record has; refuse what is none."""
    if isinstance(sampler, str):
        if sampler in NAMED_SAMPLERS:
            return sampler
        listed = ", ".join(map(repr, NAMED_SAMPLERS))
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
        f"({', '.join(map(repr, NAMED_SAMPLERS))}), an Optuna study, or one of Optuna's samplers."
    )


# A new sweep -------------------------------------------------------------------------------------


def new_plan(result: ResultNode, request: SweepRequest) -> SweepPlan:
    """Return the plan of a new sweep; where it could not run it raises, and nothing is recorded."""
    if request.space is None:
        raise ValueError(
            "A sweep needs a space, such as {'lr': [0.1, 0.2]}, or the id of a sweep to resume."
        )
    space = _space(result, request)
    record = Sweep(
        id=uuid.uuid4().hex[:12], result=result.name, started=time.time(),
        latest=result.definition.planner.store.state().latest, space=space.recorded,
        sampler=sampler_name(request.sampler),
        n_trials=None if request.n_trials is None else int(request.n_trials),
        seed=check_seed(request.seed),
        entropy=fresh_seed() if request.seed is None else int(request.seed),
        direction=_direction(request), others=_other_values(result, space.dimensions),
    )  # fmt: skip
    return SweepPlan(record, space, request.sampler, request.n_trials)


def _space(result: ResultNode, request: SweepRequest) -> Space:
    """Return the space that is asked for, with the values of secret parameters as secrets."""
    parameters = result.definition.planner.parameters
    given = request.space
    if not isinstance(given, Mapping) or parameters.secrets.isdisjoint(given):
        return _typed(make_space(given), parameters, result.definition.options.values)
    listed = {name: listed_secrets(name, values) if name in parameters.secrets else values
              for name, values in given.items()}  # fmt: skip
    return make_space({
        name: [parameters.covered({name: value})[name] for value in values]
        if name in parameters.secrets else values
        for name, values in listed.items()
    })  # fmt: skip


def _typed(space: Space, parameters: Parameters, others: Mapping[str, Any]) -> Space:
    """Return a space in which the leaves of configurations have values of their types."""
    names = set(parameters.names)
    listed = {name: [parameters.typed({name: value})[name] for value in choices.values]
              for name, choices in space.choices.items() if name in names}  # fmt: skip
    given = {name: list(map(type, choices.values)) for name, choices in space.choices.items()}
    changed = {name: v for name, v in listed.items() if list(map(type, v)) != given[name]}
    if names.issuperset(space.dimensions):  # others are refused where they always were
        parameters.check_space({name: listed.get(name, ()) for name in space.dimensions}, others)
    return space.listing(changed) if changed else space


def _direction(request: SweepRequest) -> str | None:
    if sampler_name(request.sampler) in ("grid", "random"):
        if request.direction is not None:
            raise ValueError(
                f"direction is {request.direction!r}, but the sampler {request.sampler!r} does "
                "not look at results; leave it out."
            )
        return None
    directions = getattr(request.sampler, "directions", None)
    if directions is None:
        return request.direction or "minimize"
    own: list[str] = [direction.name.lower() for direction in directions]
    if own not in (["minimize"], ["maximize"]):
        raise ValueError(f"The study has the directions {own!r}; a sweep takes one objective.")
    if request.direction not in (None, own[0]):
        raise ValueError(
            f"direction is {request.direction!r}, but the study's is {own[0]!r}; leave it out."
        )
    return own[0]


def _other_values(result: ResultNode, varied: Iterable[str]) -> dict[str, Any]:
    """Return the plain values of the parameters that do not vary; every one must have a value."""
    definition = result.definition
    parameters = definition.planner.parameters
    parameters.check_declared(varied)
    values = parameters.current(definition.options.values)
    given = {**values, **dict.fromkeys(varied)}
    if missing := parameters.missing(definition.template.parameters, given):
        raise undefined(missing)
    others = {}
    for name in (name for name in values if name not in varied):
        # A value that is not plain cannot be compared when the sweep is resumed.
        with suppress(NotPlainError):
            others[name] = to_plain(named(values[name]))
    return others


# A sweep that is resumed -------------------------------------------------------------------------


def resumed_plan(result: ResultNode, id: Any, request: SweepRequest) -> SweepPlan:
    """Return the plan of the rest of a sweep; ValueError if what is asked for is not what it is."""
    if not isinstance(id, str):
        raise ValueError(f"resume is {id!r}; expected a sweep's id: df.attrs['sweep'] of its table")
    record = find_sweep(result.definition.planner.store, id)
    if record.result != result.name:
        raise ValueError(
            f"Sweep {id!r} is one of the result {record.result!r}, not of {result.name!r}; resume "
            "it there, or leave resume out to begin a new one."
        )
    _check_unchanged(record, request, result)
    n_trials = record.n_trials if request.n_trials is None else request.n_trials
    sampler = record.sampler if record.sampler in NAMED_SAMPLERS else request.sampler
    return SweepPlan(record, _resumed_space(record, request, result), sampler, n_trials)


def _check_unchanged(record: Sweep, request: SweepRequest, result: ResultNode) -> None:
    space = record.space if request.space is None else _space(result, request).recorded
    if _is_unknown(record.space, space):
        raise ValueError(
            f"Sweep {record.id!r} has secret values that were recorded with another key, so that "
            "nobody can tell which of its points were run. Use the key that it began with (the "
            "setting daskperiment.secret-key), or leave resume out to begin a new sweep."
        )
    seed = record.seed if request.seed is None else check_seed(request.seed)
    _check_equal(record, "space", record.space, space)
    _check_equal(record, "seed", record.seed, seed)
    given = sampler_name(request.sampler)
    if given == "grid" and record.sampler not in NAMED_SAMPLERS:
        raise ValueError(
            f"Sweep {record.id!r} has the sampler {record.sampler!r}, which is an object that no "
            "record can hold; give it again with sampler=."
        )
    # "grid" is the default, so that it is also what stands there if nothing was given.
    _check_equal(record, "sampler", record.sampler, record.sampler if given == "grid" else given)
    direction = record.direction if request.direction is None else request.direction
    _check_equal(record, "direction", record.direction, direction)
    now = _other_values(result, record.space)
    for name in sorted(record.others.keys() & now.keys()):
        if not _is_unknown(record.others[name], now[name]):
            _check_equal(record, f"parameter {name!r}", record.others[name], now[name])


def _is_unknown(before: Any, now: Any) -> bool:
    """Whether there are marks of secrets in both that were made with other keys."""
    pairs = zip(*(sorted(_marks(form)) for form in (before, now)), strict=False)
    return any(may_differ(*pair) is None for pair in pairs)


def _marks(form: Any) -> Iterator[str]:
    if isinstance(form, Mapping):
        if is_object(form):
            yield from [form["mark"]] if form.get("mark") is not None else []
        form = list(form.values())
    for item in form if isinstance(form, list) else ():
        yield from _marks(item)


def _check_equal(record: Sweep, what: str, before: Any, now: Any) -> None:
    # Compared as JSON, where 1, 1.0 and True differ.
    if msgspec.json.encode(before, order="sorted") == msgspec.json.encode(now, order="sorted"):
        return
    raise ValueError(
        f"Sweep {record.id!r} cannot be resumed with another {what}: it began with "
        f"{shorten(repr(before), 80)}, now it is {shorten(repr(now), 80)}. Give what it began "
        "with, or leave resume out to begin a new sweep."
    )


def _resumed_space(record: Sweep, request: SweepRequest, result: ResultNode) -> Space:
    # In the record's order of parameters, which is the order of a grid.
    given = {} if request.space is None else _space(result, request).dimensions
    return Space(
        {
            name: given[name] if name in given else _recorded_dimension(record, name, form)
            for name, form in record.space.items()
        }
    )


def _recorded_dimension(record: Sweep, name: str, form: Mapping[str, Any]) -> Any:
    if next(_marks(form), None) is not None:
        raise ValueError(
            f"Parameter {name!r} of sweep {record.id!r} is secret, so that no record has its "
            f"values; give the space again: sweep(space, resume={record.id!r})."
        )
    if "values" in form:
        made = make_space({name: [from_plain(value) for value in form["values"]]})
        return made.dimensions[name]
    if "optuna" in form:
        from optuna.distributions import json_to_distribution  # noqa: PLC0415  # an extra

        text = msgspec.json.encode(form["optuna"]).decode()
        return OptunaDistribution(json_to_distribution(text))
    raise ValueError(
        f"Parameter {name!r} of sweep {record.id!r} is drawn from {form.get('drawn')!r}, which is "
        "an object that no record can hold; give the space again."
    )


# In the store ------------------------------------------------------------------------------------


class SweepTrial(NamedTuple):
    """A trial that a sweep has run, or that still runs."""

    trial: int
    status: TrialStatus
    identity: str
    """Of its point, as in :class:`SweepPoint`."""
    seed: int
    forms: dict[str, Any]
    """Recorded forms of the values of the space's parameters."""
    value: Any
    """Recorded form of the result."""
    token: str
    """By which whoever computed it knows it."""
    resumes: int | None
    """The trial that it goes on from, and stands for."""


def keep_sweep(store: Store, sweep: Sweep) -> None:
    """Write a sweep's record; StoreUnavailableError if the store is away: nothing is run then."""
    if key := signing_key_in_force():
        sweep = signed(sweep, key, store.address)
    store.append([Record("notes", 0, sweep_id(sweep.id), encode(sweep))])


def known_sweeps(store: Store) -> list[str]:
    """Return the ids of the store's sweeps, the oldest first."""
    return list(_bodies(store))


def find_sweep(store: Store, id: str) -> Sweep:
    """Return a sweep's record; ValueError, which lists the sweeps that there are, if it is none.

    UntrustedObjectError if there is a signing key, and the record is not signed with it.
    """
    bodies = _bodies(store)
    if id not in bodies:
        known = ", ".join(map(repr, bodies)) or "none yet"
        raise ValueError(
            f"There is no sweep {id!r} in {store.address}. Sweeps of this experiment: {known}. "
            "Give one of these, or leave resume out to begin a new sweep."
        )
    sweep = decode(bodies[id], Sweep)
    key = signing_key_in_force()
    if key is not None and not has_signature(sweep, key, store.address):
        raise UntrustedObjectError(
            f"The record of sweep {id!r} is refused: it was changed, or written without "
            "daskperiment.signing-key, which is configured. Leave resume out to begin a new sweep, "
            "or, if you trust all who could write to the store, resume it with the key unset."
        )
    return sweep


def _bodies(store: Store) -> dict[str, bytes]:
    # Ids come from the records' ids, not from their bodies: a damaged one must not hide the others.
    return {
        record.id.removeprefix(sweep_id("")): record.body
        for record in store.read("notes", [0])
        if record_kind(record.id) == SWEEP
    }


def trials_of(store: Store, sweep: Sweep) -> list[SweepTrial]:
    """Return the trials of a sweep, sorted by id."""
    ids = range(sweep.latest + 1, store.state().latest + 1)
    if not ids:
        return []
    trials = read_trials(vouched(store), ids).values()
    long = LongValues(store.get, signing_key_in_force())
    return [_sweep_trial(trial, sweep, long) for trial in trials if trial.begun.sweep == sweep.id]


def _sweep_trial(trial: RecordedTrial, sweep: Sweep, long: LongValues) -> SweepTrial:
    forms = {name: long.spelled_out(trial.parameters.get(name)) for name in sweep.space}
    value = None if trial.ended is None else trial.ended.value
    begun = trial.begun
    return SweepTrial(
        trial.trial, trial.status, identity(forms), begun.seed, forms, value,
        begun.token.partition("/")[0], begun.resumes,
    )  # fmt: skip
