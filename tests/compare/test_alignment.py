"""Calls of two trials that belong together: by what they compute, not by their number."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

import daskperiment
from daskperiment.errors import CodeChangedWarning

COUNT = 12
NAMES = [f"file{n}" + "x" * n for n in range(COUNT)]
NEW = "a new one with a long name"


class Mapping:
    """A map over names: read each, turn each into a number, and add them up."""

    def __init__(self, tmp_path, literal: bool, reuse: bool) -> None:
        self.ex = daskperiment.Experiment("map", seed=0, backend=tmp_path, reuse=reuse)
        self.scale = self.ex.parameter("scale", default=1)
        self.literal = literal
        self.define(0)

    def define(self, offset: int) -> None:
        """Define the steps; another offset is a constant that `read` has otherwise."""

        def read(name):
            return [len(name[0] if isinstance(name, list) else name) + offset] * 3

        def number(values, scale):
            return sum(values) * scale

        def total(values):
            return sum(values)

        self.read = self.ex.persist(read)
        self.number = self.ex.persist(number)
        self.total = self.ex.result(total)

    def run(self, names, **values):
        calls = [self.read(name if self.literal else [name]) for name in names]
        result = self.total([self.number(call, self.scale) for call in calls])
        result.bind(**values).compute()

    def compare(self, first=1, second=2):
        return self.ex.compare(first, second)


def verdicts(comparison):
    """Return how often each step has each verdict."""
    return Counter((re.split("#| of ", step.key)[0], step.verdict) for step in comparison.steps)


@pytest.fixture(params=["text", "data"])
def mapping(request, tmp_path):
    return Mapping(tmp_path, literal=request.param == "text", reuse=False)


@pytest.mark.parametrize("place", [0, 5, COUNT])
def test_one_more_file(mapping, place):
    """Wherever one is put in, one call of each step is new and all others are the same."""
    mapping.run(NAMES)
    mapping.run([*NAMES[:place], NEW, *NAMES[place:]])
    comparison = mapping.compare()
    assert verdicts(comparison) == {
        ("read", "added"): 1, ("read", "same"): COUNT,
        ("number", "added"): 1, ("number", "same"): COUNT, ("total", "differs"): 1,
    }  # fmt: skip
    causes = comparison.first_difference.causes
    assert [(cause.kind, cause.step) for cause in causes] == [("graph", "total")]
    back = mapping.compare(2, 1)
    assert verdicts(back)["read", "removed"] == verdicts(back)["number", "removed"] == 1


def test_many_changes_at_once(mapping):
    """Files that go, come and change places are told apart from those that stay."""
    rng = random.Random(1)
    mapping.run(NAMES)
    names = [*NAMES[2:], NEW, 2 * NEW]
    rng.shuffle(names)
    mapping.run(names)
    found = verdicts(mapping.compare())
    assert found["read", "same"] == found["number", "same"] == COUNT - 2
    # What went and what came are as many, so each takes the place of another.
    assert found["read", "differs"] + found["read", "same"] == COUNT


def test_reused_calls_are_aligned(tmp_path):
    """It is the same where outputs were reused, and calls before them did not run."""
    mapping = Mapping(tmp_path, literal=True, reuse=True)
    mapping.run(NAMES)
    mapping.run([NEW, *NAMES])
    found = verdicts(mapping.compare())
    assert found["number", "same"] == found["read", "not needed"] == COUNT
    assert found["number", "added"] == found["read", "added"] == 1


def test_changed_code_and_one_more_file(mapping):
    """Where all calls came out otherwise they are aligned by what they take."""
    mapping.run(NAMES)
    mapping.define(1)
    with pytest.warns(CodeChangedWarning):
        mapping.run([NEW, *NAMES])
    comparison = mapping.compare()
    assert verdicts(comparison)["read", "differs"] == COUNT
    assert verdicts(comparison)["read", "added"] == 1
    for step in comparison.steps:
        if step.key.startswith("read") and step.verdict == "differs":
            assert {cause.kind for cause in step.causes} <= {"constant", "code"}
        if step.key.startswith("number") and step.verdict == "differs":
            assert [cause.kind for cause in step.causes] == ["step"]


def test_parameters_that_change_places_are_named(tmp_path):
    """Calls that take parameters belong to these, even where one computes what another did."""
    ex = daskperiment.Experiment("swap", seed=0, backend=tmp_path)
    a, b = ex.parameter("a", default=1), ex.parameter("b", default=2)
    half = ex.persist(_half)
    both = ex.result(_both)
    result = both(half(a), half(b))
    result.compute()
    result.bind(a=2, b=1).compute()
    comparison = ex.compare(1, 2)
    causes = {step.key: [cause.name for cause in step.causes] for step in comparison.steps[:2]}
    assert causes == {"_half": ["a"], "_half#2": ["b"]}


def _half(value):
    return value / 2


def _both(first, second):
    return [first, second]


def test_edited_argument_of_one_call(mapping):
    """One call whose argument was edited still stands for the call that it was."""
    mapping.run(NAMES)
    mapping.run([*NAMES[:4], NEW, *NAMES[5:]])
    comparison = mapping.compare()
    assert [s.key for s in comparison.steps if s.differs] == ["read#5", "number#5", "total"]
    (cause,) = comparison.first_difference.causes
    assert (cause.kind, cause.name) == ("argument", "name")


def test_equal_lines_are_one_line(mapping):
    """Calls of which there is the same to tell share a line of the text."""
    mapping.run(NAMES)
    mapping.define(1)
    with pytest.warns(CodeChangedWarning):
        mapping.run(NAMES)
    lines = [line for line in str(mapping.compare()).splitlines() if "calls)" in line]
    assert [line.split()[:3] for line in lines] == [
        ["read", f"({COUNT}", "calls)"], ["number", f"({COUNT}", "calls)"],
    ]  # fmt: skip
    assert "input from 'read'" in lines[1]
    assert len(str(mapping.compare()).splitlines()) < 30


def test_keys_in_both_trials(mapping):
    """A call that has another number now says which it had."""
    mapping.run(NAMES)
    mapping.run([NEW, *NAMES])
    pairs = {step.key: tuple(step.keys) for step in mapping.compare().steps}
    assert pairs["read"] == (None, "read")
    assert pairs["read#3"] == ("read#2", "read#3")
    assert {step.key for step in mapping.compare(2, 1).steps if step.verdict == "removed"} == {
        "read of trial 2", "number of trial 2",
    }  # fmt: skip
