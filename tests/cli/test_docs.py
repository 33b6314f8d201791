"""The page about the command line: what it shows can be done."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from tests.cli.conftest import Command

PAGE = Path(__file__).parents[2] / "docs" / "cli.rst"


def test_commands_of_the_docs_work(run: Command, folder: Path) -> None:
    """The script of the page is written, and its commands are run from top to bottom."""
    text = PAGE.read_text(encoding="utf-8")
    listing = text.partition(":caption: descend.py\n")[2].partition("\nrun\n~~~\n")[0]
    (folder / "descend.py").write_text(textwrap.dedent(listing))
    commands = [
        line.strip().removeprefix("$ daskperiment ")
        for line in text.splitlines()
        if line.strip().startswith("$ ")
    ]
    assert len(commands) > 20
    for command in commands:
        answer = run(*shlex.split(command))
        assert answer.status == 0, (command, answer)
    assert (folder / "exported" / "history.csv").exists()
    assert (folder / "trials.csv").read_text().startswith("Trial ID,lr,epochs,Result,")


def test_output_of_the_docs_is_true(run: Command, folder: Path) -> None:
    """What stands below the first two commands is what they print, but for the time."""
    text = textwrap.dedent(PAGE.read_text(encoding="utf-8")).replace("\n   ", "\n")
    listing = text.partition(":caption: descend.py\n")[2].partition("\nrun\n~~~\n")[0]
    (folder / "descend.py").write_text(listing)
    out = run("run", "descend.py", "lr=0.2", "--seed", 1).out
    assert out.rpartition("time ")[0] in text
    assert run("run", "descend.py", "--help").out in text
