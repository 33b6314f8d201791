"""Steps that change what they are given, which other steps take too."""

from __future__ import annotations

import threading
import warnings
import weakref

import dask
import numpy as np
import pandas as pd
import pytest

from daskperiment.errors import ImpureStepWarning
from tests.helpers.garbage import collect


class Model:
    """An object of the user's own."""

    def __init__(self):
        self.weights = [0.0]


def _item(value):
    value["w"] = 1


def _attribute(value):
    value.weights.append(1.0)


KINDS = {
    "list": (lambda: [1], lambda value: value.append(2)),
    "dict": (lambda: {"w": 0}, _item),
    "set": (lambda: {1}, lambda value: value.add(2)),
    "bytearray": (lambda: bytearray(b"a"), lambda value: value.extend(b"b")),
    "array": (lambda: np.zeros(3), lambda value: np.add(value, 1, out=value)),
    "frame": (lambda: pd.DataFrame({"w": [0]}), _item),
    "object": (Model, _attribute),
    "generator": (lambda: np.random.default_rng(1), lambda value: value.random()),
    "nested": (lambda: ({"a": [1]},), lambda value: value[0]["a"].append(2)),
}


def alarms(compute):
    """Compute, and return the texts of the warnings of impure steps."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    return [str(one.message) for one in caught if one.category is ImpureStepWarning]


def accused(compute):
    """Compute, and return the texts of those warnings that name who changed something."""
    return [text for text in alarms(compute) if " got as " not in text]


def define(ex, make, change):
    @ex
    def made():
        return make()

    @ex
    def changer(value):
        change(value)
        return 1

    @ex
    def reader(value):
        return str(value)

    @ex.result
    def both(*values):
        return len(values)

    return made, changer, reader, both


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_that_changed_it_is_named(ex, kind):
    """Whatever its type, a value changed in place that others take is told, with step and name."""
    made, changer, reader, both = define(ex, *KINDS[kind])
    value = made()
    result = both(changer(value), reader(value))
    (told,) = accused(lambda: result.compute(scheduler="synchronous"))
    assert told.startswith("Step 'changer' changed in place what it was given as value.")


@pytest.mark.parametrize("way", ["literal", "parameter", "keyword", "in a list"])
def test_every_way_of_giving_it(ex, way):
    """Literals and parameters are kept for later trials: one step is enough to spoil them."""
    _, changer, _, both = define(ex, *KINDS["list"])
    parameter = ex.parameter("p", default=[1])
    call = {
        "literal": lambda: changer([1]), "parameter": lambda: changer(parameter),
        "keyword": lambda: changer(value=[1]), "in a list": lambda: _in_list(ex)([parameter]),
    }[way]()  # fmt: skip
    (told,) = accused(lambda: both(call).compute(scheduler="synchronous"))
    assert "changed in place what it was given as value" in told


def _in_list(ex):
    @ex
    def first_of(value):
        value[0].append(2)

    return first_of


def test_no_alarm_where_nobody_else_sees_it(ex):
    """What only one step takes may be changed, and copies may be changed always."""
    made, changer, reader, both = define(ex, *KINDS["array"])

    @ex
    def copier(value):
        value = value.copy()
        value += 1
        return value

    value = made()
    alone = both(changer(made()))
    copied = both(copier(value), reader(value))
    assert not alarms(lambda: alone.compute(scheduler="synchronous"))
    assert not alarms(lambda: copied.compute(scheduler="threads"))


def test_no_one_is_accused_alone_of_what_two_may_have_done(ex):
    """A step that only reads while another one changes the same value is not named alone."""
    began, changed = threading.Event(), threading.Event()

    @ex
    def made():
        return [1]

    @ex
    def changer(value):
        began.wait(30)
        value.append(2)
        changed.set()

    @ex
    def reader(value):
        began.set()
        changed.wait(30)

    @ex.result
    def both(*values):
        return len(values)

    value = made()
    told = alarms(lambda: both(changer(value), reader(value)).compute(scheduler="threads"))
    of_reader = [text for text in told if text.startswith("Step 'reader'")]
    assert all("or 'changer' at the same time" in text for text in of_reader)
    assert any("'changer'" in text for text in told)


def test_compare_names_the_step(ex):
    """Where a step got another value than in the other trial, who changed it is named."""
    made, _, _, both = define(ex, *KINDS["list"])

    @ex
    def grow(value):
        value.append(2)
        return len(value)

    value = made()
    result = both(grow(value), grow(value), grow(value))
    alarms(lambda: result.compute(scheduler="synchronous"))
    alarms(lambda: result.compute(scheduler="processes"))
    differing = [step for step in ex.compare(1, 2).steps if step.key.startswith("grow")]
    found = [step for step in differing if step.differs]
    assert len(found) == 2  # all but the one that ran first
    for step in found:
        assert {cause.kind for cause in step.causes} == {"in place"}
        assert step.key not in {cause.name for cause in step.causes}
        assert {cause.name.partition("#")[0] for cause in step.causes} == {"grow"}


class Holder:
    """An object that holds another."""

    def __init__(self, held):
        self.held = held


HANDED_ON = {
    "itself": (lambda value: value, lambda value: value),
    "in a list": (lambda value: [value], lambda value: value[0]),
    "in a dict": (lambda value: {"a": value}, lambda value: value["a"]),
    "in an object": (Holder, lambda value: value.held),
    "as a view": (lambda value: value[1:], lambda value: value),
}


def hand_on(ex, way, steps=1):
    """Return a result of a value that one step reads, and another gets by way of others."""
    give, take = HANDED_ON[way]

    @ex
    def made():
        return np.zeros(3)

    @ex
    def hand(value):
        return give(value) if way != "itself" else value

    @ex
    def changer(value):
        take(value)[:] = 7
        return 1

    @ex
    def reader(value):
        return value.sum()

    @ex.result
    def both(*values):
        return [float(each) for each in values]

    value = handed = made()
    for _ in range(steps):
        handed = hand(handed)
    return both(changer(handed), reader(value))


@pytest.mark.parametrize("way", HANDED_ON)
def test_what_is_handed_on(ex, way):
    """A step that alone takes what another returned, and others see, is named if it changes it."""
    result = hand_on(ex, way)
    (told,) = accused(lambda: result.compute(scheduler="synchronous"))
    assert told.startswith("Step 'changer' changed in place what it was given as value.")


@pytest.mark.parametrize("steps", [2, 4])
def test_what_is_handed_on_and_on(ex, steps):
    """However many steps hand a value on, the one that changes it is named, by compare as well."""
    result = hand_on(ex, "itself", steps)
    (told,) = accused(lambda: result.compute(scheduler="synchronous"))
    assert told.startswith("Step 'changer' changed in place")
    alarms(lambda: result.compute(scheduler="processes"))
    (step,) = [step for step in ex.compare(1, 2).steps if step.key == "reader"]
    assert step.differs
    assert [(cause.kind, cause.name) for cause in step.causes] == [("in place", "changer")]


def test_chains_of_which_nobody_else_sees_anything(ex):
    """A value that goes from step to step, changed by each, is nobody's but theirs: no alarm."""

    @ex
    def made():
        return [0]

    @ex
    def train(model):
        model.append(len(model))
        return model

    model = train(train(train(made())))
    result = ex.result(list)(model)
    assert not alarms(lambda: result.compute(scheduler="synchronous"))
    assert not alarms(lambda: result.compute(scheduler="threads"))


def test_copies_that_are_handed_on(ex):
    """A step that returns a copy hands nothing on, and what becomes of the copy is told to none."""

    @ex
    def made():
        return np.zeros(3)

    @ex
    def copied(value):
        return value.copy()

    @ex
    def changer(value):
        value += 1
        return value

    value = made()
    result = ex.result(len)([changer(copied(value)), changer(copied(value))])
    assert not alarms(lambda: result.compute(scheduler="synchronous"))


def victims(ex, make, change, take=lambda value: value, returns=False):
    """Return a result in which a step is changed before others take it, one of them by right."""

    @ex
    def made():
        return make()

    @ex
    def changer(value):
        change(value)
        return value if returns else None

    @ex
    def reader(value, after):
        return 1

    @ex
    def follower(value):
        return 2

    @ex.result
    def last(*counts):
        return counts

    value = made()
    changed = changer(value)
    return last(reader(take(value), changed), follower(changed), follower(changed))


@pytest.mark.parametrize("kind", KINDS)
def test_who_gets_the_changed_one_is_warned(ex, kind):
    """A step that takes what another one has changed is told of, with both names and argument."""
    result = victims(ex, *KINDS[kind])
    _, told = alarms(lambda: result.compute(scheduler="synchronous"))
    assert told.startswith("Step 'reader' got as value what step 'changer' had changed in place")


@pytest.mark.parametrize("way", ["in a list", "in a dict", "a view"])
def test_victims_in_every_form(ex, way):
    """Also as an item of what is given, and as a view of a changed array."""
    take = {
        "in a list": lambda value: [value, 1], "in a dict": lambda value: {"a": value},
        "a view": lambda value: dask.delayed(lambda array: array[:2])(value),
    }[way]  # fmt: skip
    told = alarms(lambda: victims(ex, *KINDS["array"], take).compute(scheduler="synchronous"))
    assert [text.startswith("Step 'reader' got as value what step 'changer'") for text in told] in (
        [False, True],
        *([[False]] if way == "a view" else []),  # it may be taken before
    )


def test_victims_are_told_of_once_and_those_by_right_never(ex):
    """What the step returned itself is no surprise, nor is the same cause in further trials."""
    result = victims(ex, *KINDS["list"], returns=True)
    told = [alarms(lambda: result.compute(scheduler="synchronous")) for _ in range(3)]
    assert [len([text for text in each if " got as " in text]) for each in told] == [1, 0, 0]
    assert not any("'follower" in text for each in told for text in each)


def test_no_victims_where_the_change_does_not_arrive(ex):
    """In a process of its own each step has a copy: nobody is warned of what did not reach it."""
    result = victims(ex, *KINDS["list"])
    told = alarms(lambda: result.compute(scheduler="processes"))
    assert not any(" got as " in text for text in told)


def test_values_are_let_go(ex):
    """What was changed in place in a trial is not held when that has ended."""
    made = []

    @ex
    def give():
        model = Model()
        made.append(weakref.ref(model))
        return model

    @ex
    def change(model):
        model.weights.append(1.0)

    @ex
    def look(model):
        return len(model.weights)

    @ex.result
    def last(changed, length):
        return length

    def compute():
        model = give()
        last(change(model), look(model)).compute(scheduler="synchronous")

    alarms(compute)
    collect()
    assert [each() for each in made] == [None]
