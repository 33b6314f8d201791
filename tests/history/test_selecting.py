"""Which trials a history shows, in which order, and with which parts of values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import daskperiment
from daskperiment.errors import DaskperimentError, FilterError
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.tables import get_history, read_table


@dataclasses.dataclass
class Inner:
    depth: int


@dataclasses.dataclass
class Scores:
    f1: float
    inner: Inner
    secret: str = dataclasses.field(default="hush", repr=False)


class Pair(NamedTuple):
    f1: float
    n: int


RESULTS: list[Any] = [
    {"f1": 0.5, "deep": {"a": 2}},
    Scores(0.25, Inner(7)),
    Pair(0.75, 3),
    1.5,
    None,
]


@pytest.fixture
def trials(ex: daskperiment.Experiment) -> daskperiment.Experiment:
    """Compute trials whose results have parts, one that fails, and metrics in some."""
    k = ex.parameter("k", default=0)
    opt = ex.parameter("opt", default={"lr": 0.1})
    kind = ex.parameter("kind", default="rbf")

    @ex.result
    def score(k: int, opt: Any, kind: str) -> Any:
        for epoch in range(k):
            ex.save_metric("loss", epoch, 10.0 * k - epoch)
            ex.save_metric("val/loss", epoch, epoch)
        return RESULTS[k]

    s = score(k, opt, kind)
    for number in range(5):
        bound = s.bind(k=number, opt={"lr": number / 10}, kind="linear" if number % 2 else "rbf")
        bound.compute(scheduler="synchronous")
    with pytest.raises(IndexError):
        s.bind(k=9).compute(scheduler="synchronous")
    return ex


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("Result.f1 >= 0.5", [1, 3]),
        ("Result.deep.a == 2", [1]),
        ("Result.inner.depth == 7", [2]),
        ("opt.lr > 0.1 and kind == 'rbf'", [3, 5]),
        ("k in (1, 3) or not Success", [2, 4, 6]),
        ("not startswith(kind, 'l') and Success", [1, 3, 5]),
        ("metrics.loss > 9", [2, 3, 4, 5, 6]),
        ("metrics.loss.min <= 10 and metrics.loss.max >= 10", [2]),
        ("metrics.`val/loss`.max >= 2", [4, 5, 6]),
        ("contains(Description, 'index out of range')", [6]),
        ("Status == 'failed'", [6]),
        ("`Trial ID` > 4", [5, 6]),
        ("Result is None", [5, 6]),
        ("Finished > '2020-01-01' and `Process Time` < '1 h'", [1, 2, 3, 4, 5, 6]),
        ("Result > 1", [4]),
    ],
)
def test_where(trials: daskperiment.Experiment, where: str, found: list[int]) -> None:
    """A filter sees parameters, results, their parts, metrics, times and what is verbose."""
    assert trials.get_history(where=where).index.tolist() == found


def test_sort_and_limit(trials: daskperiment.Experiment) -> None:
    """Rows come by one column or several, up or down; those without a value come last."""
    assert trials.get_history(sort="-k").index.tolist() == [6, 5, 4, 3, 2, 1]
    assert trials.get_history(sort="-Result.f1", limit=2).index.tolist() == [3, 1]
    assert trials.get_history(sort=["kind", "-k"]).index.tolist() == [4, 2, 6, 5, 3, 1]
    assert trials.get_history(sort="metrics.loss.min", limit=1).index.tolist() == [2]
    assert trials.get_history(where="k < 4", sort="-`Trial ID`", limit=2).index.tolist() == [4, 3]
    assert trials.get_history(limit=0).empty
    assert trials.get_history(limit=0).columns.equals(trials.get_history().columns)
    last = get_history(trials._store, (), where="k < 4", sort="-k", last=2)
    assert last.index.tolist() == [4, 3]


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"where": "kk > 1"}, "did you mean 'k'"),
        ({"where": "Result.f2 > 1"}, r"no part of Result 'f2', did you mean 'f1'"),
        ({"where": "k.x > 1"}, "no part of k 'x'"),
        ({"where": "metrics.lass > 1"}, "no metric 'lass', did you mean 'loss'"),
        ({"where": "metrics > 1"}, "no column 'metrics'"),
        ({"where": ""}, "Cannot read the filter"),
        ({"where": 3}, r"got 3 \(int\)"),
        ({"where": "__import__('os').system('true')"}, "cannot call"),
        ({"where": "Result.__class__"}, "no part"),
        ({"sort": "reslt"}, "did you mean 'Result'"),
        ({"sort": 3}, "sort is 3"),
        ({"sort": [3]}, "sort is"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": 1.5}, "limit is 1.5"),
        ({"limit": True}, "limit is True"),
    ],
)
def test_what_cannot_be_asked(
    trials: daskperiment.Experiment, asked: dict[str, Any], match: str
) -> None:
    """What names nothing, or is no filter, is an error with the nearest name."""
    with pytest.raises(FilterError, match=match) as caught:
        trials.get_history(**asked)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DaskperimentError)


def test_no_trials(ex: daskperiment.Experiment) -> None:
    """Before the first trial a filter on what may come finds nothing, and is no error."""
    ex.parameter("k", default=0)
    asked = ("k > 1", "Result.f1 > 0", "metrics.loss < 1")
    assert all(ex.get_history(where=where, sort="-Result").empty for where in asked)


def test_expand(trials: daskperiment.Experiment) -> None:
    """Parts of dicts, data classes and named tuples become columns, but what a repr hides."""
    frame = trials.get_history(expand=True)
    parts = ["Result.f1", "Result.deep.a", "Result.inner.depth", "Result.n"]
    assert [name for name in frame.columns if name.startswith("Result.")] == parts
    assert frame["Result.f1"].iloc[:3].tolist() == [0.5, 0.25, 0.75]
    assert frame["opt.lr"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.1]
    assert "hush" not in frame.to_string()


def test_expand_shows_parts_of_the_rows_alone(ex: daskperiment.Experiment) -> None:
    """Which parts have columns depends on the rows, and not on how these were read, or sorted."""
    x = ex.parameter("x")
    score = ex.result(lambda x: x)(x)
    values: list[Any] = [1, {"b": 1}, {"a": 2}, "text", {"c": {"d": 1}}]
    for value in values:
        score.bind(x=value).compute(scheduler="synchronous")
    for sort in (None, "-Trial ID", "x"):
        found = [*ex.get_history(expand=True, sort=sort).columns]
        assert [name for name in found if "." in name] == [
            "x.b", "x.a", "x.c.d", "Result.b", "Result.a", "Result.c.d",
        ]  # fmt: skip
        some = ex.get_history(expand=True, sort=sort, where="`Trial ID` in (1, 3, 4)")
        assert [name for name in some.columns if "." in name] == ["x.a", "Result.a"]
    ex.archive(5)
    with pytest.raises(FilterError, match=r"no part of Result 'c\.d'"):
        ex.get_history(where="Result.c.d == 1")
    assert [*ex.get_history(where="Result.c.d == 1", archived=True).index] == [5]


def test_expand_tells_parts_apart(ex: daskperiment.Experiment) -> None:
    """A key with a dot has a column of its own beside parts of parts that would be called so."""
    value = {"a.b": 1, "a": {"b": 2, "b.c": 3}, "only.one": 4}
    ex.result(lambda: value)().compute(scheduler="synchronous")
    frame = ex.get_history(expand=True)
    found = {name: frame[name].iloc[0] for name in frame.columns if name.startswith("Result.")}
    assert found == {
        "Result.`a.b`": 1, "Result.a.b": 2, "Result.a.b.c": 3, "Result.only.one": 4
    }  # fmt: skip
    assert [*ex.get_history(where="Result.`a.b` == 1 and Result.a.b == 2").index] == [1]


def test_metrics(trials: daskperiment.Experiment) -> None:
    """The last values of metrics become columns; a trial without them has none."""
    frame = trials.get_history(metrics=True)
    assert frame["metrics.loss"].tolist()[1:] == [10.0, 19.0, 28.0, 37.0, 82.0]
    assert frame["metrics.val/loss"].isna().tolist() == [True] + [False] * 5
    assert trials.get_history().columns.tolist() == frame.columns.tolist()[:-2]


def test_reused_step_brings_its_metrics(ex: daskperiment.Experiment) -> None:
    """A filter sees the metrics of a step that was reused."""
    a = ex.parameter("a", default=0)

    @ex.persist(reuse=True)
    def fit() -> int:
        ex.save_metric("loss", 0, 0.5)
        return 1

    @ex.result
    def score(fit: int, a: int) -> int:
        return fit + a

    s = score(fit(), a)
    s.compute(scheduler="synchronous")
    s.bind(a=1).compute(scheduler="synchronous")
    assert ex.get_history(where="metrics.loss == 0.5").index.tolist() == [1, 2]


def test_rows_do_not_share_what_can_be_changed(trials: daskperiment.Experiment) -> None:
    """Each row has a dict of its own, though equal ones are kept once."""
    frame = trials.get_history(where="kind == 'rbf'")
    first, other = (trials.get_history()["opt"].iloc[at] for at in (1, 5))
    assert first == other
    values = frame["opt"].tolist()
    values[0]["lr"] = "changed"
    assert all(value["lr"] != "changed" for value in values[1:])


def test_only_what_is_asked_for_is_read(trials: daskperiment.Experiment) -> None:
    """No points are read unless metrics are asked for."""
    streams: list[str] = []
    store = trials._store

    class Watched:
        address = store.address
        get = store.get
        state = store.state

        @staticmethod
        def read(stream: str, *arguments: Any, **given: Any) -> Any:
            streams.append(stream)
            return store.read(stream, *arguments, **given)

    table = read_table(Watched(), ())  # type: ignore[arg-type]
    assert isinstance(table, HistoryTable)
    table.select("k > 1 and Result.f1 > 0", "-k")
    assert set(streams) == {"trials"}
    table.select("metrics.loss > 1", None)
    assert "points" in streams


@pytest.mark.parametrize(
    "given",
    [
        {"opt": {"net": {"w": 3}, "lr": 1}, "opt.net": 5},
        {"opt": {"net": {"w": 3}, "lr": 1}, "opt.net": {"w": 4}},
        {"opt": {"net": {"w": 3}, "lr": 1}, "opt.net": {"v": 4}, "opt.lr": 2},
        {"opt": {"net": {"w": 3}, "lr": 1}, "opt.net.w": 2},
    ],
)
def test_parts_that_are_called_like_other_columns(given: dict[str, Any], tmp_path: Path) -> None:
    """Parts of which another column has the name, such as of a later configuration, give way."""
    ex = daskperiment.Experiment("named", backend=tmp_path)
    nodes = [ex.parameter(name) for name in given]
    ex.result(lambda *values: 1)(*nodes).bind(given).compute(scheduler="synchronous")
    table = ex.get_history(expand=True)
    assert table.columns.is_unique
    for name in table.columns.difference(ex.get_history().columns):
        column, part = name.rsplit(".", 1)
        value = given[column] if column in given else given["opt"]["net"]
        assert table.loc[1, name] == value[part]
        assert ex.get_history(where=f"{name} == {value[part]}").index.tolist() == [1]
    assert table.loc[1, "opt.lr"] == given.get("opt.lr", 1)
