"""Which step differs first, and which change is named for it."""

from __future__ import annotations

from typing import Any

import pytest

from daskperiment.compare import ABSENT, Comparison, Pair, StepComparison, compare
from daskperiment.records import Failure, Node
from tests.compare.trials import NODES, MemoryStore, add, code, failed, run, runs

UNCHECKED = "its output has no fingerprint: a lock"


def compared(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
    store = MemoryStore()
    return compare(store, add(store, **first), add(store, **second))


def causes(comparison: Comparison, key: str) -> list[tuple[str, str, str]]:
    step = next(step for step in comparison.steps if step.key == key)
    return [(cause.kind, cause.name, cause.step) for cause in step.causes]


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {step.key: step.verdict for step in comparison.steps}


def first(comparison: Comparison) -> StepComparison:
    assert comparison.first_difference is not None
    return comparison.first_difference


def test_equal_trials():
    """Two trials of the same kind do not differ, and the text says what was held together."""
    comparison = compared({}, {})
    assert not comparison.differs
    assert comparison.first_difference is None
    assert comparison.same_result is True
    assert comparison.explanation == (
        "No difference between trials 1 and 2: parameters, code, environment and the output of "
        "every step are the same."
    )


def test_trial_with_itself():
    """A trial does not differ from itself."""
    store = MemoryStore()
    trial = add(store)
    assert not compare(store, trial, trial).differs


def test_parameter_reaches_the_step_that_takes_it():
    """The first step that differs is the one that takes the parameter, not a later one."""
    lr = {"lr": 0.2}
    comparison = compared(
        {}, {"parameters": lr, "steps": runs(lr, train="t2", score="s2"), "result": 0.8}
    )
    assert verdicts(comparison) == {
        "load": "same", "clean": "same", "train": "differs", "score": "differs"
    }  # fmt: skip
    assert first(comparison).key == "train"
    assert causes(comparison, "train") == [("parameter", "lr", "train")]
    assert causes(comparison, "score") == [("step", "train", "train")]
    assert first(comparison).causes[0].values == Pair(0.1, 0.2)
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'train': parameter lr 0.1 -> 0.2."
    )


def test_parameter_that_is_no_hashable_value():
    """Lists and objects are compared as parameters like anything else."""
    lr = {"lr": [0.1, {"decay": 0.5}]}
    comparison = compared({}, {"parameters": lr, "steps": runs(lr, train="t2")})
    assert first(comparison).causes[0].values == Pair(0.1, lr["lr"])


def test_parameter_of_another_step_is_no_cause():
    """A parameter that differs but that the step does not take is not named."""
    path = {"path": "b.csv"}
    comparison = compared(
        {}, {"parameters": path, "steps": runs(path, train="t2"), "the_code": code({"train": "x"})}
    )
    assert causes(comparison, "train") == [("code", "train", "train")]


def test_equal_inputs_exclude_parameters():
    """Where the arguments are known to be equal, no parameter can be the cause."""
    comparison = compared(
        {}, {"parameters": {"lr": 0.2}, "steps": runs({"lr": 0.1}, train="t2")}
    )  # fmt: skip
    assert causes(comparison, "train") == [("impure", "", "train")]


def test_code_constants_and_packages():
    """Changes of the step's own code are told apart: a helper, a constant, a package."""
    old = code(constants={"clean": {"LIMIT": "a"}}, packages={"clean": {"numpy": "2.0"}})
    new = code(
        {"scale": "def scale(data):\n    return data\n"},
        constants={"clean": {"LIMIT": "b"}},
        packages={"clean": {"numpy": "2.1", "scipy": "1.0"}},
    )
    comparison = compared({"the_code": old}, {"the_code": new, "steps": runs(clean="c2")})
    assert causes(comparison, "clean") == [
        ("code", "scale", "clean"),
        ("constant", "LIMIT", "clean"),
        ("package", "numpy", "clean"),
        ("package", "scipy", "clean"),
    ]
    assert first(comparison).causes[3].values == Pair(ABSENT, "1.0")
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'clean': its code changed (scale), constant "
        "LIMIT changed and packages numpy 2.0 -> 2.1 and scipy (absent) -> 1.0."
    )
    assert set(comparison.functions) == {"scale"}
    assert "+    return data" in comparison.functions["scale"]


def test_change_without_effect():
    """A change that no output shows is told as one without effect, and is no cause."""
    comparison = compared({}, {"the_code": code({"scale": "def scale(data): pass"})})
    assert comparison.differs
    assert comparison.same_outcome
    assert verdicts(comparison)["clean"] == "same"
    assert [change.name for change in comparison.steps[1].changes] == ["scale"]
    assert comparison.explanation == (
        "Trials 1 and 2 came out the same. What differs had no effect: code of scale."
    )


def test_constant_without_effect():
    """A constant whose change had no effect is named."""
    old, new = (code(constants={"clean": {"LIMIT": value}}) for value in "ab")
    comparison = compared({"the_code": old}, {"the_code": new})
    assert comparison.explanation == (
        "Trials 1 and 2 came out the same. What differs had no effect: constant LIMIT."
    )


def test_equal_output_stops_a_change():
    """A change before a step whose output is equal is no cause of what comes after it."""
    changed = code({"load": "def load(path): pass"})
    comparison = compared({}, {"the_code": changed, "steps": runs(train="t2")})
    assert causes(comparison, "train") == [("impure", "", "train")]


def test_change_passes_through_a_step_that_is_not_checkable():
    """Behind a step without fingerprint, what reached that step is named, and how it came."""
    path = {"path": "b.csv"}
    load = run("load", None, note=UNCHECKED)
    comparison = compared(
        {"steps": runs(load=load, clean=run("clean", "c1"))},
        {"parameters": path, "steps": runs(path, load=load, clean=run("clean", "c2"))},
    )
    assert verdicts(comparison)["load"] == "unchecked"
    assert causes(comparison, "clean") == [("parameter", "path", "load")]
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'clean': parameter path 'iris.csv' -> 'b.csv' "
        "by way of step 'load'. Whether the output of step 'load' differs is not known: it has no "
        "fingerprint."
    )


def test_step_that_is_not_checkable_may_be_the_cause():
    """With no change at all, the step that cannot be compared is named, not called equal."""
    load = run("load", None, note=UNCHECKED)
    comparison = compared({"steps": runs(load=load)}, {"steps": runs(load=load, clean="c2")})
    assert causes(comparison, "clean") == [("unchecked", "load", "load")]
    assert "perhaps 'load'" in comparison.explanation


def test_no_difference_known():
    """Trials with a step that cannot be compared are not claimed to be equal."""
    load = run("load", None, note=UNCHECKED)
    comparison = compared({"steps": runs(load=load)}, {"steps": runs(load=load)})
    assert not comparison.differs
    assert comparison.explanation == (
        "No difference between trials 1 and 2 is known. Whether the output of step 'load' differs "
        "is not known: it has no fingerprint."
    )
    assert UNCHECKED in str(comparison)


def test_another_seed():
    """The seed is named only for a step that drew random numbers."""
    comparison = compared(
        {"seed": 1, "steps": runs(train=run("train", "t1", stochastic=True, seed=5))},
        {"seed": 2, "steps": runs(train=run("train", "t2", stochastic=True, seed=6), score="s2")},
    )
    assert causes(comparison, "train") == [("seed", "train", "train")]
    assert causes(comparison, "score") == [("step", "train", "train")]


def test_seed_that_nobody_used():
    """Other seeds are no difference where no step drew random numbers."""
    assert not compared({"seed": 1}, {"seed": 2}).differs


def test_data_from_outside():
    """Inputs that differ without any recorded reason come from outside the experiment."""
    comparison = compared({}, {"steps": runs(load=run("load", "l2", inputs="another literal"))})
    assert causes(comparison, "load") == [("inputs", "load", "load")]


def test_environment_where_nothing_else_explains():
    """Another Python is named only for a step that nothing of its own explains."""
    python = {"python": {"version": "3.12.1"}}
    comparison = compared(
        {},
        {
            "categories": python,
            "the_code": code({"score": "def score(m): pass"}),
            "steps": runs(clean="c2", score="s2"),
        },
    )
    assert {kind for kind, _, _ in causes(comparison, "clean")} == {"environment"}
    assert causes(comparison, "score") == [("code", "score", "score")]
    assert "3.11.9" in comparison.explanation
    assert "3.12.1" in comparison.explanation


def test_impure_step_with_a_hint():
    """A step that nothing explains is called not pure, with what its run noted."""
    hint = "it shared the global random state with another step"
    train = run("train", "t2", stochastic=True, seed=5, note=hint)
    comparison = compared(
        {"steps": runs(train=run("train", "t1", stochastic=True, seed=5))},
        {"steps": runs(train=train)},
    )
    assert causes(comparison, "train") == [("impure", hint, "train")]
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'train': its inputs, code, packages and seed "
        f"are the same, so it depends on something that is not recorded: it is not pure; {hint}."
    )


def test_arguments_without_fingerprint():
    """A step whose arguments have no fingerprint is not called impure."""
    load = run("load", None, note=UNCHECKED)
    comparison = compared(
        {"steps": runs(load=load, clean=run("clean", "c", inputs="i"), train="t1")},
        {"steps": runs(load=load, clean=run("clean", "c", inputs="i"), train=run("train", "t2"))},
    )
    assert causes(comparison, "train") == [("impure", "", "train")]
    comparison = compared(
        {"steps": [run("load", "l1")], "nodes": NODES[:1]},
        {"steps": [run("load", "l2")], "nodes": NODES[:1]},
    )
    assert causes(comparison, "load") == [("unchecked", "load", "load")]


def test_failed_step():
    """A failing step is found with its error and the parameter that reaches it."""
    lr = {"lr": 0.0}
    error = "ZeroDivisionError(division by zero)"
    failure = Failure("ZeroDivisionError", error, step="train")
    steps = runs(lr, train=failed("train", error), score=None)
    comparison = compared(
        {}, {"parameters": lr, "steps": steps, "status": "failed", "failure": failure}
    )
    assert verdicts(comparison)["train"] == "failed"
    assert verdicts(comparison)["score"] == "not run"
    assert comparison.results.second is ABSENT
    assert comparison.explanation == (
        f"Trial 2 failed in step 'train' with {error}; trial 1 did not. What reaches the step: "
        "parameter lr 0.1 -> 0.0."
    )


def test_failure_behind_the_first_difference():
    """Where outputs differ before a step fails, both are told."""
    error = "ValueError(no rows)"
    steps = runs(clean="c2", train=failed("train", error), score=None)
    changed = code({"clean": "def clean(d): pass"})
    comparison = compared({}, {"the_code": changed, "steps": steps, "status": "failed",
                               "failure": Failure("ValueError", error)})  # fmt: skip
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'clean': its code changed (clean). "
        f"Trial 2 failed in step 'train' with {error}; trial 1 did not. "
        "What reaches the step: input from 'clean'."
    )
    assert causes(comparison, "train") == [("step", "clean", "clean")]


@pytest.mark.parametrize("other", ["KeyError('a')", "KeyError('b')"])
def test_both_failed(other: str):
    """Two failures are the same if they say the same."""
    trials = [
        {"steps": runs(train=failed("train", error), score=None), "status": "failed",
         "failure": Failure("KeyError", error)}
        for error in ("KeyError('a')", other)
    ]  # fmt: skip
    comparison = compared(*trials)
    same = other == "KeyError('a')"
    assert verdicts(comparison)["train"] == ("same" if same else "failed")
    assert comparison.differs is not same
    assert ("Both trials failed" in comparison.explanation) is not same


@pytest.mark.parametrize(("status", "verb"), [(None, "is running"), ("interrupted", "is")])
def test_trial_without_result(status: str | None, verb: str):
    """A trial that is not at its end, or was interrupted, is compared as far as it came."""
    train = run("train", None, status="interrupted") if status else None
    comparison = compared({}, {"steps": runs(train=train, score=None), "status": status})
    assert verdicts(comparison) == {
        "load": "same", "clean": "same", "train": "not run", "score": "not run"
    }  # fmt: skip
    assert comparison.statuses.second in comparison.explanation
    assert verb in comparison.explanation


def test_independent_branches():
    """A second difference with a cause of its own is told as well."""
    nodes = [Node("a", "load"), Node("b", "clean"), Node("c", "score", steps=["a", "b"])]
    changed = code({"load": "def load(): pass", "scale": "def scale(): pass"})
    old = [run("a", "1", step="load", inputs="i"), run("b", "1", step="clean", inputs="i")]
    new = [run("a", "2", step="load", inputs="i"), run("b", "2", step="clean", inputs="i")]
    comparison = compared(
        {"nodes": nodes, "steps": [*old, run("c", "1", step="score", inputs="1")]},
        {"nodes": nodes, "steps": [*new, run("c", "2", step="score", inputs="2")],
         "the_code": changed},
    )  # fmt: skip
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'a': its code changed (load). "
        "Step 'b' differs for a reason of its own: its code changed (scale)."
    )
    assert causes(comparison, "c") == [("step", "a", "a"), ("step", "b", "b")]


def test_steps_of_one_trial_only():
    """Steps that only one trial has are said to be so, in the place where they stand."""
    extra = Node("clean#2", "clean", steps=["clean"])
    nodes = [*NODES[:2], extra, Node("train", "train", steps=["clean#2"]), NODES[3]]
    train = run("train", "t2", inputs="x")
    steps = [*runs(train=train, score="s2"), run("clean#2", "x", inputs="c")]
    comparison = compared({}, {"nodes": nodes, "steps": steps})
    assert list(verdicts(comparison).items())[1:4] == [
        ("clean", "same"), ("clean#2", "added"), ("train", "differs")
    ]  # fmt: skip
    assert causes(comparison, "train")[0] == ("graph", "train", "train")


def test_reused_output():
    """A step whose output was taken from another trial is compared by it, and says so."""
    comparison = compared({}, {"steps": runs(clean=run("clean", "clean-output", reused=1),
                                             load=None, train="t2")})  # fmt: skip
    assert verdicts(comparison)["clean"] == "same"
    assert comparison.steps[1].reused == Pair(None, 1)
    assert "reused from trial 1\n" in str(comparison)


def test_repeated_step_run():
    """Of two runs for one place, as when a worker died, the one that succeeded counts."""
    steps = runs()
    lost = failed("clean", "MemoryError()")
    assert not compared({}, {"steps": [*steps[:1], lost, *steps[1:]]}).differs
    assert not compared({}, {"steps": [*steps, lost]}).differs
