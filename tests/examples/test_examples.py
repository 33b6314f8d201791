"""The scripts among the examples run from start to end, and show what they promise."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import daskperiment
from daskperiment.cli import cli
from tests.cli.conftest import as_new_process, runner

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: Path, folder: Path, *arguments: str) -> str:
    """Run a script in a folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


Command = Callable[..., str]


@pytest.fixture
def daskperiment_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that calls ``daskperiment run`` and gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(script: Path, *arguments: str, status: int = 0) -> str:
        as_new_process()
        done = runner().invoke(cli, ["run", str(script), *arguments])
        as_new_process()
        assert done.exit_code == status, done.stderr
        return str(done.stderr if status else done.stdout)

    return call


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a copy of the script once, and return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copy(EXAMPLES / "digits.py", folder)
    return folder, run(folder / "digits.py", folder)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Return a copy of the script that may be edited."""
    return Path(shutil.copy(EXAMPLES / "digits.py", tmp_path))


@pytest.fixture
def digits_again(first: tuple[Path, str], tmp_path: Path) -> Path:
    """Return a copy of the script that was run once where it lies."""
    folder = shutil.copytree(first[0], tmp_path, dirs_exist_ok=True)
    return folder / "digits.py"


def test_digits_shows_eight_trials(first: tuple[Path, str], digits_again: Path) -> None:
    """The first run records eight trials, one of which failed, and shows what it says it shows."""
    shown, digits = first[1], digits_again
    history = daskperiment.Experiment(
        "digits", backend=digits.parent / "daskperiment_cache"
    ).get_history()
    assert list(history.index) == list(range(1, 9))
    assert list(history.index[~history["Success"]]) == [4]
    assert history.loc[4, "Description"].startswith("ValueError(n_components=100")
    assert (history["Result"].drop(4) > 0.8).all()
    assert "Comparison of trials 1 and 2" in shown
    assert "Found" not in shown


def test_digits_continues_and_comes_out_the_same(
    digits_again: Path, daskperiment_run: Command
) -> None:
    """The second run continues, and compares with the first trial that had the same parameters."""
    daskperiment_run(digits_again, "components=4")
    shown = run(digits_again, digits_again.parent)
    assert "Found 9 trials; continuing at trial 10." in shown
    assert "Trial 1, and trial 10 with the same parameters:" in shown
    assert "No difference between trials 1 and 10" in shown


def test_digits_says_what_was_edited(digits_again: Path) -> None:
    """After an edit of a helper, the second run names the step that it reaches and the helper."""
    digits = digits_again
    text = digits.read_text(encoding="utf-8")
    assert text.count(".mean())") == 1
    digits.write_text(text.replace(".mean())", ".mean()) / 2"), encoding="utf-8")
    shown = run(digits, digits.parent)
    comparison = shown[shown.index("Comparison of trials 1 and 9") :]
    assert "its code changed (share_correct)" in comparison
    assert "/ 2" in comparison


def test_digits_is_its_own_command_line(digits: Path, daskperiment_run: Command) -> None:
    """With parameters, a script and ``daskperiment run`` compute the same trial, and only that."""
    given = ("components=4", "epochs=2", "--seed", "3")
    assert "trial       1\n" in run(digits, digits.parent, *given)
    assert "trial       2\n" in daskperiment_run(digits, *given)
    ex = daskperiment.Experiment("digits", backend=digits.parent / "daskperiment_cache")
    assert ex.trial_id == 2
    assert list(ex.get_history()["components"]) == [4, 4]
    assert ex.compare(1, 2).identical


def test_scripts_list_their_parameters(tmp_path: Path, daskperiment_run: Command) -> None:
    """Each script answers ``--help`` with its parameters, and records nothing."""
    assert "  rate   0.1\n" in daskperiment_run(EXAMPLES / "line.py", "--help")
    assert "  components  32\n" in daskperiment_run(EXAMPLES / "digits.py", "--help")
    assert "  components  32\n" in run(EXAMPLES / "digits.py", tmp_path, "--help")
    assert not list(tmp_path.rglob("*.sqlite"))


def test_digits_refuses_in_one_line(digits: Path, daskperiment_run: Command) -> None:
    """What fails, and what was asked for in a wrong way, is told in one line."""
    failed = daskperiment_run(digits, "components=100", status=1)
    assert failed.startswith("Error: Trial 1 failed in step 'reduce': ValueError(n_components=100")
    assert failed.count("\n") == 1
    assert "'rat'" in daskperiment_run(digits, "rat=1", status=2)


def test_line_finds_the_slope(tmp_path: Path, daskperiment_run: Command) -> None:
    """The script prints its result, and takes parameters from the command line."""
    assert 2 < float(run(EXAMPLES / "line.py", tmp_path)) < 4
    assert "trial       2\n" in daskperiment_run(EXAMPLES / "line.py", "noise=0")
