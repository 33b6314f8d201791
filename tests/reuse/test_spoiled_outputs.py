"""What was made of a value that another step had changed in place is not reused."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import ImpureStepWarning
from tests.execution.test_changed_in_place import KINDS

MAKERS = {
    **{kind: KINDS[kind] for kind in ("list", "dict", "set", "array", "frame", "object")},
    "series": (lambda: pd.Series([1.0, 2.0]), lambda value: value.__setitem__(0, 9.0)),
    "objects": (lambda: np.array([[1], None], object), lambda value: value[0].append(2)),
    "lists in a tuple": (lambda: ([1], [2]), lambda value: value[0].append(2)),
}

GIVEN = {
    "itself": (lambda value: value, lambda value: value),
    "in a list": (lambda value: [value, 1], lambda value: value[0]),
    "in a dict": (lambda value: {"a": 1, "b": [value]}, lambda value: value["b"][0]),
    "in a tuple": (lambda value: (2, value), lambda value: value[1]),
}


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("spoiled", backend=tmp_path / "store", reuse=True, seed=1)


def spoilt(ex, make, change, given="itself", source="step", hands_on=False):
    """Return a result in which a step is changed while `on`, before another one describes it."""
    give, take = GIVEN[given]

    @ex.persist
    def made():
        return make()

    @ex
    def changer(value, on):
        if on:
            change(value)
        return value if hands_on else None

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return _text(take(value))

    @ex.persist
    def behind(text):
        return text + "!"

    @ex.result
    def last(text, changed):
        return text

    on = ex.parameter("on", default=True)
    value = made() if source == "step" else ex.parameter("value", default=make())
    changed = changer(value, on)
    return last(behind(describe(give(value), changed)), changed)


def _text(value):
    return repr(sorted(vars(value).items()) if hasattr(value, "weights") else value)


def compute(result, scheduler="synchronous"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImpureStepWarning)
        return result.compute(scheduler=scheduler)


def of_literals(ex, literal, form, draws=False):
    """Return a maker of results of a value that stands in two calls, and one of them changes it."""

    @ex
    def changer(value, on):
        if on:
            value.append(2)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return repr(value) + (str(ex.rng.random())[:0] if draws else "")

    @ex.result
    def last(text, changed):
        return text

    on = ex.parameter("on", default=True)

    def build():
        value = literal()
        changed = changer(value, on)
        return last(describe(form(value), changed), changed)

    return build


FORMS = {
    "itself": lambda value: value,
    "in a list": lambda value: [value, 5],
    "in a dict of a list": lambda value: {"a": [value]},
    "in a list with a node": lambda value: [value, dask.delayed(abs)(-1)],
}


@pytest.mark.parametrize("draws", [False, True], ids=["pure", "drawing"])
@pytest.mark.parametrize("form", FORMS)
def test_literals_in_two_calls(ex, form, draws):
    """What one call changes of an object that stands in another call, too, spoils nothing."""
    build = of_literals(ex, lambda: [1], FORMS[form], draws)
    assert "2" in compute(build())
    clean = "[[1], 1]" if "node" in form else repr(FORMS[form]([1]))
    for number, expected in ((2, ["describe"]), (3, [])):
        assert compute(build().bind(on=False)) == clean
        assert ran(ex, number) == expected


class _Box:
    """Grows; other processes cannot import it, nor what it is an object of."""

    def __init__(self):
        self.rows = [1]

    def __repr__(self):
        return str(self.rows)


_Box.__qualname__ = "made.<locals>._Box"


def _grow(value):
    value = getattr(value, "rows", value)
    inner = value["a"] if isinstance(value, dict) else value
    inner = inner[0] if isinstance(inner, list) and not isinstance(inner[0], int) else inner
    if isinstance(inner, np.ndarray):
        inner += 1
    else:
        getattr(inner, "rows", inner).append(2)


def _itself(value):
    return value


NODES = {
    "a list": (lambda: [1], dask.delayed),
    "a list in a list": (lambda: [1], lambda value: dask.delayed([value, 5])),
    "a list in a dict": (lambda: [1], lambda value: dask.delayed({"a": value})),
    "an array": (lambda: np.arange(3), dask.delayed),
    "a collection": (lambda: np.arange(3), lambda value: da.from_array(value, chunks=3)),
    "what a function returns": (lambda: [1], dask.delayed(_itself, pure=True)),
    "an item": (lambda: [1], lambda value: dask.delayed([value, 5], nout=2, pure=True)[0]),
    "an object of a local class": (_Box, lambda value: value),
    "such an object in a list": (_Box, lambda value: [value, 5]),
    "a node of such an object": (_Box, lambda value: dask.delayed(value, pure=True)),
}
"""What no parameter reaches: how a value is made, and what steps take of it."""


@pytest.mark.parametrize(
    ("node", "changing"),
    # Dask gives a collection to a step and to another function as two arrays.
    [(node, changing) for node in NODES for changing in ("step", "function")
     if (node, changing) != ("a collection", "function")],
)  # fmt: skip
def test_nodes_that_no_parameter_reaches(ex, node, changing):
    """What was made of such a value after it was changed is not taken for that of the value."""
    make, form = NODES[node]

    def changer(value, on):
        if on:
            _grow(value)

    changer = ex(changer) if changing == "step" else dask.delayed(changer)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return repr(value)

    @ex.result
    def last(text, changed):
        return text

    on = ex.parameter("on", default=True)

    def build():
        value = form(make())
        changed = changer(value, on)
        return last(describe(value, changed), changed)

    grown = compute(build())
    clean = compute(build().bind(on=False))
    assert clean != grown
    assert ran(ex, 2) == ["describe"]
    assert compute(build().bind(on=False)) == clean
    assert ran(ex, 3) == []


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_literals_that_other_processes_cannot_import(ex, scheduler):
    """An object of a class within a function stands in two calls, which are reused all the same."""

    @dataclass
    class Settings:
        rate: float

    settings = [Settings(0.5), lambda: 1]

    @ex.persist
    def describe(value):
        return value[0].rate

    @ex.persist
    def behind(value):
        return value[0].rate + value[1]()

    @ex.result
    def last(*values):
        return values

    for _ in range(2):
        assert last(describe(settings), behind(settings)).compute(scheduler=scheduler) == (0.5, 1.5)
    assert ran(ex, 2) == []


@pytest.mark.parametrize("nodes", ["of the whole", "of another"])
def test_nodes_that_are_lists(ex, nodes):
    """A list of nodes is a node itself: what is changed within it counts for all that take it."""

    @ex.persist
    def made():
        return [1]

    @ex
    def changer(value, on):
        if on:
            (value[0] if nodes == "of the whole" else value).append(2)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return repr(value)

    @ex.result
    def last(text, changed):
        return text

    value, on = made(), ex.parameter("on", default=True)
    listed = dask.delayed([value, 5])
    changed = changer(listed if nodes == "of the whole" else value, on)
    result = last(describe(listed, changed), changed)
    assert compute(result) == "[[1, 2], 5]"
    for number, expected in ((2, ["describe"]), (3, [])):
        assert compute(result.bind(on=False)) == "[[1], 5]"
        assert ran(ex, number) == expected


def test_draws_where_nothing_is_reused(tmp_path):
    """Trials that reuse nothing, each with a seed of its own, leave nothing spoiled behind."""
    ex = daskperiment.Experiment("draws", backend=tmp_path / "store")

    @ex.persist
    def made():
        return [1]

    @ex
    def changer(value, on):
        if on:
            value.append(2)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return repr(value) + str(ex.rng.random())[:0]

    @ex.result
    def last(text, changed):
        return text

    value, on = made(), ex.parameter("on", default=True)
    changed = changer(value, on)
    result = last(describe(value, changed), changed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImpureStepWarning)
        for seed in (1, 2):
            assert result.compute(scheduler="synchronous", seed=seed) == "[1, 2]"
    clean = result.bind(on=False)
    for seed in (1, 2, 2):
        assert clean.compute(scheduler="synchronous", seed=seed, reuse=True) == "[1]"
    assert ran(ex, 5) == []


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_trials_in_flight(ex, scheduler):
    """A trial that is computed with one which changes something leaves nothing spoiled behind."""
    result = spoilt(ex, *MAKERS["list"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImpureStepWarning)
        dask.compute(result, result.bind(on=False), scheduler=scheduler)
    for _ in range(2):
        assert compute(result.bind(on=False)) == "[1]!"
    assert ran(ex, 4) == []


def ran(ex, trial):
    """Return the reusable steps that ran in a trial."""
    steps = ex.get_steps(trial)
    reused = dict(zip(steps["Step"], steps["Reused From"].notna(), strict=True))
    return [step for step in ("describe", "behind") if step in reused and not reused[step]]


@pytest.mark.parametrize(
    ("kind", "given"), [*((kind, "itself") for kind in MAKERS), *(("list", way) for way in GIVEN)]
)
def test_what_others_changed(ex, kind, given):
    """Whatever its type and wherever it stands, and neither what follows; then all is reused."""
    make, change = MAKERS[kind]
    result = spoilt(ex, make, change, given)
    assert compute(result) != _text(make()) + "!"
    for number, expected in ((2, ["describe", "behind"]), (3, [])):
        assert compute(result.bind(on=False)) == _text(make()) + "!"
        assert ran(ex, number) == expected


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize("way", ["as it is", "handed on", "without a plan"])
def test_every_scheduler(ex, way, scheduler):
    """Also where the step that changed it returns it, and where the first trial reused nothing."""
    make, change = MAKERS["list"]
    result = spoilt(ex, make, change, hands_on=way == "handed on")
    if way == "without a plan":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImpureStepWarning)
            first = result.compute(scheduler=scheduler, reuse=False)
    else:
        first = compute(result, scheduler)
    assert first == ("[1]!" if scheduler == "processes" else "[1, 2]!")
    assert compute(result.bind(on=False), scheduler) == "[1]!"
    assert compute(result.bind(on=False), scheduler) == "[1]!"
    assert ran(ex, 3) == []


def test_the_reason_names_the_argument(ex):
    """Who asks why it runs is told which argument had been changed, and in which trial."""
    result = spoilt(ex, *MAKERS["array"])
    compute(result)
    reason = ex.explain(result.bind(on=False))["describe"].reason
    assert "argument value had been changed by another step in trial 1" in reason


def test_items_that_are_taken_between_steps(ex):
    """An item of what a step returned is looked at as well, whoever changed the whole."""

    @ex.persist
    def made():
        return {"x": [1], "y": 2}

    @ex
    def changer(value, on):
        if on:
            value["x"].append(2)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return repr(value)

    @ex.result
    def last(text, changed):
        return text

    value, on = made(), ex.parameter("on", default=True)
    changed = changer(value, on)
    result = last(describe(value["x"], changed), changed)
    assert compute(result) in ("[1, 2]", "[1]")  # which of two runs first is chance
    assert compute(result.bind(on=False)) == "[1]"
    assert compute(result.bind(on=False)) == "[1]"
    assert ran(ex, len(ex.get_history())) == []


def test_values_of_parameters(ex):
    """A parameter's value that a step changed does not spoil what was asked for with the first."""
    make, change = MAKERS["list"]
    result = spoilt(ex, make, change, source="parameter")
    compute(result)
    assert compute(result.bind(on=False, value=[1])) == "[1]!"


class Meeting:
    """Where two steps wait for each other."""

    def __init__(self):
        self.began, self.changed = threading.Event(), threading.Event()


def test_what_is_changed_while_a_step_reads_it(ex):
    """Where two steps run at once, neither knows what it was made of: nothing is kept."""
    meeting = Meeting()

    @ex.persist
    def made():
        return [1]

    @ex.persist(ignore=("on", "meeting"))
    def changer(value, on, meeting):
        if on:
            meeting.began.wait(30)
            value.append(2)
            meeting.changed.set()

    @ex.persist(ignore=("on", "meeting"))
    def describe(value, on, meeting):
        if on:
            meeting.began.set()
            meeting.changed.wait(30)
        return repr(value)

    @ex.result
    def last(text, changed):
        return text

    value, on = made(), ex.parameter("on", default=True)
    result = last(describe(value, on, meeting), changer(value, on, meeting))
    assert compute(result, "threads") == "[1, 2]"
    assert "argument value was changed while it ran" in ex.explain(result)["describe"].reason
    assert compute(result.bind(on=False), "threads") == "[1]"
    assert compute(result.bind(on=False), "threads") == "[1]"
    assert ran(ex, 3) == []


def test_pipelines_in_which_nobody_changes_anything(ex):
    """Parts that several steps take, in any form, are reused by all of them."""

    @ex.persist
    def split():
        return {"a": np.arange(3), "b": {3, 1}}, pd.DataFrame({"x": [1]})

    @ex.persist
    def first(value, frames):
        return {**value, "n": len(frames)}

    @ex.persist
    def second(value, other):
        return len(value) + len(other)

    @ex.result
    def last(*values):
        return [len(repr(value)) for value in values]

    value = split()
    one = first(value[0], [value[1], value[1]])
    result = last(one, second(one, value[0]), second(value[0], {"k": value[1]}))
    result.compute(scheduler="threads")
    result.compute(scheduler="processes")
    steps = ex.get_steps(2)
    assert set(steps[steps["Reused From"].isna()]["Step"]) == {"last"}
