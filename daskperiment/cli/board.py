"""The dashboard, as ``daskperiment board`` and as ``daskperimentboard``."""

from __future__ import annotations

import importlib
from typing import Any, TextIO

import click

from daskperiment.cli.command_options import EXPERIMENT, command, work
from daskperiment.cli.exit_status import Failed, Refused
from daskperiment.formatting import install_command

__all__ = ["board", "main"]


@command("board")
@click.argument("experiment", metavar="[ID]", type=EXPERIMENT, required=False)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True,
    help="If it is taken, a free one is used; 0 is any free one.",
)  # fmt: skip
@click.option(
    "--host", default="127.0.0.1", show_default=True,
    help="Address to listen on. For others than this machine's own a token is made, or taken.",
)  # fmt: skip
@click.option(
    "--token",
    envvar="DASKPERIMENT_TOKEN",
    show_envvar=True,
    help="Secret that a browser has to give; who can list processes sees it here.",
)
@click.option(
    "--token-file",
    type=click.File("r", encoding="utf-8"),
    help="File whose first line is the token; - reads it from standard input.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in a browser.")
def board(
    backend: str | None, experiment: str | None, port: int, host: str, token: str | None,
    token_file: TextIO | None, open_browser: bool,
) -> None:  # fmt: skip
    """Start the dashboard, with an experiment first if one is given; Ctrl-C ends it."""
    lookup = work("lookup")
    if experiment is None:
        # A store that is away is reported here, and not by an empty page.
        lookup.ids(backend)
    else:
        lookup.bare_store_of(backend, experiment)
    if token_file is not None:
        token = _first_line(token_file)
    dashboard = _dashboard()
    settings = {"port": port, "host": host, "token": token, "open_browser": open_browser}
    try:
        dashboard.serve(backend, experiment=experiment, **settings)
    except ValueError as error:
        raise Refused(str(error)) from error


def _first_line(file: TextIO) -> str:
    try:
        return file.readline().strip()
    except (OSError, UnicodeError) as error:
        raise Refused(f"The token cannot be read from {file.name!r}: {error}") from error


def _dashboard() -> Any:
    # By its name: what it needs is an extra, and takes long to load.
    try:
        return importlib.import_module("daskperiment.dashboard")
    except ImportError as error:
        raise Failed(
            f"The dashboard needs {error.name or 'a package'}, which cannot be loaded: "
            + install_command("dashboard")
        ) from error


def main() -> None:
    """Run the command ``daskperimentboard``."""
    board(prog_name="daskperimentboard")
