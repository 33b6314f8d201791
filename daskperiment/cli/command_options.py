"""Options and arguments that commands share, and the values that are given as text.

Help and completion answer at once because click alone is loaded here; :func:`work` loads what a
command does when it runs.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daskperiment.cli.exit_status import Command, Refused

__all__ = [
    "BEST", "COLUMN", "EXPERIMENT", "EXPERIMENT_OR_SCRIPT", "LATEST", "SCRIPT", "TRIAL",
    "assignments", "command", "debug_option", "duration", "experiment_argument", "format_option",
    "given_argument", "help_option", "limit_option", "literal", "named_options",
    "result_option", "scheduler_option", "spaces",
    "TRIALS", "trial_options", "work",
]  # fmt: skip

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # no generic type before click 8.5

F = TypeVar("F", bound=Callable[..., Any])
Read = Callable[[str, str], Any]
"""What says, by the name of a parameter, which value a text means."""

LATEST, BEST = -1, 0
"""Stand for the latest trial, -2 for the one before, and for that of the highest result; real ids
begin with 1."""

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def work(module: str) -> ModuleType:
    """Load what a command does: with it come Dask and, for tables, pandas."""
    return importlib.import_module(f"daskperiment.cli.{module}")


# Declaring commands ----------------------------------------------------------------------------


def command(
    name: str, *, backends: bool = False, trials: bool = False, **settings: Any
) -> Callable[[F], click.Command]:
    """Return a decorator as :func:`click.command` does, with the options that all commands have.

    With `backends`, a store may be given more than once; with `trials`, ``-1`` is an argument.
    """

    def declare(function: F) -> click.Command:
        # Each its own: what a command makes of a group's depends on how it is first asked.
        context = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": trials}
        declared = click.command(name, cls=Command, context_settings=context, **settings)
        return declared(_backend_option(backends)(debug_option(function)))

    return declare


def _switch_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(dict)["debug"] = True


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_switch_debug,
    help="Show the traceback of an error.",
)  # fmt: skip


def _given_before(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the store that was given behind the command, else the one before it."""
    before = context.parent.params.get("backend") if context.parent else None
    return value or (before and ((before,) if parameter.multiple else before)) or value


def _backend_option(multiple: bool) -> Callable[[F], F]:
    again = " May be given more than once." if multiple else ""
    return click.option(
        "--backend", metavar="STORE", multiple=multiple, callback=_given_before,
        help="Folder or URL of the store (file://, redis://, mongodb://). Without it: the variable "
        "DASK_DASKPERIMENT__BACKEND or Dask's configuration, else the folder daskperiment_cache."
        f"{again}",
    )  # fmt: skip


def _refuse_option(value: str, ctx: Any) -> None:
    """Refuse what can be no argument, as it would be where ``-1`` is none either."""
    if value.startswith("-"):
        known = [name for one in ctx.command.params for name in one.opts] if ctx else []
        raise click.NoSuchOption(value, possibilities=get_close_matches(value, known), ctx=ctx)


def completed(what: str, ctx: click.Context, incomplete: str) -> list[Any]:
    """Return the words of a kind that begin as a word does; none where they cannot be told."""
    head, comma, word = incomplete.rpartition(",")
    try:
        words = getattr(work("shell_words"), what)(ctx)
    except Exception:
        return []  # completing a word is no place to complain about a store
    shell = importlib.import_module("click.shell_completion")
    return [shell.CompletionItem(f"{head}{comma}{one}") for one in words if one.startswith(word)]


class _Column(_ParamType):
    """The name of a column, or several with commas between them."""

    name = "column"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        return completed("columns", ctx, incomplete)


class _GivenParameter(_Column):
    """A parameter of a script with its value."""

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        return completed("parameters", ctx, incomplete)


class _ExperimentId(_ParamType):
    name = "experiment"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        _refuse_option(value, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        return completed("experiments", ctx, incomplete)


class _TrialId(_ParamType):
    name = "trial"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        if _TRIAL.fullmatch(value) is None:
            _refuse_option(value, ctx)
            expected = "expected a number from 1, -1 for the latest, -2 …, 'latest' or 'best'"
            self.fail(f"{value!r} is no trial id: {expected}.", param, ctx)
        return _number(value)

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        return completed("trials", ctx, incomplete)


class _TrialList(_ParamType):
    """Several trials, as ``1,3-7,latest``: a list of the first and the last of each piece."""

    name = "trials"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[tuple[int, int]]:
        found = []
        for piece in value.split(","):
            match = _PIECE.fullmatch(piece.strip())
            if match is None:
                _refuse_option(value, ctx)
                expected = "expected ids and ranges such as 1,3-7,latest,best"
                self.fail(f"{piece!r} names no trials: {expected}.", param, ctx)
            first = _number(match[1])
            found.append((first, _number(match[2]) if match[2] else first))
        return found

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        return completed("trials", ctx, incomplete)


_TRIAL = re.compile(r"latest|best|-?0*[1-9][0-9]*", re.ASCII)
_PIECE = re.compile(rf"({_TRIAL.pattern})(?:-({_TRIAL.pattern}))?", re.ASCII)


def _number(text: str) -> int:
    named = {"latest": LATEST, "best": BEST}
    # No id has so many digits, and Python refuses to read thousands of them.
    return named[text] if text in named else int(text[:200])


class _ExperimentOrScript(_ExperimentId):
    """The id of an experiment, or a script: what ends in .py, or is a file that is there."""

    name = "experiment or script"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, Path) or value.isidentifier():
            return value
        # Here, so that help and completion answer at once.
        from daskperiment.records import is_experiment_id  # noqa: PLC0415

        if is_experiment_id(value) and not (value.endswith(".py") or os.path.exists(value)):
            return value
        _refuse_option(value, ctx)
        return SCRIPT.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: Any, incomplete: str) -> list[Any]:
        ids = super().shell_complete(ctx, param, incomplete)
        return ids or SCRIPT.shell_complete(ctx, param, incomplete)


SCRIPT = click.Path(exists=True, dir_okay=False, path_type=Path)
TRIAL = _TrialId()
TRIALS = _TrialList()
EXPERIMENT = _ExperimentId()
COLUMN = _Column()
EXPERIMENT_OR_SCRIPT = _ExperimentOrScript()

experiment_argument = click.argument("id", metavar="ID", type=EXPERIMENT)


def format_option(*formats: str) -> Callable[[F], F]:
    """Return the options ``--format`` and ``--json``; the first format is the default."""

    def declare(function: F) -> F:
        @wraps(function)
        def run(*given: Any, as_json: bool = False, format_: str, **more: Any) -> Any:
            return function(*given, format_="json" if as_json else format_, **more)

        described: Any = _format_option(*formats)(run)
        if "json" in formats:
            option = click.option("--json", "as_json", is_flag=True, help="As --format json.")
            described = option(described)
        return described  # type: ignore[no-any-return]

    return declare


limit_option = click.option(
    "-n", "--limit", type=click.IntRange(min=0), metavar="N", help="Only the first N rows."
)


def _format_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "--format", "format_", type=click.Choice(formats), default=formats[0], show_default=True,
        help="A table is laid out for a terminal, and has tabs between its columns in a pipe."
        if formats[0] == "table" else "How to write it.",
    )  # fmt: skip


# With a script ---------------------------------------------------------------------------------

given_argument = click.argument(
    "given", metavar="[NAME=VALUE]...", nargs=-1, type=_GivenParameter()
)
result_option = click.option(
    "--result", "name", metavar="NAME",
    help="Which result, if the script has several: its variable or its function.",
)  # fmt: skip
scheduler_option = click.option(
    "--scheduler", metavar="NAME",
    help="synchronous, threads, processes, or the address of a cluster (tcp://…).",
)  # fmt: skip
# Help that lists a script's parameters, too, once the script is known.
help_option = click.option("-h", "--help", "wants_help", is_flag=True, help="Show this and leave.")

_TRIAL_OPTIONS = (
    click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of the trial."),
    scheduler_option,
    click.option(
        "--reuse", is_flag=True, help="Take outputs of unchanged steps from earlier trials."
    ),
    click.option(
        "--sweep", "swept", multiple=True, metavar="NAME=A,B,…",
        help="A trial for each of these values; given more than once, for each combination.",
    ),
    click.option(
        "--sampler", type=click.Choice(("grid", "random", "tpe")),
        help="Which values a sweep tries: all combinations, random ones, or what Optuna suggests.",
    ),
    click.option(
        "--direction", type=click.Choice(("minimize", "maximize")), help="What Optuna looks for."
    ),
    click.option(
        "--n-trials", type=click.IntRange(min=1), metavar="N", help="Trials of a sweep, at most."
    ),
    click.option(
        "--resume", metavar="SWEEP|TRIAL",
        help="Run what a sweep that was cut off misses, or go on with a trial.",
    ),
)  # fmt: skip


def trial_options(function: F) -> F:
    """Declare how a trial, or a sweep of them, is run."""
    for option in reversed(_TRIAL_OPTIONS):
        function = option(function)
    return function


_YAML = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False,
         "null": None}  # fmt: skip
"""What YAML writes otherwise than Python; a text of one of these is given in quotes."""


# Values that are given as text -----------------------------------------------------------------


def literal(text: str) -> Any:
    """Return the value of a literal of Python or YAML; what is none is text.

    >>> [literal(text) for text in ("1", "2.5", "[1, 'a']", "None", "adam", "'1'")]
    [1, 2.5, [1, 'a'], None, 'adam', '1']
    >>> [literal(text) for text in ("true", "False", "null", "[relu, 2, no thing]", "yes")]
    [True, False, None, ['relu', 2, 'no thing'], True]
    """
    if text.strip().lower() in _YAML:
        return _YAML[text.strip().lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a compiler about text such as "1if"
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        inner = text.strip()[1:-1]
        if text.strip() != f"[{inner}]":
            return text
        return [literal(part.strip()) for part in _parts(inner)]


def named_options(given: Iterable[str]) -> list[str]:
    """Return parameters that are given as ``--name value`` or ``--name=value`` as NAME=VALUE.

    >>> named_options(["lr=0.1", "--rate", "-2", "--opt.name=adam"])
    ['lr=0.1', 'rate=-2', 'opt.name=adam']
    """
    found, words = [], iter(given)
    for word in words:
        if not word.startswith("--") or word == "--":
            found.append(word)
            continue
        name, separator, value = word[2:].partition("=")
        text = value if separator else next(words, None)
        if text is None or not name:
            raise Refused(f"Got {word!r} without a value; expected {word} VALUE, or an option.")
        found.append(f"{name}={text}")
    return found


def assignments(given: Iterable[str], read: Read | None = None) -> dict[str, Any]:
    """Return the parameters that are given as NAME=VALUE; `read` says what a text means.

    >>> assignments(["lr=0.1", "name=x=y"])
    {'lr': 0.1, 'name': 'x=y'}
    """
    pairs = _pairs(named_options(given), "NAME=VALUE, such as lr=0.1")
    read = read or _as_literal
    return {name: read(name, text) for name, text in pairs.items()}


def _as_literal(name: str, text: str) -> Any:
    return literal(text)


def spaces(given: Iterable[str], read: Read | None = None) -> dict[str, list[Any]]:
    """Return the values of a sweep, each parameter given as NAME=A,B,C.

    >>> spaces(["lr=0.1,0.2", "layers=[8],[8, 4]", "name=adam,sgd"])
    {'lr': [0.1, 0.2], 'layers': [[8], [8, 4]], 'name': ['adam', 'sgd']}
    """
    expected = "NAME=A,B,…, such as lr=0.1,0.2"
    pairs = _pairs(given, expected)
    for name, text in pairs.items():
        if not text.strip():
            raise Refused(f"Got {name + '='!r}, which has no value; expected {expected}.")
    read = read or _as_literal
    return {name: [read(name, part.strip()) for part in _parts(text)]
            for name, text in pairs.items()}  # fmt: skip


def _pairs(given: Iterable[str], expected: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise Refused(f"Got {text!r}; expected {expected}.")
        if name in pairs:
            raise Refused(f"Parameter {name!r} is given twice; give it once.")
        pairs[name] = value
    return pairs


def _parts(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += char
    return parts


def duration(text: str) -> float:
    """Return a duration in seconds.

    >>> duration("90min"), duration("30d"), duration("5")
    (5400.0, 2592000.0, 5.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)?", text.strip())
    if match is None:
        raise Refused(f"Got {text!r} as a time; expected something like 30d, 12h, 90min or 45s.")
    return float(match[1]) * _UNITS[match[2] or "s"]
