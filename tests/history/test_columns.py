from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.history.columns import column, durations, frame_of, moments, objects
from daskperiment.history.stored_values import MISSING

TEXT = pd.Series(["text"]).dtype


def made(values, **keywords):
    return column(values, pd.RangeIndex(len(values)), **keywords)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, np.int32(2)], "int64"),
        ([1.0, 2.5], "float64"),
        ([1, 2.5], "float64"),
        ([np.float32(0.5), 1.0], "float64"),
        ([True, False], "bool"),
        ([np.True_, False], "bool"),
        (["a", "b"], TEXT),
        ([1j, 2 + 1j], "complex128"),
        ([1, MISSING], "Int64"),
        ([1.5, MISSING], "float64"),
        ([True, MISSING], "boolean"),
        (["a", MISSING], TEXT),
        ([MISSING, MISSING], "float64"),
        ([1, "a"], object),
        ([1, True], object),
        ([1, None], object),
        ([None, None], object),
        ([10**400, 1], object),
        ([2**53 + 1, 0.5], object),
        ([2**53 + 1, 2**62], "int64"),
        ([[1], [2]], object),
        ([(1, 2), (3, 4)], object),
        ([{"a": 1}, {"a": 2}], object),
        ([{1}, {2}], object),
        ([b"a", b"b"], object),
        ([], object),
    ],
)
def test_column_dtype(values, dtype):
    """A column takes the dtype that is natural for its values."""
    assert made(values).dtype == dtype


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1, MISSING], "float64"), ([True, MISSING], object), ([2**53 + 1, MISSING], object)],
)
def test_column_without_nullable_dtypes(values, dtype):
    """Results of which some are missing become what pandas makes of them, if that is exact."""
    series = made(values, nullable=False)
    assert series.dtype == dtype
    assert series[0] == values[0]
    assert np.isnan(series[1])


def test_column_of_times():
    """Times, with a zone or without, and durations take pandas' dtypes."""
    assert made([datetime(2024, 1, 1), MISSING]).dtype.kind == "M"
    assert str(made([datetime(2024, 1, 1, tzinfo=UTC)]).dtype.tz) == "UTC"
    assert made([timedelta(seconds=1)]).dtype.kind == "m"


def test_column_of_odd_times():
    """Times that have no common dtype stay what they are."""
    values = [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1)))]
    assert made(values).tolist() == values


def test_column_of_text_beyond_utf8():
    """Text that UTF-8 cannot hold is kept."""
    assert made(["\ud800", "a"]).tolist() == ["\ud800", "a"]
    frame = frame_of([("\ud800", made([1])), ("a", made(["\ud800"]))], pd.RangeIndex(1))
    assert [*frame.columns] == ["\ud800", "a"]


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.tuples(st.integers()),
    st.lists(st.integers()),
    st.sets(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)


@given(st.lists(PLAIN) | st.lists(st.integers()) | st.lists(st.integers() | st.floats()))
def test_column_changes_no_value(values):
    """Whatever the dtype, every cell equals the value that it was made of."""
    cells = made(values).tolist()
    assert len(cells) == len(values)
    for cell, value in zip(cells, values, strict=True):
        assert cell == value or (cell != cell and value != value)


def test_objects_keeps_missing_as_nan():
    """An object column holds NaN where there is no value, and None where that is the value."""
    series = objects([None, MISSING, "a"], pd.RangeIndex(3))
    assert series[0] is None
    assert np.isnan(series[1])


def test_moments_and_durations():
    """Seconds become times in UTC and durations; what is no number of seconds is NaT."""
    index = pd.RangeIndex(3)
    times = moments([1.5, float("nan"), float("inf")], index)
    assert times.dtype == "datetime64[ns, UTC]"
    assert times[0] == pd.Timestamp("1970-01-01 00:00:01.5", tz="UTC")
    assert times[1:].isna().all()
    lengths = durations([2.5e-6, 1e300, float("nan")], index)
    assert lengths.dtype == "timedelta64[ns]"
    assert lengths[0] == pd.Timedelta("2.5us")
    assert lengths[1:].isna().all()


def test_frame_with_equal_names():
    """Two columns may have the same name."""
    index = pd.RangeIndex(1)
    frame = frame_of([("a", made([1])), ("a", made([2]))], index)
    assert frame.columns.tolist() == ["a", "a"]
    assert frame.iloc[0].tolist() == [1, 2]


def test_a_column_can_be_added_to_many() -> None:
    """Whoever adds a column to a wide table is not warned by pandas of how it was made."""
    index = pd.RangeIndex(3)
    frame = frame_of([(f"p{n}", made([n, 1, 2])) for n in range(200)], index)
    frame["more"] = 1
    assert frame.reset_index().shape == (3, 202)
