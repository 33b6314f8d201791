"""The store, experiment and trial that a command is about; nothing is created to find them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from daskperiment.cli.command_options import BEST
from daskperiment.cli.exit_status import Refused
from daskperiment.errors import DaskperimentError, FilterError
from daskperiment.experiment import Experiment
from daskperiment.formatting import listed
from daskperiment.recording.registry import recorder_for
from daskperiment.records import is_experiment_id
from daskperiment.store.opening import list_experiments, open_store, resolve
from daskperiment.store.protocol import Store
from daskperiment.vouching import vouched

if TYPE_CHECKING:
    from daskperiment.history.best_trial import Mode

__all__ = [
    "bare_store_of",
    "checked",
    "find",
    "ids",
    "place",
    "refusing",
    "store_of",
    "trial_of",
    "trials_of",
]


_AT_ONCE = 100
"""Trials that are looked for at a time."""


def checked(backend: str | None) -> str | None:
    """Return the backend, if it names a store; else that is wrong use."""
    with refusing():
        resolve(backend)
    return backend


@contextmanager
def refusing() -> Iterator[None]:
    """Treat what a store's address, a filter or another value is refused for as wrong use."""
    try:
        yield
    except FilterError as error:
        raise Refused(str(error)) from error
    except (ValueError, TypeError) as error:
        if isinstance(error, DaskperimentError):
            raise
        raise Refused(str(error)) from error


def ids(backend: str | None) -> list[str]:
    """Return the ids of a store's experiments."""
    with refusing():
        return list_experiments(backend)


def place(backend: str | None) -> str:
    """Return the name of a backend, without a password."""
    target = resolve(backend)
    if isinstance(target, Path):
        return str(target)
    return open_store(backend, "x").address.removesuffix("/x")


def store_of(backend: str | None, id: str) -> Store:
    """Open the store of an experiment that exists, to read all that is there and vouched for."""
    store = bare_store_of(backend, id)
    recorder_for(store).catch_up()
    return vouched(store)


def bare_store_of(backend: str | None, id: str) -> Store:
    """Open the store of an experiment that exists, to deliver to it or to copy all of it."""
    checked(backend)
    # No listing, which may take long, where the id is one and the store has trials of it.
    if is_experiment_id(id) and len(id.encode("utf-8", "replace")) <= 100:
        with refusing():
            store = open_store(backend, id)
        if store.state().latest > 0:
            return store
    known = ids(backend)
    if id in known:
        return open_store(backend, id)
    raise Refused(_unknown(backend, id, known))


def find(backend: str | None, id: str) -> Experiment:
    """Open an experiment that exists."""
    bare_store_of(backend, id)
    return Experiment(id, backend=backend)


def trial_of(
    experiment: Experiment, trial: int, by: str = "Result", mode: Mode = "max"
) -> int:  # fmt: skip
    """Return the id of a trial that may have been given by its place from the end, from -1 on.

    `by` and `mode` say which one is best.
    """
    if trial > 0:
        return trial
    if trial == BEST:
        with refusing():
            return experiment.best(by, mode)
    found = 0
    for id in _latest(experiment):
        found += 1
        if found == -trial:
            return id
    if not found:
        raise Refused(f"Experiment {experiment.id!r} has no trial yet.")
    has = "1 trial" if found == 1 else f"{found} trials"
    raise Refused(f"There is no trial {trial}: experiment {experiment.id!r} has {has}.")


def _latest(experiment: Experiment) -> Iterator[int]:
    """Yield the ids of trials that were not deleted, the latest first."""
    high = experiment.trial_id
    while high > 0:
        low = max(0, high - _AT_ONCE)
        yield from reversed(experiment.get_trial_ids(range(low + 1, high + 1)))
        high = low


def trials_of(
    experiment: Experiment, given: Iterable[tuple[int, int]], by: str = "Result", mode: Mode = "max"
) -> list[int]:  # fmt: skip
    """Return the ids of trials that were given as pieces, each from one to another."""
    found: dict[int, None] = {}
    for first, last in given:
        low, high = (trial_of(experiment, one, by, mode) for one in (first, last))
        if low > high or high > experiment.trial_id:
            known = f"experiment {experiment.id!r} has trials up to {experiment.trial_id}"
            raise Refused(f"There are no trials {low}-{high}: {known}.")
        several = range(low, high + 1)
        # Of several those that were deleted are passed over.
        found.update(dict.fromkeys(experiment.get_trial_ids(several) if low < high else several))
    return list(found)


def _unknown(backend: str | None, id: str, known: list[str]) -> str:
    where = place(backend)
    if known:
        return f"There is no experiment {id!r} in {where}. It has: {listed(known, 20)}."
    target, hint = resolve(backend), "Give the store with --backend."
    if isinstance(target, Path) and (target / "records.sqlite").exists():
        hint = f"This folder is an experiment itself: give --backend {target.parent}."
    return f"There is no experiment {id!r} in {where}: it has none. {hint}"
