"""The command ``daskperiment``."""

from __future__ import annotations

import click

from daskperiment.cli import asking, computing, keeping
from daskperiment.cli.answering import Sections, leaving_at_once
from daskperiment.cli.board import board
from daskperiment.cli.options import debug_option

__all__ = ["cli", "main"]


@click.group(
    "daskperiment", cls=Sections, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(package_name="daskperiment")
@debug_option
@click.pass_context
def cli(context: click.Context, /) -> None:
    """Run experiments and look at what was recorded.

    Experiments are in a store: the folder daskperiment_cache, unless --backend, the variable
    DASK_DASKPERIMENT__BACKEND or Dask's configuration names another. Each command tells more with
    --help.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


for _title, _commands in (
    ("With a script", computing.COMMANDS),
    ("What was recorded", (*asking.COMMANDS, computing.explain, board)),
    ("Keeping house", keeping.COMMANDS),
):
    cli.add_section(_title, _commands)


def main() -> None:
    """Run the command ``daskperiment``."""
    with leaving_at_once():
        cli()
