"""How the command line answers: exit status, errors in one line, warnings in one line.

====  ==================================================================================
0     it worked
1     a trial failed, or something cannot be done now: a store is away, a script is broken
2     it was asked for in a wrong way: an unknown experiment, trial, column or option
130   Ctrl-C
====  ==================================================================================
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO

import click

from daskperiment.errors import (
    DaskperimentError,
    DaskperimentWarning,
    LookupFailedError,
    ParameterUndeclaredError,
    ParameterUndefinedError,
    TrialIDNotFoundError,
)
from daskperiment.formatting import one_line

__all__ = [
    "INTERRUPTED",
    "AnsweringCommand",
    "Failed",
    "Refused",
    "Sections",
    "Switches",
    "leaving_at_once",
]

INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRONG_USE = (
    LookupFailedError,
    ParameterUndeclaredError,
    ParameterUndefinedError,
    TrialIDNotFoundError,
)


class Failed(click.ClickException):
    """Something cannot be done; exit status 1."""

    exit_code = 1


class Refused(click.ClickException):
    """Something was asked for in a wrong way; exit status 2."""

    exit_code = 2


@dataclass
class Switches:
    """What holds for one call of a command as a whole."""

    debug: bool = False


class AnsweringCommand(click.Command):
    """A command that answers as this module's docstring says."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command, and leave with its exit status unless `standalone_mode` is False."""
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        switches = Switches()
        extra.setdefault("obj", switches)
        with _plain_warnings():
            status = _answer(lambda: run(*args, standalone_mode=False, **extra), switches)
        return sys.exit(status)


class Sections(AnsweringCommand, click.Group):
    """A group of commands that answers so, and lists its commands in sections."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._sections: dict[str, Sequence[click.Command]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands that belong together."""
        self._sections[title] = commands
        for command in commands:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, section by section."""
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(each.name or "", _first_line(each)) for each in commands])


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """After Ctrl-C, end the process though threads still run a step that nobody waits for."""
    try:
        yield
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED and not multiprocessing.active_children():
            recorders = sys.modules.get("daskperiment.recording.recorder")
            if recorders is not None:
                recorders.close_recorders()  # deliver what is recorded, as at any end
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise


def _first_line(command: click.Command) -> str:
    return (command.help or "").partition("\n")[0]


def _answer(run: Callable[[], Any], switches: Switches) -> int:
    _tolerate(sys.stdout)
    _tolerate(sys.stderr)
    try:
        status = run()
        sys.stdout.flush()  # here what cannot be written is told as all else is
    except click.Abort as error:
        if isinstance(error.__context__, EOFError):
            click.echo()  # the question's line is not ended
            return _tell("Nothing was answered, so nothing was done.", 1)
        return _tell("Interrupted.", INTERRUPTED)
    except KeyboardInterrupt:
        return _tell("Interrupted.", INTERRUPTED)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # as a step may raise
        if switches.debug:
            _show_traceback(error)
        if isinstance(error, OSError) and error.errno in _FULL:
            _drop_output()
        return _tell(*_told(error))
    return status if isinstance(status, int) else 0


def _drop_output() -> None:
    """Have what could not be written go nowhere, instead of being tried again at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _told(error: BaseException) -> tuple[str, int]:
    """Give an error's message and the exit status."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.format_message()} Try '{error.ctx.command_path} --help'.", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, DaskperimentError):
        return str(error), 2 if isinstance(error, _WRONG_USE) else 1
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"Cannot write: {error.strerror}. Make room, or write to another place.", 1
    return f"{type(error).__name__}: {error}. With --debug it shows where.", 1


def _tell(message: str, status: int) -> int:
    label = "" if status == INTERRUPTED else "Error: "
    click.echo(label + _joined(message), err=True)
    return status


def _joined(message: str) -> str:
    return one_line(" ".join(message.split()))


def _show_traceback(error: BaseException) -> None:
    lines = "".join(traceback.format_exception(error)).splitlines()
    click.echo("\n".join(map(one_line, lines)), err=True)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show our own warnings as a line each; others stay as they are."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int,
            file: TextIO | None = None, line: str | None = None,
        ) -> None:  # fmt: skip
            if issubclass(category, DaskperimentWarning):
                click.echo(f"Warning: {_joined(str(message))}", err=True)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _tolerate(stream: Any) -> None:
    """Let a stream write what its encoding does not have as an escape, instead of failing."""
    with suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors="backslashreplace")
