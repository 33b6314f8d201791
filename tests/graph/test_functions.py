"""A result whose steps call other functions."""

from __future__ import annotations

from typing import Any

import dask
import pytest

from daskperiment import Experiment
from daskperiment.execution.calls import UserFunction
from daskperiment.result import Result


def with_functions(result: Any, functions: dict[str, UserFunction]) -> Any:
    """Return the result whose steps call other functions."""
    return Result.of(result.definition.with_functions(functions))


def chain(ex: Experiment) -> Any:
    """Make a result of two steps, the first of them called twice."""
    a = ex.parameter("a", default=3)

    @ex
    def add(x: int) -> int:
        return x + 1

    @ex.result
    def double(x: int) -> int:
        return x * 2

    return double(add(add(a)))


def test_every_call_of_a_step_is_replaced(ex: Experiment) -> None:
    """All calls of the step call the other function; other steps, and the result, stay."""
    result = chain(ex)
    other = with_functions(result, {"add": UserFunction(lambda x: x + 10)})
    assert other.compute(scheduler="synchronous") == 46
    with pytest.warns(UserWarning, match="code of step 'add' differs"):
        assert result.compute(scheduler="synchronous") == 10


def test_nothing_to_replace(ex: Experiment) -> None:
    """Without other functions the result is the same, with its values and keys."""
    result = chain(ex).bind(a=1)
    assert with_functions(result, {}).compute(scheduler="synchronous") == 6


def test_step_that_was_defined_twice(ex: Experiment) -> None:
    """Two functions of one step's name are told apart."""
    a = ex.parameter("a", default=3)

    @ex
    def add(x: int) -> int:
        return x + 1

    first = add(a)

    @ex
    def add(x: int) -> int:
        return x + 2

    @ex.result
    def double(x: int) -> int:
        return x * 2

    result = double(add(first))
    other = with_functions(result, {"add#2": UserFunction(lambda x: x + 10)})
    assert other.compute(scheduler="synchronous") == 28


def test_annotations_are_kept(ex: Experiment) -> None:
    """A step's annotations stay with its call, whatever annotations are in force now."""
    with dask.annotate(priority=7):
        result = chain(ex)
    with dask.annotate(priority=1):
        other = with_functions(result, {"add": UserFunction(lambda x: x)})
    layers = other.definition.call.graph.layers
    found = [layer.annotations for name, layer in layers.items() if name.startswith("add")]
    assert found == [{"priority": 7}, {"priority": 7}]
