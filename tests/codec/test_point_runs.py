"""Points that came at once are written as runs, and every reader finds each of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskperiment
from daskperiment.codec import (
    FLOAT_POINT,
    MARK,
    NumberPoints,
    PointRecord,
    PointRun,
    decode,
    numbers_body,
    points_body,
    runs_within,
    to_plain,
)
from daskperiment.codec.number_points import WHOLE_POINT
from daskperiment.dashboard.metric_cache import MetricCache
from daskperiment.history.metrics import get_metrics, load_metrics, summarize
from daskperiment.recording.registry import close_recorders
from daskperiment.records import Point, SignedPoint
from tests.shared.conftest import open_again

Points = list[tuple[str, Any, Any, float]]

PLAIN = st.tuples(
    st.sampled_from("ab"), st.integers(-3, 3),
    st.sampled_from([0, 1, 0.5, 1e300, -0.0, 0.1, 5e-324]),
    st.sampled_from([0.0, 0.0009, 0.004, 0.0051, 0.1]),
)  # fmt: skip
ODD = st.sampled_from([
    ("a", 0.5, 1, 0.0), ("a", 1, True, 0.0), ("a", "last", 1.0, 0.0), ("a", True, 1, 0.0),
    ("b", 1, {"$": "float", "v": "nan"}, 0.0), ("b", 2, {"$": "float", "v": "-inf"}, 0.0),
    ("é\0'", -(2**63), 2**63, 9.0),
])  # fmt: skip


def body_of(points: Points) -> bytes:
    return points_body([msgspec.json.encode(Point(*each)) for each in points], 1)


def by_metric(points: Any) -> dict[str, list[tuple[Any, Any]]]:
    found: dict[str, list[tuple[Any, Any]]] = {}
    for each in points:
        found.setdefault(each.metric, []).append((each.epoch, each.value))
    return found


@settings(deadline=None)
@given(st.lists(PLAIN | ODD, max_size=30), st.integers(1, 12))
def test_every_point_is_there(points: Points, times: int) -> None:
    """Whatever is saved, each metric has its points in their order, and the body is the same."""
    points = points * times
    record = decode(body_of(points), PointRecord[Point])
    saved = by_metric(Point(*each) for each in points)
    assert repr(sorted(by_metric(record.each()).items())) == repr(sorted(saved.items()))
    assert body_of(points) == body_of(points)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "aa", "0", "AAAAAAAA", "é", ",", "],[", '"', "\\"]), min_size=1),
    st.lists(st.sampled_from([0, 1, 0.1, 1 / 3, 1e300, -0.0, nan, inf]), min_size=70, max_size=90),
    st.integers(1, 3),
)
def test_runs_are_found_by_their_first_characters(
    names: list[str], values: list[float], times: int
) -> None:
    """Whatever names and numbers look like, a metric's runs are those that decoding all gives."""
    points = [(name, epoch, value) for epoch, value in enumerate(values) for name in names] * times
    body = points_body([msgspec.json.encode(Point(*each, 1e9)) for each in points], 1)
    runs = decode(body, PointRecord[Point]).runs
    for name in {*names, "A", "b"}:
        found = runs_within(body, name)
        if found is None:
            assert {'"', "\\"} & {*names} or not runs
        else:
            expected = [msgspec.json.encode(run) for run in runs if run.metric == name]
            again = [msgspec.json.decode(each, type=PointRun) for each in found]
            assert [*map(msgspec.json.encode, again)] == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 20_000), min_size=100, max_size=300), st.integers(-9, 9))
def test_times_are_those_of_a_moment_before(gaps: list[int], step: int) -> None:
    """A point of a run has a time less than five milliseconds before its own; copies keep it."""
    times, now = [], 1.7e9
    for gap in gaps:
        now += gap / 1e6
        times.append(now)
    body = body_of([("a", n * step, 0.5, time) for n, time in enumerate(times)])
    points_read = list(decode(body, PointRecord[Point]).each())
    found = [each.time for each in points_read]
    assert all(-1e-6 <= a - b < 0.005 for a, b in zip(times, found, strict=True))
    again = points_body([msgspec.json.encode(each) for each in points_read], 1)
    if b'"runs"' in body:
        assert list(decode(again, PointRecord[Point]).each()) == points_read


@pytest.mark.parametrize("late", [2.0**32, 2.0**53, 1e304])
def test_times_beyond_all_clocks(late: float) -> None:
    """Times that no clock shows are those of their points, and part no others."""
    times = [1.7e9] * 70 + [late * (1 + n) for n in range(10)]
    body = body_of([("a", n, 0.5, time) for n, time in enumerate(times)])
    assert [each.time for each in decode(body, PointRecord[Point]).each()] == times


@pytest.mark.parametrize(
    ("points", "runs"),
    [
        ([("a", n, 0.5, 1.0) for n in range(64)], 1),
        ([("a", n, 0.5, 1.0) for n in range(63)], 0),
        ([("a", 7, n, 1.0) for n in range(64)], 1),
        ([(name, n, 0.5, 1.0) for n in range(64) for name in "abc"], 3),
        ([("a", n, 0.5, n / 100) for n in range(64)], 1),
        ([("a", n, 0.5, 1 + n / 100_000) for n in range(1600)], 4),
        ([("a", n * n, 0.5, 1.0) for n in range(64)], 0),
        ([("a", n, True, 1.0) for n in range(64)], 0),
        ([("a", n, to_plain(float("nan")), 1.0) for n in range(64)], 1),
        ([("a", n, to_plain(float("inf")) if n % 9 else 0.5, 1.0) for n in range(64)], 1),
        ([("a", n, to_plain(float("inf")) if n % 9 else 7, 1.0) for n in range(64)], 0),
        ([("a", n, to_plain(float("nan")) if n % 9 else 10.0**n, 1.0) for n in range(64)], 0),
        ([("a", n, 0.5, 1.0) for n in range(64)] + [("b", "last", 1, 1.0)], 1),
        ([(f"a{n}", n % 4 or "odd", 0.5, 1.0) for n in range(100)], 0),
        ([("c", n, 0.5, 1.0) for n in range(3)] + [("b", str(n), 1, 1.0) for n in range(64)], 0),
    ],
)
def test_runs_where_they_are_short(points: Points, runs: int) -> None:
    """There are runs where they take less than the points: of many, together and in step."""
    found = json.loads(body_of(points))
    assert len(found.get("runs", ())) == runs
    assert len(found["points"]) == (sum(each[0] == "b" for each in points) if runs == 1 else
                                    0 if runs else len(points))  # fmt: skip


def test_signed_points_stay_as_they_are() -> None:
    """A run has no place for the signature that each point has."""
    point = SignedPoint("a", 1, 0.5, 1.0, "writer:1", "abc")
    found = json.loads(points_body([msgspec.json.encode(point)] * 100, 1))
    assert found["points"] == [["a", 1, 0.5, 1.0, "writer:1", "abc"]] * 100
    assert "runs" not in found


def test_what_is_no_point_stays_as_it_is() -> None:
    """A frame of which damage made other JSON is kept for whoever looks at it."""
    for count in (100, 10_000):  # those of the second would stand in blocks
        odd = [b'{"no":"point"}'] * count
        assert json.loads(points_body(odd, 1))["points"] == [{"no": "point"}] * count
        for one in (b"\xff", b'["a",1', b"[" * 10_000, b""):
            body = points_body([b'["b",1,1,1.0]', *[one] * count], 1)
            assert body.startswith(b'{"points":[["b",1,1,1.0],' + one)
            assert MARK not in body


def test_every_reader_knows_runs(tmp_path: Path) -> None:
    """A loop's points are in metrics, summaries, plots, tables by SQL, and take few bytes."""
    ex = daskperiment.Experiment("loop", backend=tmp_path)
    count = 2000

    @ex.result
    def train() -> None:
        for epoch in range(count):
            ex.save_metrics({"loss": epoch / 7, "seen": epoch * 3}, 2 * epoch)
        ex.save_metric("odd", "last", 1.5)

    train().compute(scheduler="synchronous")
    close_recorders()
    store = ex._store
    bodies = [each.body for each in store.read("points")]
    assert any(b'"runs"' in body for body in bodies)
    assert sum(map(len, bodies)) < 20 * (2 * count)
    assert get_metrics(store, 1) == ["loss", "odd", "seen"]
    expected = {2 * n: n / 7 for n in range(count)}
    assert ex.load_metric("loss", 1)[1].to_dict() == expected
    assert load_metrics(store, 1)["loss"].to_dict() == expected
    summary = summarize(store, [1])[1]["seen"]
    assert (summary.min, summary.max, summary.last) == (0, 3 * (count - 1), 3 * (count - 1))
    series = MetricCache(store).get([1])[1].series["seen"]
    assert list(zip(series.epochs, series.values, strict=True)) == [
        (2 * n, 3 * n) for n in range(count)
    ]
    with closing(sqlite3.connect(tmp_path / "loop" / "records.sqlite")) as database:
        query = "SELECT epoch, value FROM v_metrics WHERE metric = 'loss' ORDER BY epoch"
        assert dict(database.execute(query)) == expected
        query = "SELECT epoch, epoch_text, value, text FROM v_metrics WHERE metric = 'seen'"
        assert (2.0, "2", 3.0, "3") in database.execute(query).fetchall()
        query = "SELECT count(*), min(time), max(time) FROM v_metrics"
        found, first, last = database.execute(query).fetchone()
        assert found == 2 * count + 1
        assert first <= last < first + 600
    assert open_again("loop", tmp_path).load_metric("odd", 1).index.tolist() == ["last"]


def test_points_before_and_after_a_checkpoint(tmp_path: Path) -> None:
    """What a loop saved after its checkpoint is not taken along, though it was saved at once."""
    ex = daskperiment.Experiment("halves", backend=tmp_path)

    @ex.result
    def train() -> int:
        start = ex.restore(default=None)
        if start is not None:
            return len(start[0])
        for epoch in range(100):
            ex.save_metric("loss", epoch, epoch)
        ex.checkpoint([0] * 3, 99)
        for epoch in range(100, 200):
            ex.save_metric("loss", epoch, epoch)
        raise RuntimeError("stop")

    node = train()
    with pytest.raises(RuntimeError, match="stop"):
        node.compute(scheduler="synchronous")
    assert node.resume(1, scheduler="synchronous") == 3
    assert ex.load_metric("loss", 2).index.tolist() == list(range(100))


def test_what_is_not_finite_in_runs(tmp_path: Path) -> None:
    """A loss that is nan from some epoch on takes few bytes, and is so for every reader."""
    ex = daskperiment.Experiment("diverged", backend=tmp_path)
    values = [1 / (n + 1) if n < 300 else (nan, inf, -inf)[n % 3] for n in range(600)]

    @ex.result
    def train() -> int:
        start = ex.restore(default=None)
        if start is None:
            for epoch, value in enumerate(values):
                ex.save_metric("loss", epoch, value)
            ex.checkpoint(0, 600)
            raise RuntimeError("stop")
        return 0

    node = train()
    with pytest.raises(RuntimeError, match="stop"):
        node.compute(scheduler="synchronous")
    node.resume(1, scheduler="synchronous")
    close_recorders()
    store = ex._store
    assert sum(len(each.body) for each in store.read("points", [1])) < 20 * len(values)
    for trial in (1, 2):
        assert repr(ex.load_metric("loss", trial)[trial].tolist()) == repr(values)
        assert repr(load_metrics(store, trial)["loss"].tolist()) == repr(values)
        series = MetricCache(store).get([trial])[trial].series["loss"]
        assert (repr(series.values.tolist()), series.passed_over) == (repr(values), 0)
        summary = summarize(store, [trial])[trial]["loss"]
        assert (summary.min, summary.max, summary.last) == (-inf, inf, -inf)


NUMBERS = st.tuples(
    st.sampled_from("ab"), st.sampled_from([0, 1, 1, 2, -7]), st.booleans(),
    st.sampled_from([0, 0.5, 1e300, -0.0, 0.1, 5e-324, 7, inf, nan, 3.25]),
    st.sampled_from([0.0, 0.0009, 0.004, 0.0051, 0.1, -0.5, 5e9]), st.integers(1, 90),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.lists(NUMBERS, min_size=1, max_size=12))
def test_numbers_as_bytes_give_the_same_body(stretches: list[Any]) -> None:
    """Points whose numbers are bytes become the record that they become as JSON, bit by bit."""
    parts, epoch, time = [], 0, 1.7e9
    for metric, step, whole, value, gap, count in stretches:
        form, data = WHOLE_POINT if whole else FLOAT_POINT, b""
        for n in range(count):
            epoch, time = epoch + step, time + gap
            data += form.pack(epoch, n * 3 if whole else float(value) * n, time)
        parts.append(NumberPoints(metric, whole, data))
    pieces = [piece for part in parts for piece in part.pieces()]
    assert numbers_body(parts, 1) == points_body(pieces, 1)
    mixed = [each for n, part in enumerate(parts) for each in ([part], part.pieces())[n % 2]]
    assert numbers_body(mixed, 1) == points_body(pieces, 1)
