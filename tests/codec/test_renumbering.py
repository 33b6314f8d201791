"""Trials that have other ids in another store: what names them there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import daskperiment
from daskperiment.codec import decode, encode
from daskperiment.codec.renumbering import Renumbering
from daskperiment.records import StepRun

TEXTS = (
    "the output that trial 1 kept is no longer in the store",
    "the output that trial 2 kept could not be loaded",
    "before it, make: the output of trial 1 is not to be trusted: no signature",
    "its inputs are those of trial 1, though another seed for random numbers than in trial 2",
    "argument x had been changed by another step in trial 1",
    "it is not known which files the steps before it read in trial 1",
    "the output of trial 2 is not to be trusted: it went on from a checkpoint of trial 1",
)
OTHERS = ("parameter x 'trial 1' → 'trial 2'", "never run", "step trial 1 takes other inputs")


def renumbered(reason: str) -> str | None:
    """Give the reason of a step run in a store in which trials have other ids."""
    run = StepRun(
        key="a", step="a", status="succeeded", started=1.0, wall=0.0, cpu=0.0, peak=0, host="h",
        pid=1, thread="t", code="c", inputs=None, output=None, note=None, stochastic=False, seed=1,
        reason=reason,
    )  # fmt: skip
    ids = Renumbering("file:///here")
    for trial, now in ((1, 71), (2, 72), (5, 75)):
        ids.add(trial, now)
    return decode(ids.record("steps", 5, "a", encode(run))[1], StepRun).reason


@pytest.mark.parametrize("reason", TEXTS)
def test_reasons_name_trials_as_they_are_called_there(reason: str) -> None:
    """Each trial that a reason names has its new id, also where nothing else names a trial."""
    assert renumbered(reason) == re.sub(r"trial (\d)", r"trial 7\1", reason)


@pytest.mark.parametrize("reason", OTHERS)
def test_other_texts_stay(reason: str) -> None:
    """What people called something is no trial."""
    assert renumbered(reason) == reason


def test_no_reason_is_forgotten() -> None:
    """Each text of a plan that names a trial is one of those above."""
    source = Path(daskperiment.__file__).parent / "planning" / "reuse_planner.py"
    written = re.findall(r'f"([^"]*trial \{[^"]*)"', source.read_text(encoding="utf-8"))
    assert len(written) > 4
    for text in written:
        words = re.split(r"\{[^{}]*\}", text)
        assert any(all(word in known for word in words) for known in TEXTS), text
