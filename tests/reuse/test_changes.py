"""Generated changes of projects: no hit is wrong, no run needless, and each change is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.validity.changes import Ledger, sequences
from benchmarks.validity.fragments import FORMS

ROOT = Path(__file__).parents[2]
CHANGES = 60


@pytest.fixture(scope="module")
def judged():
    """Make changes and run the project after each of them, in processes of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.validity.judge", str(CHANGES)],
        capture_output=True, cwd=ROOT, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_is_tried(judged):
    """All kinds of changes are among those that are made."""
    assert {each["kind"] for each in judged} >= {*FORMS, "cosmetic"}
    assert len(judged) >= CHANGES
    assert not [each["error"] for each in judged if each["error"]]


def test_no_hit_is_wrong(judged):
    """No step keeps an output that the project, as it is, would not give."""
    assert [each for each in judged if each["stale"]] == []


def test_no_run_is_needless(judged):
    """A step runs only with code, inputs or files that it never ran with."""
    assert [each for each in judged if each["needless"]] == []


def test_each_change_is_named(judged):
    """Explain and compare name what was changed, nothing else, and assert nothing more."""
    assert [fault for each in judged for fault in each["faults"]] == []


def test_same_seed_same_changes():
    """A seed gives the same projects and changes each time."""
    assert list(sequences(40, seed=3)) == list(sequences(40, seed=3))
    assert list(sequences(40, seed=3)) != list(sequences(40, seed=4))


def test_what_must_run():
    """A step must run when a number of its own or an input is new, and not when both were had."""
    made = next(sequences(20))
    ledger, state = Ledger(made.project), made.first
    names = [step.name for step in made.project.steps]
    outputs = dict.fromkeys(names, 1)
    assert ledger.must_run(state, outputs) == set(names)
    ledger.enter(state, outputs)
    assert ledger.must_run(state, outputs) == set()
    knob = next(iter(made.project.knobs()))
    assert ledger.must_run(state.turned(knob.name, -1), outputs) == {knob.step}
    takers = {step.name for step in made.project.steps if knob.step in step.inputs}
    assert ledger.must_run(state, {**outputs, knob.step: 2}) == takers
