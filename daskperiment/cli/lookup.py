"""The store, experiment and trial that a command is about; nothing is created to find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daskperiment.cli.command_options import LATEST
from daskperiment.cli.exit_status import Refused
from daskperiment.errors import DaskperimentError
from daskperiment.experiment import Experiment
from daskperiment.formatting import listed
from daskperiment.store.opening import list_experiments, open_store, resolve
from daskperiment.store.protocol import Store

__all__ = ["checked", "find", "ids", "place", "refusing", "store_of", "trial_of"]


def checked(backend: str | None) -> str | None:
    """Return the backend, if it names a store; else that is wrong use."""
    with refusing():
        resolve(backend)
    return backend


@contextmanager
def refusing() -> Iterator[None]:
    """Treat what a store's address is refused for as wrong use."""
    try:
        yield
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
    """Open the store of an experiment that exists."""
    checked(backend)
    # No listing, which may take long, where the id is one and the store has trials of it.
    if id.isidentifier() and len(id.encode("utf-8", "replace")) <= 100:
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
    store_of(backend, id)
    return Experiment(id, backend=backend)


def trial_of(experiment: Experiment, trial: int) -> int:
    """Return the id of a trial that may have been given as the latest."""
    number = experiment.trial_id if trial == LATEST else trial
    if not number:
        raise Refused(f"Experiment {experiment.id!r} has no trial yet.")
    return number


def _unknown(backend: str | None, id: str, known: list[str]) -> str:
    where = place(backend)
    if known:
        return f"There is no experiment {id!r} in {where}. It has: {listed(known, 20)}."
    target, hint = resolve(backend), "Give the store with --backend."
    if isinstance(target, Path) and (target / "records.sqlite").exists():
        hint = f"This folder is an experiment itself: give --backend {target.parent}."
    return f"There is no experiment {id!r} in {where}: it has none. {hint}"
