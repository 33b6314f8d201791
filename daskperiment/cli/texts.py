"""What was recorded as text: code, environment, and how two trials differ."""

from __future__ import annotations

import click

from daskperiment.cli import output
from daskperiment.cli.answering import Refused
from daskperiment.cli.stored import find, trial_of

__all__ = ["code", "compare", "environment"]


def code(backend: str | None, id: str, trial: int) -> None:
    """Print the code of a trial."""
    experiment = find(backend, id)
    output.print_source(experiment.get_code(trial_of(experiment, trial)))


def environment(
    backend: str | None, id: str, trial: int, category: str | None, packages: bool
) -> None:
    """Print the environment of a trial."""
    experiment = find(backend, id)
    number = trial_of(experiment, trial)
    if packages:
        output.print_text(experiment.get_python_packages(number))
        return
    try:
        text = experiment.get_environment(number, category)
    except ValueError as error:
        if category is None:
            raise
        raise Refused(str(error)) from error
    output.print_text(text)


def compare(backend: str | None, id: str, first: int, second: int, format_: str) -> None:
    """Print how two trials differ."""
    experiment = find(backend, id)
    one, other = trial_of(experiment, first), trial_of(experiment, second)
    comparison = experiment.compare(one, other)
    if format_ == "json":
        click.echo(output.as_json(comparison.to_dict()))
    else:
        output.print_text(repr(comparison))
