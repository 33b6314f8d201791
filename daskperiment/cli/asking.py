"""Commands that ask a store; none changes it, and none unpickles anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from daskperiment.cli.options import (
    LATEST,
    TRIAL,
    command,
    experiment_argument,
    format_option,
    work,
)

__all__ = ["COMMANDS"]

_trial_argument = click.argument(
    "trial", metavar="[TRIAL]", type=TRIAL, required=False, default=LATEST
)


@command("ls")
@format_option("table", "csv", "json")
def ls(backend: str | None, format_: str) -> None:
    """List the experiments of a store."""
    work("listing").list_experiments(backend, format_)


@command("history")
@experiment_argument
@click.option(
    "--columns", multiple=True, metavar="NAMES",
    help="Only these columns, with commas between them; may be given more than once.",
)  # fmt: skip
@click.option(
    "--where", metavar="CONDITION",
    help="Only trials for which this holds, such as 'lr > 0.1 and Success'. A name with a blank "
    "stands in backticks or quotes.",
)  # fmt: skip
@click.option("--sort", metavar="NAME", help="Sort by a column; -NAME begins with the highest.")
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help="Of these, only the N latest trials."
)
@click.option("--verbose", is_flag=True, help="Add seed, status, host, user, Git commit.")
@click.option("--running", is_flag=True, help="Add the trials that are still running.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write to a file.",
)  # fmt: skip
@format_option("table", "csv", "json", "parquet")
def history(backend: str | None, experiment: str, format_: str, **wanted: Any) -> None:
    """List the trials of an experiment."""
    work("listing").list_trials(backend, experiment, format_, **wanted)


@command("show")
@experiment_argument
@_trial_argument
@format_option("text", "json")
def show(backend: str | None, experiment: str, trial: int, format_: str) -> None:
    """Show all about one trial, by default the latest."""
    work("trial").show(backend, experiment, trial, format_)


@command("steps")
@experiment_argument
@click.argument("trial", type=TRIAL, required=False)
@format_option("table", "csv", "json")
def steps(backend: str | None, experiment: str, trial: int | None, format_: str) -> None:
    """List the step runs of a trial, or of all trials."""
    work("listing").list_steps(backend, experiment, trial, format_)


@command("metrics")
@experiment_argument
@click.argument("trials", metavar="[TRIAL]...", type=TRIAL, nargs=-1)
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Only this metric.")
@format_option("table", "csv", "json")
def metrics(
    backend: str | None, experiment: str, trials: tuple[int, ...], names: tuple[str, ...],
    format_: str,
) -> None:  # fmt: skip
    """Show the metrics of trials, by default of the latest.

    As a table, a line for each metric of each trial; as CSV or JSON, every point.
    """
    work("series").show(backend, experiment, trials or (LATEST,), names, format_)


@command("code")
@experiment_argument
@_trial_argument
def code(backend: str | None, experiment: str, trial: int) -> None:
    """Print the code of a trial's steps, by default of the latest."""
    work("texts").code(backend, experiment, trial)


@command("env")
@experiment_argument
@_trial_argument
@click.option("--category", metavar="NAME", help="Only this part, such as git or requirements.")
@click.option("--packages", is_flag=True, help="The packages, as a requirements file has them.")
def env(
    backend: str | None, experiment: str, trial: int, category: str | None, packages: bool
) -> None:
    """Print the environment of a trial, by default of the latest."""
    work("texts").environment(backend, experiment, trial, category, packages)


@command("compare")
@experiment_argument
@click.argument("first", metavar="A", type=TRIAL)
@click.argument("second", metavar="B", type=TRIAL)
@format_option("text", "json")
def compare(backend: str | None, experiment: str, first: int, second: int, format_: str) -> None:
    """Show how two trials differ, and why."""
    work("texts").compare(backend, experiment, first, second, format_)


COMMANDS = (ls, history, show, steps, metrics, code, env, compare)
