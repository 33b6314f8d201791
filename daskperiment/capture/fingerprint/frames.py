"""Encodings of tables and columns: pandas, Polars and Arrow, looked up among the loaded modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128

from daskperiment.capture.encoding import Encoder, Handler, by_attributes, by_parts
from daskperiment.capture.fingerprint.arrays import (
    encode_ndarray,
    spaced,
    write_items,
    write_texts,
)
from daskperiment.capture.fingerprint.python_values import encode_repr
from daskperiment.capture.origin import is_own

if TYPE_CHECKING:
    from daskperiment.capture.fingerprint.frame_columns import FrameColumns

__all__ = ["table_handler"]

_WIDTHS = ("Int8", "Int16", "Int32", "Int64", "Float32", "Float64")
# Cells of a frame that are looked at together: few enough that their copies stay small.
_CELLS = 1 << 21
# And columns: pandas may have made several objects for each, which shall not grow old.
_WIDTH = 4096


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
    # Type by type: tens of thousands of columns, looked at one by one, would take seconds. Not by
    # the blocks of pandas, which depend on how the frame was made.
    from daskperiment.capture.fingerprint.frame_columns import (  # noqa: PLC0415  # few have frames
        FrameColumns,
    )

    columns = FrameColumns(value)
    for text, (dtype, places) in columns.by_type().items():
        encoder.tag_text(b"columns", text, len(places))
        encoder.raw(places.astype("<u4").tobytes())
        _writer_for(dtype)(encoder, columns, _cuts(places, len(value)))
    _write_notes(encoder, value)


def _write_notes(encoder: Encoder, value: Any) -> None:
    """Write what a table or column carries besides its values."""
    encoder.feed(value.attrs)
    if not value.flags.allows_duplicate_labels:
        encoder.tag(b"unique")


def _writer_for(dtype: Any) -> Callable[[Encoder, FrameColumns, list[Any]], None]:
    pd: Any = sys.modules["pandas"]
    if isinstance(dtype, pd.api.extensions.ExtensionDtype):
        if isinstance(dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
            return _write_numbers
        if isinstance(dtype, pd.StringDtype):
            return _write_texts
        if isinstance(dtype, pd.CategoricalDtype):
            return _write_categories
        return _write_nullable if _is_nullable_number(dtype) else _write_single
    if dtype.kind == "O":
        return _write_objects
    # The longest floats have bytes between them that say nothing.
    return _write_numbers if dtype.isnative and dtype.char not in "gG" else _write_single


def _write_single(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    for places in cuts:
        for array in columns.arrays(places):
            _column(encoder, array)


def _write_numbers(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    _write_streams(encoder, ([_bytes(columns.cells(places))] for places in cuts))


def _write_nullable(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    _write_streams(encoder, (_nullable_streams(columns.joined(places)) for places in cuts))


def _nullable_streams(values: Any) -> list[Any]:
    kind = values.dtype.numpy_dtype
    return [_bytes(values.isna()), _bytes(values.to_numpy(dtype=kind, na_value=0))]


def _write_texts(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    _write_streams(encoder, (_text_streams(columns.arrays(places)) for places in cuts))


def _text_streams(columns: list[Any]) -> list[Any]:
    np: Any = sys.modules["numpy"]
    lengths, data = _joined(columns)
    return [np.concatenate([column.isna() for column in columns]), lengths, data]


def _joined(columns: list[Any]) -> tuple[Any, Any]:
    """Return the lengths of the texts of some columns that are not missing, and all in UTF-8."""
    np: Any = sys.modules["numpy"]
    if all(column.dtype.storage == "pyarrow" for column in columns):
        return _arrow_joined(columns)
    items = [item for column in columns for item in column[~column.isna()].tolist()]
    lengths = np.fromiter(map(len, items), "<u8", len(items))
    return lengths, "".join(items).encode("utf-8", "surrogatepass")


def _arrow_joined(columns: list[Any]) -> tuple[Any, Any]:
    """As `_joined`, from the memory in which Arrow keeps the texts."""
    pa: Any = sys.modules["pyarrow"]
    chunks = [chunk for column in columns for chunk in _chunks_of(pa, column)]
    texts = pa.chunked_array(chunks, pa.large_string()).drop_null().combine_chunks()
    lengths = sys.modules["pyarrow.compute"].utf8_length(texts).to_numpy(zero_copy_only=False)
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return lengths.astype("<u8"), b""
    ends = sys.modules["numpy"].frombuffer(offsets, "i8")[texts.offset :]
    return lengths.astype("<u8"), memoryview(data)[ends[0] : ends[len(texts)]]


def _chunks_of(pa: Any, column: Any) -> list[Any]:
    found = column.__arrow_array__()
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    return [chunk.cast(pa.large_string()) for chunk in chunks]


def _write_categories(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    # As `_column` does it, but what columns share is looked at once.
    known: dict[int, tuple[Any, bytes]] = {}
    for column in (column for places in cuts for column in columns.arrays(places)):
        dtype = column.dtype
        if id(dtype) not in known:
            known[id(dtype)] = dtype, encoder.encode_separately(dtype)
        encoder.append(known[id(dtype)][1])
        encode_ndarray(encoder, column.codes)


def _write_objects(encoder: Encoder, columns: FrameColumns, cuts: list[Any]) -> None:
    for places in cuts:
        for items in columns.cells(places).tolist():
            write_items(encoder, items)


def _write_streams(encoder: Encoder, parts: Iterable[list[Any]]) -> None:
    """Write what parts consist of, one behind the other: the same in however many parts."""
    states: list[xxh3_128] = []
    for part in parts:
        states = states or [xxh3_128() for _ in part]
        for state, data in zip(states, part, strict=True):
            state.update(data)
    encoder.append(b"".join(state.digest() for state in states))


def _bytes(cells: Any) -> Any:
    """Return the bytes of cells, column by column."""
    return sys.modules["numpy"].ascontiguousarray(cells).reshape(-1).view("u1")


def _cuts(places: Any, rows: int) -> list[Any]:
    """Return the places of columns, as many at a time as keep copies small."""
    width = _width(rows)
    return [places[first : first + width] for first in range(0, len(places), width)]


def _width(rows: int) -> int:
    return min(_WIDTH, max(1, _CELLS // max(1, rows)))


def _series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series")
    _write_subclass(encoder, value, "Series")
    encoder.feed(value.name)
    encoder.feed(value.index)
    _column(encoder, value.array)
    _write_notes(encoder, value)


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
    if _is_nullable_number(value.dtype):
        encode_ndarray(encoder, value.to_numpy(dtype=value.dtype.numpy_dtype, na_value=0))
    elif getattr(value.dtype, "storage", None) == "pyarrow" and not missing.all():
        lengths, data = _arrow_joined([value])
        write_texts(encoder, _spaced(lengths), len(lengths), data)
    else:
        # Texts and what else there is, without the many forms of a missing value.
        write_items(encoder, value[~missing].to_numpy(dtype=object).tolist())


def _spaced(lengths: Any) -> str:
    """Return the text that `write_items` makes of lengths, for those of digits in one go."""
    np: Any = sys.modules["numpy"]
    if lengths.max() > 9:
        return spaced(lengths.tolist())
    text = np.full(2 * len(lengths) - 1, ord(" "), "u1")
    text[::2] = lengths + ord("0")
    return str(text.tobytes(), "ascii")


def _is_nullable_number(dtype: Any) -> bool:
    kind = getattr(dtype, "numpy_dtype", None)
    return getattr(kind, "kind", "O") in "biuf" and hasattr(dtype, "na_value")


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
    write_items(encoder, value.columns)
    columns = value.get_columns()
    found: dict[str, list[int]] = {}
    # The text of a type has its fields, categories and zone.
    for place, text in enumerate(map(repr, value.dtypes)):
        found.setdefault(text, []).append(place)
    for text, places in found.items():
        encoder.tag_text(b"columns", text, len(places))
        encoder.text(" ".join(map(str, places)))
        _write_polars(encoder, [columns[place] for place in places])


def _write_polars(encoder: Encoder, columns: list[Any]) -> None:
    """Write columns of one type, as many at a time as keep copies small."""
    if _streams_of(columns[0]) is None:
        for column in columns:
            write_items(encoder, column.to_list())
        return
    pl: Any = sys.modules["polars"]
    width = _width(len(columns[0]))
    # One behind the other, without a copy.
    parts = (pl.concat(columns[first : first + width], rechunk=False)
             for first in range(0, len(columns), width))  # fmt: skip
    _write_streams(encoder, (_streams_of(part) or [] for part in parts))


def _streams_of(cells: Any) -> list[Any] | None:
    """Return which of some cells are missing, and what the others hold; None for rarer types."""
    np: Any = sys.modules["numpy"]
    pl: Any = sys.modules["polars"]
    missing = cells.is_null().to_numpy()
    if isinstance(cells.dtype, (pl.Categorical, pl.Enum)):
        cells = cells.cast(pl.String)
    if cells.dtype == pl.String:
        items = cells.drop_nulls().to_list()
        lengths = np.fromiter(map(len, items), "<u8", len(items))
        return [missing, lengths, "".join(items).encode()]
    if cells.dtype == pl.Boolean:
        return [missing, cells.fill_null(False).to_numpy()]
    plain = _polars_numbers(cells)
    # What lies under a missing value is not part of the value.
    return None if plain is None else [missing, plain.fill_null(0).to_numpy()]


def _polars_numbers(value: Any) -> Any:
    """Return what is kept of numbers, dates and times, as numbers; None for other values."""
    if value.dtype.is_numeric() and repr(value.dtype).endswith(_WIDTHS):
        return value
    return value.to_physical() if value.dtype.is_temporal() else None


def _polars_series(encoder: Encoder, value: Any) -> None:
    encoder.tag(b"series", len(value))
    _write_subclass(encoder, value, "Series")
    # The text of a type has its fields, categories and zone.
    encoder.text(value.name)
    encoder.text(repr(value.dtype))
    plain = _polars_numbers(value)
    if plain is None:
        write_items(encoder, value.to_list())
    else:
        # What lies under a missing value is not part of the value.
        encode_ndarray(encoder, value.is_null().to_numpy())
        encode_ndarray(encoder, plain.fill_null(0).to_numpy())


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
