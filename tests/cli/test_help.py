"""Help, completion, and what they cost."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from daskperiment.cli import cli
from daskperiment.cli.board import board
from tests.cli.conftest import Command, as_new_process, process

ROOT = Path(__file__).parents[2]
NAMES = sorted(cli.commands)
CLI_PAGE = (ROOT / "docs" / "cli.rst").read_text(encoding="utf-8")


def test_commands_are_these() -> None:
    """No command is missing, and none is there that nobody tests."""
    assert NAMES == [
        "archive", "artifacts", "best", "board", "check", "check-metric", "code", "compare", "copy",
        "delete", "env", "explain", "export", "flush", "get", "history", "log", "ls", "metrics",
        "note", "prune", "rename", "report", "reproduce", "resume", "rm-trials", "run", "save",
        "show", "steps", "tag", "unarchive", "untag",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_a_help(run: Command, name: str) -> None:
    """--help tells usage and options, with the store and --debug among them."""
    answer = run(name, "--help")
    assert answer.status == 0
    assert answer.out.startswith(f"Usage: daskperiment {name} ")
    assert "--backend" in answer.out
    assert "--debug" in answer.out
    assert answer.out == run(name, "-h").out
    for parameter in cli.commands[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter


def test_help_of_a_command_alone() -> None:
    """A command that is called outside of the group, as a program of its own, knows -h too."""
    command = copy.copy(cli.commands["code"])
    vars(command)["_help_option"] = None  # made at the first use, and kept
    answer = CliRunner().invoke(command, ["-h"])
    assert answer.exit_code == 0
    assert answer.output.startswith("Usage: code ")


def test_help_lists_every_command(run: Command) -> None:
    """The help of the whole names each command with a line about it."""
    out = run("--help").out
    for name in NAMES:
        assert re.search(rf"^  {name} +\w+", out, re.MULTILINE), name


def test_without_a_command_comes_the_help(run: Command) -> None:
    """The program alone is wrong use, and tells what it can do."""
    answer = run()
    assert (answer.status, answer.out) == (2, run("--help").out)


def test_version(run: Command) -> None:
    """The version is the package's."""
    assert metadata.version("daskperiment") in run("--version").out


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in NAMES)],
                         ids=" ".join)  # fmt: skip
def test_help_loads_nothing_slow(arguments: list[str], folder: Path) -> None:
    """Help comes without pandas, dask and rich, and leaves no file behind."""
    code = (
        "import sys; sys.argv[0] = 'daskperiment'\n"
        "from daskperiment.cli import cli\n"
        f"try: cli({arguments!r})\n"
        "except SystemExit as left: assert not left.code\n"
        "print([n for n in ('dask', 'pandas', 'numpy', 'rich', 'panel') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done
    assert list(folder.iterdir()) == []


def test_commands_without_tables_load_no_pandas(trials: Command, folder: Path) -> None:
    """A script is run, texts are printed, and experiments listed, without waiting for pandas.

    Those that show no environment wait for no numpy either.
    """
    as_new_process()
    code = (
        "import sys; sys.argv[0] = 'daskperiment'\n"
        "from daskperiment.cli import cli\n"
        "for command in (['ls'], ['code', 'pairs'], ['log', 'pairs'], ['tag', 'pairs', '1', 'x'],\n"
        "                ['flush', 'pairs'], ['env', 'pairs'], ['run', 'pairs.py']):\n"
        "    try: cli(command)\n"
        "    except SystemExit as left: assert not left.code, command\n"
        "    assert 'dask' in sys.modules\n"
        "    assert 'pandas' not in sys.modules, command\n"
        "    assert 'numpy' not in sys.modules or command[0] in ('env', 'run'), command\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "trial       4" in done.stdout


def test_programs_are_declared() -> None:
    """Both programs are entry points that can be loaded."""
    points = {each.name: each for each in metadata.entry_points(group="console_scripts")}
    assert points["daskperiment"].load().__module__ == "daskperiment.cli.group"
    assert points["daskperimentboard"].load().__module__ == "daskperiment.cli.board"
    assert board.name == "board"


def test_completion_of_commands_and_experiments(trials: Command, folder: Path) -> None:
    """A shell completes names of commands and ids of experiments, also with --backend."""

    def complete(words: str, number: int) -> list[str]:
        environment = {
            "_DASKPERIMENT_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(number),
            "PATH": "/usr/bin",
        }
        done = process(env=environment, cwd=folder)
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert complete("daskperiment hi", 1) == ["history"]
    assert complete("daskperiment show pa", 2) == ["pairs"]
    assert complete("daskperiment explain pa", 2) == ["pairs"]
    assert complete("daskperiment explain examples/li", 2) == ["examples/li"]  # a file, perhaps
    assert complete("daskperiment show --backend nowhere pa", 4) == []
    assert complete("daskperiment show --backend nope://x pa", 4) == []


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", {"COMP_WORDS": "daskperiment hi", "COMP_CWORD": "1"}, "plain,history\n"),
        ("zsh", {"COMP_WORDS": "daskperiment hi", "COMP_CWORD": "1"}, "plain\nhistory\nList "),
        ("fish", {"COMP_WORDS": "daskperiment hi", "COMP_CWORD": "hi"}, "plain,history\tList "),
    ],
)
def test_each_shell_is_completed(
    run: Command, monkeypatch: pytest.MonkeyPatch, shell: str, words: dict[str, str], expected: str
) -> None:
    """The page shows how to switch it on; the script that this gives asks us, and we answer."""
    assert f"_DASKPERIMENT_COMPLETE={shell}_source" in CLI_PAGE or f"``{shell}_source``" in CLI_PAGE
    monkeypatch.setenv("_DASKPERIMENT_COMPLETE", f"{shell}_source")
    source = process(env={**os.environ}).stdout
    assert f"{shell}_complete" in source
    monkeypatch.setenv("_DASKPERIMENT_COMPLETE", f"{shell}_complete")
    answer = process(env={**os.environ, **words}).stdout.replace("plain\thistory", "plain,history")
    assert expected in answer


@pytest.mark.parametrize("name", [*NAMES, "daskperimentboard"])
def test_commands_stand_in_the_docs(name: str) -> None:
    """The page about the command line has a section for each command, with its options."""
    text = CLI_PAGE
    assert re.search(rf"^{name}\n[-~]+$", text, re.MULTILINE) or f"``{name}``" in text, name
    command = cli.commands.get(name, board)
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--") and option not in ("--help", "--debug", "--backend"):
                assert f"``{option}" in text, (name, option)


def test_debug_and_backend_can_be_given_to_all(trials: Command, folder: Path) -> None:
    """The environment variable names the store, and --backend goes before it."""
    environment = {"DASK_DASKPERIMENT__BACKEND": str(folder / "daskperiment_cache"), "PATH": "/bin"}
    other = folder / "other"
    other.mkdir()
    done = process("ls", "--format", "json", env=environment, cwd=other)
    assert [row["Experiment"] for row in json.loads(done.stdout)] == ["pairs"]
    done = process("ls", "--backend", ".", "--format", "json", env=environment, cwd=other)
    assert json.loads(done.stdout) == []
