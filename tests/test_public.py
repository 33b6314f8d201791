"""Every public name, command and option stands in the documentation."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import daskperiment
from daskperiment import dashboard, errors, testing
from daskperiment.cli import cli
from daskperiment.store import protocol

PAGES = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    """Read a page of docs/."""
    return (PAGES / f"{name}.rst").read_text(encoding="utf-8")


DIRECTIVE = re.compile(r"^\.\. auto(\w+):: ([\w.]+)(?:\(\))?\n((?:   :.*\n)*)", re.MULTILINE)
PUBLIC = [
    *(f"daskperiment.{name}" for name in daskperiment.__all__),
    *(f"daskperiment.errors.{name}" for name in errors.__all__),
    *(f"daskperiment.dashboard.{name}" for name in dashboard.__all__),
    *(f"daskperiment.testing.{name}" for name in testing.__all__),
    *(f"daskperiment.store.protocol.{name}" for name in protocol.__all__),
    "daskperiment.formats.Format",
    "daskperiment.formats.Preview",
    "daskperiment.formats.register",
    # What public methods return.
    "daskperiment.compare.parts.StepComparison",
    "daskperiment.compare.parts.Cause",
    "daskperiment.compare.parts.Pair",
    "daskperiment.explain.explanation.Explanation",
    "daskperiment.explain.explanation.StepExplanation",
    "daskperiment.history.StoredObject",
]
# What other rooms of the package ask, and users need not.
INSIDE = {
    "daskperiment.dashboard.in_notebook",
    "daskperiment.dashboard.launch",
    *(f"daskperiment.Result.{name}" for name in
      ("as_input", "compute_with", "computed_token", "dask", "key", "definition", "of",
       "with_options")),
    "daskperiment.Parameter.computed",
    "daskperiment.Parameter.plain",
}  # fmt: skip


def resolve(name: str) -> Any:
    """Get what a dotted name stands for."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def members(owner: type, inherited: bool = True) -> Iterator[tuple[str, str | None]]:
    """Give what a class of this package offers, and the docstring of each."""
    for base in inspect.getmro(owner) if inherited else (owner,):
        if not base.__module__.startswith("daskperiment"):
            continue
        for name, value in vars(base).items():
            member = callable(value) or isinstance(value, (property, classmethod))
            if not name.startswith("_") and member and not name.startswith("test_"):
                yield name, getattr(value, "__doc__", None)


@functools.cache
def described(text: str) -> set[str]:
    """Give the names that the directives of a page describe, as Sphinx takes them."""
    found = set()
    for kind, name, lines in DIRECTIVE.findall(text):
        options = dict(re.findall(r":([\w-]+): *(.*)\n", lines))
        listed = options.get("members", "-").replace(" ", "").split(",")
        left_out = options.get("exclude-members", "").replace(" ", "").split(",")
        found.add(name)
        owners = [(name, resolve(name))]
        if kind == "module":
            owners = [
                (f"{name}.{each}", getattr(owners[0][1], each))
                for each in owners[0][1].__all__
                if listed == [""] or each in listed
            ]
            found.update(each for each, _ in owners)
            listed = [""]
        for owner, value in owners if listed != ["-"] else ():
            names = members(value, "inherited-members" in options) if inspect.isclass(value) else ()
            found.update(
                f"{owner}.{each}"
                for each, docstring in names
                if docstring and each not in left_out and (listed == [""] or each in listed)
            )
    return found


def wanted() -> Iterator[str]:
    """Give every public name, and every method and property of the public classes."""
    for name in set(PUBLIC) - INSIDE:
        yield name
        owner = resolve(name)
        if inspect.isclass(owner) and not issubclass(owner, BaseException):
            yield from (f"{name}.{member}" for member, _ in members(owner))


@pytest.mark.parametrize("name", sorted(set(wanted()) - INSIDE))
def test_public_names_are_described(name: str) -> None:
    """The reference describes every public name, method and property by its docstring."""
    if name in ("daskperiment.errors", "daskperiment.formats"):
        assert f".. automodule:: {name}\n" in page("api")
        return
    assert name in described(page("api")), f"docs/api.rst does not describe {name}"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (".. autofunction:: daskperiment.copy\n", "daskperiment.copy"),
        ("   :inherited-members: Delayed\n", "daskperiment.Result.bind"),
        (".. autoclass:: daskperiment.Comparison()\n", "daskperiment.Comparison.to_dict"),
        (".. automodule:: daskperiment.errors\n", "daskperiment.errors.StoreError"),
    ],
)
def test_a_missing_name_would_be_found(line: str, name: str) -> None:
    """Without a line of the reference, the check above finds that a name is missing."""
    text = page("api")
    assert text.count(line) == 1
    assert name in described(text)
    assert name not in described(text.replace(line, ""))


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(resolve(name))])
def test_fields_are_described(name: str) -> None:
    """The docstrings of a public class name every field, or stand below it."""
    owner = resolve(name)
    if not dataclasses.is_dataclass(owner):
        return
    told = "".join(inspect.getsource(base) for base in inspect.getmro(owner)[:-1])
    for field in dataclasses.fields(owner):
        documented = re.search(rf"^    {field.name}\b.* : |^    {field.name}: ", told, re.MULTILINE)
        assert documented, (name, field.name)


def test_experiment_is_told_by_purpose() -> None:
    """The table at the top of the reference links every method and property of an experiment."""
    linked = set(re.findall(r":(?:meth|attr):`~Experiment\.(\w+)`", page("api")))
    assert linked - {"__call__"} == {name for name, _ in members(daskperiment.Experiment)} | {"id"}


# Commands and their options


def section(text: str, title: str) -> str:
    """Give the section of a command, up to the next title."""
    found = re.search(
        rf"^{title}\n~+\n(.*?)(?=^[^\n]+\n[~-]{{3,}}\n|\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/cli.rst has no section about {title}"
    return found[1]


def check_command(command: click.Command, text: str, common: str) -> None:
    """Find each option of a command in its section, or in what is told of all."""
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            if option.startswith("--"):
                told = re.search(rf"``{option}[ `]", text + common)
                assert told, f"docs/cli.rst does not tell of {command.name} {option}"


@pytest.mark.parametrize("command", cli.commands.values(), ids=lambda command: command.name)
def test_commands_are_described(command: click.Command) -> None:
    """The page about the command line has a section for each command, which tells its options."""
    text = page("cli")
    common = text.partition("\nRunning a script\n")[0]
    check_command(command, section(text, str(command.name)), common)


def test_what_all_commands_share_is_described() -> None:
    """The page tells of the second program and of the options of the first one itself."""
    text = page("cli")
    assert "``daskperimentboard``" in text
    for option in ("--version", "--help", "--debug", "--backend"):
        assert re.search(rf"``(daskperiment )?{option}[ `]", text), option


def test_a_missing_option_would_be_found() -> None:
    """An option that only the section of another command tells is missed."""
    text = page("cli")
    told = section(text, "prune").replace("``--older-than", "``")
    assert "``--timeout SECONDS``" in section(text, "flush")
    with pytest.raises(AssertionError, match="prune --older-than"):
        check_command(cli.commands["prune"], told, "``--backend`` ``--debug``")
    with pytest.raises(AssertionError, match="no section about replay"):
        section(text, "replay")
