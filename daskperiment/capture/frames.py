"""Encodings of pandas values. pandas is not imported here, only looked up."""

from __future__ import annotations

import sys
from typing import Any

from daskperiment.capture.arrays import encode_items, encode_ndarray
from daskperiment.capture.encoding import Encoder, Handler

__all__ = ["handler_for"]


def handler_for(kind: type) -> Handler | None:
    """Find the handler for a type of pandas, if pandas is loaded."""
    pd: Any = sys.modules.get("pandas")
    if pd is None or not hasattr(pd, "DataFrame"):
        return None
    ours = (
        (pd.DataFrame, _frame),
        (pd.Series, _series),
        (pd.MultiIndex, _multi_index),
        (pd.RangeIndex, _range_index),
        (pd.Index, _index),
        (pd.api.extensions.ExtensionArray, _array),
        (pd.api.extensions.ExtensionDtype, _by_text),
        ((pd.Timestamp, pd.Timedelta, pd.Period, pd.offsets.BaseOffset), _by_text),
        ((type(pd.NA), type(pd.NaT)), _by_text),
        (pd.Interval, _interval),
    )
    return next((handler for base, handler in ours if issubclass(kind, base)), None)


def _by_text(encoder: Encoder, value: Any) -> None:
    encoder.tag(type(value).__name__.encode())
    encoder.text(repr(value))


def _interval(encoder: Encoder, value: Any) -> None:
    encoder.sequence(b"interval", (value.left, value.right, value.closed), 3)


def _frame(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"frame", value.shape[1])
    _write_class(encoder, value, "DataFrame")
    encoder.feed(value.columns)
    encoder.feed(value.index)
    for place in range(value.shape[1]):
        _array(encoder, value.iloc[:, place].array)
    encoder.feed(value.attrs)


def _series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series")
    _write_class(encoder, value, "Series")
    encoder.feed(value.name)
    encoder.feed(value.index)
    _array(encoder, value.array)
    encoder.feed(value.attrs)


def _write_class(encoder: Encoder, value: Any, usual: str) -> None:
    # A subclass may behave in another way; its own attributes are not looked at.
    name = type(value).__qualname__
    encoder.text("" if name == usual else name)


def _range_index(encoder: Encoder, value: Any) -> None:
    encoder.sequence(b"rangeindex", (value.start, value.stop, value.step, value.name), 4)


def _multi_index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"multiindex", value.nlevels)
    encoder.feed(list(value.names))
    for level in range(value.nlevels):
        _array(encoder, value.get_level_values(level).array)


def _index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"index")
    encoder.feed(value.name)
    encoder.feed(getattr(value, "freqstr", None))
    _array(encoder, value.array)


def _array(encoder: Encoder, value: Any) -> None:
    """Encode the values of a column: the type, and the data in the form that says it all."""
    pd: Any = sys.modules["pandas"]
    dtype = value.dtype
    encoder.tag(b"column", len(value))
    encoder.text(str(dtype))
    if isinstance(value, pd.Categorical):
        encoder.feed(value.categories)
        encoder.feed(value.ordered)
        encode_ndarray(encoder, value.codes)
    elif isinstance(value, pd.arrays.IntervalArray):
        encoder.feed(value.left)
        encoder.feed(value.right)
    elif isinstance(value, pd.arrays.SparseArray):
        encode_ndarray(encoder, value.to_dense())
    elif dtype.kind in "mM" or isinstance(value, pd.arrays.PeriodArray):
        encode_ndarray(encoder, value.view("i8"))
    elif isinstance(dtype, pd.api.extensions.ExtensionDtype):
        _extension(encoder, value)
    else:
        encode_ndarray(encoder, value.to_numpy())


def _extension(encoder: Encoder, value: Any) -> None:
    missing = value.isna()
    encode_ndarray(encoder, missing)
    kind = getattr(value.dtype, "numpy_dtype", None)
    if getattr(kind, "kind", "O") in "biuf" and hasattr(value.dtype, "na_value"):
        encode_ndarray(encoder, value.to_numpy(dtype=kind, na_value=0))
    else:
        # Texts and what else there is, without the many forms of a missing value.
        encode_items(encoder, value[~missing].to_numpy(dtype=object).tolist())
