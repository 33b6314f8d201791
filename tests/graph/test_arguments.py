"""Calls of steps: bound to the signature, with nodes where they are computed, or refused."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections import OrderedDict, UserList, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import dask
import numpy as np
import pandas as pd
import pytest
from sklearn.svm import SVC

import daskperiment
from daskperiment.errors import ParameterUndefinedError


@pytest.fixture
def load(ex):
    """A step without arguments that returns a list."""

    @ex
    def load():
        return [1, 2, 3]

    return load


@pytest.fixture
def arriving(ex):
    """Return what a step gets for an argument."""
    got = []

    @ex.result
    def take(value):
        got.append(value)

    def arriving(value):
        take(value).compute(scheduler="synchronous")
        return got[-1]

    return arriving


# Signatures ---------------------------------------------------------------------------------------

ODD_NAMES = [
    "self", "key", "func", "args", "call", "trial", "name", "dask_key_name", "_data_producer",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_an_argument(ex, name):
    """An argument of a step may have any name, and so may a parameter and a computed one."""
    space: dict[str, Any] = {}
    exec(f"def step({name}): return ['step', {name}]\ndef last({name}): return {name}", space)
    exec(f"def computed({name}): return {name} + 1", space)
    node = ex.parameter(name, default=1)
    computed = ex.parameter(space["computed"])
    result = ex.result(space["last"])(**{name: ex(space["step"])(**{name: [node, computed]})})
    assert result.compute() == ["step", [1, 2]]
    assert result.bind(**{name: 5}).compute() == ["step", [5, 6]]
    ex.set_parameters(**{name: 7})
    assert result.compute() == ["step", [7, 8]]


@pytest.mark.parametrize("name", ["key", "self", "begin", "trial-begin", "parameter a", "gather"])
def test_any_name_of_a_step(ex, name):
    """A step may have any name."""
    function = types.FunctionType((lambda value: value).__code__, {}, name)
    assert ex.result(function)(ex(function)(3)).compute() == 3
    assert list(ex.get_steps()["Step"]) == [name, name]


def test_wrong_arguments(ex):
    """A call that the function would refuse is a TypeError at once, with the nearest name."""

    @ex
    def fit(rows, *, rate=0.1):
        raise AssertionError("not run")

    wrong = [((), {}), ((1, 2), {}), ((1,), {"speed": 1}), ((1,), {"rows": 2}), ((1,), {"rat": 2})]
    for args, named in wrong:
        with pytest.raises(TypeError, match=r"fit\(\) cannot be called like this"):
            fit(*args, **named)
    with pytest.raises(TypeError, match="did you mean 'rate'"):
        fit(1, rat=2)


def test_functions_without_signature(ex):
    """A function of compiled code that tells no signature is called as it is written."""
    assert ex.result(max)(ex(lambda: 3)(), 2).compute() == 3


def test_kinds_of_arguments(ex):
    """Arguments by position only, by name only and collected ones arrive where they belong."""

    @ex.result
    def see(a, /, b, *rest, c=3, **named):
        return [a, b, rest, c, named]

    one = ex(lambda: 1)()
    assert see(one, 2).compute() == [1, 2, (), 3, {}]
    assert see(1, one, one, one, c=one, a=one, d=4).compute() == [1, 1, (1, 1), 1, {"a": 1, "d": 4}]


# Nodes within arguments ---------------------------------------------------------------------------


@dataclasses.dataclass
class Config:
    """A field that is not initial, and attributes beyond the fields."""

    data: object
    epochs: int = dataclasses.field(init=False, default=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """Without a dict, and not to be changed."""

    data: object
    path: str = "a"

    def __post_init__(self):
        object.__setattr__(self, "path", self.path.upper())


@dataclasses.dataclass
class WithInitVar:
    """Made with more than it has as fields."""

    start: dataclasses.InitVar[int]
    data: object = None

    def __post_init__(self, start):
        self.end = start + 1


class Pair(NamedTuple):
    """A plain named tuple."""

    data: object
    number: int = 2


class Named(Pair):
    """One that has attributes besides."""


def test_fields_that_are_not_initial(load, arriving):
    """A dataclass arrives with all that it had: fields that are not initial, and attributes."""
    config = Config(load())
    config.epochs, config.more = 50, [load(), "x"]
    got = arriving(config)
    assert (got.data, got.epochs, got.more) == ([1, 2, 3], 50, [[1, 2, 3], "x"])
    assert type(config.data).__name__ == "Step"


def test_objects_arrive_as_they_were(load, arriving):
    """Frozen classes, those with slots, with InitVar, and named tuples arrive as the same value."""
    assert arriving(Frozen(load())) == Frozen([1, 2, 3])
    got = arriving(WithInitVar(4, load()))
    assert (got.data, got.end) == ([1, 2, 3], 5)
    assert arriving(Pair(load())) == Pair([1, 2, 3])
    named = Named(load(), 3)
    named.unit = load()
    got = arriving(named)
    assert (type(got), got, got.unit) == (Named, Pair([1, 2, 3], 3), [1, 2, 3])


def test_objects_on_other_schedulers(ex, load):
    """What makes such an object travels to another process."""

    @ex.result
    def see(config):
        return [config.data, config.epochs]

    config = Config(load())
    config.epochs = 9
    assert see(config).compute(scheduler="processes") == [[1, 2, 3], 9]


@dataclasses.dataclass
class Rows(list):
    """Holds more than its fields show."""

    data: object = None


def test_what_cannot_be_made_again(load, arriving):
    """An object of which no equal one can be made is refused where the call stands."""
    with pytest.raises(TypeError, match="no equal object can be made"):
        arriving(Rows(load()))
    assert arriving(Rows(5)).data == 5


def test_iterators_of_nodes(ex, load, arriving):
    """Iterators are unpacked: those of lists as Dask does, lazy ones that begin with a node too."""
    assert arriving(iter([load(), 1])) == [[1, 2, 3], 1]
    assert arriving(iter((load(), 1))) == ([1, 2, 3], 1)
    assert arriving(load() for _ in range(2)) == [[1, 2, 3]] * 2
    assert arriving(map(Pair, [load()])) == [Pair([1, 2, 3])]
    assert arriving(zip("a", [load()], strict=True)) == [("a", [1, 2, 3])]
    assert arriving({"a": load()}.values()) == [[1, 2, 3]]
    assert list(arriving(number for number in (5, 6))) == [5, 6]
    assert arriving(frozenset([ex(lambda: 3)()])) == {3}
    assert arriving(slice(load(), 2)) == slice([1, 2, 3], 2)


class Box:
    """A container that nobody unpacks."""

    def __init__(self, content):
        self.content = content


HIDDEN = {
    "deque": (deque, "[0]"),
    "ordered": (lambda nodes: OrderedDict(a=nodes), "['a'][0]"),
    "defaultdict": (lambda nodes: defaultdict(list, a=nodes), "['a'][0]"),
    "user list": (UserList, "[0]"),
    "array": (lambda nodes: np.array([*nodes, 1], dtype=object), "[0]"),
    "series": (lambda nodes: pd.Series([*nodes, 1], dtype=object), "[0]"),
    "namespace": (lambda nodes: types.SimpleNamespace(a=nodes[0]), ".a"),
    "proxy": (lambda nodes: types.MappingProxyType({"a": nodes[0]}), "['a']"),
    "object": (Box, ".content[0]"),
    "estimator": (lambda nodes: SVC(C=nodes[0]), ".C"),
    "partial": (lambda nodes: functools.partial(print, *nodes), ".args[0]"),
    "deep": (lambda nodes: [1, {"b": (Box(nodes),)}], "[1]['b'][0].content[0]"),
    "in a dataclass": (lambda nodes: Config(Box(nodes)), ".data.content[0]"),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_nodes_that_nobody_would_compute(ex, load, kind):
    """A node in a container that is not unpacked is refused, with its path and a remedy."""
    make, path = HIDDEN[kind]

    @ex.result
    def take(value):
        raise AssertionError("not run")

    with pytest.raises(TypeError) as caught:
        take(make([load()]))
    assert f"at value{path}, where it would not be computed" in str(caught.value)
    assert "Argument 'value' of step 'take' holds Step('load')" in str(caught.value)
    assert ex.trial_id == 0
    assert take(make([1])) is not None


def test_the_object_of_a_method(ex, load):
    """The object that a step is a method of may hold nodes that the step does not use."""

    class Work:
        def __init__(self):
            self.loaded = load()

        @ex.result
        def double(self, number):
            return 2 * number

    assert Work().double(4).compute() == 8


# Nodes where values belong ------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [lambda n: n, lambda n: [n], lambda n: {"x": n}, Box, Config])
def test_node_as_value_of_a_parameter(ex, load, hold):
    """A node as a parameter's value is refused with a remedy, and nothing is set."""
    a = ex.parameter("a", default=0)

    @ex.result
    def double(a):
        return 2 * a

    result = double(a)
    ways = [
        lambda value: ex.set_parameters(a=value), lambda value: result.bind(a=value),
        lambda value: ex.parameter("a", default=value),
    ]  # fmt: skip
    for way in ways:
        with pytest.raises(TypeError, match=r"parameter 'a' is or holds the node.*compute\(\)"):
            way(hold(load()))
    with pytest.raises((TypeError, ValueError)):
        result.sweep({"a": [hold(load())]}, progress=False)
    assert result.compute() == 0
    assert len(ex.get_history()) == 1


def test_steps_called_in_steps(ex):
    """In a running step another step is a function, as in a unit test; so is a result."""
    n = ex.parameter("n", default=3)

    @ex
    def clean(n):
        return n + 1 + int(ex.rng.integers(1))

    @ex.result
    def inner(n):
        return clean(n) * 2

    @ex.result
    def total(n):
        with ThreadPoolExecutor(1) as pool:
            return [clean(n), inner(n), *pool.map(clean, [1, 2])]

    for scheduler in ("synchronous", "threads", "processes"):
        assert total(n).compute(scheduler=scheduler) == [4, 8, 2, 3]
    assert set(ex.get_steps()["Step"]) == {"total"}
    assert total.__wrapped__(1)[0].compute() == 2


@pytest.mark.parametrize("hold", [lambda n: n, lambda n: [1, n], lambda n: {"a": (n,)}])
def test_no_trial_succeeds_with_a_node(ex, hold):
    """A step that returns what is not computed fails, and says what to do."""
    outside = dask.delayed(sum)([1, 2])

    @ex
    def first():
        return hold(outside)

    @ex.result
    def last(value):
        return value

    for result in (last(first()), ex.result(lambda: hold(outside))()):
        with pytest.raises(TypeError, match="which is not computed"):
            result.compute()
    assert not ex.get_history()["Success"].any()


def test_nodes_that_a_step_computes(ex):
    """What a step computes itself it may return."""
    assert ex.result(lambda: dask.delayed(sum)([1, 2]).compute())().compute() == 3


# Results and parameters as members ----------------------------------------------------------------


def test_members_of_sets_and_keys_of_dicts(ex):
    """Results, bound or not, and parameters can stand in one set or dict and are computed there."""
    a = ex.parameter("a", default=1)

    @ex.result
    def give(a):
        return a

    result = give(a)
    bound = {result.bind(a=number): number for number in range(50)}
    assert len(bound) == 50
    assert len({result, result.bind(a=1), result.bind(a=1)}) == 3
    assert all(bound[each] == number for each, number in list(bound.items()))
    assert dask.compute({result.bind(a=1), result.bind(a=2)}) == ({1, 2},)
    assert dask.compute({result.bind(a=3): "x"}) == ({3: "x"},)
    assert len({a, ex.parameter("a"), result}) == 3


# How parameters are declared ----------------------------------------------------------------------


def test_declared_in_another_way(ex):
    """A result whose parameters are declared in another way later never runs with None."""
    x = ex.parameter("x", default=1)

    @ex.parameter
    def y(x):
        return x * 10

    seen = []

    @ex.result
    def see(x, y):
        seen.append((x, y))

    result = see(x, y)
    result.compute(scheduler="synchronous")
    ex.parameter("y", default=5)

    def anew(y):
        return y + 1

    anew.__name__ = "x"
    x = ex.parameter(anew)
    with pytest.raises(ParameterUndefinedError, match="'x'"):
        result.compute(scheduler="synchronous")
    assert seen == [(1, 10)]
    result.bind(x=3).compute(scheduler="synchronous")
    see(x, ex.parameter("y", default=5)).compute(scheduler="synchronous")
    assert seen == [(1, 10), (3, 5), (6, 5)]


def test_inputs_of_what_was_set(ex):
    """A computed parameter that is set needs no value of what it would be computed from."""
    ex.parameter("x")

    @ex.parameter
    def y(x):
        return x + 1

    result = ex.result(lambda y: y)(y)
    assert result.bind(y=4).compute() == 4
    with pytest.raises(ParameterUndefinedError):
        result.compute()


def test_a_public_name_keeps_its_signature() -> None:
    """What helps with keywords leaves signature and description as they are."""
    assert list(inspect.signature(daskperiment.Experiment.persist).parameters)[-1] == "format"
    assert daskperiment.Experiment.persist.__doc__.startswith("Decorate a function")
