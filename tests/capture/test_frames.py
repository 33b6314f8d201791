"""The fingerprint of a frame says what is in it, and nothing of how pandas keeps it."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.capture.fingerprint import fingerprint, frames

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


def calls_for(width):
    """How many calls the fingerprint of a frame of so many columns takes."""
    calls, frame = Counter(), pd.DataFrame(np.zeros((3, width)))
    fingerprint(frame)
    sys.setprofile(lambda _, event, what: calls.update([event]))
    try:
        fingerprint(frame)
    finally:
        sys.setprofile(None)
    return calls.total()


def test_of_many_columns():
    """A hundred times as many columns of numbers take no more calls."""
    assert calls_for(20_000) < calls_for(200) + 20


def test_pairs_of_types():
    """Which of two columns has which type counts."""
    for first, second in pairwise(COLUMNS):
        assert fingerprint(made([first, second])) != fingerprint(made([second, first]))
