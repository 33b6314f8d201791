from __future__ import annotations

import json
import math
from datetime import date
from enum import StrEnum

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.codec import point_runs, points_body
from daskperiment.dashboard.metric_cache import MetricSummaries
from daskperiment.errors import MetricNotFoundError, StoreWarning, TrialIDNotFoundError
from daskperiment.history import metric_columns
from daskperiment.history.metrics import get_metrics, load_metric, load_metrics, summarize
from daskperiment.store.file import FileStore
from daskperiment.store.protocol import Record
from tests.history.lab import Lab


def series(lab, *points, metric="loss"):
    id = lab.begin()
    lab.points(id, *((metric, epoch, value) for epoch, value in points))
    return load_metric(lab.store, metric, id)[id]


def test_load_one_trial(lab):
    """A metric of one trial is a frame of one column."""
    id = lab.begin()
    lab.points(id, ("loss", 1, 0.5), ("accuracy", 1, 0.9), ("loss", 2, 0.25))
    lab.points(id, ("loss", 3, 0.125))
    frame = load_metric(lab.store, "loss", id)
    assert frame.index.name == "Epoch"
    assert frame.columns.name == "Trial ID"
    assert frame.columns.tolist() == [id]
    assert frame.index.tolist() == [1, 2, 3]
    assert frame[id].tolist() == [0.5, 0.25, 0.125]
    assert (frame.index.dtype, frame[id].dtype) == ("int64", "float64")


def test_load_trials_side_by_side(lab):
    """Trials stand in the order asked for; an epoch that one does not have is NaN there."""
    first, second = lab.begin(), lab.begin()
    lab.points(first, ("loss", 1, 1), ("loss", 2, 2))
    lab.points(second, ("loss", 2, 20), ("loss", 3, 30))
    frame = load_metric(lab.store, "loss", [second, first, second])
    assert frame.columns.tolist() == [second, first]
    assert frame.columns.name == "Trial ID"
    assert frame.index.tolist() == [1, 2, 3]
    assert frame.index.name == "Epoch"
    assert frame[second].tolist()[1:] == [20, 30]
    assert math.isnan(frame.loc[1, second])
    assert math.isnan(frame.loc[3, first])


def test_equal_epochs_keep_dtypes(lab):
    """Trials of the same epochs keep their integers."""
    ids = [lab.begin(), lab.begin()]
    for id in ids:
        lab.points(id, ("n", 1, id), ("n", 2, id))
    frame = load_metric(lab.store, "n", ids)
    assert frame.dtypes.tolist() == ["int64", "int64"]


def test_large_integers_stay_exact_side_by_side(lab):
    """An integer beyond 2**53 is not rounded because another trial lacks its epoch."""
    first, second = lab.begin(), lab.begin()
    lab.points(first, ("n", 1, 2**53 + 1))
    lab.points(second, ("n", 2, 1))
    assert load_metric(lab.store, "n", [first, second]).loc[1, first] == 2**53 + 1


def test_last_value_of_an_epoch_holds(lab):
    """If an epoch was saved twice, within a batch or in two, the last value holds."""
    id = lab.begin()
    lab.points(id, ("loss", 1, 1), ("loss", 1, 2), ("loss", 2, 3))
    lab.points(id, ("loss", 2, 4), ("loss", 1, 5))
    assert load_metric(lab.store, "loss", id)[id].to_dict() == {1: 5, 2: 4}


def test_epochs_are_sorted(lab):
    """Epochs that can be compared are sorted."""
    assert series(lab, (3, 1), (1, 2), (2.5, 3)).index.tolist() == [1, 2.5, 3]
    assert series(lab, ("b", 1), ("a", 2)).index.tolist() == ["a", "b"]
    days = [date(2024, 1, 2), date(2024, 1, 1)]
    assert series(lab, *((day, 1) for day in days)).index.tolist() == sorted(days)


def test_epochs_of_many_kinds(lab):
    """Epochs that cannot be compared, or are tuples or lists, stay as they were saved."""
    mixed = series(lab, (2, 1), ("end", 2), (1, 3))
    assert mixed.index.tolist() == [2, "end", 1]
    assert series(lab, ((1, 2), 1), ((1, 1), 2)).index.tolist() == [(1, 1), (1, 2)]
    assert series(lab, ([1], 1), ([1], 2)).to_dict() == {"[1]": 2}
    assert series(lab, (([1],), 1)).to_dict() == {"([1],)": 1}


def test_mixed_epochs_side_by_side(lab):
    """Trials with epochs of different kinds come together."""
    first, second = lab.begin(), lab.begin()
    lab.points(first, ("m", 1, 1), ("m", 2, 2))
    lab.points(second, ("m", "end", 3))
    frame = load_metric(lab.store, "m", [first, second])
    assert frame.index.tolist() == [1, 2, "end"]
    assert frame.loc["end", second] == 3


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([0.5, math.inf], "float64"),
        ([True, False], "bool"),
        ([10**400, 1], object),
        ([[1], [2, 3]], object),
        ([None, 1.0], object),
    ],
)
def test_values(lab, values, dtype):
    """Values of any plain kind come back equal, in a natural dtype."""
    found = series(lab, *enumerate(values))
    assert found.tolist() == values
    assert found.dtype == dtype


def test_nan_as_value_and_epoch(lab):
    """Values that are nan are kept; an epoch that is nan is one epoch."""
    found = series(lab, (1, math.nan), (math.nan, 1.0), (math.nan, 2.0))
    assert len(found) == 2
    assert math.isnan(found[1])
    assert found.iloc[1] == 2.0


@given(
    st.lists(
        st.lists(st.tuples(st.integers(-5, 5), st.integers()), min_size=1), min_size=1, max_size=3
    )
)
def test_any_points(batches):
    """Each trial's series is what a dict of its points in order would hold."""
    lab = Lab()
    for points in batches:
        id = lab.begin()
        half = len(points) // 2
        lab.points(id, *(("m", epoch, value) for epoch, value in points[:half]))
        lab.points(id, *(("m", epoch, value) for epoch, value in points[half:]))
    ids = list(range(1, len(batches) + 1))
    frame = load_metric(lab.store, "m", ids)
    assert frame.index.tolist() == sorted({epoch for points in batches for epoch, _ in points})
    for id, points in zip(ids, batches, strict=True):
        assert frame[id].dropna().to_dict() == dict(points)


def test_metric_of_running_trial(lab):
    """A metric can be watched while its trial runs."""
    assert series(lab, (1, 1)).tolist() == [1]


def test_unknown_metric(lab):
    """Trials without a metric are left out; where none has it, the error lists what they have."""
    first, second, third = lab.begin(), lab.begin(), lab.begin()
    lab.points(first, ("loss", 1, 1))
    lab.points(second, ("b", 1, 1), ("a", 1, 1))
    with pytest.raises(MetricNotFoundError) as caught:
        load_metric(lab.store, "loss", [second, third])
    message = str(caught.value)
    assert "no metric 'loss' in trial 2, 3" in message
    assert "trial 2 has 'a', 'b'" in message
    assert "trial 3 has no metrics" in message
    found = load_metric(lab.store, "loss", [third, first, second])
    assert found.columns.tolist() == [first]


def test_name_that_nobody_can_write(lab):
    """No metric is called by half a character, and whoever asks for one is told so."""
    first = lab.begin()
    lab.points(first, ("loss", 1, 1))
    with pytest.raises(MetricNotFoundError, match="trial 1 has 'loss'"):
        load_metric(lab.store, "half\ud800", first)
    for name in (3, None, b"loss", ("loss",)):
        with pytest.raises(MetricNotFoundError, match="trial 1 has 'loss'"):
            load_metric(lab.store, name, first)


class Name(str):
    pass


@pytest.mark.parametrize(
    "name", [np.str_("loss"), Name("loss"), StrEnum("Names", {"L": "loss"}).L], ids=repr
)
def test_name_of_another_type(lab, name):
    """A name is a text of whatever class, such as one of an array of names."""
    first = lab.begin()
    lab.points(first, ("loss", 1, 1), *((f"m{n}", 1, n) for n in range(100)))
    for _ in range(2):
        lab.points(first, *(("loss", n, 1) for n in range(100)), ("other", 1, 1))
    assert load_metric(lab.store, name, first).equals(load_metric(lab.store, "loss", first))


def test_metric_of_unknown_trial(lab):
    """Metrics of an unknown trial cannot be had, also among others."""
    id = lab.begin()
    lab.points(id, ("loss", 1, 1))
    with pytest.raises(TrialIDNotFoundError, match="no trial 9"):
        load_metric(lab.store, "loss", [id, 9])
    with pytest.raises(TrialIDNotFoundError, match="'1'"):
        load_metric(lab.store, "loss", "1")


def test_metrics_of_no_trial(lab):
    """Asked for no trials, the frame has no columns."""
    frame = load_metric(lab.store, "loss", [])
    assert frame.shape == (0, 0)
    assert (frame.index.name, frame.columns.name) == ("Epoch", "Trial ID")


def test_get_metrics(lab):
    """The names of a trial's metrics, or of all, come in alphabetical order."""
    first, second, third = lab.begin(), lab.begin(), lab.begin()
    lab.points(first, ("b", 1, 1), ("a", 1, 1), ("b", 2, 1))
    lab.points(second, ("学習率", 1, 1))
    assert get_metrics(lab.store, first) == ["a", "b"]
    assert get_metrics(lab.store) == ["a", "b", "学習率"]
    assert get_metrics(lab.store, third) == []
    with pytest.raises(TrialIDNotFoundError):
        get_metrics(lab.store, 4)


def test_damaged_batch(lab):
    """A damaged batch of points is left out with a warning; the others are there."""
    id = lab.begin()
    lab.points(id, ("loss", 1, 1))
    lab.add("points", id, "torn", b'{"points":[["loss",2')
    lab.points(id, ("loss", 3, 3))
    with pytest.warns(StoreWarning, match="'torn' of trial 1"):
        assert load_metric(lab.store, "loss", id)[id].to_dict() == {1: 1, 3: 3}
    with pytest.warns(StoreWarning, match="'torn' of trial 1"):
        assert get_metrics(lab.store, id) == ["loss"]


def test_columns_are_ids(lab):
    """Columns are labelled by integer ids."""
    assert isinstance(load_metric(lab.store, "m", _with_point(lab)).columns, pd.Index)
    assert load_metric(lab.store, "m", [1]).columns.dtype == "int64"


def _with_point(lab):
    id = lab.begin()
    lab.points(id, ("m", 1, 1))
    return id


@pytest.mark.parametrize("count", [10, 40])
def test_all_metrics_of_a_trial(lab, count):
    """All metrics of a trial, or some, are what each is by itself, for one read of the points."""
    trial, source = lab.begin(), lab.begin()
    for epoch in range(3):
        lab.points(
            trial, *((f"m{number:02d}", epoch, number / (epoch + 1)) for number in range(count))
        )
    lab.points(source, ("old", 0, 5.0))
    reads = []
    read = lab.store.read
    lab.store.read = lambda *given, **named: reads.append(given[0]) or read(*given, **named)
    found = load_metrics(lab.store, trial)
    assert reads == ["points", "steps"]
    chosen = load_metrics(lab.store, trial, ["m07", "none"])
    assert reads == ["points", "steps"] * 2
    assert list(chosen) == ["m07"]
    assert chosen["m07"].equals(found["m07"])
    lab.store.read = read
    assert list(found) == get_metrics(lab.store, trial)
    assert len(found) == count
    for name, series in found.items():
        assert series.equals(load_metric(lab.store, name, trial)[trial])
    with pytest.raises(TrialIDNotFoundError):
        load_metrics(lab.store, 99)


def body_of(metrics, count=64):
    """Return a record of runs of some metrics, saved in turn."""
    points = [(name, epoch, epoch / 3, 1e9) for epoch in range(count) for name in metrics]
    return points_body([msgspec.json.encode(each) for each in points], 1)


def test_a_metric_of_two_reused_steps(lab):
    """Every reader gives those points that came with the last of them."""
    sources = [lab.run(1), lab.run(1)]
    for place, source in enumerate(sources):
        lab.points(source, ("loss", 0, place))
    trial = lab.run(1)
    for source in sources:
        lab.step(trial, f"fit#{source}", reused=source, metrics=["loss"])
    assert load_metric(lab.store, "loss", trial)[trial].tolist() == [1]
    assert load_metrics(lab.store, trial)["loss"].tolist() == [1]
    for names in (None, ["loss"]):
        assert summarize(lab.store, [trial], names)[trial]["loss"].last == 1
    assert MetricSummaries(lab.store).get([trial])[trial]["loss"].last == 1


@pytest.mark.parametrize("others", [3, 60])
def test_one_metric_among_others(lab, monkeypatch, others):
    """To load one metric decodes its own runs, and none of the others, however many there are."""
    trial, body = lab.begin(), body_of(["loss", *(f"loss{number}" for number in range(others))])
    lab.store.append([Record("points", trial, f"part-{part}", body) for part in range(3)])
    decoded = []
    unpack = point_runs.unpacked
    monkeypatch.setattr(
        point_runs, "unpacked", lambda numbers: decoded.append(numbers) or unpack(numbers)
    )
    run_of = metric_columns._run_of
    monkeypatch.setattr(metric_columns, "_run_of", lambda run: decoded.append(run) or run_of(run))
    monkeypatch.setattr(metric_columns, "decoded", None)
    frame = load_metric(lab.store, "loss", trial)
    assert frame[trial].tolist() == [epoch / 3 for epoch in range(64)]
    assert len(decoded) == 3 + 3


def test_a_metric_by_any_json(lab, recwarn):
    """A name is found however a store writes its JSON anew; only damage of all is left out."""
    names = ['é"\\', "loss"]
    trial, written = lab.begin(), json.loads(body_of(names))
    plain = {"runs": written["runs"]}
    odd = {"runs": [["other", "first"], written["runs"][0]]}
    wrong = {"runs": [["loss", "first"]]}
    for number, part in enumerate(
        (json.dumps(plain), json.dumps(plain, indent=2), json.dumps(odd))
    ):
        lab.store.append([Record("points", trial, str(number), part.encode())])
    for name in names:
        assert load_metric(lab.store, name, trial)[trial].tolist() == [n / 3 for n in range(64)]
    assert not recwarn.list
    lab.store.append([Record("points", trial, "wrong", json.dumps(wrong).encode())])
    with pytest.warns(StoreWarning, match="wrong"):
        assert len(load_metric(lab.store, "loss", trial)) == 64


def test_a_changed_run_is_left_out(lab):
    """A run that is found without decoding others counts only where its record is as written."""
    trial, other, body = lab.begin(), lab.begin(), body_of(["loss", "other"])
    changed = body.replace(b'["loss",0,', b'["loss",9,')
    assert changed != body
    records = [(trial, "first", body), (trial, "changed", changed), (other, "moved", body)]
    lab.store.append([Record("points", *each) for each in records])
    with pytest.warns(StoreWarning, match="'changed' of trial 1"):
        assert load_metric(lab.store, "loss", trial).index.tolist() == list(range(64))
    with (
        pytest.warns(StoreWarning, match="'moved' of trial 2"),
        pytest.raises(MetricNotFoundError),
    ):
        load_metric(lab.store, "loss", other)


@pytest.fixture
def long(tmp_path, monkeypatch):
    """Let ten points be a long series, in a folder; return it and what it counts."""
    monkeypatch.setattr(metric_columns, "WORTH", 10)
    store = FileStore(tmp_path / "demo")
    read = store.read
    records = []
    store.read = lambda *given, **named: [
        records.append(one) or one for one in read(*given, **named)
    ]
    return store, records


def save(store, trial, *points):
    """Save points of a trial in a batch of their own."""
    number = len(list(FileStore(store.folder).read("points")))
    rows = [["loss", epoch, value, 1.0] for epoch, value in points]
    body = msgspec.json.encode({"points": rows})
    store.append([Record("points", trial, f"batch-{number}", body)])


def test_long_series_is_kept(long):
    """Who comes next reads one record of a long series, and those that were saved since."""
    store, records = long
    for start in range(0, 40, 4):
        save(store, 1, *((epoch, epoch / 2) for epoch in range(start, start + 4)))
    first = load_metric(store, "loss", 1)
    records.clear()
    assert load_metric(store, "loss", 1).equals(first)
    assert len(records) == 1
    save(store, 1, (40, 20.0))
    records.clear()
    frame = load_metric(store, "loss", [1])
    assert frame[1].tolist() == [epoch / 2 for epoch in range(41)]
    assert len(records) == 2
    frame.iloc[0, 0] = 7.0
    assert load_metric(store, "loss", 1).iloc[0, 0] == 0.0


def test_long_series_that_does_not_fit(long):
    """What is kept counts for nothing where the store has another trial, or damage struck."""
    store, _ = long
    save(store, 1, *((epoch, 1.0) for epoch in range(20)))
    first = load_metric(store, "loss", 1)
    for path in (store.folder / "columns" / "points").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes(data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
            assert load_metric(store, "loss", 1).equals(first)
    store.delete()
    save(store, 1, *((epoch, 2.0) for epoch in range(20)))
    assert load_metric(store, "loss", 1)[1].tolist() == [2.0] * 20
    save(store, 1, (20, "text"))
    assert load_metric(store, "loss", 1)[1].tolist() == [2.0] * 20 + ["text"]


def test_long_series_of_two_trials(long):
    """A long series and a short one of another trial stand side by side."""
    store, _ = long
    save(store, 1, *((epoch, 1.0) for epoch in range(20)))
    save(store, 2, (0, 5))
    for _ in range(2):
        frame = load_metric(store, "loss", [2, 1])
        assert frame[1].tolist() == [1.0] * 20
        assert frame[2].dropna().tolist() == [5]
