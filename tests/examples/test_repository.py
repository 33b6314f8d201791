"""The repository among the examples: its unit tests, its trials, and the check of its CI."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import daskperiment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a copy of the repository, in which nothing was run."""
    return Path(shutil.copytree(ROOT / "examples" / "repository", tmp_path / "repository"))


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository, with this Python and its commands first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    places = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": places}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_ci_passes_until_the_metric_gets_worse(repository: Path) -> None:
    """With the settings that were released the CI passes; with worse ones its last check fails."""
    first = run(repository, sys.executable, "train.py")
    assert first.returncode == 0, first.stderr
    ex = daskperiment.Experiment("breast-cancer", backend=repository / "daskperiment_cache")
    assert ex.get_history(expand=True)["Result.test"].iloc[0] > 0.9
    ex.tag(1, "released")
    ex.flush()

    good = run(repository, "./ci.sh")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "3 passed" in good.stdout
    assert "not worse" in good.stdout
    # Nothing had changed, so the steps before the score were not run again.
    assert ex.get_steps(2)["Reused From"].notna().sum() == 2

    settings = repository / "settings.py"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(
        text.replace("scaled: bool = True", "scaled: bool = False")
        .replace('= "logistic"', '= "ridge"')
        .replace("penalty: float = 1.0", "penalty: float = 1e9")
    )
    assert run(repository, sys.executable, "train.py").returncode == 0
    last = (repository / "ci.sh").read_text(encoding="utf-8").splitlines()[-1]
    bad = run(repository, *shlex.split(last))
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert ": worse by more than 0.01" in bad.stdout


def test_leaves_are_set_by_dotted_names(repository: Path) -> None:
    """The command line sets leaves of the configuration."""
    done = run(repository, sys.executable, "train.py", "fit.kind=ridge", "data.test_share=0.5")
    assert done.returncode == 0, done.stderr
    ex = daskperiment.Experiment("breast-cancer", backend=repository / "daskperiment_cache")
    assert ex.get_parameters(1)["fit.kind"] == "ridge"
    assert ex.get_parameters(1)["data.test_share"] == 0.5
