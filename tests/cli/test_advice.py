"""What errors and warnings advise: for the shell in the shell, for Python in Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import daskperiment
from tests.cli.conftest import SCRIPT, Command

PACKAGE = Path(daskperiment.__file__).parent
IN_PYTHON = re.compile(r"\b(ex|s|result)\.\w+\(|\b\w+\([^() ]*\)|\w+=(True|False|\.\.\.)")
IN_SHELL = re.compile(
    r"(?<!tensorboard)\s--[a-z]|\bdaskperiment (run|history|show|save|flush|prune|reproduce)\b"
)
BODY = SCRIPT.partition("if __name__")[0]
FREE = BODY.replace('ex.parameter("a", default=1)', 'ex.parameter("a")')
DOTTED = """
import daskperiment
ex = daskperiment.Experiment("dotted")
s = ex.result(lambda a: a)(ex.parameter("opt.a"))
"""
UNDER_MAIN = BODY.replace("\nresult = ", '\nif __name__ == "__main__":\n    result = ')
OTHER = BODY.replace("def score(", "def mark(").replace("score(pair(a", "mark(pair(a")

ASKED = {
    "no trial": (("show", "pairs", "99"), "daskperiment history --running lists them"),
    "no trial of a tag": (("tag", "pairs", "99", "x"), "There are no trials 99-99"),
    "no artifact": (("get", "pairs", "x"), "daskperiment save adds one"),
    "no log": (("log", "pairs", "99"), "daskperiment history --running"),
    "no artifacts": (("artifacts", "pairs", "99"), "daskperiment history --running"),
    "no metric": (("metrics", "pairs", "--metric", "x"), "no metric 'x'"),
    "nothing to go on with": (("resume", "pairs.py", "1"), "daskperiment reproduce SCRIPT 1"),
    "another result": (("reproduce", "other.py", "1"), "give --result score"),
    "no value": (("run", "free.py"), "give a=VALUE"),
    "no value of a dotted name": (("run", "dotted.py"), "give opt.a=VALUE"),
    "no best": (("best", "pairs", "--by", "name"), "they can be compared by"),
    "unknown parameter": (("run", "pairs.py", "q=1"), "'q'"),
    "no step": (("log", "pairs", "1", "--step", "x"), "no step 'x'"),
    "nothing to prune": (("prune", "pairs"), "--max-bytes"),
    "wrong filter": (("history", "pairs", "--where", "a >"), "a >"),
}


@pytest.mark.parametrize("name", ASKED)
def test_advice_in_the_shell_is_for_the_shell(trials: Command, folder: Path, name: str) -> None:
    """What a command says when it fails names commands and options, and no call of Python."""
    for file, text in {"free": FREE, "dotted": DOTTED, "other": OTHER}.items():
        (folder / f"{file}.py").write_text(text)
    arguments, told = ASKED[name]
    answer = trials(*arguments)
    assert answer.status in (1, 2), answer
    assert told in answer.err
    assert IN_PYTHON.search(answer.err) is None, answer.err


def test_a_script_whose_result_stands_below_main(trials: Command, folder: Path) -> None:
    """It is said in which line the block stands that is left out, and what to do instead."""
    (folder / "main.py").write_text(UNDER_MAIN)
    line = 1 + UNDER_MAIN.partition("if __name__")[0].count("\n")
    answer = trials("run", "main.py")
    assert answer.status == 2
    assert f"the block of line {line}," in answer.err
    assert "python" in answer.err
    (folder / "none.py").write_text("x = 1\n")
    assert "defines no result. Call" in trials("run", "none.py").err


def raised_texts(path: Path) -> list[str]:
    """Return the texts that a module's errors are made of."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return [
        str(part.value)
        for node in raised
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


def test_advice_in_python_is_for_python() -> None:
    """No error that is raised outside of the command line names a command or an option of it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0]
        texts = [one for one in raised_texts(path) if IN_SHELL.search(one)]
        if texts and room not in ("cli", "__main__.py"):
            found[str(path.relative_to(PACKAGE))] = texts
    assert found == {}
