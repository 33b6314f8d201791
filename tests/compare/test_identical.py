"""What is called identical, and trials that took outputs of earlier ones."""

from __future__ import annotations

from typing import Any

import pytest

from daskperiment.compare import Comparison, Pair, compare
from daskperiment.records import Failure, Node
from tests.compare.trials import NODES, MemoryStore, add, failed, run, runs


def compared(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
    store = MemoryStore()
    return compare(store, add(store, **first), add(store, **second))


def reusing(train: str = "train-output", score: str = "score-output") -> dict[str, Any]:
    """Describe a trial that took the output of the third step, so that two others had no need."""
    reused = run("train", train, reused=1)
    return {"steps": runs(load=None, clean=None, train=reused, score=score)}


def verdicts(comparison: Comparison) -> list[str]:
    return [step.verdict for step in comparison.steps]


@pytest.mark.parametrize("swapped", [False, True])
def test_reused_output_is_as_good_as_a_computed_one(swapped: bool) -> None:
    """A trial that took equal outputs equals the one that computed them."""
    trials = [{}, reusing()]
    comparison = compared(*(trials[::-1] if swapped else trials))
    assert verdicts(comparison) == ["not needed", "not needed", "same", "same"]
    assert comparison.identical
    assert not comparison.differs
    assert comparison.unverified == ()
    assert comparison.explanation.endswith(
        ": parameters, code, environment and the output of every step that ran in both are the "
        "same."
    )


def test_two_trials_that_reused() -> None:
    """Steps that neither trial needed are no difference."""
    comparison = compared(reusing(), reusing())
    assert comparison.identical
    assert verdicts(comparison)[:2] == ["not needed", "not needed"]


def test_text_names_what_was_not_needed() -> None:
    """The table says in which trial a step was needed, and why not in the other."""
    text = str(compared({}, reusing(score="s2")))
    assert "  load   needed only in 1  what takes its output was reused" in text
    assert "  train  same              reused from trial 1" in text
    assert "  score  differs           " in text


def test_cause_through_a_step_that_was_not_needed() -> None:
    """A change that comes in by steps that one trial did not run is still found."""
    other = {"depth": 4, "path": "wine.csv"}
    second = {"parameters": other, "steps": runs(other, load="l2", clean="c2", train="t2")}
    comparison = compared(reusing(), second)
    assert comparison.first_difference is not None
    assert comparison.first_difference.key == "train"
    found = {(cause.kind, cause.name) for cause in comparison.first_difference.causes}
    assert found == {("parameter", "depth"), ("parameter", "path")}


def test_step_that_is_needed_and_did_not_run() -> None:
    """Where one of those behind a step was computed, a missing run is not excused."""
    nodes = [*NODES, Node("report", "report", steps=["clean"])]
    reused = run("train", "train-output", reused=1)
    steps = [*runs(load=None, clean=None, train=reused), run("report", "r")]
    full = [*runs(), run("report", "r")]
    comparison = compared({"nodes": nodes, "steps": full}, {"nodes": nodes, "steps": steps})
    assert verdicts(comparison) == ["not run", "not run", "same", "same", "same"]
    assert not comparison.identical


def test_failed_trial_excuses_nothing() -> None:
    """In a trial that failed, a step without a run may just not have come to it."""
    error = Failure("ValueError", "ValueError(no)")
    steps = runs(load=None, clean=None, train=run("train", "train-output", reused=1),
                 score=failed("score", "ValueError(no)"))  # fmt: skip
    comparison = compared({}, {"steps": steps, "status": "failed", "failure": error})
    assert verdicts(comparison) == ["not run", "not run", "same", "failed"]


def test_step_that_failed_before_its_output_was_reused() -> None:
    """A failure in one trial is no match for a step that the other did not need."""
    error = "ValueError(no)"
    steps = runs(load=failed("load", error), clean=None, train=None, score=None)
    comparison = compared(
        {"steps": steps, "status": "failed", "failure": Failure("ValueError", error)}, reusing()
    )
    assert verdicts(comparison)[0] == "not run"
    assert not comparison.identical


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"steps": runs(clean=run("clean", None, note="a lock"))}, "step 'clean': a lock"),
        ({"steps": runs(score=None)}, "step 'score': it did not run to an end in both trials"),
        ({"result": {"$": "object", "type": "T", "repr": "T()", "reason": "no"}}, ""),
        ({"status": None}, "the result: not both trials have one"),
    ],
)
def test_what_is_unknown_is_not_identical(second: dict[str, Any], reason: str) -> None:
    """Whatever could not be checked keeps a comparison from being called identical."""
    comparison = compared({}, second)
    assert not comparison.identical
    assert not reason or reason in comparison.unverified


def test_other_output_is_not_identical() -> None:
    """One other output is enough, though the results are the same."""
    comparison = compared({}, {"steps": runs(clean="c2")})
    assert comparison.same_result
    assert not comparison.identical
    assert comparison.unverified == ()


def test_changes_without_effect_are_identical() -> None:
    """What went in may differ: identical are the outputs."""
    comparison = compared({}, {"seed": 2, "categories": {"git": {"commit": "2222222"}}})
    assert comparison.differs
    assert comparison.identical


def test_damaged_record_is_not_identical() -> None:
    """A trial of which something cannot be read is not called identical."""
    store = MemoryStore()
    add(store)
    add(store)
    store.streams["steps"][0] = store.streams["steps"][0]._replace(body=b"{")
    comparison = compare(store, 1, 2)
    assert not comparison.identical
    assert any("left out" in line for line in comparison.unverified)


def test_reproduction_is_told() -> None:
    """A trial that reproduces the other says so, whichever stands first."""
    store = MemoryStore()
    add(store)
    add(store, source=1)
    assert compare(store, 1, 2).explanation.startswith("Trial 2 reproduces trial 1. No difference")
    assert compare(store, 2, 1).explanation.startswith("Trial 2 reproduces trial 1. No difference")
    assert compare(store, 1, 2).sources == Pair(None, 1)
    assert compare(store, 1, 2).to_dict()["identical"] is True
