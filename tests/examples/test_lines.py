"""The page that counts lines beside other trackers counts them rightly."""

from __future__ import annotations

import ast
import difflib
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

import daskperiment
from tests.examples.test_examples import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lines.rst").read_text(encoding="utf-8")
FOLDER = ROOT / "docs" / "lines"
TUTORIALS = ROOT / "tests" / "libraries" / "scripts"
ROW = re.compile(r"^\S.*?  +(\d+)  +``(\w+\.py)``$", re.MULTILINE)
COUNTED = {name: int(lines) for lines, name in ROW.findall(PAGE)}


def pair(name: str) -> tuple[Path, Path]:
    """Return a script without a record, and the one of this name that records it."""
    plain = sorted((TUTORIALS / "plain").glob("*.py"))
    for tutorial in plain:
        if name == tutorial.name:
            return tutorial, TUTORIALS / "recorded" / name
        if name.startswith(tutorial.stem):
            return tutorial, FOLDER / name
    return FOLDER / "plain.py", FOLDER / name


def differing(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that are only in the text after, and only before, but for empty ones."""
    found = [line for line in difflib.ndiff(before.splitlines(), after.splitlines())
             if line[2:].strip()]  # fmt: skip
    return (
        [line[2:] for line in found if line[0] == "+"],
        [line[2:] for line in found if line[0] == "-"],
    )


def compared(name: str) -> tuple[list[str], list[str]]:
    """Return the lines that are only in a script with a record, and only in the plain one."""
    before, after = (path.read_text(encoding="utf-8") for path in pair(name))
    return differing(before, after)


def test_added_and_changed_lines_are_counted() -> None:
    """An added and a changed line count one each, an empty or a removed one does not."""
    before = "a = 1\nb = 2\nc = 3\n"
    assert differing(before, before) == ([], [])
    assert differing(before, "a = 1\n\nb = 20\nc = 3\nd = 4\n") == (["b = 20", "d = 4"], ["b = 2"])
    assert differing(before, "a = 1\nc = 3\n") == ([], ["b = 2"])


def shown(name: str) -> str:
    """Return the difference that the page shows of a script, below its name."""
    block = rf"code-block:: diff\n +:caption: {name}\n\n((?: +.*\n|\n)+)"
    (found,) = re.findall(block, PAGE)
    return textwrap.dedent(found).strip()


def test_every_script_is_counted() -> None:
    """Each script of the folder has a row in a table of the page."""
    others = {path.name for path in FOLDER.glob("*.py")} - {"plain.py"}
    assert len(others) == 10
    assert set(COUNTED) == others | {"sklearn_iris.py", "lightning_autoencoder.py"}


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_the_page_shows_the_lines(name: str) -> None:
    """The page shows what sets a script apart from the plain one, as ``diff`` would."""
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in pair(name))
    lines = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
    assert shown(name) == "\n".join(line.rstrip() for line in lines).strip()


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_the_page_has_the_right_number(name: str) -> None:
    """The number that a table shows is that of the lines which are added or changed."""
    added, removed = compared(name)
    assert len(added) == COUNTED[name], added
    assert len(removed) <= 2, removed


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_a_script_does_what_the_plain_one_does(name: str) -> None:
    """Each script is Python, uses what it imports for the record, and still prints each epoch."""
    source = pair(name)[1].read_text(encoding="utf-8")
    tree = ast.parse(source)
    imported = {
        (each.asname or each.name).split(".")[0]
        for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
        for each in node.names
    }  # fmt: skip
    assert imported <= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not [line for line in compared(name)[1] if "print(f" in line]


def test_the_lines_for_code_and_commit_are_four() -> None:
    """Without the four lines for code, commit and packages, Lightning's loggers need seven."""
    for name in ("with_csv_logger.py", "with_tensorboard_logger.py"):
        added = compared(name)[0]
        extra = [line for line in added if "subprocess" in line or "shutil" in line]
        assert (len(extra), len(added) - len(extra)) == (4, 7)


def test_the_whole_record_is_there(tmp_path: Path) -> None:
    """The script with daskperiment prints what the plain one prints, and has all of its record."""
    pytest.importorskip("matplotlib")  # which draws the figure
    for name in ("plain.py", "with_daskperiment.py"):
        shutil.copy(FOLDER / name, tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], cwd=tmp_path, text=True)
    printed = run(tmp_path / "plain.py", tmp_path)
    assert run(tmp_path / "with_daskperiment.py", tmp_path) == printed
    ex = daskperiment.Experiment("digits", backend=tmp_path / "daskperiment_cache")
    assert ex.get_parameters(1) == {"rate": 0.01, "epochs": 5}
    points = zip(ex.load_metric("loss", 1)[1], ex.load_metric("accuracy", 1)[1], strict=True)
    told = [f"epoch {n}: loss {loss:.4f}, accuracy {share:.4f}"
            for n, (loss, share) in enumerate(points)]  # fmt: skip
    assert [*told, str(ex.get_history().loc[1, "Result"])] == printed.splitlines()
    assert len(told) == 5
    assert dict(ex.get_artifacts(1)[["Name", "Format"]].values) == {
        "confusion": "png", "model": "pickle",
    }  # fmt: skip
    assert "model.partial_fit(X, y" in ex.get_code(1)
    assert f"commit: {commit.strip()}" in ex.get_environment(1, "git")
    assert "scikit-learn" in ex.get_python_packages(1)
    assert all(line in ex.get_log(1) for line in told)
