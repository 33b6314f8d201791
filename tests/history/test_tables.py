from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskperiment
from daskperiment.errors import StoreWarning, TrialIDNotFoundError
from daskperiment.history import StoredObject
from daskperiment.history.tables import get_history, get_parameters
from daskperiment.records import Ended
from tests.history.lab import ELSEWHERE, NOW, Lab

OUTCOME = ["Result", "Success", "Finished", "Process Time", "Description"]
VERBOSE = [
    *[
        "Step",
        "Seed",
        "Result",
        "Result Type",
        "Success",
        "Finished",
        "Process Time",
        "Description",
    ],
    *["Status", "Started", "Host", "User", "Git Commit"],
]
TEXT = pd.Series(["text"]).dtype


def test_history(lab):
    """Each trial that ended is a row; columns are in order and of their natural dtypes."""
    for number in range(3):
        lab.run(number * 2, b=number, a=0.5, kind="rbf")
    frame = get_history(lab.store, ["a", "b", "kind"])
    assert frame.index.name == "Trial ID"
    assert frame.index.tolist() == [1, 2, 3]
    assert frame.columns.tolist() == ["a", "b", "kind", *OUTCOME]
    assert frame.dtypes.tolist() == [
        *["float64", "int64", TEXT, "int64", "bool"],
        *["datetime64[ns, UTC]", "timedelta64[ns]", "float64"],
    ]
    assert frame["Result"].tolist() == [0, 2, 4]
    assert frame["Success"].all()
    assert frame["Finished"].tolist() == [pd.Timestamp(NOW, unit="s", tz="UTC")] * 3
    assert frame["Process Time"].tolist() == [pd.Timedelta("1.5s")] * 3
    assert frame["Description"].isna().all()


def test_verbose_history(lab):
    """The verbose history has the further columns in their places."""
    lab.run(1, a=1)
    failed = lab.begin({"a": 0}, commit=None)
    lab.fail(failed, ZeroDivisionError("division by zero"))
    frame = get_history(lab.store, ["a"], verbose=True)
    assert frame.columns.tolist() == ["a", *VERBOSE]
    assert frame["Seed"].tolist() == [7, 7]
    assert frame["Result Type"].tolist() == ["<class 'int'>", None]
    assert frame["Status"].tolist() == ["succeeded", "failed"]
    assert frame["Started"].dtype == "datetime64[ns, UTC]"
    assert frame.loc[1, "Host"] == get_history(lab.store, [], verbose=True).loc[2, "Host"]
    assert frame["User"].notna().all()
    assert frame.loc[1, "Git Commit"] == "abc123"
    assert pd.isna(frame.loc[2, "Git Commit"])


@pytest.mark.parametrize(("verbose", "columns"), [(False, OUTCOME), (True, VERBOSE)])
def test_empty_history(lab, verbose, columns):
    """Without trials the columns are the same, and those of a fixed dtype have it."""
    frame = get_history(lab.store, ["a", "b"], verbose=verbose)
    assert len(frame) == 0
    assert frame.index.name == "Trial ID"
    assert frame.columns.tolist() == ["a", "b", *columns]
    assert frame["Success"].dtype == "bool"
    assert frame["Finished"].dtype == "datetime64[ns, UTC]"
    assert frame["Process Time"].dtype == "timedelta64[ns]"


def test_failed_trial(lab):
    """A failed trial has no result, and its exception as description."""
    lab.run(3, b=1)
    failed = lab.begin({"b": 0})
    lab.fail(failed, ZeroDivisionError("division by zero"))
    frame = get_history(lab.store, ["b"])
    assert frame["Result"].dtype == "float64"
    assert frame.loc[1, "Result"] == 3
    assert math.isnan(frame.loc[2, "Result"])
    assert frame["Success"].tolist() == [True, False]
    assert pd.isna(frame.loc[1, "Description"])
    assert frame.loc[2, "Description"] == "ZeroDivisionError(division by zero)"
    assert frame.loc[2, "Process Time"] == pd.Timedelta("0.5s")


def test_large_results_beside_failures_stay_exact(lab):
    """An integer that a float cannot hold is not rounded because another trial failed."""
    lab.run(2**53 + 1)
    lab.fail(lab.begin(), ValueError())
    frame = get_history(lab.store, [])
    assert frame.loc[1, "Result"] == 2**53 + 1
    assert math.isnan(frame.loc[2, "Result"])


def test_interrupted_trial(lab):
    """An interrupted trial is no success and says what interrupted it."""
    lab.fail(lab.begin(), KeyboardInterrupt(), "interrupted")
    lab.add("trials", lab.begin(), "ended-interrupted-caller", Ended("interrupted", NOW, 0.1))
    frame = get_history(lab.store, [], verbose=True)
    assert frame["Success"].tolist() == [False, False]
    expected = ["interrupted: KeyboardInterrupt()", "interrupted"]
    assert frame["Description"].tolist() == expected
    assert frame["Result Type"].tolist() == [None, None]


def test_lost_trial(lab):
    """A lost trial is a row that says why it counts as lost, without times of its end."""
    lab.beat(lab.begin({"a": 1}, origin=ELSEWHERE), NOW - 100)
    frame = get_history(lab.store, ["a"], verbose=True)
    assert frame.loc[1, "Status"] == "lost"
    assert frame.loc[1, "Description"].startswith("lost: no sign of life from another-host")
    assert not frame.loc[1, "Success"]
    assert frame.loc[1, ["Result", "Finished", "Process Time"]].isna().all()
    assert frame.loc[1, "a"] == 1
    assert frame.loc[1, "Host"] == "another-host"


def test_running_trials_on_demand(lab):
    """Running trials are rows only if they are asked for, in their place."""
    lab.run(1, a=1)
    lab.begin({"a": 2})
    lab.run(3, a=3)
    assert get_history(lab.store, ["a"]).index.tolist() == [1, 3]
    frame = get_history(lab.store, ["a"], verbose=True, running=True)
    assert frame.index.tolist() == [1, 2, 3]
    assert frame["Status"].tolist() == ["succeeded", "running", "succeeded"]
    assert frame["Success"].dtype == "bool"
    assert not frame.loc[2, "Success"]
    assert frame.loc[2, "Description"] == "running"
    assert frame["a"].tolist() == [1, 2, 3]


def test_trial_that_ends_while_it_is_read(lab):
    """A trial that ends between two reads of the store shows its end."""
    id = lab.begin({"a": 2})
    read = lab.store.read

    def and_then_end(*arguments, **keywords):
        found = read(*arguments, **keywords)
        lab.succeed(id, 5)
        return found

    lab.store.read = and_then_end
    assert get_history(lab.store, ["a"])["Result"].tolist() == [5]


def test_parameters_that_came_and_went(lab):
    """A parameter that a trial did not have is missing there; integers stay integers."""
    lab.run(1, a=1)
    lab.run(2, a=2, n=5, x=0.5, flag=True, name="n", old=[1])
    frame = get_history(lab.store, ["n", "a", "never"])
    assert frame.columns.tolist() == ["n", "a", "never", "x", "flag", "name", "old", *OUTCOME]
    assert frame.loc[1, ["n", "x", "flag", "name", "old", "never"]].isna().all()
    assert frame["n"].dtype == "Int64"
    assert list(range(frame.loc[2, "n"])) == [0, 1, 2, 3, 4]
    assert frame["a"].dtype == "int64"
    assert frame["x"].dtype == "float64"
    assert frame.loc[2, "flag"] is np.True_ or frame.loc[2, "flag"] is True
    assert frame["old"].tolist()[1] == [1]


def test_none_is_a_value(lab):
    """None as parameter or result is not taken for a missing value."""
    lab.run(None, a=None)
    lab.run(1, a=2)
    frame = get_history(lab.store, ["a"], verbose=True)
    assert frame["a"].tolist() == [None, 2]
    assert frame["Result"].tolist() == [None, 1]
    assert frame["Result Type"].tolist() == ["<class 'NoneType'>", "<class 'int'>"]


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        (1, 2),
        {"a": [1]},
        {1, 2},
        10**400,
        float("inf"),
        "学習率",
        b"bytes",
        np.float32(0.5),
        pd.Timestamp("2024-05-01", tz="Europe/Paris"),
    ],
    ids=repr,
)
def test_values_are_single_cells(lab, value):
    """Any plain value stands in one cell, equal to what it was."""
    lab.run(value, a=value)
    lab.run(value, a=value)
    frame = get_history(lab.store, ["a"])
    assert frame["a"].tolist() == [value, value]
    assert frame["Result"].tolist() == [value, value]


def test_nan_result(lab):
    """A result of nan is a success whose result is nan."""
    lab.run(math.nan)
    frame = get_history(lab.store, [])
    assert math.isnan(frame.loc[1, "Result"])
    assert frame.loc[1, "Success"]


def test_objects_among_results(lab):
    """A result that is not plain data is a StoredObject among other results."""
    lab.run(1)
    lab.run(lambda: 7)
    frame = get_history(lab.store, [])
    assert frame["Result"].dtype == object
    assert frame.loc[1, "Result"] == 1
    assert isinstance(frame.loc[2, "Result"], StoredObject)
    assert frame.loc[2, "Result"].load()() == 7


def test_parameters_named_as_columns(lab):
    """A parameter may be called like a column; both are there, the parameter first."""
    lab.run(10, **{"Result": 1, "Trial ID": 2, "": 3})
    frame = get_history(lab.store, ["Result"])
    assert frame.columns.tolist() == ["Result", "Trial ID", "", *OUTCOME]
    assert frame.iloc[0, [0, 1, 2, 3]].tolist() == [1, 2, 3, 10]


def test_computed_parameters_in_history(lab):
    """Computed parameters are columns in order of declaration."""
    id = lab.begin({"lr": 1})
    lab.compute(id, "batch", 32)
    lab.succeed(id, 0)
    lab.run(0, lr=2)
    frame = get_history(lab.store, ["batch", "lr"])
    assert frame.columns.tolist()[:2] == ["batch", "lr"]
    assert frame.loc[1, "batch"] == 32
    assert pd.isna(frame.loc[2, "batch"])


@given(st.lists(st.integers(-(2**62), 2**62) | st.none(), max_size=8))
def test_each_row_is_its_own_trial(values):
    """Whatever trials there are, each row has its own trial's parameter and result."""
    lab = Lab()
    for value in values:
        id = lab.begin({"a": value})
        if value is not None:
            lab.succeed(id, [value])
    frame = get_history(lab.store, ["a"], running=True)
    assert len(frame) == len(values)
    for id, value in enumerate(values, start=1):
        assert frame["a"].tolist()[id - 1] == value
        if value is not None:
            assert frame["Result"].tolist()[id - 1] == [value]


# Damage


def test_damage_does_not_hide_the_rest(lab):
    """Damaged records cost their own trial's cells and a warning that names them."""
    lab.run(1, a=1)
    torn = lab.begin({"a": 2})
    lab.add("trials", torn, "ended-succeeded", b'{"status":')
    lab.store.allocate("x", b"")
    lab.run(4, a=4)
    with pytest.warns(StoreWarning) as caught:
        frame = get_history(lab.store, ["a"], verbose=True)
    named = sorted(str(one.message).partition("(")[0] for one in caught)
    assert [text.partition(": ")[2] for text in named] == [
        "'begun' of trial 3 ",
        "'ended-succeeded' of trial 2 ",
    ]
    assert frame.index.tolist() == [1, 2, 4]
    assert frame["a"].tolist() == [1, 2, 4]
    assert frame["Success"].tolist() == [True, True, True]
    assert frame.loc[2, "Description"] == "succeeded: the record of its end is damaged"
    assert pd.isna(frame.loc[2, "Result"])
    assert pd.isna(frame.loc[2, "Finished"])


def test_environment_gone_or_damaged(lab):
    """Without its environment a trial's commit is missing, and nothing else."""
    lab.run(1)
    other = lab.begin(commit="def")
    lab.succeed(other, 2)
    first, second = lab.store._objects
    lab.store._objects[first] = b"{}"
    assert get_history(lab.store, [], verbose=True)["Git Commit"].tolist()[1] == "def"
    del lab.store._objects[second]
    assert get_history(lab.store, [], verbose=True)["Git Commit"].isna().all()


def test_each_environment_is_read_once(lab):
    """Trials that share an environment share one read of it."""
    for number in range(5):
        lab.run(number)
    asked = []
    get = lab.store.get
    lab.store.get = lambda digest: asked.append(digest) or get(digest)
    get_history(lab.store, [], verbose=True)
    assert len(asked) == 1
    get_history(lab.store, [])
    assert len(asked) == 1


def test_history_reads_the_store_once(lab):
    """If no trial is running, two reads make the history: trials, and what was said of them."""
    for number in range(3):
        lab.run(number)
    reads = []
    read = lab.store.read
    lab.store.read = lambda *given, **named: reads.append(given[0]) or read(*given, **named)
    get_history(lab.store, ["a"])
    assert reads == ["trials", "notes"]


# Parameters of one trial


def test_get_parameters(lab):
    """The parameters of a trial are Python values again, objects excepted."""
    id = lab.run(0, a=1, b=(1, 2), c=print, d=lambda: 1)
    parameters = get_parameters(lab.store, id)
    assert list(parameters) == ["a", "b", "c", "d"]
    assert parameters["a"] == 1
    assert parameters["b"] == (1, 2)
    assert isinstance(parameters["d"], StoredObject)


def test_get_parameters_of_unknown_trial(lab):
    """Parameters of an unknown trial cannot be had."""
    with pytest.raises(TrialIDNotFoundError):
        get_parameters(lab.store, 1)


def test_two_results_are_told_apart(tmp_path):
    """Each row names its result's step, and has values only of parameters that reached it."""
    ex = daskperiment.Experiment("two", backend=tmp_path, seed=0)
    rate = ex.parameter("rate", default=0.1)
    ex.parameter("rows", default=10)
    ex.parameter("idle", default=3)

    @ex.parameter
    def double(rows):
        return 2 * rows

    @ex.result
    def accuracy(rate):
        return rate

    @ex.result
    def count(double):
        return double

    accuracy(rate).compute()
    count(double).compute()
    accuracy(rate).bind(rows=5).compute()
    history = ex.get_history(verbose=True)
    assert history["Step"].tolist() == ["accuracy", "count", "accuracy"]
    shown = ex.get_history()[["rate", "rows", "idle", "double"]].notna()
    assert shown.to_numpy().tolist() == [
        [True, False, False, False],
        [False, True, False, True],
        [True, False, False, False],
    ]
    assert get_parameters(ex._store, 3)["rows"] == 5
