"""The dashboard, as ``daskperiment board`` and as ``daskperimentboard``."""

from __future__ import annotations

import click

from daskperiment.cli.options import EXPERIMENT, command, work

__all__ = ["board", "main"]


@command("board")
@click.argument("experiment", metavar="[ID]", type=EXPERIMENT, required=False)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True,
    help="If it is taken, a free one is used; 0 is any free one.",
)  # fmt: skip
@click.option(
    "--host", default="127.0.0.1", show_default=True,
    help="Address to listen on. Others than this machine's own need a token.",
)  # fmt: skip
@click.option("--token", help="Secret that a browser has to give.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in a browser.")
def board(
    backend: str | None, experiment: str | None, port: int, host: str, token: str | None,
    open_browser: bool,
) -> None:  # fmt: skip
    """Start the dashboard, with an experiment first if one is given; Ctrl-C ends it."""
    work("serving").serve(backend, experiment, port, host, token, open_browser)


def main() -> None:
    """Run the command ``daskperimentboard``."""
    board(prog_name="daskperimentboard")
