"""Commands that move, deliver and remove records."""

from __future__ import annotations

from pathlib import Path

import click

from daskperiment.cli.options import EXPERIMENT, command, experiment_argument, work

__all__ = ["COMMANDS"]


@command("copy")
@experiment_argument
@click.argument("target", metavar="TARGET")
def copy(backend: str | None, experiment: str, target: str) -> None:
    """Copy an experiment to another store, given as a folder or URL.

    What is there already is left alone, so that a copy that was cut off can be completed.
    """
    work("housekeeping").copy(backend, experiment, target)


@command("export")
@experiment_argument
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def export(backend: str | None, experiment: str, folder: Path) -> None:
    """Write an experiment to a folder, as text files.

    The history is one CSV file; there is a JSON file for each trial, and the code of each trial
    as a .py file. The same records give the same files, so that Git shows what is new.
    """
    work("exporting").export(backend, experiment, folder)


@command("delete")
@experiment_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(backend: str | None, experiment: str, yes: bool) -> None:
    """Remove an experiment's records from the store."""
    work("housekeeping").delete(backend, experiment, yes)


@command("prune")
@experiment_argument
@click.option("--max-bytes", metavar="SIZE", help="Keep so much, such as 500MB or 2GiB.")
@click.option("--older-than", metavar="TIME", help="Remove what was not used for 30d, 12h, 90min.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def prune(
    backend: str | None, experiment: str, max_bytes: str | None, older_than: str | None,
    dry_run: bool,
) -> None:  # fmt: skip
    """Remove reusable values that were not used for the longest time.

    History, parameters and metrics stay.
    """
    work("housekeeping").prune(backend, experiment, max_bytes, older_than, dry_run)


@command("flush")
@click.argument("experiment", metavar="[ID]", type=EXPERIMENT, required=False)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after so long.")
def flush(backend: str | None, experiment: str | None, timeout: float | None) -> None:
    """Deliver what waits on this machine for the store, of one experiment or of all."""
    work("housekeeping").flush(backend, experiment, timeout)


COMMANDS = (copy, export, delete, prune, flush)
