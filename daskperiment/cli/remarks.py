"""Saying something of trials: tags, notes, names, and archiving."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from daskperiment.cli import output
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.cli.lookup import find, refusing, trial_of, trials_of
from daskperiment.errors import TrialReusedError
from daskperiment.experiment import Experiment
from daskperiment.formatting import listed

__all__ = ["archive", "note", "remove", "rename", "tag", "unarchive", "untag"]

_Given = Sequence[tuple[int, int]]


def tag(backend: str | None, id: str, trials: _Given, tags: Sequence[str]) -> None:
    """Give trials tags."""
    _say(backend, id, trials, f"tagged {', '.join(tags)}", lambda ex, ids: ex.tag(ids, *tags))


def untag(backend: str | None, id: str, trials: _Given, tags: Sequence[str]) -> None:
    """Take tags from trials."""
    told = f"no longer tagged {', '.join(tags)}"
    _say(backend, id, trials, told, lambda ex, ids: ex.untag(ids, *tags))


def note(backend: str | None, id: str, trials: _Given, text: str) -> None:
    """Add a note to trials."""
    _say(backend, id, trials, "noted", lambda ex, ids: ex.note(ids, text))


def archive(backend: str | None, id: str, trials: _Given) -> None:
    """Leave trials out of tables."""
    _say(backend, id, trials, "archived", lambda ex, ids: ex.archive(ids))


def unarchive(backend: str | None, id: str, trials: _Given) -> None:
    """List trials in tables again."""
    _say(backend, id, trials, "listed again", lambda ex, ids: ex.unarchive(ids))


def remove(backend: str | None, id: str, trials: _Given, yes: bool, force: bool) -> None:
    """Delete trials; who sits at a terminal is asked."""
    experiment = find(backend, id)
    ids = trials_of(experiment, trials)
    what = f"trial{'s' if len(ids) > 1 else ''} {listed(ids, 20)}"
    if not yes and sys.stdin.isatty() and not click.confirm(output.safe(f"Delete {what}?")):
        raise Failed("Nothing was deleted.")
    with refusing():
        try:
            experiment.delete_trials(ids, force=force)
        except TrialReusedError as error:
            raise Refused(str(error)) from error
    output.print_text(f"Deleted {what}.")


def rename(backend: str | None, id: str, trial: int, name: str) -> None:
    """Give a trial a name, or take it away with an empty one."""
    experiment = find(backend, id)
    number = trial_of(experiment, trial)
    with refusing():
        experiment.rename(number, name or None)
    output.print_text(f"Trial {number} is called {name}." if name else f"Trial {number}: no name.")


def _say(
    backend: str | None, id: str, given: _Given, told: str,
    say: Callable[[Experiment, list[int]], None],
) -> None:  # fmt: skip
    experiment = find(backend, id)
    ids = trials_of(experiment, given)
    with refusing():
        say(experiment, ids)
    what = "Trial" if len(ids) == 1 else "Trials"
    output.print_text(f"{what} {listed(ids, 20)}: {told}.")
