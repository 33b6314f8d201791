"""Values that are alike and not equal are told apart; equal ones are not."""

from __future__ import annotations

import enum
import math
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import ImpureStepWarning, NeverReusedWarning
from tests.reuse.work import ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("values", backend=tmp_path / "store", reuse=True)


@pytest.fixture
def described(ex, log):
    """Make a function that tells how often a step with a parameter or an argument runs."""
    value = ex.parameter("value")

    @ex.persist
    def see(value):
        write(log, "see")
        return repr(value)

    @ex.result
    def give(text):
        return text

    by_parameter = give(see(value))

    def compute(value, way):
        result = by_parameter.bind(value=value) if way == "parameter" else give(see(value))
        assert result.compute() == repr(value)
        return ran(log).get("see", 0)

    return compute


class Frame(pd.DataFrame):
    """Carries a unit."""

    _metadata = ("unit",)

    def measured_in(self, unit):
        self.unit = unit
        return self


SQUARE = np.arange(9.0).reshape(3, 3)
PAIRS = [("a", int), ("b", float)]
PAYLOAD = np.array([0x7FF8000000000001]).view(float)
NOON = datetime(2020, 6, 1, 12)
ZONES = [ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Paris")]
KINDS = [
    {}, {"categories": ["a", "b"]}, {"categories": ["b", "a"]}, {"ordered": True},
]  # fmt: skip
DIFFERENT = [
    [SQUARE, SQUARE.T, SQUARE.ravel(), SQUARE.astype("float32"), SQUARE.astype(object)],
    [SQUARE.astype(">f8"), SQUARE.tolist(), SQUARE.view("int64")],
    [pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"a": [1], "c": [2]})],
    [pd.DataFrame({"a": [1], "b": [2]}, index=[i]) for i in (5, 6)],
    [pd.Series([1, 2], name=name) for name in ("x", "y", None)],
    [1, True, 1.0, "1", b"1", np.int64(1), np.float64(1), Decimal(1), 1 + 0j, np.bool_(True)],
    [["a-b", "c"], ["a", "b-c"], ["a-b-c"], ("a-b", "c"), "a-bc"],
    [np.array(["a-b", "c"], object), np.array(["a", "b-c"], object), np.array(["a-b", "c"])],
    [pd.Series(["a-b", "c"]), pd.Series(["a", "b-c"])],
    [0.0, -0.0, 0, False, None, "", (), [], {}, set()],
    [{"a": 1, "b": 2}, {"a": 2, "b": 1}, [("a", 1), ("b", 2)]],
    [math.nan, math.inf, -math.inf, "nan", None],
    [[1, [2, 3]], [[1, 2], 3], [1, 2, 3]],
    [SQUARE, SQUARE.view(np.matrix)],
    [np.array([(1, 2.0)], PAIRS), np.rec.array([(1, 2.0)], PAIRS)],
    [np.ma.array([1, 2], mask=[0, 1], fill_value=fill) for fill in (7, 8)],
    [np.array([0.0]), np.array([-0.0]), np.array([math.nan]), PAYLOAD],
    [pd.Series([0.0]), pd.Series([-0.0]), pd.Series([math.nan])],
    [np.dtype(code).type(1) for code in "bhilBHILefdFD"],
    [pd.Series([value], dtype=object) for value in (None, math.nan, pd.NA, pd.NaT)],
    [pd.Series(["a"], dtype=kind) for kind in (object, "string", "category")],
    [NOON.replace(tzinfo=zone) for zone in (None, *ZONES)],
    [pd.Timestamp(NOON, tz=zone) for zone in (None, *ZONES)],
    [pd.Series([pd.Timestamp(NOON, tz=zone)]) for zone in (None, *ZONES)],
    [pd.Series([NOON.replace(tzinfo=zone)], dtype=object) for zone in (None, *ZONES)],
    [pd.Timestamp(NOON).as_unit(unit) for unit in ("s", "ms", "us", "ns")],
    [pd.Timedelta(1, "s").as_unit(unit) for unit in ("s", "ms", "us", "ns")],
    [pd.Categorical(["a"], **kinds) for kinds in KINDS],
    [pd.Series(pd.Categorical(["a"], **kinds)) for kinds in KINDS],
    [pd.CategoricalDtype(kinds) for kinds in (range(1000), [*range(500), -1, *range(501, 1000)])],
    [
        pd.offsets.CustomBusinessDay(), pd.offsets.CustomBusinessDay(holidays=["2020-01-01"]),
        pd.offsets.CustomBusinessDay(holidays=["2020-01-02"]),
        pd.offsets.CustomBusinessDay(weekmask="Mon Tue"),
        pd.offsets.CustomBusinessDay(normalize=True),
    ],
    [pd.offsets.BusinessHour(start=start) for start in ("09:00", "10:00")],
    [Frame({"a": [1]}).measured_in(unit) for unit in ("m", "s")],
]  # fmt: skip


@pytest.mark.parametrize("way", ["parameter", "argument"])
@pytest.mark.parametrize("different", DIFFERENT, ids=range(len(DIFFERENT)))
def test_no_false_hit(described, different, way):
    """None of these is taken for another; each is known the second time."""
    assert [described(value, way) for value in different] == [1] * len(different)
    assert [described(value, way) for value in different] == [0] * len(different)


EQUAL = [
    [SQUARE, np.asfortranarray(SQUARE), SQUARE[::1], np.arange(9.0).reshape(3, 3)],
    [np.arange(10)[::2], np.array([0, 2, 4, 6, 8])],
    [math.nan, float("nan"), -math.nan],
    [{1, 2, 3, 40}, {40, 3, 2, 1}],
    [pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]})[["a", "b"]]],
]


@pytest.mark.parametrize("equal", EQUAL, ids=range(len(EQUAL)))
def test_equal_values(ex, log, equal):
    """Values that are equal, however they are laid out in memory, are hits."""

    @ex.persist
    def see(value):
        write(log, "see")
        return 1

    @ex.result
    def give(number):
        return number

    for value in equal:
        give(see(value)).compute()
    assert ran(log) == {"see": 1}


@pytest.mark.parametrize("way", ["parameter", "argument", "inner"])
def test_order_of_a_dict(ex, log, way):
    """A dict in another order is another value: a step may go through it in order."""
    value = ex.parameter("value", default=None)

    @ex.persist
    def see(*values):
        write(log, "see")
        return 1

    @ex.result
    def give(number):
        return number

    for mapping in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2}):
        if way == "parameter":
            give(see(value)).bind(value=mapping).compute()
        else:
            give(see(mapping if way == "argument" else [mapping, value])).compute()
    assert ran(log) == {"see": 2}


def test_list_changed_in_place(ex, log):
    """An argument, a parameter's value or a global that was changed in place is another one."""
    argument, value = [1], [10]
    listed = ex.parameter("listed", default=value)

    @ex.persist
    def add(first, second):
        write(log, "add")
        return sum(first) + sum(second)

    @ex.result
    def give(number):
        return number

    result = give(add(argument, listed))
    assert result.compute() == 11
    argument.append(2)
    assert result.compute() == 13
    value.append(20)
    assert result.compute() == 33
    argument.pop()
    assert result.compute() == 31
    assert ran(log) == {"add": 4}
    value.pop()
    assert result.compute() == 11
    assert ran(log) == {}


def test_set_between_drawing_and_computing(ex, log):
    """A trial runs with the values of the moment in which it is computed."""
    a = ex.parameter("a", default=1)

    @ex.persist
    def double(a):
        write(log, "double")
        return 2 * a

    @ex.result
    def give(number):
        return number

    result = give(double(a))
    assert len(result.dask.layers) > 2
    ex.set_parameters(a=5)
    assert result.compute() == 10
    assert result.key
    ex.set_parameters(a=6)
    import dask

    assert dask.compute(result) == (12,)
    ex.set_parameters(a=5)
    key = result.key
    assert dask.compute(result) == (10,)
    assert result.key != key
    assert ran(log) == {"double": 2}
    assert ex.get_history()["a"].tolist() == [5, 6, 5]


def test_set_while_a_trial_is_computed(ex, log):
    """What is set while a trial runs is the next trial's."""
    a = ex.parameter("a", default=1)

    @ex.persist
    def change(a):
        ex.set_parameters(a=7)
        return a

    @ex.persist
    def double(a):
        return 2 * a

    @ex.result
    def give(number, a):
        return number, a

    result = give(double(change(a)), a)
    assert result.compute() == (2, 1)
    assert result.compute() == (14, 7)
    assert ex.get_history()["a"].tolist() == [1, 7]


def test_calls_with_other_arguments(ex, log):
    """Calls with other arguments are not mistaken for one another; equal calls are one."""

    @ex.persist
    def power(base, exponent=2, *rest, **named):
        write(log, "power")
        return [base, exponent, rest, named]

    @ex.result
    def give(value):
        return value

    calls = [
        ((2, 3), {}), ((3, 2), {}), ((2,), {"exponent": 3}), ((2, 3, 4), {}), ((2, [3, 4]), {}),
        ((2, 3), {"x": 4}), ((2, 3), {"y": 4}), ((2,), {}), (([2, 3],), {}),
        ((2,), {"x": {"y": 4}}), ((2,), {"x": 1, "y": 4}),
    ]  # fmt: skip
    for _ in range(2):
        for args, named in calls:
            expected = power.__wrapped__(*args, **named)
            ran(log)
            assert give(power(*args, **named)).compute() == expected
        ran(log)
    steps = ex.get_steps()
    own = steps[(steps["Step"] == "power") & steps["Reused From"].isna()]
    assert len(own) == len(calls) - 1  # (2, 3) by position and by name


def test_code_of_what_is_taken(ex, log):
    """What an argument does when it is used is part of it, even where it names itself."""

    class Kind(enum.Enum):
        ONE = 1

        def text(self):
            return "one"

    class Named:
        def __dask_tokenize__(self):
            return "named"

        def text(self):
            return "one"

    @ex.persist
    def see(value):
        write(log, "see")
        return value.text()

    @ex.result
    def give(text):
        return text

    for value in (Kind.ONE, Named()):
        kind = type(value)
        assert [give(see(value)).compute() for _ in range(2)] == ["one", "one"]
        kind.text = lambda self: "two"
        assert [give(see(value)).compute() for _ in range(2)] == ["two", "two"]
        assert ran(log) == {"see": 2}


def test_function_that_keeps_state(ex, log):
    """A step that is given a function which counts its calls is never reused, and says why."""
    calls = {"count": 0}

    def count():
        calls["count"] += 1
        return calls["count"]

    @ex.persist
    def see(function):
        write(log, "see")
        return function()

    @ex.result
    def give(number):
        return number

    result = give(see(count))
    with pytest.warns(NeverReusedWarning, match="'see' is never reused, .* which its code changes"):
        assert result.compute() == 1
    for number in (2, 3):
        with pytest.warns(ImpureStepWarning, match="see"):
            assert result.compute() == number
    assert "which its code changes" in ex.explain(3)["see"].reason
