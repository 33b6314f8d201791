"""Generated changes: what explain and compare name is the change that was made."""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
import warnings

import pytest

import daskperiment
from daskperiment import experiment
from daskperiment.errors import CodeChangedWarning

SOURCE = """
RATE = {rate}
TABLE = {table}


class Settings:
    scale = {scale}


def helper(x):
    return x {operator} {operand}


def outer(x, by={by}):
    return helper(x) + by + Settings.scale


def build(ex):
    @ex.persist
    def load(n):
        return [n + i for i in range(4)]

    @ex.persist
    def prepare(values, share={default}, offset=0):
        return [outer(x) * RATE + share + offset for x in values]

    @ex.persist
    def side(values, k):
        return sum(values) + {body} * k + sum(TABLE)

    @ex.result
    def score(first, second):
        return [sum(first), second]

    data = load(ex.parameter("n", default={n}))
    return score(prepare(data, offset={offset}), side(data, k={k}))
"""
START = {
    "rate": 2, "table": [1, 2], "scale": 1, "operator": "+", "operand": 3, "by": 4, "default": 5,
    "body": 6, "n": 7, "offset": 8, "k": 9,
}  # fmt: skip
NAMED = {
    "rate": "RATE", "table": "TABLE", "scale": "Settings", "operator": "helper",
    "operand": "helper", "by": "outer", "default": "prepare|share", "body": "side",
    "n": "parameter n",
    "offset": "argument offset", "k": "argument k",
}  # fmt: skip
"""What was changed -> what is to be named."""


def built(folder, ex, values):
    """Write a module, import it anew, and return its result."""
    folder.mkdir()
    (folder / "generated.py").write_text(SOURCE.format(**values))
    sys.path.insert(0, str(folder))
    sys.modules.pop("generated", None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module("generated").build(ex)
    finally:
        sys.path.remove(str(folder))


def other(rng, name, value):
    if name == "operator":
        return {"+": "-", "-": "*", "*": "+"}[value]
    number = rng.randrange(10, 10**6)
    return [*value, number] if name == "table" else number


@pytest.mark.parametrize("seed", range(3))
def test_the_change_that_was_made_is_named(tmp_path, ex, seed):
    """Each of many random changes of all kinds is named by both, and nothing else is."""
    rng, values = random.Random(seed), dict(START)
    names = [*NAMED, *rng.choices(list(NAMED), k=10)]
    rng.shuffle(names)
    built(tmp_path / "start", ex, values).compute()
    for number, name in enumerate(names):
        values[name] = other(rng, name, values[name])
        result = built(tmp_path / str(number), ex, values)
        reasons = [step.reason for step in ex.explain(result) if step.verdict == "miss"]
        told = {reason.partition("; runs, unless")[0] for reason in reasons}
        assert told, name
        assert all(re.search(NAMED[name], text) for text in told), (name, told)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CodeChangedWarning)
            result.compute()
        first = ex.compare(number + 1, number + 2).first_difference
        causes = {f"{cause.kind} {cause.name}" for cause in first.causes}
        assert causes, name
        assert all(re.search(NAMED[name], text) for text in causes), (name, causes)


def test_no_change_has_no_reason(tmp_path, ex):
    """The same once more is all hits, and no difference."""
    for name in ("one", "two"):
        result = built(tmp_path / name, ex, START)
        result.compute(reuse=False)
    assert {step.verdict for step in ex.explain(result)} == {"hit", "not needed", "run"}
    assert not ex.compare(1, 2).differs


MEANWHILE = {
    "seed": "another seed for random numbers than in trial 1",
    "file": "part.txt changed since noisy read it",
    "variable": "DASKPERIMENT_TEST_PART changed since noisy read it",
}
"""What becomes otherwise while a parameter has another value -> what is said of that alone."""


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_value_that_comes_back_is_the_reason(tmp_path, monkeypatch, what):
    """Named is what changed since the trial before, not what an older output of the value lacks.

    Where nothing changed since then, that is what is said.
    """
    monkeypatch.setenv("DASKPERIMENT_TEST_PART", "1")
    (tmp_path / "part.txt").write_text("1")
    ex = daskperiment.Experiment("back", backend=tmp_path / "store", seed=1)

    @ex.persist(reuse=True)
    def noisy(rate):
        part = (tmp_path / "part.txt").read_text() + os.environ["DASKPERIMENT_TEST_PART"]
        return [rate, part, *([random.random()] if what == "seed" else [])]

    result = ex.result(len)(noisy(ex.parameter("rate", default=1)))
    result.compute()
    if what == "file":
        (tmp_path / "part.txt").write_text("22")
    elif what == "variable":
        monkeypatch.setenv("DASKPERIMENT_TEST_PART", "22")
    else:
        ex = daskperiment.Experiment("back", backend=tmp_path / "store", seed=2)
    assert MEANWHILE[what] in ex.explain(result)["noisy"].reason
    ex.set_parameters(rate=2)
    result.compute()
    ex.set_parameters(rate=1)
    assert ex.explain(result)["noisy"].reason == "parameter rate 2 → 1"
    result.compute()
    assert ex.explain(3)["noisy"].reason == "parameter rate 2 → 1"


def rated(folder):
    """Return the experiment as a process of its own has it, and its result."""
    experiment._EXPERIMENTS.clear()
    ex = daskperiment.Experiment("latest", backend=folder, seed=1)

    @ex.persist(reuse=True)
    def prepare(rate, values):
        return [rate, len(values)]

    return ex, ex.result(len)(prepare(ex.parameter("rate", default=1), [1, 2]))


@pytest.mark.parametrize("between", ["without reuse", "elsewhere", "both", "neither"])
def test_the_latest_trial_is_what_is_held_against(tmp_path, between):
    """What changed is told since the latest trial, also if that reused nothing or ran elsewhere."""
    elsewhere, other = rated(tmp_path)
    ex, result = rated(tmp_path)
    result.compute()
    assert ex.explain(result.bind(rate=5))["prepare"].reason == "parameter rate 1 → 5"
    if between in ("elsewhere", "both"):
        other.bind(rate=2).compute()
    if between in ("without reuse", "both"):
        result.bind(rate=3).compute(reuse=False)
    latest = {"elsewhere": 2, "neither": 1}.get(between, 3)
    reason = f"parameter rate {latest} → 5"
    assert ex.explain(result.bind(rate=5))["prepare"].reason == reason
    result.bind(rate=5).compute()
    assert ex.explain(ex.trial_id)["prepare"].reason == reason
    assert elsewhere.explain(other.bind(rate=7))["prepare"].reason == "parameter rate 5 → 7"
