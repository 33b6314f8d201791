"""The fingerprint of a frame says what is in it, and nothing of how pandas keeps it."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.capture.fingerprint import fingerprint, frame_columns, frames

pytest.importorskip("pyarrow")

ROWS = 4
COLUMNS = {
    "float": lambda n: np.linspace(n, n + 1, ROWS),
    "small float": lambda n: np.linspace(n, n + 1, ROWS).astype("f4"),
    "int": lambda n: np.arange(n, n + ROWS),
    "small int": lambda n: np.arange(n, n + ROWS).astype("i2"),
    "bool": lambda n: np.arange(n, n + ROWS) % 2 == 0,
    "complex": lambda n: np.arange(n, n + ROWS) * 1j,
    "long float": lambda n: np.arange(n, n + ROWS).astype("longdouble"),
    "text": lambda n: pd.array([f"a{n}", "", None, "b"], dtype="str"),
    "texts": lambda n: pd.array([f"a{n}", "", None, "b"], dtype="string"),
    "object": lambda n: pd.Series([f"a{n}", 1, None, [1]], dtype=object),
    "Int64": lambda n: pd.array([n, None, 2, 3], dtype="Int64"),
    "boolean": lambda n: pd.array([n % 2 == 0, None, True, False], dtype="boolean"),
    "Float32": lambda n: pd.array([n, None, 0.5, 3], dtype="Float32"),
    "category": lambda n: pd.Categorical(["a", "b", None, "a"], [f"c{n}", "a", "b"]),
    "date": lambda n: pd.date_range(f"200{n % 10}", periods=ROWS).insert(0, pd.NaT)[:ROWS],
    "zone": lambda n: pd.date_range(f"200{n % 10}", periods=ROWS, tz="Europe/Berlin"),
    "delta": lambda n: pd.timedelta_range(f"{n}D", periods=ROWS),
    "period": lambda n: pd.period_range(f"200{n % 10}", periods=ROWS, freq="M"),
    "interval": lambda n: pd.interval_range(n, n + ROWS),
    "sparse": lambda n: pd.arrays.SparseArray([0, n, 0, 1]),
    "arrow int": lambda n: pd.array([n, None, 2, 3], dtype="int64[pyarrow]"),
    "arrow text": lambda n: pd.array([f"a{n}", None, "", "b"], dtype="string[pyarrow]"),
}


def made(kinds):
    return pd.DataFrame({f"c{n}": COLUMNS[kind](n) for n, kind in enumerate(kinds)})


def one_by_one(frame):
    """The same frame with a block for each column."""
    other = pd.DataFrame(index=frame.index)
    for name in frame:
        other[name] = frame[name].array.copy()
    return other


LAYOUTS = {
    "one by one": one_by_one,
    "copied": lambda frame: frame.copy(),
    "pickled": lambda frame: pickle.loads(pickle.dumps(frame)),
    "of two halves": lambda frame: pd.concat([frame.iloc[:, :3], frame.iloc[:, 3:]], axis=1),
    "of two ends": lambda frame: pd.concat([frame.iloc[:1], frame.iloc[1:]]),
    "cut off": lambda frame: pd.concat([frame, frame], ignore_index=True)[: len(frame)],
    "turned back": lambda frame: frame.iloc[::-1].iloc[::-1],
    "put in order again": lambda frame: frame[list(frame)[::-1]].copy()[list(frame)],
}


@pytest.mark.parametrize("kinds", [["float"] * 7, ["int", "float"] * 4, list(COLUMNS) * 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(kinds, layout):
    """Equal frames are alike in however many blocks their columns lie."""
    frame = made(kinds)
    other = LAYOUTS[layout](frame)
    assert fingerprint(other) == fingerprint(frame)


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_without_blocks(monkeypatch, layout):
    """What pandas does not show of a frame's blocks is asked for column by column, alike."""
    frame = made(list(COLUMNS) * 2)
    known = fingerprint(frame)
    monkeypatch.setattr(frame_columns, "_blocks_of", lambda frame: (None, None, None))
    assert fingerprint(LAYOUTS[layout](frame) if layout else frame) == known
    assert fingerprint(frame.iloc[:, ::-1]) != known


def test_without_columns():
    """Frames that lost all of their columns, or rows, are alike however they came to be."""
    frame = made(["float", "Int64", "date", "text"])
    none = [frame[[]], frame.iloc[:, :0], frame.drop(columns=list(frame)), frame[["c0"]][[]]]
    assert len({fingerprint(one) for one in none}) == 1
    assert fingerprint(frame[:0]) == fingerprint(one_by_one(frame)[:0]) != fingerprint(none[0])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=12), st.data())
def test_changes(kinds, data):
    """Another cell, type, name or order of columns is another frame; a layout is not."""
    frame = made(kinds)
    place = data.draw(st.integers(0, len(kinds) - 1))
    values = {f"c{n}": COLUMNS[kind](n + (n == place)) for n, kind in enumerate(kinds)}
    changed = pd.DataFrame(values)
    renamed = frame.rename(columns={f"c{place}": "other"})
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    known = fingerprint(frame)
    assert fingerprint(layout(frame)) == known
    assert fingerprint(changed) != known
    assert fingerprint(renamed) != known
    if len(kinds) > 1:
        rest = [n for n in range(len(kinds)) if n != place]
        moved = made(kinds).set_axis(range(len(kinds)), axis=1)[[*rest, place]]
        stayed = made(kinds).set_axis(range(len(kinds)), axis=1)
        moved = moved.set_axis(range(len(kinds)), axis=1)
        # Two columns of one type and content may change places unseen.
        assert (fingerprint(moved) == fingerprint(stayed)) == (place == len(kinds) - 1)


@pytest.mark.parametrize("kind", COLUMNS)
def test_parts(monkeypatch, kind):
    """However many columns are looked at together, the fingerprint is the same."""
    frame = made([kind, "float", kind, kind, "int", kind])
    known = fingerprint(frame)
    for cells in (1, ROWS, 2 * ROWS, 3 * ROWS):
        monkeypatch.setattr(frames, "_CELLS", cells)
        assert fingerprint(frame) == known


@pytest.mark.parametrize("kind", ["longdouble", "clongdouble"])
def test_between_long_floats(kind):
    """Bytes that lie between long floats say nothing, in arrays, numbers and columns."""
    found = set()
    for junk in (0, 255):
        memory = np.full(64, junk, "u1")
        array = np.frombuffer(memory, kind)
        array[:] = np.arange(len(array))
        if np.finfo(kind).nmant == 63:
            memory.reshape(-1, 16)[:, 10:] = junk
        found.add(
            tuple(map(fingerprint, (array, array[::-1], array[0], pd.DataFrame({"a": array}))))
        )
    assert len(found) == 1


def test_where_texts_begin():
    """Texts that are cut in other places, in a row or a column, are others."""
    cells = [["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"]]
    found = [fingerprint(pd.DataFrame([row])) for row in cells]
    found += [fingerprint(pd.DataFrame({"a": row})) for row in cells]
    assert len(set(found)) == len(found)


def test_types_of_the_same_bytes():
    """Columns of the same bytes and other types are others, as are shapes."""
    zeros = np.zeros((4, 4))
    kinds = ["f8", "i8", "u8", "M8[ns]", "m8[ns]", "M8[us]"]
    found = [fingerprint(pd.DataFrame(zeros.astype("i8").astype(kind))) for kind in kinds]
    found += [fingerprint(pd.DataFrame(zeros.reshape(shape))) for shape in ((2, 8), (8, 2))]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("make", [pd.DataFrame, pd.Series])
def test_labels_that_may_not_repeat(make):
    """Whether labels may repeat, which pandas asks in many places, counts."""
    value = make([1, 2])
    other = value.set_flags(allows_duplicate_labels=False)
    assert fingerprint(other) != fingerprint(value)


def polars_frame(kinds, changed=None):
    """A frame of Polars, one cell of whose column may be another."""
    pl = pytest.importorskip("polars")
    first, last = date(2020, 1, 1), date(2020, 1, 2)
    noon = datetime(2020, 1, 1, 12)
    cells = {
        "float": ([0.5, None, 0.0, 2.5], pl.Float64),
        "int": ([1, None, 0, 3], pl.Int16),
        "bool": ([True, None, False, True], pl.Boolean),
        "text": (["a", None, "", "bc"], pl.String),
        "category": (["a", None, "b", "a"], pl.Categorical),
        "enum": (["a", None, "b", "a"], pl.Enum(["a", "b"])),
        "date": ([first, None, last, first], pl.Date),
        "instant": ([noon, None, noon, noon], pl.Datetime("ms")),
        "list": ([[1], None, [], [2, 3]], pl.List(pl.Int64)),
        "decimal": ([Decimal(1), None, Decimal(0), Decimal(3)], pl.Decimal(5, 2)),
    }
    columns = {}
    for place, kind in enumerate(kinds or cells):
        values, dtype = cells[kind]
        if place == changed:
            values = [*values[:2], values[1], values[3]]  # what is missing is not nothing
        columns[f"c{place}"] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns)


def test_polars_layouts(monkeypatch):
    """In how many chunks a frame lies, and how many columns are read at once, does not count."""
    frame = polars_frame(None)
    frame = frame.hstack([column.alias(f"{column.name}'") for column in frame])
    known = fingerprint(frame)
    assert fingerprint(frame[:1].vstack(frame[1:])) == known
    assert fingerprint(frame.vstack(frame)[4:]) == known
    assert fingerprint(pickle.loads(pickle.dumps(frame))) == known
    for cells in (1, ROWS, 3 * ROWS):
        monkeypatch.setattr(frames, "_CELLS", cells)
        assert fingerprint(frame) == known


def test_polars_changes():
    """A value that is missing, and another name, type or order, is told in each column."""
    frame = polars_frame(None)
    others = [polars_frame(None, place) for place in range(frame.width)]
    others += [frame.rename({name: "other"}) for name in frame.columns]
    others += [frame.drop(name) for name in frame.columns]
    kinds = ["float", "int", "text", "bool"]
    others += [polars_frame(kinds), polars_frame(kinds[::-1]), polars_frame(["float"] * 4)]
    others += [polars_frame(kinds, place) for place in range(4)]
    others += [polars_frame(["float"] * 4, place) for place in range(4)]
    found = {fingerprint(one) for one in others}
    assert len(found) == len(others)
    assert fingerprint(frame) not in found


SHARED = pd.CategoricalDtype(["a", "b"])
NUMBERS = [1, 2.0, True]
MISSING = [pd.array([1, None, 0], dtype=kind) for kind in ("Int64", "boolean", "int64[pyarrow]")]
ZONE = [pd.date_range("2020", periods=3, tz="Europe/Berlin")]
WIDE = {
    "numbers": (0, lambda n: pd.DataFrame(np.zeros((3, n)))),
    "of three types": (0, lambda n: wide(n, NUMBERS)),
    "of three types, one by one": (6, lambda n: apart(n, NUMBERS)),
    "texts": (40, lambda n: wide(n, ["a"])),
    "texts beside numbers": (25, lambda n: wide(n, ["a", 1])),
    "categories": (45, lambda n: wide(n, [pd.Categorical(["a"] * 3, dtype=SHARED)])),
    "missing": (4, lambda n: wide(n, MISSING[:1])),
    "missing of several types": (12, lambda n: wide(n, MISSING)),
    "zones": (12, lambda n: wide(n, ZONE)),
    "dates": (0, lambda n: wide(n, [pd.date_range("2020", periods=3)])),
    "dates, one by one": (12, lambda n: apart(n, [pd.date_range("2020", periods=3)])),
    "polars": (8, lambda n: pytest.importorskip("polars").from_pandas(wide(n, NUMBERS))),
    "texts of polars": (8, lambda n: pytest.importorskip("polars").from_pandas(wide(n, ["a"]))),
}


def wide(width, cells):
    columns = {f"c{n}": cells[n % len(cells)] for n in range(width)}
    return pd.DataFrame(columns, index=range(3)).copy()


def apart(width, cells):
    """The same with a block for each column."""
    columns = {f"c{n}": pd.Series([cells[n % len(cells)]] * 3) if np.isscalar(cells[0])
               else pd.Series(cells[0]) for n in range(width)}  # fmt: skip
    return pd.DataFrame(columns, copy=False)


def calls_for(frame):
    """How many calls the fingerprint of a frame takes."""
    calls = Counter()
    fingerprint(frame)
    sys.setprofile(lambda _, event, what: calls.update([event]))
    try:
        fingerprint(frame)
    finally:
        sys.setprofile(None)
    return calls["call"] + calls["c_call"]


@pytest.mark.parametrize("kind", WIDE)
def test_of_many_columns(kind):
    """What a further column costs is counted: next to nothing for a number, in whatever block."""
    most, make = WIDE[kind]
    few, many = calls_for(make(100)), calls_for(make(400))
    assert many - few <= 20 + 300 * most


def test_pairs_of_types():
    """Which of two columns has which type counts."""
    for first, second in pairwise(COLUMNS):
        assert fingerprint(made([first, second])) != fingerprint(made([second, first]))
