"""What is said of a step that runs: the change that was made, or that it is not known."""

from __future__ import annotations

import numpy as np
import pytest

import daskperiment
from daskperiment.formatting import brief


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("reasons", seed=1, backend=tmp_path, reuse=True)


def steps(ex):
    @ex.persist
    def split(data, share, shuffle=False):
        return [data, share, shuffle]

    @ex.persist
    def scale(values, by=2):
        return [values, by]

    @ex.result
    def score(values):
        return str(values)

    return split, scale, score


def reasons(ex, result):
    return {step.key: step.reason for step in ex.explain(result) if step.verdict == "miss"}


def test_edited_argument_is_named(ex):
    """A literal that was edited in a call is named with both values, also further down."""
    split, scale, score = steps(ex)
    score(scale(split("abc", 0.2))).compute()
    told = reasons(ex, score(scale(split("abc", 0.3))))
    assert told["split"] == "argument share 0.2 → 0.3"
    assert told["scale"].startswith("argument share of step split 0.2 → 0.3")
    told = reasons(ex, score(scale(split("abc", 0.2), by=3)))
    assert told["scale"].startswith("argument by 2 → 3")
    assert "split" not in told


def test_data_that_a_few_characters_do_not_tell(ex):
    """Of other data it is said in which argument they stand."""
    split, _, score = steps(ex)
    score(split(np.arange(1000), 0.2)).compute()
    told = reasons(ex, score(split(np.arange(1000) + 1, 0.2)))["split"]
    assert told == "argument data: other data"


CODE = {
    "function": (lambda x: x + 1, lambda x: x + 2),
    "in a list": ([lambda x: x + 1], [lambda x: x + 2]),
    "in a dict": ({"key": lambda x: x + 1}, {"key": lambda x: x + 2}),
}


@pytest.mark.parametrize("kind", CODE)
def test_code_among_arguments(ex, kind):
    """A function of another code is named, and not called other data; no address is told."""
    before, after = CODE[kind]

    @ex.persist
    def use(value):
        return 1

    ex.result(_identity)(use(before)).compute()
    told = reasons(ex, ex.result(_identity)(use(after)))["use"]
    assert told == "argument value: code of tests.reuse.test_reasons.<lambda> changed"


@pytest.mark.parametrize(
    "value",
    [[].append, iter([]), memoryview(b"a"), object(), (i for i in ()), [iter([])]],
    ids=lambda value: type(value).__name__,
)
def test_no_text_has_an_address(value):
    """What Python writes with an address tells nothing of a value."""
    assert "0x" not in brief(value)


def test_new_call_of_a_map(ex):
    """A call that is put before others is told as new, not as one that changed."""
    split, _, score = steps(ex)
    score([split(name, 0.5) for name in ("a", "b")]).compute()
    told = reasons(ex, score([split(name, 0.5) for name in ("new", "a", "b")]))
    assert told == {"split": "a new call of step split: data='new', share=0.5"}


def test_failed_step_is_not_called_new(ex):
    """A step that failed before is not said never to have run."""

    @ex.persist
    def fail(n):
        raise ValueError(n)

    result = ex.result(_identity)(fail(1))
    assert reasons(ex, result) == {"fail": "never run"}
    with pytest.raises(ValueError, match="1"):
        result.compute()
    assert reasons(ex, result)["fail"].startswith("no output of it is known")


def _identity(value):
    return value


def test_trials_of_long_ago(ex):
    """Where not all trials were looked at, it is not said that a step never ran."""
    split, _, score = steps(ex)
    result = ex.result(_identity)(1)
    for _ in range(20):
        result.compute(reuse=False)
    result.compute(reuse=False)
    assert reasons(ex, score(split("a", 1)))["split"] == "not run in the latest 20 trials"
