"""The views of a folder's database, as SQLite and DuckDB read them."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import daskperiment
from daskperiment.codec import points_body, to_plain
from daskperiment.codec.sql_views import VIEWS
from daskperiment.recording.registry import close_recorders, recorder_for
from daskperiment.records import OUTCOMES, Ended, Point, ended_id, outweighs
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record
from tests.shared.conftest import open_again

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An experiment of three trials, of which the last one fails, with all kinds of values."""
    ex = daskperiment.Experiment("seen", backend=tmp_path)
    names = ("a", "text", "nested")
    a, text, nested = (ex.parameter(name) for name in names)

    @ex.result
    def train(a: Any, text: Any, nested: Any) -> Any:
        for epoch, value in enumerate((1.5, float("nan"), float("inf"), -2)):
            ex.save_metric('lo"ss', epoch, value)
        ex.save_metric("named", "last", True)
        ex.save("table", {"a": 1})
        if a == 3:
            raise ValueError('it\'s "odd"')
        return {"f1": a / 4, "name": "né", "none": None, "pair": (1, 2)}

    result = train(a, text, nested)
    result.bind(a=1, text="1e5", nested=(1, {"x": None})).compute(scheduler="synchronous")
    result.bind(a=True, text="true", nested=float("inf")).compute(scheduler="synchronous")
    with pytest.raises(ValueError, match="odd"):
        result.bind(a=3, text="x'; DROP TABLE trials", nested=[]).compute(scheduler="synchronous")
    ex.tag([1, 2], "good")
    ex.note(1, "a\nnote")
    ex.archive(2)
    ex.flush()
    close_recorders()
    return tmp_path / "seen" / "records.sqlite"


def by_sqlite(path: Path) -> Ask:
    """Return what asks Python's own SQLite."""

    def ask(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    return ask


def by_duckdb(path: Path) -> Ask:
    """Return what asks DuckDB, where its extension for SQLite is installed as a package."""
    duckdb = pytest.importorskip("duckdb")
    found = importlib.util.find_spec("duckdb_extension_sqlite_scanner")
    if found is None or not found.submodule_search_locations:
        pytest.skip("DuckDB's extension for SQLite is not installed")
    (folder,) = found.submodule_search_locations
    (extension,) = Path(folder).rglob("*.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"LOAD '{extension}'")
    connection.execute(f"ATTACH '{path}' AS seen (TYPE sqlite, READ_ONLY)")
    connection.execute("USE seen")
    return lambda query: connection.execute(query).fetchall()


@pytest.fixture(params=[by_sqlite, by_duckdb])
def ask(request: pytest.FixtureRequest, database: Path) -> Ask:
    """Ask by each of the programs."""
    return request.param(database)  # type: ignore[no-any-return]


def test_history(ask: Ask) -> None:
    """A trial is a row with its end, also if it failed, and a nested result is JSON."""
    rows = ask("SELECT trial, status, result, error, step FROM v_history ORDER BY trial")
    assert [row[:3] for row in rows] == [
        (1, "succeeded", None), (2, "succeeded", None), (3, "failed", None),
    ]  # fmt: skip
    assert 'it\'s "odd"' in rows[2][3]
    assert rows[0][3:] == (None, "train")
    (text,) = ask("SELECT result_text FROM v_history WHERE trial = 1")
    assert text[0].startswith('{"f1":0.25')
    ((seconds, started),) = ask("SELECT seconds, finished - started FROM v_history WHERE trial = 1")
    assert 0 < seconds < started + 1


def test_values(ask: Ask) -> None:
    """Numbers are numbers, texts that look like numbers are none, and each value has its text."""
    rows = ask("SELECT trial, name, value, text FROM v_parameters ORDER BY trial, name")
    assert rows == [
        (1, "a", 1.0, "1"), (1, "nested", None, '[1,{"x":null}]'), (1, "text", None, "1e5"),
        (2, "a", 1.0, "True"), (2, "nested", None, "inf"), (2, "text", None, "true"),
        (3, "a", 3.0, "3"), (3, "nested", None, "[]"), (3, "text", None, "x'; DROP TABLE trials"),
    ]  # fmt: skip
    rows = ask("SELECT name, value, text FROM v_results WHERE trial = 1 ORDER BY name")
    assert rows == [
        ("f1", 0.25, "0.25"), ("name", None, "né"), ("none", None, "None"), ("pair", None, "[1,2]"),
    ]  # fmt: skip


def test_metrics(ask: Ask) -> None:
    """Each point is a row; what is no finite number is NULL with its text."""
    rows = ask(
        "SELECT metric, epoch, epoch_text, value, text FROM v_metrics WHERE trial = 1 ORDER BY time"
    )
    assert rows == [
        ('lo"ss', 0.0, "0", 1.5, "1.5"), ('lo"ss', 1.0, "1", None, "nan"),
        ('lo"ss', 2.0, "2", None, "inf"), ('lo"ss', 3.0, "3", -2.0, "-2"),
        ("named", None, "last", 1.0, "True"),
    ]  # fmt: skip


EARLIER = (
    b'{"points":[],"runs":[["old",5,2,1e9,[8388608,25165824],[16777216,1],[0,7]],["o",0,1,9,[1]]]}'
)
"""As earlier versions wrote runs."""


@pytest.mark.parametrize("by", [by_sqlite, by_duckdb])
def test_metrics_in_runs(tmp_path: Path, by: Callable[[Path], Ask]) -> None:
    """Values that are written as digits or multiples are the same numbers, each at its own time."""
    store = open_store(tmp_path, "runs")
    values = {
        "third": [n / 3 for n in range(130)], "short": [n + 2**-24 for n in range(130)],
        "whole": list(range(130)), "far": [2**62 + n * n for n in range(130)],
        "sign": [(-1) ** n / (n + 1) * 0.1 for n in range(130)],
        "tenth": [n / 10 for n in range(130)], "power": [0.0, *(2.0**-n for n in range(60))] * 3,
        # Of the first two all digits are in texts, the others are too far apart for that.
        **{f"apart{bits}": [1 / 3, 2.0**bits / 3] * 65 for bits in range(59, 64)},
    }  # fmt: skip
    odd = [0.1, float("nan"), float("inf"), float("-inf"), -0.5] * 26
    points = [
        Point(name, n, each[n], 1e9 + n / 100) for n in range(130) for name, each in values.items()
    ]
    others = [Point("odd", n, to_plain(each), 1e9) for n, each in enumerate(odd)]
    body = points_body([msgspec.json.encode(each) for each in [*points, *others]], 1)
    assert b",9,52," in body
    store.append([Record("points", 1, "those", body), Record("points", 2, "old", EARLIER)])
    store.close()
    ask = by(tmp_path / "runs" / "records.sqlite")
    query = "SELECT metric, epoch, value, time, text FROM v_metrics WHERE trial = "
    rows = sorted(ask(f"{query}1 AND metric != 'odd'"))
    points.sort(key=lambda one: (one.metric, one.epoch))
    assert [row[:3] for row in rows] == [
        (one.metric, one.epoch, float(one.value)) for one in points
    ]
    assert [row[3] for row in rows] == pytest.approx([one.time for one in points], abs=2e-3)
    assert [float(row[4]) for row in rows] == pytest.approx([row[2] for row in rows])
    found = sorted(ask(f"{query}1 AND metric = 'odd'"), key=lambda row: row[1])
    assert [row[2] for row in found] == [0.1, None, None, None, -0.5] * 26
    assert [row[4] for row in found[:5]] == ["0.1", "nan", "inf", "-inf", "-0.5"]
    assert {row[4] for row in rows if row[0] == "far"} == set(map(str, values["far"]))
    assert [row[:4] for row in sorted(ask(f"{query}2"))] == [
        ("o", 0, 1, 9), ("old", 5, 0.5, 1e9), ("old", 7, 1.5, 1e9 + 0.007)
    ]  # fmt: skip


def test_steps_artifacts_and_remarks(ask: Ask) -> None:
    """Step runs, artifacts and what people said are rows of plain values."""
    rows = ask("SELECT trial, step, status, reused_from FROM v_steps ORDER BY trial")
    assert rows == [
        (1, "train", "succeeded", None), (2, "train", "succeeded", None),
        (3, "train", "failed", None),
    ]  # fmt: skip
    rows = ask("SELECT trial, name, format, bytes > 0 FROM v_artifacts ORDER BY trial")
    assert [row[:3] for row in rows] == [(trial, "table", "json") for trial in (1, 2, 3)]
    rows = ask("SELECT trial, tags, note, archived FROM v_remarks ORDER BY time, trial")
    assert rows == [
        (1, '["good"]', None, None), (2, '["good"]', None, None), (1, None, "a\nnote", None),
        (2, None, None, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("program", [by_sqlite, by_duckdb])
def test_bodies_that_are_kept_in_short(tmp_path: Path, program: Callable[[Path], Ask]) -> None:
    """Trials that share most of their text with others are shown like those that do not."""
    ex = daskperiment.Experiment("short", backend=tmp_path)
    a, b = ex.parameter("a"), ex.parameter("b")
    node = ex.result(lambda x, b: {"sum": x, "text": b})(ex(lambda a: a + 0.5)(a), b)
    texts = ['"', "a, b", "\\u0001", "é%s"]
    for number in range(20):
        node.bind(a=number, b=texts[number % 4]).compute(scheduler="synchronous")
    ex.note(list(range(1, 14)), "all the same, a note")
    close_recorders()
    path = tmp_path / "short" / "records.sqlite"
    query = "SELECT count(*) FROM {} WHERE substr(body, 1, 1) = '['"
    counts = [by_sqlite(path)(query.format(name))[0][0] for name in ("trials", "steps", "notes")]
    assert counts == [22, 22, 4]
    ask = program(path)
    rows = ask("SELECT trial, status, step, seconds > 0, host FROM v_history ORDER BY trial")
    assert {row[1:4] for row in rows} == {("succeeded", "<lambda>", True)}
    assert [row[0] for row in rows] == list(range(1, 21))
    assert {row[4] for row in rows} == {rows[0][4]} != {None}
    rows = ask("SELECT name, value, text FROM v_parameters ORDER BY trial, name")
    assert rows == [row for n in range(20) for row in [("a", n, str(n)), ("b", None, texts[n % 4])]]
    rows = ask("SELECT name, value, text FROM v_results ORDER BY trial, name")
    assert rows == [
        row for n in range(20)
        for row in [("sum", n + 0.5, str(n + 0.5)), ("text", None, texts[n % 4])]
    ]  # fmt: skip
    (row,) = ask("SELECT count(*), count(status), count(started), count(peak_bytes) FROM v_steps")
    assert row == (40, 40, 40, 40)
    assert ask("SELECT DISTINCT note FROM v_remarks") == [("all the same, a note",)]


@pytest.mark.parametrize("program", [by_sqlite, by_duckdb])
def test_results_with_long_parts(tmp_path: Path, program: Callable[[Path], Ask]) -> None:
    """Numbers of a result are there beside what is too long for a record, and beside arrays."""
    ex = daskperiment.Experiment("long", backend=tmp_path)
    curves = [[0.5] * 5_000, np.zeros(3)]

    @ex.result
    def score(place):
        return {"acc": place + 0.25, "name": "a", "curve": curves[place]}

    for place in range(2):
        score(ex.parameter("place")).bind(place=place).compute(scheduler="synchronous")
    close_recorders()
    ask = program(tmp_path / "long" / "records.sqlite")
    rows = ask("SELECT trial, name, value, text FROM v_results ORDER BY trial, name")
    assert rows == [row for trial in (1, 2) for row in [
        (trial, "acc", trial - 0.75, str(trial - 0.75)), (trial, "name", None, "a"),
    ]]  # fmt: skip


def test_older_databases_get_them(database: Path, tmp_path: Path) -> None:
    """A folder without views, or with other ones of these names, gets them at the next write."""
    with sqlite3.connect(database) as connection:
        for name in VIEWS:
            connection.execute(f"DROP VIEW {name}")
        connection.execute("CREATE VIEW v_history AS SELECT 1")
    connection.close()
    assert list(open_again("seen", tmp_path).get_history(archived=True).index) == [1, 2, 3]
    assert by_sqlite(database)("SELECT name FROM sqlite_schema WHERE name GLOB 'v_*'") == [
        ("v_history",)
    ]
    open_again("seen", tmp_path).tag(1, "again")
    names = by_sqlite(database)("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name")
    own = {name for (name,) in names if not name.startswith("_")}
    assert own == VIEWS.keys()
    assert len(by_sqlite(database)("SELECT * FROM v_history")) == 3


def test_damaged_and_deleted(database: Path, tmp_path: Path) -> None:
    """Records that are no JSON, and trials that were deleted, are in no view."""
    open_again("seen", tmp_path).delete_trials(1)
    close_recorders()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE trials SET body = 'no' WHERE trial = 3 AND id = 'begun'")
        connection.execute("UPDATE points SET body = '{' WHERE trial = 3")
    connection.close()
    for name in VIEWS:
        rows = by_sqlite(database)(f"SELECT trial FROM {name}")
        assert {trial for (trial,) in rows} <= (
            {2} if name in ("v_history", "v_parameters", "v_metrics") else {2, 3}
        ), name
    assert open_store(tmp_path, "seen").state().latest == 3


@pytest.mark.parametrize("first", OUTCOMES)
@pytest.mark.parametrize("second", OUTCOMES)
def test_the_end_that_holds(tmp_path: Path, first: str, second: str) -> None:
    """Of several ends a view has that which the history has."""
    ex = daskperiment.Experiment("ends", backend=tmp_path)
    recorder = recorder_for(ex._store)
    ex.result(int)().compute()
    owner = recorder.owner_of(1)
    recorder.flush()
    (path,) = tmp_path.rglob("records.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM trials WHERE id LIKE 'ended-%'")
        connection.commit()
    for number, status in enumerate((first, second)):
        ended: Any = Ended(status, 1e9 + number, 1.0)  # type: ignore[arg-type]
        recorder.write("trials", 1, ended_id(status, str(number)), ended, owner)
    recorder.flush()
    expected = first if first == second or outweighs(first, second) else second
    assert open_again("ends", tmp_path).get_history(verbose=True).loc[1, "Status"] == expected
    assert by_sqlite(path)("SELECT status FROM v_history") == [(expected,)]
