"""Moving, delivering and removing records."""

from __future__ import annotations

import click
from dask.utils import parse_bytes

from daskperiment import copying
from daskperiment.cli import output
from daskperiment.cli.answering import Failed, Refused
from daskperiment.cli.listing import print_frame
from daskperiment.cli.stored import checked, find, ids, store_of
from daskperiment.cli.values import duration
from daskperiment.experiment import Experiment

__all__ = ["copy", "delete", "flush", "prune"]


def copy(backend: str | None, id: str, target: str) -> None:
    """Copy an experiment."""
    address = store_of(backend, id).address
    try:
        trials = copying.copy(id, checked(backend), checked(target))
    except ValueError as error:
        raise Refused(str(error)) from error
    output.print_text(f"{_trials(trials)} of {id} copied from {address} to {_address(id, target)}.")


def delete(backend: str | None, id: str, yes: bool) -> None:
    """Remove an experiment, after a question."""
    experiment = find(backend, id)
    what = f"experiment {id} with {_trials(experiment.trial_id)} from {_address(id, backend)}"
    if not yes and not click.confirm(output.safe(f"Delete {what}?")):
        raise Failed("Nothing was deleted.")
    experiment.delete()
    output.print_text(f"Deleted {what}.")


def prune(
    backend: str | None, id: str, max_bytes: str | None, older_than: str | None, dry_run: bool
) -> None:
    """Remove reusable values that were not used for the longest time."""
    if max_bytes is None and older_than is None:
        raise Refused("Say what to remove: give --max-bytes, --older-than or both.")
    limit = None if max_bytes is None else _bytes(max_bytes)
    age = None if older_than is None else duration(older_than)
    found = find(backend, id).prune(max_bytes=limit, older_than=age, dry_run=dry_run)
    print_frame(found, "table")


def flush(backend: str | None, id: str | None, timeout: float | None) -> None:
    """Deliver what waits on this machine for the store."""
    for name in ids(backend) if id is None else [id]:
        experiment = find(backend, name)
        before = experiment._recorder.waiting
        experiment.flush(timeout)
        output.print_text(
            f"{name}: {before} records were delivered." if before else f"{name}: nothing waited."
        )


def _address(id: str, backend: str | None) -> str:
    return Experiment(id, backend=backend)._store.address


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _bytes(text: str) -> int:
    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise Refused(f"Got {text!r} as a size; expected something like 500MB or 2GiB.") from error
