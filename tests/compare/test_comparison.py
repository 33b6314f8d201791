"""What a comparison shows: text, HTML and data."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from daskperiment.compare import ABSENT, Comparison, Pair, compare
from daskperiment.errors import StoreUnavailableError, TrialIDNotFoundError
from daskperiment.records import Failure
from tests.compare.trials import MemoryStore, add, code, failed, run, runs

SCALED = "def scale(data):\n    return data / data.min()\n"


def model(digest: str | None, **other: Any) -> dict[str, Any]:
    """Make the recorded form of a value that is not plain data."""
    return {"$": "object", "type": "<class 'Model'>", "repr": "Model()", "digest": digest, **other}


def example() -> Comparison:
    """Compare two trials that differ in most ways."""
    store = MemoryStore()
    lr = {"lr": 0.2}
    add(store, the_code=code(packages={"train": {"numpy": "2.0"}}),
        metrics=[["loss", 0, 0.5], ["loss", 1, 0.4], ["auc", 0, 1.0]])  # fmt: skip
    add(store, parameters=lr, result=0.91,
        the_code=code({"scale": SCALED}, packages={"train": {"numpy": "2.1"}}),
        steps=runs(lr, clean="c2", train="t2", score="s2"),
        categories={"git": {"commit": "2222222bbbb", "branch": "main", "dirty": "False"}},
        metrics=[["loss", 1, 0.3], ["loss", 0, 0.6], ["auc", 0, 1.0]])  # fmt: skip
    return compare(store, 1, 2)


def test_text():
    """The text begins with the explanation and shows in tables only what differs."""
    text = str(example())
    head, _, rest = text.partition("Code of scale")
    assert (
        head
        == """\
Comparison of trials 1 and 2

Trial 2 differs from trial 1 first in step 'clean': its code changed (scale).

Outcome   trial 1    trial 2
  status  succeeded  succeeded
  result  0.9        0.91

Parameters  trial 1  trial 2
  lr        0.1      0.2
  (the same: path='iris.csv', depth=3)

Metrics, last value  trial 1  trial 2
  loss               0.4      0.3
  (the same: auc=1.0)

Steps    output   why
  load   same
  clean  differs  its code changed (scale)
  train  differs  input from 'clean'; parameter lr 0.1 -> 0.2; package
                  numpy 2.0 -> 2.1
  score  differs  input from 'train'

"""
    )
    assert "  -    return data / data.max()\n  +    return data / data.min()\n" in rest
    assert rest.endswith("""\
Git       trial 1      trial 2
  commit  1111111aaaa  2222222bbbb""")


def test_text_of_equal_trials():
    """Where nothing differs, there is nothing but the outcome."""
    store = MemoryStore()
    assert (
        str(compare(store, add(store), add(store)))
        == """\
Comparison of trials 1 and 2

No difference between trials 1 and 2: parameters, code, environment and the output of every step
are the same.

Outcome   trial 1    trial 2
  status  succeeded  succeeded
  result  0.9        0.9"""
    )


def test_text_of_a_failure():
    """A failure shows at the top, in its step, and in full among the errors."""
    store = MemoryStore()
    error = "ZeroDivisionError(division by zero)"
    add(store)
    add(store, steps=runs(train=failed("train", error), score=None), status="failed",
        failure=Failure("ZeroDivisionError", error))  # fmt: skip
    text = str(compare(store, 1, 2))
    assert "  status  succeeded  failed\n  result  0.9        (absent)\n" in text
    assert f"Errors\n  trial 2: {error}\n" in text
    assert "  train  failed in 2    its inputs, code" in text
    assert "  score  ran only in 1" in text


def test_data():
    """The attributes hold as data what the text says."""
    comparison = example()
    assert comparison.parameters == {"lr": Pair(0.1, 0.2)}
    assert comparison.same_parameters == {"path": "iris.csv", "depth": 3}
    assert comparison.metrics == {"loss": Pair(0.4, 0.3)}
    assert comparison.same_metrics == {"auc": 1.0}
    assert comparison.git == {"commit": Pair("1111111aaaa", "2222222bbbb")}
    assert comparison.results == (0.9, 0.91)
    assert comparison.same_result is False


def test_to_dict():
    """As a dict, it is plain data that JSON can hold."""
    told = example().to_dict()
    assert told["parameters"] == {"lr": {"first": 0.1, "second": 0.2}}
    assert told["steps"][1]["key"] == "clean"
    assert told["steps"][1]["causes"] == [
        {"kind": "code", "name": "scale", "step": "clean", "values": {}, "code": [], "data": None}
    ]
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (float("nan"), float("nan"), True),
        (pd.NA, pd.NA, True),
        (pd.NaT, pd.NA, False),
        ({1, 2, 3}, {3, 2, 1}, True),
        ((1, 2), [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        pytest.param(10**5000, 10**5000, True, id="huge"),
        pytest.param(10**5000, 10**5000 + 1, False, id="huge and one more"),
        (None, model("ab"), False),
        (model("ab"), model("ab"), True),
    ],
)
def test_same_values(first: Any, second: Any, same: bool):
    """Values are the same if value and type are; objects if their bytes are."""
    store = MemoryStore()
    add(store, parameters={"x": first}, result=first, steps=[])
    add(store, parameters={"x": second}, result=second, steps=[])
    comparison = compare(store, 1, 2)
    assert comparison.same_result is same
    assert ("x" in comparison.same_parameters) is same
    assert ("x" in comparison.parameters) is not same
    assert "(other content)" not in str(comparison)


@pytest.mark.parametrize("digests", [("ab", "cd"), ("ab", None), (None, None)])
def test_results_that_cannot_be_compared(digests: tuple[str | None, str | None]):
    """Results in other bytes, or not kept, are called neither equal nor different."""
    store = MemoryStore()
    for digest in digests:
        add(store, result=model(digest), steps=runs(score=run("score", None, note="none")))
    comparison = compare(store, 1, 2)
    assert comparison.same_result is None
    assert "(cannot be compared)" in str(comparison)
    assert "No difference between trials 1 and 2 is known." in comparison.explanation


@pytest.mark.parametrize("output", ["s1", "s2"])
def test_results_by_fingerprint(output: str):
    """The fingerprint of the last step tells whether objects are equal."""
    store = MemoryStore()
    add(store, result=model("ab"), steps=runs(score="s1"))
    add(store, result=model("cd"), steps=runs(score=output))
    assert compare(store, 1, 2).same_result is (output == "s1")


def test_parameter_that_one_trial_does_not_have():
    """A parameter that came later is absent from the first trial, which is not None."""
    store = MemoryStore()
    add(store)
    add(store, parameters={"new": None})
    comparison = compare(store, 1, 2)
    assert comparison.parameters == {"new": Pair(ABSENT, None)}
    assert comparison.to_dict()["parameters"] == {"new": {"second": None}}
    assert "  new       (absent)  None" in str(comparison)


def test_objects_that_look_alike():
    """Parameters that differ never look the same in the text."""
    store = MemoryStore()
    add(
        store,
        parameters={
            "m": model("ab"),
            "n" * 99: model("ab", repr="m" * 99),
            "path": "a" * 200 + "1",
        },
    )
    add(
        store,
        parameters={
            "m": model("cd"),
            "n" * 99: model("cd", repr="m" * 99),
            "path": "a" * 200 + "2",
        },
    )
    comparison = compare(store, 1, 2)
    assert max(map(len, str(comparison).splitlines())) <= 100
    rows = [line.split("  ") for line in str(comparison).splitlines()]
    (path,) = [row for row in rows if row[1:2] == ["path"]]
    assert path[-2] != path[-1]
    assert "Model() (other content)" in str(comparison)


def test_missing_and_damaged_objects():
    """What cannot be read is named; the rest is compared all the same."""
    store = MemoryStore()
    add(store)
    add(store, the_code=code({"load": "def load(): pass"}),
        steps=runs(load=run("load", "l2", code="other")))  # fmt: skip
    begun = [json.loads(one.body) for one in store.read("trials") if one.id == "begun"]
    store.damage(begun[1]["code"])
    del store.objects[begun[1]["environment"]]
    comparison = compare(store, 1, 2)
    assert len(comparison.problems) == 3
    assert "Not compared" in str(comparison)
    assert comparison.explanation.startswith(
        "Trial 2 differs from trial 1 first in step 'load': its code changed."
    )


def test_missing_graph():
    """Without one trial's graph, steps are matched by name and none counts as added."""
    store = MemoryStore()
    add(store)
    add(store, steps=runs(train="t2", score=None), nodes=[])
    begun = [json.loads(one.body) for one in store.read("trials") if one.id == "begun"]
    del store.objects[begun[1]["graph"]]
    comparison = compare(store, 1, 2)
    verdicts = {step.key: step.verdict for step in comparison.steps}
    assert verdicts == {"load": "same", "clean": "same", "train": "differs", "score": "not run"}


def test_damaged_step_run():
    """A damaged record costs itself only."""
    store = MemoryStore()
    add(store)
    add(store)
    steps = store.streams["steps"]
    steps[0] = steps[0]._replace(body=b"{")
    comparison = compare(store, 1, 2)
    assert [step.verdict for step in comparison.steps] == ["not run", "same", "same", "same"]
    assert "is left out" in comparison.problems[0]


def test_unknown_trial():
    """A trial that does not exist is an error, whichever of the two it is."""
    store = MemoryStore()
    add(store)
    with pytest.raises(TrialIDNotFoundError, match="no trial 2"):
        compare(store, 1, 2)
    with pytest.raises(TrialIDNotFoundError, match="no trial 7"):
        compare(store, 7, 1)


def test_store_that_is_away():
    """A store that cannot be reached is not taken for a damaged one."""

    class Away(MemoryStore):
        def get(self, digest: str) -> bytes:
            raise StoreUnavailableError("away")

    store = Away()
    add(store)
    with pytest.raises(StoreUnavailableError):
        compare(store, 1, 1)


def test_environment():
    """Packages, git and the rest have a part each; a diff is summed up, and kept as data."""
    diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n-b\n+c\n"
    old = {"requirements": {"numpy": "2.0", "gone": "1"}, "memory": {"total": "8 GiB"}}
    new = {
        "requirements": {"numpy": "2.1", "come": "1"},
        "memory": {"total": "16 GiB"},
        "python": {"version": "3.12.1"},
        "git": {"commit": "1" * 40, "branch": "main", "dirty": "yes", "diff": diff,
                "untracked": "ab  x\ncd  y"},
    }  # fmt: skip
    store = MemoryStore()
    add(store, categories=old)
    add(store, categories=new, steps=runs(load="l2"))
    comparison = compare(store, 1, 2)
    assert comparison.packages == {
        "numpy": Pair("2.0", "2.1"), "gone": Pair("1", ABSENT), "come": Pair(ABSENT, "1")
    }  # fmt: skip
    assert comparison.git["diff"] == Pair(ABSENT, diff)
    assert comparison.environment == ("python 3.11.9 -> 3.12.1", "memory total 8 GiB -> 16 GiB")
    assert comparison.explanation == (
        "Trial 2 differs from trial 1 first in step 'load': nothing of its own changed, but the "
        "environment did (numpy 2.0 -> 2.1, added come==1, removed gone==1 and "
        "python 3.11.9 -> 3.12.1)."
    )
    text = str(comparison)
    assert "  uncommitted changes  none         1 file, +1 -2\n" in text
    assert "  untracked files      none         2 files\n" in text
    assert "  gone    1         (absent)\n" in text


def test_functions_without_a_diff():
    """A function that came, one that went, and one whose source is the same, are told as such."""
    old, new = code(uses={"clean": ["clean", "train"]}), code()
    new.functions["load"] = structs.replace(new.functions["load"], fingerprint="other")
    new.steps["load"] = structs.replace(new.steps["load"], fingerprint="other")
    store = MemoryStore()
    add(store, the_code=old)
    add(store, the_code=new)
    assert compare(store, 1, 2).functions == {
        "load": "load is written the same: its default values differ.",
        "scale": "scale is used now.",
        "train": "train is no longer used.",
    }


def test_objects_are_not_even_fetched():
    """Values that are not plain data are compared by digest and never loaded."""
    store = MemoryStore()
    add(store, result=model("ab"), parameters={"m": model("ab")}, metrics=[["m", 0, model("ab")]])
    add(store, result=model("cd"), parameters={"m": model("cd")}, metrics=[["m", 0, model("cd")]])
    # There is no such object in the store: to fetch one would be a KeyError.
    comparison = compare(store, 1, 2)
    assert list(comparison.parameters) == list(comparison.metrics) == ["m"]
    assert comparison.results.first.repr == "Model()"
    assert "Model()" in comparison._repr_html_()
    assert comparison.to_dict()["results"]["first"]["type"] == "<class 'Model'>"


def test_experiment(ex):
    """An experiment's own trials are compared, from what it recorded itself."""
    lr = ex.parameter("lr", default=0.5)

    @ex
    def load():
        return [1, 2, 3]

    @ex.result
    def score(data, lr):
        ex.save_metric("loss", 0, lr)
        return sum(data) * lr

    result = score(load(), lr)
    result.compute(seed=1)
    result.compute(seed=2)
    result.bind(lr=0.25).compute(seed=1)
    assert not ex.compare(1, 2).differs
    comparison = ex.compare(2, 3)
    assert comparison.explanation == (
        "Trial 3 differs from trial 2 first in step 'score': parameter lr 0.5 -> 0.25."
    )
    assert comparison.results == (3.0, 1.5)
    assert comparison.metrics == {"loss": Pair(0.5, 0.25)}


def test_html_is_escaped():
    """Nothing that a trial recorded becomes markup."""
    evil = "<script>alert(1)</script>"
    store = MemoryStore()
    add(store, parameters={evil: 1}, the_code=code({"load": evil}))
    add(store, parameters={evil: evil}, the_code=code({"load": evil * 2}), result=evil,
        categories={"git": {evil: evil}})  # fmt: skip
    html = compare(store, 1, 2)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.startswith("<div")


def test_html_holds_what_the_text_holds():
    """The sections are the same in both."""
    comparison = example()
    html = comparison._repr_html_()
    for title in ("Outcome", "Parameters", "Metrics, last value", "Steps", "Code of scale", "Git"):
        assert title in html
        assert title in str(comparison)


values = st.sampled_from([1, 2, "a", None])
steps = st.fixed_dictionaries(
    {
        key: st.sampled_from(
            ["one", "two", None, run(key, None, note="none"), failed(key, "E()"),
             run(key, "one", stochastic=True, seed=1), run(key, "two", stochastic=True, seed=2)]
        )
        for key in ("load", "clean", "train", "score")
    }
)  # fmt: skip
trials = st.fixed_dictionaries(
    {
        "parameters": st.dictionaries(st.sampled_from(["path", "lr", "new"]), values),
        "steps": steps,
        "the_code": st.sampled_from([code(), code({"scale": SCALED}), code({"load": "pass"})]),
        "result": values,
        "seed": st.integers(1, 2),
        "metrics": st.lists(st.tuples(st.just("loss"), st.integers(0, 2), values), max_size=3),
    }
)


def _mirrored(value: Any) -> Any:
    """Exchange first and second everywhere in what `to_dict` gives."""
    if isinstance(value, list):
        return [_mirrored(item) for item in value]
    if not isinstance(value, dict):
        return {"added": "removed", "removed": "added"}.get(value, value)
    if value.keys() <= {"first", "second"}:
        other = {"first": "second", "second": "first"}
        return {other[name]: item for name, item in value.items()}
    return {name: _mirrored(item) for name, item in value.items()}


def _sorted_causes(told: dict[str, Any]) -> dict[str, Any]:
    for step in told["steps"]:
        for name in ("causes", "changes"):
            step[name] = sorted(step[name], key=repr)
    return told


@given(trials, trials)
@settings(max_examples=150, deadline=None)
def test_mirror(first: dict[str, Any], second: dict[str, Any]):
    """Compared the other way round, first and second are exchanged and nothing else differs."""
    store = MemoryStore()
    for trial in (first, second):
        add(store, **{**trial, "steps": runs(trial["parameters"], **trial["steps"])})
    there, back = compare(store, 1, 2), compare(store, 2, 1)
    assert there.differs == back.differs
    one, other = _sorted_causes(there.to_dict()), _sorted_causes(_mirrored(back.to_dict()))
    for told in (one, other):
        # Wording, the direction of a diff and the numbers of the trials depend on the order.
        told["functions"] = sorted(told["functions"])
        for name in ("explanation", "first", "second", "problems"):
            del told[name]
        told["same_parameters"] = dict(sorted(told["same_parameters"].items()))
    assert one == other
    for text in (str(there), str(back)):
        assert max(map(len, text.splitlines())) <= 100
