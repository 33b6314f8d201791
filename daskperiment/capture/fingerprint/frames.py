"""Encodings of tables and columns: pandas, Polars and Arrow, looked up among the loaded modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from daskperiment.capture.encoding import BULK, Encoder, Handler, by_attributes, by_parts
from daskperiment.capture.fingerprint.arrays import encode_ndarray, write_items
from daskperiment.capture.fingerprint.python_values import encode_repr
from daskperiment.capture.origin import is_own

__all__ = ["table_handler"]

_WIDTHS = ("Int8", "Int16", "Int32", "Int64", "Float32", "Float64")
# Columns that are looked at together: few enough that their copies stay small.
_BATCH = 2000


def table_handler(kind: type) -> Handler | None:
    """Return the handler for a type of these libraries; None for another type."""
    return _pandas(kind) or _polars(kind) or _arrow(kind)


def _pandas(kind: type) -> Handler | None:
    pd: Any = sys.modules.get("pandas")
    if pd is None or not hasattr(pd, "DataFrame"):
        return None
    pairs: tuple[tuple[Any, Handler], ...] = (
        (pd.DataFrame, _frame),
        (pd.Series, _series),
        (pd.MultiIndex, _multi_index),
        (pd.RangeIndex, by_attributes(b"rangeindex", "start", "stop", "step", "name")),
        (pd.Index, _index),
        (pd.api.extensions.ExtensionArray, _column),
        (pd.CategoricalDtype, by_parts(b"categories", lambda v: [v.categories, v.ordered])),
        ((pd.api.extensions.ExtensionDtype, pd.Period), encode_repr),
        (pd.offsets.BaseOffset, _offset),
        ((pd.Timestamp, pd.Timedelta), _instant),
        ((type(pd.NA), type(pd.NaT)), encode_repr),
        (pd.Interval, by_attributes(b"interval", "left", "right", "closed")),
    )
    return next((handler for base, handler in pairs if issubclass(kind, base)), None)


def _instant(encoder: Encoder, value: Any) -> None:
    encode_repr(encoder, value)
    encoder.text(value.unit)


def _offset(encoder: Encoder, value: Any) -> None:
    """Write a date offset with what its text leaves out: holidays, hours, its normalization."""
    encode_repr(encoder, value)
    encoder.feed(value.normalize)
    # A calendar follows from the days that it was made of.
    encoder.mapping({k: v for k, v in value.kwds.items() if k != "calendar"})


def _frame(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"frame", value.shape[1])
    _write_subclass(encoder, value, "DataFrame")
    encoder.feed(value.columns)
    encoder.feed(value.index)
    for first in range(0, value.shape[1], _BATCH):
        _write_columns(encoder, value.iloc[:, first : first + _BATCH])
    encoder.feed(value.attrs)


def _write_columns(encoder: Encoder, frame: Any) -> None:
    """Write columns in their order; the data of those of one type are taken out together."""
    known: dict[int, tuple[bytes, Any]] = {}
    for places in _plain_places(frame).values():
        alike = frame if len(places) == frame.shape[1] else frame.iloc[:, places]
        known.update(zip(places, _written(alike), strict=True))
    if len(known) == frame.shape[1]:
        encoder.append(b"".join([part for place in range(len(known)) for part in known[place]]))
        return
    for place in range(frame.shape[1]):
        if place in known:
            encoder.append(b"".join(known[place]))
        else:
            _column(encoder, frame.iloc[:, place].array)


def _plain_places(frame: Any) -> dict[Any, list[int]]:
    """Return the places of short columns of numbers, by their type."""
    found: dict[Any, list[int]] = {}
    for place, dtype in enumerate(frame.dtypes.to_numpy().tolist()):
        found.setdefault(dtype, []).append(place)
    return {k: places for k, places in found.items() if len(places) > 2 and _is_plain(k, frame)}


def _is_plain(dtype: Any, frame: Any) -> bool:
    numbers = type(dtype).__module__.startswith("numpy") and dtype.kind in "biuf"
    return numbers and 0 < dtype.itemsize * len(frame) <= BULK // 2


def _written(alike: Any) -> Iterator[tuple[bytes, Any]]:
    """Yield what is written of each column of one type: the same beginning, and the data."""
    rows = sys.modules["numpy"].ascontiguousarray(alike.to_numpy().T)
    size = rows[0].nbytes
    first = Encoder(_no_other)
    _column(first, alike.iloc[:, 0].array)
    begin = bytes(first.out[: len(first.out) - size])
    data = memoryview(rows.reshape(-1).view("u1"))
    return ((begin, data[start : start + size]) for start in range(0, len(data), size))


def _no_other(kind: type) -> Handler:
    raise AssertionError(f"a column of numbers holds no {kind}")


def _series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series")
    _write_subclass(encoder, value, "Series")
    encoder.feed(value.name)
    encoder.feed(value.index)
    _column(encoder, value.array)
    encoder.feed(value.attrs)


def _write_subclass(encoder: Encoder, value: Any, usual: str) -> None:
    kind = type(value)
    # A subclass may behave in another way.
    encoder.text("" if kind.__qualname__ == usual else kind.__qualname__)
    if is_own(kind.__module__):
        encoder.feed(kind)
    # Where pandas lets subclasses name the attributes that they add.
    added = getattr(kind, "_metadata", ())
    for name in added if kind.__qualname__ != usual else ():
        encoder.feed(getattr(value, name, None))


def _multi_index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"multiindex", value.nlevels)
    encoder.feed(list(value.names))
    for level in range(value.nlevels):
        _column(encoder, value.get_level_values(level).array)


def _index(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"index")
    encoder.feed(value.name)
    encoder.feed(getattr(value, "freqstr", None))
    _column(encoder, value.array)


def _column(encoder: Encoder, value: Any) -> None:
    """Write the values of a column: the type, and the data in the form that says it all."""
    pd: Any = sys.modules["pandas"]
    dtype = value.dtype
    encoder.tag_text(b"column", str(dtype), len(value))
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
        write_items(encoder, value.to_numpy().tolist())
        return
    missing = value.isna()
    encode_ndarray(encoder, missing)
    kind = getattr(value.dtype, "numpy_dtype", None)
    if getattr(kind, "kind", "O") in "biuf" and hasattr(value.dtype, "na_value"):
        encode_ndarray(encoder, value.to_numpy(dtype=kind, na_value=0))
    else:
        # Texts and what else there is, without the many forms of a missing value.
        write_items(encoder, value[~missing].to_numpy(dtype=object).tolist())


def _polars(kind: type) -> Handler | None:
    pl: Any = sys.modules.get("polars")
    if pl is None or not hasattr(pl, "DataFrame"):
        return None
    if issubclass(kind, pl.Series):
        return _polars_series
    return _polars_frame if issubclass(kind, pl.DataFrame) else None


def _polars_frame(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"polars", value.width)
    _write_subclass(encoder, value, "DataFrame")
    encoder.text(f"{value.height}")
    for column in value.iter_columns():
        _polars_series(encoder, column)


def _polars_series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series", len(value))
    _write_subclass(encoder, value, "Series")
    # The text of a type has its fields, categories and zone.
    encoder.text(value.name)
    encoder.text(repr(value.dtype))
    if value.dtype.is_numeric() and repr(value.dtype).endswith(_WIDTHS):
        # What lies under a missing value is not part of the value.
        encode_ndarray(encoder, value.is_null().to_numpy())
        encode_ndarray(encoder, value.fill_null(0).to_numpy())
    elif value.dtype.is_temporal():
        encode_ndarray(encoder, value.is_null().to_numpy())
        encode_ndarray(encoder, value.to_physical().fill_null(0).to_numpy())
    else:
        write_items(encoder, value.to_list())


def _arrow(kind: type) -> Handler | None:
    pa: Any = sys.modules.get("pyarrow")
    if pa is None or not hasattr(pa, "Table"):
        return None
    if issubclass(kind, (pa.Table, pa.RecordBatch)):
        return _arrow_table
    return _arrow_column if issubclass(kind, (pa.ChunkedArray, pa.Array)) else None


def _arrow_table(encoder: Encoder, value: Any) -> None:
    encoder.tag_text(b"arrow", type(value).__name__, value.num_columns)
    encoder.text(value.schema.to_string(show_schema_metadata=True, truncate_metadata=False))
    for column in value.columns:
        _arrow_column(encoder, column)


def _arrow_column(encoder: Encoder, value: Any) -> None:
    """Write the elements, however they are cut into chunks."""
    pa: Any = sys.modules["pyarrow"]
    chunked = isinstance(value, pa.ChunkedArray)
    encoder.tag_text(b"chunked" if chunked else b"arrowarray", str(value.type), len(value))
    if pa.types.is_integer(value.type) or pa.types.is_floating(value.type):
        encode_ndarray(encoder, value.is_null().to_numpy(**{} if chunked else _COPYING))
        encode_ndarray(encoder, value.fill_null(0).to_numpy(**{} if chunked else _COPYING))
    else:
        write_items(encoder, value.to_pylist())


_COPYING = {"zero_copy_only": False}
