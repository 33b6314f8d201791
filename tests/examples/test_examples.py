"""The scripts among the examples run from start to end, and show what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import daskperiment

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: Path, folder: Path) -> str:
    """Run a script in a folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Return a copy of the script that may be edited."""
    script = tmp_path / "digits.py"
    script.write_text((EXAMPLES / "digits.py").read_text(encoding="utf-8"), encoding="utf-8")
    return script


def test_digits_shows_eight_trials(digits: Path) -> None:
    """The first run records eight trials, one of which failed, and shows what it says it shows."""
    shown = run(digits, digits.parent)
    history = daskperiment.Experiment(
        "digits", backend=digits.parent / "daskperiment_cache"
    ).get_history()
    assert list(history.index) == list(range(1, 9))
    assert list(history.index[~history["Success"]]) == [4]
    assert history.loc[4, "Description"].startswith("ValueError(n_components=100")
    assert (history["Result"].drop(4) > 0.8).all()
    assert "Comparison of trials 1 and 2" in shown
    assert "Found" not in shown


def test_digits_continues_and_comes_out_the_same(digits: Path) -> None:
    """The second run continues at trial 9, and its trials equal those of the first."""
    run(digits, digits.parent)
    shown = run(digits, digits.parent)
    assert "Found 8 trials; continuing at trial 9." in shown
    assert "No difference between trials 1 and 9" in shown


def test_digits_says_what_was_edited(digits: Path) -> None:
    """After an edit of a helper, the second run names the step that it reaches and the helper."""
    run(digits, digits.parent)
    text = digits.read_text(encoding="utf-8")
    assert text.count(".mean())") == 1
    digits.write_text(text.replace(".mean())", ".mean()) / 2"), encoding="utf-8")
    shown = run(digits, digits.parent)
    comparison = shown[shown.index("Comparison of trials 1 and 9") :]
    assert "its code changed (share_correct)" in comparison
    assert "/ 2" in comparison
