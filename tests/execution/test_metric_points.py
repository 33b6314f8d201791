"""What save_metric takes for a point, and that no store stands in the way of a training."""

from __future__ import annotations

import datetime
import errno
import math
import os
import threading
import warnings
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from daskperiment.errors import StepEndedError, StoreError, StoreWarning
from daskperiment.execution.metric_points import point_of, points_of
from daskperiment.recording import journal
from daskperiment.recording.heartbeat import Heartbeat
from daskperiment.recording.recorder import Recorder
from tests.helpers.folders import remove_folder


class Count(IntEnum):
    THREE = 3


class Eager:
    """As TensorFlow has them: no item(), an array by numpy()."""

    def __init__(self, values):
        self.values, self.shape = np.array(values), np.shape(values)

    def numpy(self):
        return self.values


class Device:
    """A tensor that has to be fetched from elsewhere."""

    shape = ()

    def item(self):
        return 0.5


class Own:
    """A number of the user's own, as a running mean."""

    def __float__(self):
        return 0.5


NUMBERS = [
    (0.5, 0.5), (3, 3), (True, True), (10**30, {"$": "int", "v": hex(10**30)}),
    (math.inf, {"$": "float", "v": "inf"}), (math.nan, {"$": "float", "v": "nan"}),
    (Decimal("0.5"), 0.5), (Fraction(1, 2), 0.5), (Count.THREE, 3),
    (np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.float16(0.5), 0.5),
    (np.longdouble(0.5), 0.5), (np.int8(3), 3), (np.uint64(2**63), {"$": "int", "v": hex(2**63)}),
    (np.bool_(True), True), (np.array(0.5), 0.5), (np.array([[0.5]]), 0.5), (np.array([3]), 3),
    (np.array([True]), True), (np.array([Decimal("0.5")], dtype=object), 0.5),
    (np.ma.masked_array([0.5]), 0.5), (pd.Series([0.5], index=["a"]), 0.5), (pd.Index([3]), 3),
    (Eager(0.5), 0.5), (Eager([3]), 3), (Device(), 0.5), (Own(), 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("value", "held"), NUMBERS, ids=lambda each: type(each).__name__)
def test_one_number(value, held):
    """Whatever is or holds one number is a value, and stands in the record as Python's number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as NumPy's where an array is taken for a number
        point = point_of("loss", (0, value), {})
    assert (point.value, type(point.value)) == (held, type(held))
    assert point_of("loss", (value,), {"step": 0}).value == held


NO_NUMBERS = [
    (None, "leave the point out"), (pd.NA, "leave the point out"), (np.ma.masked, "leave the"),
    (np.ma.masked_array([1.0], mask=[True]), "expected one number"), (pd.NaT, "leave the point"),
    ("0.5", r"float\(\)"), (b"1", "bytes"), (1j, "complex"), (np.array(1j), "expected one number"),
    ([0.5], "list"), ({"a": 0.5}, r"save_metrics\(\)"), (np.eye(2), "4 elements"),
    (np.array([]), "0 elements"), (pd.Series([1, 2]), "2 elements"), (Eager([1, 2]), "2 elements"),
    (datetime.timedelta(1), "timedelta"), (np.timedelta64(1, "s"), "timedelta64"),
    (np.datetime64(1, "ns"), "datetime64"), (np.array([1], "timedelta64[ns]"), "expected one"),
    (pd.Series(pd.to_datetime(["2024-01-01"])), "expected one"), (pd.Timestamp(0), "Timestamp"),
    (np.array(["1"]), "expected one number"), (float, "type"), (Device, "type"), (len, "builtin"),
    (Fraction(10**400), "too large"), (Decimal("sNaN"), "signaling NaN"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "told"), NO_NUMBERS, ids=lambda each: type(each).__name__)
def test_no_number(value, told):
    """What is not one number is refused with the metric, the value and what to do."""
    with pytest.raises(TypeError, match=told) as caught:
        point_of("loss", (0, value), {})
    assert "value of metric 'loss'" in str(caught.value)


@pytest.mark.parametrize("call", ["one", "named", "several"])
def test_names_that_no_store_takes(ex, call):
    """A name with halves of characters is refused by whichever call, and is no metric then."""
    calls = {
        "one": lambda: ex.save_metric("m\ud800", 0, 1.0),
        "named": lambda: ex.save_metric("m\ud800", value=1, step=0),
        "several": lambda: ex.save_metrics({"loss": 1.0, "m\ud800": 1.0}, 0),
    }

    @ex.result
    def train():
        with pytest.raises(ValueError, match="halves of characters"):
            calls[call]()
        ex.save_metric("größe", 0, 2.0)

    train().compute(scheduler="synchronous")
    assert ex.get_metrics(1) == ["größe"]


def test_nodes_are_not_computed(ex):
    """A node of a graph is no number, though Dask's arrays would compute themselves to be one."""
    da = pytest.importorskip("dask.array")
    for node in (ex.parameter("a", default=1), da.ones(1).sum()):
        with pytest.raises(TypeError, match="expected one number"):
            point_of("loss", (0, node), {})


ORDERS = [
    ((17, 0.25), {}), ((0.25,), {"step": 17}), ((0.25,), {"epoch": 17}), ((17,), {"value": 0.25}),
    ((), {"epoch": 17, "value": 0.25}), ((), {"step": 17, "value": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "named"), ORDERS, ids=map(str, range(len(ORDERS))))
def test_order_of_epoch_and_value(given, named):
    """What is named says what the other is, so that the order of other trackers is recognised."""
    point = point_of("loss", given, named)
    assert (point.epoch, point.value) == (17, 0.25)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((0.25,), {}), ((), {}), ((), {"epoch": 1}), ((1, 2), {"step": 3}), ((1, 2, 3), {}),
        ((0.25,), {"step": 1, "epoch": 1}), ((1,), {"value": 1, "step": 1}), ((), {"value": 1}),
    ],
)  # fmt: skip
def test_missing_or_doubled(given, named):
    """A call that has no epoch or no value, or one twice, is told both ways to write it."""
    with pytest.raises(TypeError, match=r"'loss', 17, 0.25\), or save_metric\('loss', 0.25, step"):
        point_of("loss", given, named)


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), np.array(0.25), Own(), Eager(0.25)])
@pytest.mark.parametrize("step", [17, np.int64(17)])
def test_order_that_is_doubtful(value, step):
    """A fraction for the epoch and a count for the value, by position, is refused, not guessed."""
    with pytest.raises(TypeError, match="the epoch stands before the value"):
        point_of("loss", (value, step), {})
    assert point_of("nodes", (), {"epoch": 0.25, "value": step}).value == 17
    assert point_of("nodes", (2.0, 17), {}).epoch == 2.0
    assert point_of("loss", (0.25, 17.0), {}).epoch == 0.25


def test_epochs():
    """An epoch is any plain value, and a number out of an array or tensor."""
    day = datetime.date(2024, 1, 1)
    assert point_of("loss", (day, 1), {}).epoch == {"$": "date", "v": "2024-01-01"}
    assert [point_of("loss", (each, 1), {}).epoch for each in ("a", None, Eager([3]))] == [
        "a", None, 3,
    ]  # fmt: skip
    for wrong in (object(), np.eye(2)):
        with pytest.raises(TypeError, match="The epoch of metric 'loss' is"):
            point_of("loss", (wrong, 1), {})


def test_several_at_once(ex):
    """Several metrics are saved for one epoch: all of them, or none where one is wrong."""

    @ex.result
    def train():
        ex.save_metrics({"loss": np.float32(0.5), "accuracy": 0.25}, 0)
        ex.save_metrics({"loss": 0.125}, step=1)
        with pytest.raises(TypeError, match="metric 'accuracy' is 'high'"):
            ex.save_metrics({"loss": 1.0, "accuracy": "high"}, 2)

    train().compute()
    assert ex.load_metric("loss", 1)[1].to_dict() == {0: 0.5, 1: 0.125}
    assert ex.load_metric("accuracy", 1)[1].to_dict() == {0: 0.25}


@pytest.mark.parametrize(
    ("metrics", "given", "named", "told"),
    [
        (17, ({"a": 1},), {}, "expected a mapping"), ({"a": 1}, (), {}, "one epoch"),
        ({"a": 1}, (1,), {"step": 1}, "one epoch"), ({"a": 1}, (), {"stp": 1}, "mean 'step'"),
        ({1: 1}, (0,), {}, "name is text"), ({"val": {"a": 1}}, (0,), {}, "expected one number"),
    ],
)  # fmt: skip
def test_wrong_calls_of_several(metrics, given, named, told):
    """A wrong call for several metrics says what was expected."""
    with pytest.raises(TypeError, match=told):
        points_of(metrics, given, named)


def test_threads_of_a_step(ex):
    """Points from a thread of a step belong to its trial; after its end they are refused."""
    late = []

    @ex.result
    def train():
        threads = [
            threading.Thread(target=ex.save_metrics, args=({"loss": n}, n)) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        late.append(ex.wrap(ex.save_metrics))

    train().compute(scheduler="synchronous")
    assert ex.load_metric("loss", 1)[1].to_dict() == {0: 0, 1: 1, 2: 2}
    with pytest.raises(StepEndedError):
        late[0]({"loss": 1}, 4)


@pytest.fixture
def undelivered(monkeypatch):
    """Let nothing be delivered before a trial ends.

    Where the background thread has its turn while the disk is full, more is said of it: what waited
    in memory is in the store then, and what waits next is news again.
    """
    monkeypatch.setattr(Recorder, "tick", lambda recorder: None)


class TestFaults:
    """Whatever becomes of the store, a training goes on, and its points come when they can."""

    @staticmethod
    def training(ex, happen):
        @ex.result
        def train():
            ex.save_metric("loss", 0, 1.0)
            happen()
            for epoch in range(1, 4):
                ex.save_metric("loss", epoch, 1.0)
            ex.save_metrics({"accuracy": 1.0}, 4)
            return "trained"

        return train()

    def test_closed(self, ex):
        """A store that is closed meanwhile opens again."""
        assert self.training(ex, ex._store.close).compute(scheduler="synchronous") == "trained"
        assert len(ex.load_metric("loss", 1)) == 4

    def test_deleted(self, ex, tmp_path):
        """A folder that is deleted meanwhile is made anew, with what this process has of it."""
        training = self.training(ex, lambda: remove_folder(tmp_path / "store"))
        with pytest.warns(StoreWarning):
            training.compute(scheduler="synchronous")
        assert len(ex.load_metric("loss", ex.trial_id)) >= 3

    @pytest.mark.parametrize("strict", [False, True])
    def test_full(self, ex, monkeypatch, undelivered, strict):
        """A disk that is full lets points wait in memory, also where warnings are made errors."""
        add = journal.JournalFile.add
        full = []

        def refuse(file, data, count):
            if full:
                raise StoreError("no space is left")
            add(file, data, count)

        monkeypatch.setattr(journal.JournalFile, "add", refuse)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error" if strict else "always")

            @ex.result
            def train():
                full.append(True)
                ex.save_metric("loss", 0, 1.0)
                ex.save_metrics({"loss": 2.0}, 1)
                full.clear()

            train().compute(scheduler="synchronous")
        assert [each.category for each in caught] == ([] if strict else [StoreWarning])
        assert ex.load_metric("loss", 1)[1].tolist() == [1.0, 2.0]

    def test_full_in_a_loop(self, ex, monkeypatch, undelivered):
        """A disk that is full for a while in the middle of a loop costs no point."""
        write, full = os.pwrite, []

        def refuse(file, data, offset):
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, data, offset)

        monkeypatch.setattr(os, "pwrite", refuse)

        @ex.result
        def train():
            for epoch in range(300):
                full[:] = [True] if 100 <= epoch < 103 else []
                ex.save_metric("loss", epoch, 0.5 + epoch)

        with pytest.warns(StoreWarning, match="could not be written"):
            train().compute(scheduler="synchronous")
        assert ex.load_metric("loss", 1)[1].tolist() == [0.5 + epoch for epoch in range(300)]

    def test_no_thread_to_be_had(self, ex, monkeypatch):
        """Where no thread can be started points come with the trial's end."""
        start = threading.Thread.start

        def refuse(thread):
            if thread.name == "daskperiment-recorder":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        self.training(ex, lambda: None).compute(scheduler="synchronous")
        assert len(ex.load_metric("loss", 1)) == 4
        monkeypatch.undo()
        beats = Heartbeat(type("Idle", (), {"busy": False, "tick": lambda self: None})())
        beats.start()  # one that failed does not stand in the way of the next
        assert beats.runs
        beats.stop()
