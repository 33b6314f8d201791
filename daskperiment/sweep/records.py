"""What defines a sweep, as it stands in the store, and which trials it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from daskperiment.codec import decode, encode
from daskperiment.history import Trial, read_trials
from daskperiment.records import TrialStatus
from daskperiment.store.protocol import Record, Store
from daskperiment.sweep.space import identity

__all__ = ["Done", "Sweep", "find_sweep", "keep_sweep", "known_sweeps", "trials_of"]

_STREAM = "notes"
_PREFIX = "sweep-"


class Sweep(Struct, frozen=True, omit_defaults=True):
    """What defines a sweep: enough to go on with it after a cut."""

    id: str
    result: str
    """Name of the step whose call is the result."""
    started: float
    latest: int
    """The highest trial id before the sweep: its trials are above."""
    space: dict[str, Any]
    """Parameter -> its recorded dimension."""
    sampler: str
    entropy: int
    """Seed of the random order and draws."""
    n_trials: int | None = None
    seed: int | None = None
    """The seed that was given: the trials' seeds are derived from it."""
    direction: str | None = None
    others: dict[str, Any] = {}
    """Plain values of the other parameters."""


class Done(NamedTuple):
    """What is known of a trial of a sweep."""

    trial: int
    status: TrialStatus
    identity: str
    seed: int
    forms: dict[str, Any]
    """Recorded forms of the values of the space's parameters."""
    value: Any
    """Recorded form of the result."""


def keep_sweep(store: Store, sweep: Sweep) -> None:
    """Write a sweep's record.

    Raises
    ------
    StoreUnavailableError
        If the store is away. Nothing is run then.
    """
    store.append([Record(_STREAM, 0, f"{_PREFIX}{sweep.id}", encode(sweep))])


def known_sweeps(store: Store) -> list[str]:
    """List the ids of the store's sweeps, the oldest first."""
    return [id for id, _ in _bodies(store)]


def find_sweep(store: Store, id: str) -> Sweep:
    """Read a sweep's record.

    Raises
    ------
    ValueError
        If the experiment has no such sweep; the message lists those that it has.
    """
    bodies = dict(_bodies(store))
    if id not in bodies:
        known = ", ".join(map(repr, bodies)) or "none yet"
        raise ValueError(
            f"There is no sweep {id!r} in {store.address}. Sweeps of this experiment: {known}. "
            "Give one of these, or leave resume out to begin a new sweep."
        )
    return decode(bodies[id], Sweep)


def _bodies(store: Store) -> Iterator[tuple[str, bytes]]:
    for record in store.read(_STREAM, [0]):
        if record.id.startswith(_PREFIX):
            yield record.id.removeprefix(_PREFIX), record.body


def trials_of(store: Store, sweep: Sweep) -> list[Done]:
    """Read the trials of a sweep, by id."""
    ids = range(sweep.latest + 1, store.state().latest + 1)
    if not ids:
        return []
    trials = read_trials(store, ids).values()
    return [_done(trial, sweep) for trial in trials if trial.begun.sweep == sweep.id]


def _done(trial: Trial, sweep: Sweep) -> Done:
    forms = {name: trial.parameters.get(name) for name in sweep.space}
    value = None if trial.ended is None else trial.ended.value
    return Done(trial.trial, trial.status, identity(forms), trial.begun.seed, forms, value)
