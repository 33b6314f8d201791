"""Every command and every wrong thing that it may be given: one line, for the shell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from daskperiment.cli import cli
from tests.cli.conftest import Command
from tests.cli.test_advice import IN_PYTHON

RIGHT = {
    "id": "pairs", "what": "pairs.py", "script": "pairs.py", "trial": "1", "trials": "1",
    "first": "1", "second": "2", "name": "x", "text": "seen", "tags": "seen",
    "path": "beside.py", "target": "elsewhere", "folder": "tables", "max_bytes": "1 GB",
    "report trials": "best",
}  # fmt: skip
"""What each argument may be."""
WRONG_BY_TYPE = {
    "_ExperimentId": ["nowhere", "a/b", ""],
    "_TrialId": ["99", "x", "-99", "0", "1.5"],
    "_TrialList": ["99", "x", "1-99", "2-1", ""],
    "_ExperimentOrScript": ["nowhere", "absent.py"],
    "IntRange": ["-1", "many"],
    "FloatParamType": ["many"],
    "FloatRange": ["many", "-1"],
    "Choice": ["neither"],
    "_Column": ["neither", ""],
    "File": ["absent.txt"],
}  # fmt: skip
WRONG_BY_NAME = {
    "where": ["a >", "neither == 1", "a == ", "import os"],
    "by": ["neither", "a ==", "name"],
    "names": ["neither"],
    "category": ["neither"],
    "step": ["neither"],
    "against": ["neither"],
    "max_bytes": ["many", "-1"],
    "older_than": ["long", "-1 day"],
    "swept": ["neither=1", "a", "a=", "=1"],
    "resume": ["neither"],
    "given": ["neither=1", "a", "=1"],
    "backend": ["nothing://x", "redis://127.0.0.1:1/0", "beside.py"],
    "script": ["absent.py", "beside.py", "."],
    "path": ["absent.txt"],
    "target": ["nothing://x"],
    "tags": ["a,b", ""],
    "text": [""],
    "output": ["absent/x"],
}
"""What each argument or option must not be, by its name where its type does not tell."""
SERVES = {"board": {"experiment", "host", "token"}}
"""What is no mistake: the page shows what is to come."""


NEEDED = {
    "check-metric": {"trial"}, "export": {"folder"}, "run": {"script"},
    "prune": {"max_bytes"}, "report": {"trials"},
}  # fmt: skip
"""What a command can do without, but not for these mistakes to matter."""
SCRIPTS = {("run", "beside.py"), ("reproduce", "beside.py")}
"""Where advice is about what to write into a script, which is Python."""


def words_of(name: str, wrong: str, value: str) -> list[str]:
    """Return a call in which one argument or option is wrong, and all that is needed right."""
    options, arguments = [], []
    for one in cli.commands[name].params:
        own = str(one.name)
        if own != wrong and not one.required and own not in NEEDED.get(name, ()):
            continue
        given = (
            value if own == wrong else RIGHT[f"{name} {own}" if f"{name} {own}" in RIGHT else own]
        )
        if isinstance(one, click.Argument):
            arguments.append(given)
        else:
            options += [max(one.opts, key=len), given]
    return [*options, "--", *arguments] if value.startswith("-") else [*arguments, *options]


def mistakes() -> Iterator[tuple[str, str, str]]:
    """Yield each command, and what of it is wrong."""
    for name, command in sorted(cli.commands.items()):
        for one in command.params:
            kind, own = type(one.type).__name__, str(one.name)
            if own in SERVES.get(name, ()):
                continue
            for value in WRONG_BY_NAME.get(own) or WRONG_BY_TYPE.get(kind, []):
                yield name, own, value


MISTAKES = list(mistakes())


def test_every_command_is_in_the_table() -> None:
    """Each command has mistakes, but for those that take nothing that can be wrong."""
    assert {name for name, _, _ in MISTAKES} == set(cli.commands)
    assert len(MISTAKES) > 200


def faults(name: str, value: str, status: int, told: str) -> list[str]:
    """Say what is wrong with an answer to a mistake."""
    is_so = {
        f"status {status}": status not in (1, 2),
        "no error": not told.strip().rpartition("\n")[2].startswith("Error: "),
        "Python": IN_PYTHON.search(told) is not None and (name, value) not in SCRIPTS,
        "traceback": "Traceback" in told,
        "not named": re.split(" |=", value.strip("-"))[0] not in told,
    }
    return [what for what, holds in is_so.items() if holds]


def test_every_mistake_is_told_in_words_of_the_shell(trials: Command) -> None:
    """Status 1 or 2, a line that names what was wrong, no call of Python, and no traceback."""
    bad = []
    for name, own, value in MISTAKES:
        answer = trials(name, *words_of(name, own, value))
        if found := faults(name, value, answer.status, answer.err):
            bad.append((name, own, value, found, answer.err))
    assert bad == []
