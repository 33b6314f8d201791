"""Parts of a configuration as parameters of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

import daskperiment
from tests.cli.conftest import Command, one_line

SCRIPT = '''
"""Trains with a configuration."""

from dataclasses import dataclass, field

import daskperiment


@dataclass
class Opt:
    lr: float = 0.1
    steps: int = 3


@dataclass
class Config:
    opt: Opt = field(default_factory=Opt)
    name: str = "base"
    fast: bool = False


ex = daskperiment.Experiment("train")
cfg = ex.config(Config())


@ex.result
def train(lr, steps, name, fast):
    return [lr, steps, name, fast]


s = train(cfg.opt.lr, cfg.opt.steps, cfg.name, cfg.fast)
'''


@pytest.fixture
def script(folder: Path) -> str:
    """Write the script."""
    (folder / "train.py").write_text(SCRIPT)
    return "train.py"


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ([], [0.1, 3, "base", False]),
        (["opt.lr=1"], [1.0, 3, "base", False]),
        (["opt.lr=0.5", "opt.steps=7", "name=7", "fast=true"], [0.5, 7, "7", True]),
    ],
)
def test_values_take_the_types_of_annotations(
    run: Command, script: str, folder: Path, given: list[str], result: list[object]
) -> None:
    """A whole number for a float is a float, a number for a text a text."""
    assert run("run", script, *given).status == 0
    ex = daskperiment.Experiment("train", backend=folder / "daskperiment_cache")
    (found,) = ex.get_history()["Result"]
    assert found == result
    assert list(map(type, found)) == list(map(type, result))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("opt.lr=fast", ["opt.lr", "'fast'", "float"]),
        ("opt.lrr=1", ["opt.lrr", "opt.lr"]),
        ("opt.steps=0.5", ["opt.steps", "0.5", "int"]),
    ],
)
def test_wrong_values_are_named(
    run: Command, script: str, folder: Path, given: str, words: list[str]
) -> None:
    """The line has the path, the value and what was expected; no trial begins."""
    one_line(run("run", script, given), 2, *words)
    assert not (folder / "daskperiment_cache").exists() or "1" not in run("ls").out


def test_sweep_over_a_part(run: Command, script: str, folder: Path) -> None:
    """A sweep takes dotted names, and the history can be asked by them."""
    assert run("run", script, "--sweep", "opt.lr=0.1,0.2", "opt.steps=5").status == 0
    out = run("history", "train", "--where", "opt.lr > 0.15", "--columns", "opt.lr,opt.steps").out
    assert out.splitlines() == ["Trial ID\topt.lr\topt.steps", "2\t0.2\t5"]
