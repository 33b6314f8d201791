"""A step whose inputs turn out to be those of a known output does not run."""

from __future__ import annotations

import os

import dask
import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import ImpureStepWarning
from tests.reuse.work import ran, write

pytestmark = pytest.mark.filterwarnings("ignore::daskperiment.errors.CodeChangedWarning")

VALUES = {
    "list": lambda n: list(range(n)),
    "text": lambda n: "x" * n,
    "array": lambda n: np.arange(float(n)),
    "frame": lambda n: pd.DataFrame({"a": range(n)}),
    "long text": lambda n: "x" * 100_000 * n,
}


def make(backend, log, version, value=VALUES["list"], draws=False, **options):
    """Make the result of three steps, whose first one is of some version."""
    ex = daskperiment.Experiment("inputs", backend=backend, **{"seed": 1, **options})
    n = ex.parameter("n", default=4)

    @ex.persist(reuse=True, version=version)
    def prepare(n, log):
        write(log, "prepare")
        return value(n)

    @ex.persist(reuse=True)
    def train(values, log, factor):
        write(log, "train")
        ex.save_metric("loss", 1, 0.5)
        return len(values) * factor + (float(ex.rng.random()) if draws else 0)

    @ex.persist(reuse=True)
    def test(trained):
        return trained + 1

    @ex.result
    def score(tested):
        return tested

    factor = ex.parameter("factor", default=2)
    return ex, score(test(train(prepare(n, log), log, factor)))


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_same_values(tmp_path, log, scheduler, kind):
    """A step does not run after one that was changed and returns the same."""
    ex, result = make(tmp_path, log, "1", VALUES[kind])
    expected = result.compute(scheduler=scheduler)
    assert ran(log) == {"prepare": 1, "train": 1}
    ex, result = make(tmp_path, log, "2", VALUES[kind])
    assert (
        "runs, unless 'prepare' returns the same as in trial 1"
        in ex.explain(result)["train"].reason
    )
    assert result.compute(scheduler=scheduler) == expected
    assert ran(log) == {"prepare": 1}
    told = ex.explain(2)["train"]
    assert (told.verdict, told.trial) == ("hit", 1)
    assert "its inputs are those of trial 1" in told.reason
    assert ex.load_metric("loss", 2).size == ex.load_metric("loss", 1).size
    # Now the cache key leads to it: neither step is needed.
    assert result.compute(scheduler=scheduler) == expected
    assert ran(log) == {}
    assert [step.verdict for step in ex.explain(3)] == ["not needed", "not needed", "hit", "run"]


def test_cluster(tmp_path, log, client):
    """The same holds on a cluster, where steps are shared by trials in flight."""
    ex, result = make(tmp_path, log, "1")
    expected = client.compute(result).result()
    assert ran(log) == {"prepare": 1, "train": 1}
    ex, result = make(tmp_path, log, "2")
    assert client.gather(client.compute([result, result.bind(factor=2)])) == [expected] * 2
    assert ran(log) == {"prepare": 1}
    assert [ex.explain(trial)["train"].verdict for trial in (2, 3)] == ["hit", "hit"]


def test_other_values(tmp_path, log):
    """Other values, and another parameter of the step itself, make it run."""
    make(tmp_path, log, "1")[1].compute()
    ran(log)
    ex, result = make(tmp_path, log, "2", VALUES["text"])
    assert result.compute() == 9
    assert ran(log) == {"prepare": 1, "train": 1}
    ex, result = make(tmp_path, log, "3")
    assert "unless" not in ex.explain(result.bind(factor=3))["train"].reason
    assert result.bind(factor=3).compute() == 13
    assert ran(log) == {"prepare": 1, "train": 1}


def test_order_of_a_dict_counts(tmp_path, log):
    """Dicts that are equal in another order are other inputs: a step may go through them."""
    first = make(tmp_path, log, "1", lambda n: {"a": 1, "b": 2})[1].compute()
    ran(log)
    assert make(tmp_path, log, "2", lambda n: {"b": 2, "a": 1})[1].compute() == first
    assert ran(log) == {"prepare": 1, "train": 1}


def test_draws(tmp_path, log):
    """An output that random numbers went into is taken by trials of its seed alone."""
    first = make(tmp_path, log, "1", draws=True)[1].compute()
    ran(log)
    result = make(tmp_path, log, "2", draws=True)[1]
    assert result.compute(seed=2) != first
    assert ran(log) == {"prepare": 1, "train": 1}
    result = make(tmp_path, log, "3", draws=True)[1]
    assert result.compute() == first
    assert ran(log) == {"prepare": 1}
    result = make(tmp_path, log, "4", draws=True)[1]
    assert result.compute(seed=2) != first
    assert ran(log) == {"prepare": 1}


def test_lost(tmp_path, log):
    """An output that was dropped is made again, and then found again."""
    ex = daskperiment.Experiment("inputs", backend=tmp_path, seed=1)

    def define(version):
        @ex.persist(reuse=True, version=version)
        def first(log):
            write(log, "first")
            return [0]

        @ex.persist(reuse=True)
        def second(values, log):
            write(log, "second")
            return np.zeros(1000) + len(values)

        @ex.result
        def last(value):
            return float(value.sum())

        return last(second(first(log), log))

    define("1").compute()
    assert len(ex.prune(max_bytes=0)) == 1
    ran(log)
    assert "unless" not in ex.explain(define("2"))["second"].reason
    for version, expected in (("2", {"first": 1, "second": 1}), ("3", {"first": 1})):
        assert define(version).compute() == 1000
        assert ran(log) == expected


@pytest.mark.filterwarnings("ignore::daskperiment.errors.NeverReusedWarning")
def test_impure(tmp_path):
    """Of an impure step no output is taken, whatever its inputs are."""
    ex = daskperiment.Experiment("inputs", backend=tmp_path, seed=1)
    outputs = iter([1, 2, 3, 4])

    def define(version):
        @ex.persist(reuse=True, version=version)
        def first():
            return [0]

        @ex.persist(reuse=True)
        def second(values):
            return next(outputs)

        @ex.result
        def last(value):
            return value

        return last(second(first()))

    assert define("1").compute() == 1
    with pytest.warns(ImpureStepWarning):
        assert define("1").compute(reuse=False) == 2
    with pytest.warns(ImpureStepWarning):
        assert define("2").compute() == 3


def test_input_without_cache_key(tmp_path, log):
    """What comes before may have no cache key: its value is known when it is there."""
    ex = daskperiment.Experiment("inputs", backend=tmp_path, seed=1)

    @ex.persist(reuse=True)
    def train(values):
        write(log, "train")
        return sum(values)

    @ex.result
    def last(value):
        return value

    @ex
    def prepare(source):
        return list(source)

    for trial in (1, 2):
        assert last(train(prepare(iter([1, 2, 3])))).compute() == 6
        assert ran(log) == ({"train": 1} if trial == 1 else {})


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_equal_calls_of_one_sweep(tmp_path, log, scheduler):
    """Trials that are computed together and one after the other take what the first ones made."""
    result = make(tmp_path, log, "1", lambda n: [0] * (n // 10))[1]
    results = [result.bind(n=n) for n in range(5)]
    with dask.config.set(scheduler=scheduler):
        assert [each.compute() for each in results] == [1] * 5
    assert ran(log)["train"] == 1


def test_inputs_and_a_variable(tmp_path, log, open_again, monkeypatch):
    """What a step read last counts, where its inputs come from code that changed since."""

    def run(version, mode):
        monkeypatch.setenv("DASKPERIMENT_TEST_MODE", mode)
        ex = open_again("inputs", tmp_path, reuse=True)

        @ex.persist(version=version)
        def prepare():
            return 1

        @ex.persist
        def train(value):
            write(log, "train")
            return os.environ["DASKPERIMENT_TEST_MODE"] * value

        @ex.result
        def give(value):
            return value

        result = give(train(prepare()))
        assert result.compute() == mode

    run("1", "a")
    run("2", "b")
    run("3", "c")
    assert ran(log) == {"train": 3}
    run("4", "c")
    assert ran(log) == {}


def test_another_seed_is_the_reason(tmp_path, log, open_again):
    """A step that draws, and one behind it, run for another seed, and it is said so."""
    ex, result = make(tmp_path, log, "1", draws=True)
    result.compute()
    open_again("inputs", tmp_path, seed=2)
    ex, result = make(tmp_path, log, "1", draws=True, seed=2)
    told = ex.explain(result)
    for key in ("train", "test"):
        assert told[key].reason.startswith("another seed for random numbers than in trial 1")
    result.compute()
    assert ran(log) == {"prepare": 1, "train": 2}


@pytest.mark.parametrize("what", ["argument amount 1 -> 2", "DASKPERIMENT_TEST_MODE changed"])
def test_compare_with_a_trial_that_reused(tmp_path, open_again, monkeypatch, what):
    """What a reused step was given and read is that of the trial which its output comes from."""

    def run(number):
        amount, mode = (number, 0) if what.startswith("argument") else (0, number)
        monkeypatch.setenv("DASKPERIMENT_TEST_MODE", str(mode))
        ex = open_again("inputs", tmp_path, reuse=True)

        @ex.persist
        def train(amount):
            return int(os.environ["DASKPERIMENT_TEST_MODE"]) + amount

        @ex.result
        def give(value):
            return value

        give(train(amount)).compute()
        return ex

    run(1)
    run(1)
    assert what in run(2).compare(2, 3).explanation


def test_argument_without_effect(ex):
    """An argument in a call that changed to no effect is a difference, and named."""

    @ex
    def train(amount):
        return amount > 0

    @ex.result
    def give(value):
        return value

    give(train(1)).compute()
    give(train(2)).compute()
    comparison = ex.compare(1, 2)
    assert comparison.differs
    assert comparison.same_outcome
    assert comparison.explanation.endswith("What differs had no effect: argument amount.")
