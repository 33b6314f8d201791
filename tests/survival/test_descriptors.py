"""A process that has no more descriptors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import daskperiment
from tests.helpers.folders import opened_below
from tests.survival import descriptors

ROOT = Path(daskperiment.__file__).parent.parent


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors by /proc")
@pytest.mark.parametrize("left", [0, 2, 3, 12])
def test_without_descriptors(left: int, tmp_path: Path) -> None:
    """Trials that cannot begin say why; those that can lose nothing; later all goes on."""
    command = [
        sys.executable,
        "-m",
        "tests.survival.descriptors",
        str(tmp_path / "store"),
        str(left),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert len(told["done"]) + len(told["errors"]) == descriptors.MANY
    wrong = [text for text in told["errors"] if "too many files open: raise the limit" not in text]
    assert wrong == []
    assert left < 12 or told["done"]
    assert left > 2 or told["errors"]


def test_idle_experiments_hold_no_file_each(tmp_path: Path) -> None:
    """An experiment that was only looked at keeps no file of its own open."""
    made = [daskperiment.Experiment(f"e{n}", backend=tmp_path) for n in range(20)]
    for ex in made:
        ex.get_history()
        ex._store.state()
    assert len(opened_below(tmp_path)) < 10
