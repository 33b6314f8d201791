"""Encodings of pandas values. pandas is not imported here, only looked up."""

from __future__ import annotations

import sys
from typing import Any

from daskperiment.capture.arrays import encode_items, encode_ndarray
from daskperiment.capture.encoding import Encoder, Handler
from daskperiment.capture.origin import is_own

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
        (pd.CategoricalDtype, _categories),
        (pd.api.extensions.ExtensionDtype, _by_text),
        (pd.offsets.BaseOffset, _offset),
        ((pd.Timestamp, pd.Timedelta), _instant),
        (pd.Period, _by_text),
        ((type(pd.NA), type(pd.NaT)), _by_text),
        (pd.Interval, _interval),
    )
    return next((handler for base, handler in ours if issubclass(kind, base)), None)


def _by_text(encoder: Encoder, value: Any) -> None:
    encoder.tag(type(value).__name__.encode())
    encoder.text(repr(value))


def _instant(encoder: Encoder, value: Any) -> None:
    _by_text(encoder, value)
    encoder.text(value.unit)


def _offset(encoder: Encoder, value: Any) -> None:
    """Encode a date offset with what its text leaves out: holidays, hours, its normalization."""
    _by_text(encoder, value)
    encoder.feed(value.normalize)
    # A calendar follows from the days that it was made of.
    encoder.mapping({k: v for k, v in value.kwds.items() if k != "calendar"})


def _categories(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"categories")
    encoder.feed(value.categories)
    encoder.feed(value.ordered)


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
    kind = type(value)
    # A subclass may behave in another way.
    encoder.text("" if kind.__qualname__ == usual else kind.__qualname__)
    if is_own(kind.__module__):
        encoder.feed(kind)
    for name in kind._metadata if kind.__qualname__ != usual else ():
        encoder.feed(getattr(value, name, None))


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
    if value.dtype.kind == "O" and hasattr(value.dtype, "numpy_dtype"):
        # For a step None is not nan.
        encode_items(encoder, value.to_numpy().tolist())
        return
    missing = value.isna()
    encode_ndarray(encoder, missing)
    kind = getattr(value.dtype, "numpy_dtype", None)
    if getattr(kind, "kind", "O") in "biuf" and hasattr(value.dtype, "na_value"):
        encode_ndarray(encoder, value.to_numpy(dtype=kind, na_value=0))
    else:
        # Texts and what else there is, without the many forms of a missing value.
        encode_items(encoder, value[~missing].to_numpy(dtype=object).tolist())
