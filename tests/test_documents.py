"""What the documentation shows is true: examples, commands, and the names of files."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import pkgutil
import re
import shlex
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest

import daskperiment
from daskperiment import integrations
from daskperiment.cli import cli
from daskperiment.cli.board import board
from tests.cli.conftest import Command, folder, run  # noqa: F401  # fixtures

ROOT = Path(__file__).parents[1]
README = ROOT / "README.rst"
PAGES = ROOT / "docs"
DOCUMENTS = [README, *sorted(PAGES.glob("*.rst"))]
# Those of other libraries have no prompts; tests/libraries/ runs the examples of their page.
MODULES = [
    module.name for module in pkgutil.walk_packages(daskperiment.__path__, "daskperiment.")
    if module.name.removeprefix("daskperiment.integrations.") not in integrations.__all__
]  # fmt: skip
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def page(name: str) -> str:
    """Read a page of docs/."""
    return (PAGES / f"{name}.rst").read_text(encoding="utf-8")


# Examples


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each example keep its trials, and journals for stores elsewhere, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_true_output(path: Path) -> None:
    """Every prompt in README.rst and docs/ gives the output that stands below it."""
    assert doctest.testfile(str(path), module_relative=False, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", ["daskperiment", *MODULES])
def test_docstrings_show_true_output(name: str) -> None:
    """Every prompt in a docstring gives the output that stands below it."""
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


def test_the_documents_hold_examples() -> None:
    """README.rst and the quickstart contain prompts, so that the test above tests something."""
    for path in (README, PAGES / "quickstart.rst"):
        text = path.read_text(encoding="utf-8")
        assert len(doctest.DocTestParser().get_examples(text)) > 5, path


# Commands


def commands(path: Path) -> Iterator[list[str]]:
    """Find the lines of literal blocks that call one of the package's commands."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\s+(?:\$ )?(daskperiment(?:board)? .+)$", line):
            yield shlex.split(found[1], comments=True)


def parse(words: list[str]) -> None:
    """Let click take a command's arguments, without running it; scripts have to be there."""
    command: click.Command = board
    if words[0] == "daskperiment":
        command = cli.commands[words[1]]
        words = words[1:]
    for word in words:
        if word.endswith(".py"):
            Path(word).parent.mkdir(exist_ok=True)
            Path(word).touch()
    if "--help" not in words:
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_the_documents_can_be_given(path: Path) -> None:
    """Each command that a page shows has the arguments and options that it is given there."""
    for words in commands(path):
        parse(words)


def test_a_wrong_command_would_be_found() -> None:
    """The check above refuses an unknown command, an unknown option and one argument too many."""
    assert len(list(commands(PAGES / "cli.rst"))) > 20
    assert list(commands(README))
    with pytest.raises(KeyError):
        parse(["daskperiment", "replay", "line"])
    for line in ("ls --tree", "compare line 1 2 3"):
        with pytest.raises(click.UsageError):
            parse(["daskperiment", *line.split()])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_backtick_is_shown_that_is_not_meant(path: Path) -> None:
    """Literals with backticks in them show these alone: three and a blank show one more."""
    assert not re.search(r"``` | ```(?!\w)", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_file_of_the_documents_hides_a_module(path: Path) -> None:
    """Who follows a page leaves no file that is imported in place of a module of Python."""
    files = re.findall(r"(?:--output|:caption:) (\w+)\.py\b", path.read_text(encoding="utf-8"))
    assert not set(files) & sys.stdlib_module_names


def test_every_benchmark_is_told_of() -> None:
    """The page about performance lists all parts, and first those that run if none is named."""
    from benchmarks.__main__ import PARTS, SPEED

    listed = re.findall(r"^    python -m benchmarks (\w+) ", page("performance"), re.MULTILINE)
    assert tuple(listed[: len(SPEED)]) == SPEED
    assert sorted(listed) == sorted(PARTS)
    assert f"all of the following {('seven', 'eight', 'nine')[len(SPEED) - 7]}" in page(
        "performance"
    )


def script_of_the_readme() -> str:
    """Return the script that README.rst shows."""
    block = r"code-block:: python\n\n((?: {4}.+\n|\n)+)"
    (found,) = re.findall(block, README.read_text(encoding="utf-8"))
    return textwrap.dedent(found)


def test_commands_of_the_readme_work(run: Command, tmp_path: Path) -> None:  # noqa: F811
    """The commands of README.rst do what they say, in the order in which they stand there."""
    (tmp_path / "examples").mkdir()
    script = (ROOT / "examples" / "line.py").read_text(encoding="utf-8")
    (tmp_path / "examples" / "line.py").write_text(script, encoding="utf-8")
    (tmp_path / "moons.py").write_text(script_of_the_readme(), encoding="utf-8")
    shown = [words for words in commands(README) if words[1] != "board"]
    answers = [run(*words[1:]) for words in shown]
    assert len(answers) == 7
    assert [answer.status for answer in answers] == [0] * 7, answers
    assert len(answers[2].table) == 1 + 5
    assert "rate" in answers[3].out
    assert answers[4].out.count("\n") == 1 + 10
    told = (tmp_path / "moons.html").read_text(encoding="utf-8")
    assert "Bends where the moons meet" in told
    assert "confusion matrix" in told


def literal_blocks(text: str) -> list[str]:
    """Give the indented blocks behind ``::`` and ``code-block``, without their indentation."""
    found = re.finditer(r"::(?: \w+)?\n(?:   :.*\n)*\n((?: +.*\n|\n)+)", text + "\n")
    return [textwrap.dedent(match[1]).strip("\n") + "\n" for match in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_of_the_documents_is_python(path: Path) -> None:
    """Every block of Python that a page shows without a prompt can be compiled."""
    text = path.read_text(encoding="utf-8")
    block = r"code-block:: python\n(?: +:.*\n)*\n((?: +.*\n|\n)+)"
    for found in re.finditer(block, text + "\n"):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile(textwrap.dedent(found[1]), str(path), "exec", flags)


def test_the_job_array_of_the_guide_works(tmp_path: Path) -> None:
    """The script in the page about clusters records a trial of each job, all at once."""
    text = page("clusters")
    source = next(block for block in literal_blocks(text) if "SLURM_ARRAY_TASK_ID" in block)
    (tmp_path / "train.py").write_text(source, encoding="utf-8")
    store = tmp_path / "trials"
    jobs = [
        subprocess.Popen(
            [sys.executable, "train.py"],
            env={**os.environ, "STORE": str(store), "SLURM_ARRAY_TASK_ID": str(number)},
        )
        for number in range(3)
    ]
    assert [job.wait(100) for job in jobs] == [0, 0, 0]
    ex = daskperiment.Experiment("array", backend=store)
    history = ex.get_history().sort_values("fold")
    assert history["Result"].tolist() == [950, 970, 990]
    own = [trial for trial in (1, 2, 3) if ex.get_steps(trial)["Reused From"].isna().all()]
    assert len(own) == 1


def test_the_script_of_the_guide_works(run: Command, tmp_path: Path) -> None:  # noqa: F811
    """The script in the page about scripts, and the commands below it, work as that page says."""
    text = page("scripts")
    source = next(block for block in literal_blocks(text) if "result = distance" in block)
    script = tmp_path / "train.py"
    script.write_text(source, encoding="utf-8")
    shown = list(commands(PAGES / "scripts.rst"))
    assert [words[1] for words in shown] == ["run", "run", "history", "reproduce"]
    for words in shown:
        answer = run(*words[1:])
        assert answer.status == 0, answer
    script.write_text(source.partition("if __name__")[0] + "result.main()\n", encoding="utf-8")
    arguments = [sys.executable, "train.py", "rate=0.3", "--seed", "7"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "trial       6" in done.stdout


def test_the_check_of_the_installation_works() -> None:
    """The command that shows whether the package is installed prints what stands below it."""
    block = next(block for block in literal_blocks(page("installation")) if block.startswith("$ "))
    command, _, output = block.removeprefix("$ ").rpartition('"\n')
    command = command.replace("python", shlex.quote(sys.executable), 1) + '"'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == output.strip()


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 38), reason="SQLite here lacks ->>")
def test_the_folder_can_be_asked_with_sql() -> None:
    """The query in the page about the format finds the parameters of a trial."""
    block = next(block for block in literal_blocks(page("format")) if "sqlite3" in block)
    words = shlex.split(block.replace("\\\n", " "))
    ex = daskperiment.Experiment("iris_svm")
    ex.result(lambda lr: lr)(ex.parameter("lr", default=0.1)).compute()
    connection = sqlite3.connect(words[2])
    assert connection.execute(words[3]).fetchall() == [(1, 0.1)]
    connection.close()


# Lists


def test_tests_behind_the_promises_are_there() -> None:
    """Every test that the page about promises names is a file or folder with tests in it."""
    named = set(re.findall(r"``(tests/[\w/.]+)``", page("promises")))
    assert len(named) > 20
    for name in named:
        path = ROOT / name
        files = [path] if path.suffix else list(path.glob("test_*.py"))
        assert files, name
        for file in files:
            assert re.search(r"def test_|class Test", file.read_text(encoding="utf-8")), name


def test_extras_are_those_of_the_package() -> None:
    """The page about the installation lists every extra, and none that is not there."""
    listed = set(re.findall(r"^``(\w+)``  ", page("installation"), re.MULTILINE))
    assert listed == set(metadata.metadata("daskperiment").get_all("Provides-Extra") or [])


def test_pictures_are_there() -> None:
    """Every picture that a document shows is in the repository, and has a text beside it."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^\.\. image:: (\S+)$|^   :file: (\S+)$", text, re.MULTILINE):
            assert (path.parent / "".join(name)).is_file(), name
        assert text.count(".. image::") == text.count("   :alt: ")


def test_every_view_has_its_picture() -> None:
    """Each view of the page is shown where it is told of: docs/pictures.py makes the pictures."""
    views = re.findall(r"^\*\*([\w ]+)\.\*\* (.*?)(?=^\*\*|\Z)", page("dashboard"), re.M | re.S)
    shown = {
        view: re.findall(r"^\.\. image:: _static/(\S+)\.png$", text, re.M) for view, text in views
    }
    assert list(shown) == [
        "Experiments", "Trials", "Metrics", "Parameters", "Compare", "One trial", "A report",
    ]  # fmt: skip
    assert all(shown.values()), shown
    script = (PAGES / "pictures.py").read_text(encoding="utf-8")
    made = set(re.findall(r'"(dashboard[\w-]*|report)"[:)]', script))
    assert made == {name for names in shown.values() for name in names}
    pictures = list((PAGES / "_static").glob("*.png"))
    assert {path.stem for path in pictures} == made
    assert sum(path.stat().st_size for path in pictures) < 600_000


@pytest.mark.parametrize("path", [README, ROOT / "CHANGELOG.rst"], ids=lambda path: path.name)
def test_what_a_package_index_shows_is_plain(path: Path) -> None:
    """README.rst and CHANGELOG.rst use nothing that only Sphinx knows."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r":(doc|ref|class|meth|func|mod|attr):`|^\.\. (toctree|auto|code-block)", text
    )
