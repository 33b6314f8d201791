"""The command ``daskperiment``: names, arguments, options and help of its commands.

What a command does stands in the module that it hands its arguments to.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import click

from daskperiment.cli.board import board
from daskperiment.cli.command_options import (
    COLUMN,
    EXPERIMENT,
    EXPERIMENT_OR_SCRIPT,
    LATEST,
    SCRIPT,
    TRIAL,
    TRIALS,
    command,
    debug_option,
    experiment_argument,
    format_option,
    given_argument,
    help_option,
    limit_option,
    result_option,
    scheduler_option,
    trial_options,
    work,
)
from daskperiment.cli.exit_status import Command, exiting_at_interrupt

__all__ = ["cli", "main"]

_trials_argument = click.argument("trials", metavar="TRIALS", type=TRIALS)
_tags_argument = click.argument("tags", metavar="TAG...", nargs=-1, required=True)
_trial_argument = click.argument("trial", metavar="[TRIAL]", type=TRIAL, default=LATEST)


# With a script ---------------------------------------------------------------------------------


@command("run", trials=True, add_help_option=False)
@click.argument("script", type=SCRIPT, required=False)
@given_argument
@result_option
@trial_options
@help_option
def run(
    script: Path | None, given: tuple[str, ...], name: str | None, wants_help: bool, **options: Any
) -> None:
    """Run a script that defines an experiment, and compute its result as a trial.

    Parameters are given as NAME=VALUE. A value is a Python literal, such as 0.1, None or [1, 2];
    what is none is text. SCRIPT --help lists the parameters of a script.

    The script needs no change: what stands below ``if __name__ == "__main__":`` is not run.
    """
    if script is None:
        if not wants_help:
            raise click.UsageError("Missing argument 'SCRIPT'.")
        click.echo(click.get_current_context().get_help())
    elif wants_help:
        work("computation").describe(script, options["backend"])
    else:
        work("computation").run(script, given, name, options)


@command("reproduce", trials=True)
@click.argument("script", type=SCRIPT)
@click.argument("trial", type=TRIAL)
@result_option
@click.option(
    "--code", type=click.Choice(["current", "recorded"]), default="current", show_default=True,
    help="Whether the script's code is run, or the code that the trial recorded.",
)  # fmt: skip
@scheduler_option
def reproduce(**given: Any) -> None:
    """Run a trial again with its parameters and seed, and show what differs.

    The exit status is 1 if the result is another one.
    """
    work("computation").reproduce(**given)


@command("resume", trials=True)
@click.argument("what", metavar="ID|SCRIPT", type=EXPERIMENT_OR_SCRIPT)
@_trial_argument
@result_option
@scheduler_option
def resume(what: str | Path, trial: int, backend: str | None, **given: Any) -> None:
    """Go on with a trial, by default the latest, that was killed, failed or was interrupted.

    It is a new trial, with the parameters and the seed of that one, and begins at its latest
    checkpoint. With the id of an experiment, the script is the file that the trial recorded.
    """
    script = work("trial_report").script_of(backend, what, trial) if isinstance(what, str) else what
    work("computation").resume(script, trial, backend=backend, **given)


# What was recorded: none of these commands changes a store or unpickles anything ----------------


@command("ls")
@limit_option
@format_option("table", "csv", "json")
def ls(**given: Any) -> None:
    """List the experiments of a store."""
    work("listings").list_experiments(**given)


@command("history")
@experiment_argument
@click.option(
    "--columns", multiple=True, metavar="NAMES", type=COLUMN,
    help="Only these columns, with commas between them; may be given more than once.",
)  # fmt: skip
@click.option(
    "--where", metavar="CONDITION",
    help="Only trials for which this holds, such as 'lr > 0.1 and Result.f1 >= 0.9'. A name with a "
    "blank stands in backticks or quotes.",
)  # fmt: skip
@click.option(
    "--sort", metavar="NAME", type=COLUMN, help="Sort by a column; -NAME begins with the highest."
)
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help="Of these, only the N latest trials."
)
@limit_option
@click.option("--verbose", is_flag=True, help="Add seed, status, host, user, Git commit.")
@click.option("--running", is_flag=True, help="Add the trials that are still running.")
@click.option("--archived", is_flag=True, help="Add the trials that were archived.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write to a file.",
)  # fmt: skip
@format_option("table", "csv", "json", "parquet")
def history(**given: Any) -> None:
    """List the trials of an experiment."""
    work("listings").list_trials(**given)


@command("show", trials=True)
@experiment_argument
@_trial_argument
@format_option("text", "json")
def show(**given: Any) -> None:
    """Show all about one trial, by default the latest."""
    work("trial_report").show(**given)


@command("steps", trials=True)
@experiment_argument
@click.argument("trial", type=TRIAL, required=False)
@limit_option
@format_option("table", "csv", "json")
def steps(**given: Any) -> None:
    """List the step runs of a trial, or of all trials."""
    work("listings").list_steps(**given)


@command("artifacts", trials=True)
@experiment_argument
@click.argument("trial", type=TRIAL, required=False)
@click.option("--preview/--no-preview", default=None, help="Tell what each one is.")
@limit_option
@format_option("table", "csv", "json")
def artifacts(**given: Any) -> None:
    """List the artifacts of a trial, or of all trials."""
    work("artifact_commands").list_artifacts(**given)


@command("get", trials=True)
@experiment_argument
@click.argument("name")
@_trial_argument
@click.option(
    "-o", "--output", "output_", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write to this file, also where there is one.",
)  # fmt: skip
def get(**given: Any) -> None:
    """Write an artifact of a trial, by default of the latest, to a file."""
    work("artifact_commands").get_artifact(**given)


@command("metrics", trials=True)
@experiment_argument
@click.argument("trials", metavar="[TRIAL]...", type=TRIAL, nargs=-1)
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Only this metric.")
@click.option("--system", is_flag=True, help="What the trials used of the machine.")
@limit_option
@format_option("table", "csv", "json")
def metrics(**given: Any) -> None:
    """Show the metrics of trials, by default of the latest.

    As a table, a line for each metric of each trial; as CSV or JSON, every point.
    """
    work("listings").list_metrics(**given)


@command("code", trials=True)
@experiment_argument
@_trial_argument
def code(**given: Any) -> None:
    """Print the code of a trial's steps, by default of the latest."""
    work("trial_report").code(**given)


@command("log", trials=True)
@experiment_argument
@_trial_argument
@click.option("--step", metavar="NAME", help="Only what this step said.")
def log(**given: Any) -> None:
    """Print what the steps of a trial printed, logged and warned of, by default of the latest."""
    work("trial_report").log(**given)


@command("env", trials=True)
@experiment_argument
@_trial_argument
@click.option("--category", metavar="NAME", help="Only this part, such as git or requirements.")
@click.option("--packages", is_flag=True, help="The packages, as a requirements file has them.")
def env(**given: Any) -> None:
    """Print the environment of a trial, by default of the latest."""
    work("trial_report").environment(**given)


@command("compare", trials=True)
@experiment_argument
@click.argument("first", metavar="A", type=TRIAL)
@click.argument("second", metavar="B", type=TRIAL)
@format_option("text", "json")
def compare(**given: Any) -> None:
    """Show how two trials differ, and why."""
    work("trial_report").compare(**given)


@command("explain", trials=True)
@click.argument("what", metavar="ID|SCRIPT", type=EXPERIMENT_OR_SCRIPT)
@click.argument("given", metavar="[TRIAL|NAME=VALUE...]", nargs=-1)
@result_option
@format_option("text", "json", "csv")
def explain(
    what: str | Path, given: tuple[str, ...], name: str | None, backend: str | None, format_: str
) -> None:
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
            f"as a file with its suffix, or as {f'./{what}'!r}."
        )
    trial = TRIAL.convert(given[0], None, None) if given else LATEST
    work("trial_report").explain(backend, what, trial, format_)


_by_option = click.option(
    "--by", default="Result", show_default=True, metavar="NAME",
    help="What is compared, such as Result.f1 or metrics.loss.min.",
)  # fmt: skip
_mode_option = click.option(
    "--mode", type=click.Choice(["max", "min"]), default="max", show_default=True,
    help="Whether the highest or the lowest is best.",
)  # fmt: skip


@command("report")
@experiment_argument
@click.option(
    "--trials", type=TRIALS, default="latest", show_default=True, metavar="TRIALS",
    help="Which trials, such as best,3-7; the others are compared to the first.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The file; by default ID.html.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@_by_option
@_mode_option
def report(**given: Any) -> None:
    """Write trials to one HTML file: curves, artifacts, notes, how they differ.

    The file asks no server and runs nothing, so it can be mailed.
    """
    work("report_file").write_report(**given)


@command("best")
@experiment_argument
@_by_option
@_mode_option
@click.option("--where", metavar="CONDITION", help="Only trials for which this holds.")
def best(**given: Any) -> None:
    """Print the id of the best trial that succeeded."""
    work("scores").best(**given)


@command("check-metric", trials=True)
@experiment_argument
@_trial_argument
@_by_option
@click.option(
    "--against", default="best", show_default=True, metavar="TAG|best",
    help="The best of the other trials, or of those with a tag.",
)  # fmt: skip
@_mode_option
@click.option(
    "--tolerance", type=float, default=0.0, show_default=True, metavar="NUMBER",
    help="By how much it may be worse.",
)  # fmt: skip
def check_metric(**given: Any) -> int:
    """Compare a trial, by default the latest, with others; the exit status is 1 if it is worse."""
    status: int = work("scores").check_metric(**given)
    return status


# What you say of it ----------------------------------------------------------------------------


@command("save", trials=True)
@experiment_argument
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@_trial_argument
def save(**given: Any) -> None:
    """Add a file or folder to a trial, by default the latest, as an artifact."""
    work("artifact_commands").save_artifact(**given)


@command("tag", trials=True)
@experiment_argument
@_trials_argument
@_tags_argument
def tag(**given: Any) -> None:
    """Give trials tags. TRIALS is such as 1,3-7 or latest."""
    work("remarks").tag(**given)


@command("untag", trials=True)
@experiment_argument
@_trials_argument
@_tags_argument
def untag(**given: Any) -> None:
    """Take tags from trials."""
    work("remarks").untag(**given)


@command("note", trials=True)
@experiment_argument
@_trials_argument
@click.argument("text")
def note(**given: Any) -> None:
    """Add a note to trials."""
    work("remarks").note(**given)


@command("rename", trials=True)
@experiment_argument
@click.argument("trial", type=TRIAL)
@click.argument("name")
def rename(**given: Any) -> None:
    """Give a trial a name; an empty one takes it away."""
    work("remarks").rename(**given)


@command("archive", trials=True)
@experiment_argument
@_trials_argument
def archive(**given: Any) -> None:
    """Leave trials out of the history, unless it is asked for with --archived."""
    work("remarks").archive(**given)


@command("unarchive", trials=True)
@experiment_argument
@_trials_argument
def unarchive(**given: Any) -> None:
    """List archived trials in the history again."""
    work("remarks").unarchive(**given)


@command("rm-trials", trials=True)
@experiment_argument
@_trials_argument
@click.option("--force", is_flag=True, help="Also those of which others reuse what they kept.")
@click.option("--yes", is_flag=True, help="Do not ask, also at a terminal.")
def rm_trials(**given: Any) -> None:
    """Delete trials for good; their ids are never given out again."""
    work("remarks").remove(**given)


# Keeping house ---------------------------------------------------------------------------------


@command("copy", backends=True)
@experiment_argument
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.argument("target", metavar="TARGET")
def copy(**given: Any) -> None:
    """Copy an experiment to another store, given as a folder or URL.

    What is there already is left alone, so that a copy that was cut off can be completed. Several
    stores, given before the target or with --backend, are merged into it: trials whose ids are
    taken get the next free ones, and none is there twice.
    """
    work("maintenance").copy(**given)


@command("export")
@experiment_argument
@click.argument(
    "folder", metavar="[FOLDER]", type=click.Path(file_okay=False, path_type=Path), required=False
)
@click.option(
    "-o", "--output", "output_", type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER", help="The folder, in another place.",
)  # fmt: skip
@format_option("text", "parquet")
def export(
    folder: Path | None, output_: Path | None, backend: str | None, id: str, format_: str
) -> None:
    """Write an experiment to a folder, as text files or as tables.

    As text, the history is one CSV file; there is a JSON file for each trial, and the code of each
    trial as a .py file. The same records give the same files, so that Git shows what is new. As
    Parquet, there are the tables history, metrics, steps and artifacts.
    """
    target = folder or output_
    if target is None or (folder and output_):
        raise click.UsageError("Give the folder to write to, once: FOLDER or -o FOLDER.")
    if format_ == "parquet":
        work("table_export").export_tables(backend, id, target)
    else:
        work("maintenance").export(backend, id, target)


@command("delete")
@experiment_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(**given: Any) -> None:
    """Remove an experiment's records from the store."""
    work("maintenance").delete(**given)


@command("prune")
@experiment_argument
@click.option("--max-bytes", metavar="SIZE", help="Keep so much, such as 500MB or 2GiB.")
@click.option("--older-than", metavar="TIME", help="Remove what was not used for 30d, 12h, 90min.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def prune(**given: Any) -> None:
    """Remove reusable values that were not used for the longest time.

    History, parameters and metrics stay.
    """
    work("maintenance").prune(**given)


@command("flush")
@click.argument("id", metavar="[ID]", type=EXPERIMENT, required=False)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after so long.")
def flush(**given: Any) -> None:
    """Deliver what waits on this machine for the store, of one experiment or of all."""
    work("maintenance").flush(**given)


@command("check")
@click.argument("id", metavar="[ID]", type=EXPERIMENT, required=False)
@click.option(
    "--repair", is_flag=True,
    help="Put right what can be. Nobody may write to the store meanwhile.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True,
    metavar="SECONDS", help="Look for so long, at each experiment.",
)  # fmt: skip
def check(**given: Any) -> int:
    """Look for damage: of one experiment or of all, one line each with its remedy.

    Looked for are damaged pages, keys and documents, damaged records, objects that are missing,
    damaged or named by nothing, and journals that wait. The exit status is 1 if anything is left.
    """
    status: int = work("checkup").check(**given)
    return status


_SECTIONS = {
    "With a script": (run, resume, reproduce),
    "What was recorded": (
        ls, history, show, steps, metrics, artifacts, get, log, code, env, compare, explain, best,
        check_metric, report, board,
    ),
    "What you say of it": (save, tag, untag, note, rename, archive, unarchive, rm_trials),
    "Keeping house": (copy, export, delete, prune, flush, check),
}  # fmt: skip


_ALIASES = {"list": "ls", "rm": "delete", "diff": "compare", "ui": "board"}
"""What people try -> the command that they mean."""


class _CommandGroup(Command, click.Group):
    """A group of commands whose help lists them in sections."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or by another one that people try."""
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, section by section, with the first line of the help of each."""
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                rows = [(one.name or "", (one.help or "").partition("\n")[0]) for one in commands]
                formatter.write_dl(rows)


@click.group(
    "daskperiment", cls=_CommandGroup, commands=list(chain(*_SECTIONS.values())),
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(package_name="daskperiment")
@click.option("--backend", metavar="STORE", help="Folder or URL of the store, as of each command.")
@debug_option
@click.pass_context
def cli(context: click.Context, /, backend: str | None) -> None:
    """Run experiments and look at what was recorded.

    Experiments are in a store: the folder daskperiment_cache, unless --backend, the variable
    DASK_DASKPERIMENT__BACKEND or Dask's configuration names another. Each command tells more with
    --help.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


def main() -> None:
    """Run the command ``daskperiment``."""
    with exiting_at_interrupt():
        cli()
