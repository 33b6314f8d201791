"""How a command ends: its exit status, with each error and warning in one line.

====  ==================================================================================
0     it worked
1     a trial failed, or something cannot be done now: a store is away, a script is broken
2     it was asked for in a wrong way: an unknown experiment, trial, column or option
130   Ctrl-C
====  ==================================================================================
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from os import _exit as end_process  # documented, in spite of its name
from pathlib import Path
from typing import Any

import click

from daskperiment import errors
from daskperiment.formatting import one_line

__all__ = ["Command", "Failed", "Refused", "exiting_at_interrupt"]

_INTERRUPTED = 130
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRONG_USE = (
    errors.LookupFailedError, errors.ParameterUndeclaredError, errors.ParameterUndefinedError,
    errors.TrialIDNotFoundError,
)  # fmt: skip


_IN_SHELL = (
    (r"The index of get_history\(running=True\) lists", "daskperiment history --running lists"),
    (r"The index of get_history\(\) lists", "daskperiment history lists"),
    (r"ex\.get_history\(running=True\) tells", "daskperiment history --running tells"),
    (r"call ex\.set_parameters\((\w+)=\.\.\.\) or bind\(\1=\.\.\.\)", r"give \1=VALUE"),
    (r"call ex\.set_parameters\(\*\*\{'(.+?)': \.\.\.\}\) or bind\(.*?\}\)", r"give \1=VALUE"),
    (
        r"(If you have it, give|Give) it: bind\(.*\)\.\w+\(\d+\)(, or ex\.set_parameters\(.*\))?\.",
        "Let the script give it a value, such as that of an environment variable.",
    ),
    (r"reproduce\((\d+)\) runs it again", r"daskperiment reproduce SCRIPT \1 runs it again"),
    (r"compute\(\) is a new trial", "daskperiment run is a new trial"),
    (r"resume\((\d+)\) goes on", r"daskperiment resume SCRIPT \1 goes on"),
    (r"call \w+\(\d+\) of '(.*?)'", r"give --result \1"),
    (r"ex\.save\(name, value\) saves", "daskperiment save adds"),
    (r"ex\.flush\(\)", "daskperiment flush"),
    (r"as prune\(\) does", "as daskperiment prune does"),
    (r"\bforce=True", "--force"),
)
"""What the package's errors and warnings advise in Python -> the same in a shell."""


class Failed(click.ClickException):
    """Something cannot be done; exit status 1."""

    exit_code = 1


class Refused(click.ClickException):
    """Something was asked for in a wrong way; exit status 2."""

    exit_code = 2


class Command(click.Command):
    """A command that ends as this module's docstring says."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command, and leave with its exit status unless `standalone_mode` is False."""
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        # Options that hold for the whole call; read when click's own context is gone.
        shared: dict[str, Any] = {}
        extra.setdefault("obj", shared)
        with _warnings_in_one_line():
            status = _status(lambda: run(*args, standalone_mode=False, **extra), shared)
        sys.exit(status)


@contextmanager
def exiting_at_interrupt() -> Iterator[None]:
    """End the process at Ctrl-C, though threads still run a step that nobody waits for."""
    try:
        yield
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED and not _has_children():
            # This way of ending skips atexit. If nothing was recorded, the module is not loaded.
            registry: Any = sys.modules.get("daskperiment.recording.registry")
            if registry is not None:
                registry.close_recorders()
            sys.stdout.flush()
            end_process(_INTERRUPTED)
        raise


def _status(run: Callable[[], Any], shared: dict[str, Any]) -> int:
    """Return the exit status of a call, after printing what it raised."""
    _escape_unencodable(sys.stdout)
    _escape_unencodable(sys.stderr)
    try:
        status = run()
        sys.stdout.flush()  # so that a failure to write is reported as all others are
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, click.Abort) and isinstance(error.__context__, EOFError):
            click.echo()  # the question's line is not ended
            return _report("Nothing was answered, so nothing was done.", 1)
        return _report("Interrupted.", _INTERRUPTED)
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # as a step may raise
        if shared.get("debug"):
            click.echo("\n".join(map(one_line, folded_traceback(error))), err=True)
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            _discard_output()
        return _report(*_message_and_status(error))
    return status if isinstance(status, int) else 0


_LIBRARIES = ("daskperiment", "dask", "distributed", "click", "concurrent", "toolz")


def _has_children() -> bool:
    # Who never loaded it has none; loading it would be felt in each answer.
    loaded = sys.modules.get("multiprocessing")
    return loaded is not None and bool(loaded.active_children())


def folded_traceback(error: BaseException) -> list[str]:
    """Return the lines of a traceback, those of the user's code first and in full.

    What went on in this package and in Dask is a line for each run of frames, and errors that came
    of it there are a line each. Of an error that the user's code has no part in all is shown.
    """
    chained = list(_chain(error))
    if not any(_users_frames(one) for one in chained):
        return "".join(traceback.format_exception(error)).splitlines()
    return [line for one in reversed(chained) for line in _folded(one)]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not _is_library(frame.filename)]


def _folded(error: BaseException) -> list[str]:
    told = [line for text in traceback.format_exception_only(error) for line in text.splitlines()]
    if not _users_frames(error):
        return ["", "It came of that:", *told]
    lines = ["Traceback (most recent call last; frames of Dask and daskperiment are folded):"]
    frames = traceback.extract_tb(error.__traceback__)
    for library, run in groupby(frames, lambda frame: _is_library(frame.filename)):
        some = list(run)
        if library:
            lines.append(f"  … {len(some)} frames of libraries")
        else:
            shown = traceback.format_list(some)
            lines += [line for text in shown for line in text.splitlines()]
    return [*lines, *told]


def _is_library(filename: str) -> bool:
    """Whether a file belongs to this package, to Dask, or to what runs their tasks."""
    folder, name = os.path.split(filename)
    packages = Path(folder).parts
    return name == "threading.py" or any(one in _LIBRARIES for one in _below_root(packages))


def _below_root(parts: Sequence[str]) -> Sequence[str]:
    """Return what stands behind the folder that packages are imported from."""
    roots = [os.path.dirname(os.path.dirname(os.path.dirname(__file__))), *sys.path]
    for count in range(len(parts), 0, -1):
        if str(Path(*parts[:count])) in roots:
            return parts[count : count + 1]
    return ()


def _discard_output() -> None:
    """Send what could not be written nowhere, or it would be tried again at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _message_and_status(error: BaseException) -> tuple[str, int]:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.format_message()} Try '{error.ctx.command_path} --help'.", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, errors.DaskperimentError):
        return str(error), 2 if isinstance(error, _WRONG_USE) else 1
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"Cannot write: {error.strerror}. Make room, or write to another place.", 1
    return f"{type(error).__name__}: {error}. With --debug it shows where.", 1


def _report(message: str, status: int) -> int:
    label = "" if status == _INTERRUPTED else "Error: "
    click.echo(label + _in_one_line(message), err=True)
    return status


def _in_one_line(message: str) -> str:
    text = " ".join(message.split())
    for advice, in_shell in _IN_SHELL:
        text = re.sub(advice, in_shell, text)
    return one_line(text)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show the package's own warnings as a line each; others stay as they are."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, errors.DaskperimentWarning):
                click.echo(f"Warning: {_in_one_line(str(message))}", err=True)
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _escape_unencodable(stream: Any) -> None:
    """Let a stream write what its encoding does not have as an escape, instead of failing."""
    with suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors="backslashreplace")
