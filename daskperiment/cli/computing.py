"""Commands that load a script which defines an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from daskperiment.cli.answering import AnsweringCommand
from daskperiment.cli.options import (
    EXPERIMENT_OR_SCRIPT,
    LATEST,
    SCRIPT,
    TRIAL,
    command,
    debug_option,
    format_option,
    work,
)

__all__ = ["COMMANDS", "explain", "main_command"]

F = TypeVar("F", bound=Callable[..., Any])

_SAMPLERS = ("grid", "random", "tpe")
_DIRECTIONS = ("minimize", "maximize")
_result = click.option(
    "--result", "name", metavar="NAME",
    help="Which result, if the script has several: its variable or its function.",
)  # fmt: skip
_scheduler = click.option(
    "--scheduler", metavar="NAME",
    help="synchronous, threads, processes, or the address of a cluster (tcp://…).",
)  # fmt: skip
_given = click.argument("given", metavar="[NAME=VALUE]...", nargs=-1)
_own_help = click.option("-h", "--help", "wants_help", is_flag=True, help="Show this and leave.")


def _trial_options(function: F) -> F:
    """Declare how a trial, or a sweep of them, is run."""
    for option in reversed(_TRIAL_OPTIONS):
        function = option(function)
    return function


_TRIAL_OPTIONS = (
    click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of the trial."),
    _scheduler,
    click.option(
        "--reuse", is_flag=True, help="Take outputs of unchanged steps from earlier trials."
    ),
    click.option(
        "--sweep", "swept", multiple=True, metavar="NAME=A,B,…",
        help="A trial for each of these values; given more than once, for each combination.",
    ),
    click.option(
        "--sampler", type=click.Choice(_SAMPLERS),
        help="Which values a sweep tries: all combinations, random ones, or what Optuna suggests.",
    ),
    click.option(
        "--direction", type=click.Choice(_DIRECTIONS), help="What Optuna looks for."
    ),
    click.option(
        "--n-trials", type=click.IntRange(min=1), metavar="N", help="Trials of a sweep, at most."
    ),
    click.option("--resume", metavar="SWEEP", help="Run what a sweep that was cut off misses."),
)  # fmt: skip


@command("run", add_help_option=False)
@click.argument("script", type=SCRIPT, required=False)
@_given
@_result
@_trial_options
@_own_help
@click.pass_context
def run(
    context: click.Context, /, script: Path | None, given: tuple[str, ...], name: str | None,
    wants_help: bool, **options: Any,
) -> None:  # fmt: skip
    """Run a script that defines an experiment, and compute its result as a trial.

    Parameters are given as NAME=VALUE. A value is a Python literal, such as 0.1, None or [1, 2];
    what is none is text. SCRIPT --help lists the parameters of a script.

    The script needs no change: what stands below ``if __name__ == "__main__":`` is not run.
    """
    if script is None:
        if not wants_help:
            raise click.UsageError("Missing argument 'SCRIPT'.", context)
        click.echo(context.get_help())
    elif wants_help:
        work("computation").describe(script, options["backend"])
    else:
        work("computation").run(script, given, name, options)


@command("explain")
@click.argument("what", metavar="ID|SCRIPT", type=EXPERIMENT_OR_SCRIPT)
@click.argument("given", metavar="[TRIAL|NAME=VALUE...]", nargs=-1)
@_result
@format_option("text", "json", "csv")
@click.pass_context
def explain(
    context: click.Context, /, what: str | Path, given: tuple[str, ...], name: str | None,
    backend: str | None, format_: str,
) -> None:  # fmt: skip
    """Tell which steps were taken from earlier trials, and why others were not.

    With the id of an experiment, what a trial did, by default the latest. With a script, what
    computing its result with --reuse would do now; nothing is computed.
    """
    if isinstance(what, Path):
        work("computation").explain(what, given, name, backend, format_)
        return
    if name is not None or len(given) > 1:
        raise click.UsageError(
            f"{what!r} is the id of an experiment, so only a trial can follow. A script is given "
            f"as a file with its suffix, or as {f'./{what}'!r}.", context
        )  # fmt: skip
    trial = TRIAL.convert(given[0], None, context) if given else LATEST
    work("texts").explain(backend, what, trial, format_)


@command("reproduce")
@click.argument("script", type=SCRIPT)
@click.argument("trial", type=TRIAL)
@_result
@click.option(
    "--code", type=click.Choice(["current", "recorded"]), default="current", show_default=True,
    help="Whether the script's code is run, or the code that the trial recorded.",
)  # fmt: skip
@_scheduler
def reproduce(
    script: Path, trial: int, name: str | None, code: str, scheduler: str | None,
    backend: str | None,
) -> None:  # fmt: skip
    """Run a trial again with its parameters and seed, and show what differs.

    The exit status is 1 if the result is another one.
    """
    work("computation").reproduce(script, trial, name, code, scheduler, backend)


def main_command(action: Callable[[tuple[str, ...], dict[str, Any]], None],
                 describe: Callable[[], str]) -> click.Command:  # fmt: skip
    """Make the command that a script is by ``Result.main()``.

    Parameters
    ----------
    action : callable
        Takes what was given as NAME=VALUE, and the options.
    describe : callable
        Makes the text that lists the parameters.
    """

    @click.command(cls=AnsweringCommand, add_help_option=False)
    @_given
    @_trial_options
    @debug_option
    @_own_help
    @click.pass_context
    def main(
        context: click.Context, /, given: tuple[str, ...], wants_help: bool, **options: Any
    ) -> None:
        """Compute the result as a trial."""
        if wants_help:
            click.echo(f"{context.get_help()}\n\n{describe()}")
        else:
            action(given, options)

    return main


COMMANDS = (run, reproduce)
