"""What was recorded as text: code, environment, how two trials differ, and what was reused."""

from __future__ import annotations

from dataclasses import asdict

import click

from daskperiment.cli import output
from daskperiment.cli.answering import Refused
from daskperiment.cli.stored import find, trial_of
from daskperiment.explain.explanation import Explanation

__all__ = ["code", "compare", "environment", "explain", "print_explanation"]


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


def explain(backend: str | None, id: str, trial: int, format_: str) -> None:
    """Print what a trial reused and what not."""
    experiment = find(backend, id)
    print_explanation(experiment.explain(trial_of(experiment, trial)), format_)


def print_explanation(told: Explanation, format_: str) -> None:
    """Print for each step whether it is reused, and why not."""
    if format_ == "json":
        click.echo(output.as_json([asdict(step) for step in told]))
    elif format_ == "csv":
        headers = ["Key", "Step", "Verdict", "Trial", "Reason"]
        rows = [[one.key, one.step, one.verdict, _number(one.trial), one.reason] for one in told]
        click.echo(output.safe(output.as_csv(headers, rows)), nl=False)
    else:
        output.print_text(repr(told))


def _number(trial: int | None) -> int | str:
    return "" if trial is None else trial
