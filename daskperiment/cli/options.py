"""What several commands have in common."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daskperiment.cli.answering import AnsweringCommand, Switches

__all__ = [
    "EXPERIMENT",
    "EXPERIMENT_OR_SCRIPT",
    "LATEST",
    "SCRIPT",
    "TRIAL",
    "command",
    "experiment_argument",
    "format_option",
    "work",
]

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # no generic type before click 8.5

F = TypeVar("F", bound=Callable[..., Any])

LATEST = 0
"""Stands for the latest trial; real ids begin with 1."""


def work(module: str) -> ModuleType:
    """Load what a command does: with it come Dask and, for tables, pandas."""
    return importlib.import_module(f"daskperiment.cli.{module}")


def command(name: str, **settings: Any) -> Callable[[F], click.Command]:
    """Declare a command with the options that all have.

    Parameters
    ----------
    name : str
        Its name.
    **settings
        As for :func:`click.command`.
    """

    def declare(function: F) -> click.Command:
        # Each its own: what a command makes of a group's depends on how it is first asked.
        context = {"help_option_names": ["-h", "--help"], **settings.pop("context_settings", {})}
        declared = click.command(name, cls=AnsweringCommand, context_settings=context, **settings)
        return declared(_backend(debug_option(function)))

    return declare


def _switch_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Switches).debug = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_switch_debug,
    help="Show the traceback of an error.",
)  # fmt: skip

_backend = click.option(
    "--backend", metavar="STORE",
    help="Folder or URL of the store (file://, redis://, mongodb://). Without it: the variable "
    "DASK_DASKPERIMENT__BACKEND or Dask's configuration, else the folder daskperiment_cache.",
)  # fmt: skip


class _ExperimentId(_ParamType):
    name = "experiment"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        try:
            ids = work("stored").ids(ctx.params.get("backend"))
        except Exception:
            return []  # completing a word is no place to complain about a store
        shell = importlib.import_module("click.shell_completion")
        return [shell.CompletionItem(id) for id in ids if id.startswith(incomplete)]


class _TrialId(_ParamType):
    name = "trial"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        if value == "latest":
            return LATEST
        if not (value.isascii() and value.isdigit() and int(value[:19]) > 0):
            expected = "expected a number from 1, or 'latest'"
            self.fail(f"{value!r} is no trial id: {expected}.", param, ctx)
        return int(value[:19])


class _ExperimentOrScript(_ExperimentId):
    """The id of an experiment, which is an identifier; anything else is a script."""

    name = "experiment or script"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, Path) or value.isidentifier():
            return value
        return SCRIPT.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        ids = super().shell_complete(ctx, param, incomplete)
        return ids or SCRIPT.shell_complete(ctx, param, incomplete)


SCRIPT = click.Path(exists=True, dir_okay=False, path_type=Path)
TRIAL = _TrialId()
EXPERIMENT = _ExperimentId()
EXPERIMENT_OR_SCRIPT = _ExperimentOrScript()

experiment_argument = click.argument("experiment", metavar="ID", type=EXPERIMENT)


def format_option(*formats: str) -> Callable[[F], F]:
    """Declare ``--format``; the first is the default."""
    return click.option(
        "--format", "format_", type=click.Choice(formats), default=formats[0], show_default=True,
        help="A table is laid out for a terminal, and has tabs between its columns in a pipe."
        if formats[0] == "table" else "How to print it.",
    )  # fmt: skip
