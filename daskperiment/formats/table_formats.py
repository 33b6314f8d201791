"""Tables and columns: Arrow files for Arrow and Polars, Parquet files for pandas and others."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from daskperiment.codec import from_plain, to_plain
from daskperiment.formats.exact_tables import comes_back_exactly
from daskperiment.formats.format import Buffer, Format, file_content
from daskperiment.formats.trees import top_modules
from daskperiment.formatting import one_line, shorten
from daskperiment.records import Preview

__all__ = ["FORMATS"]

_OWN = b"daskperiment"
_COLUMN = "value"
_HEAD = 5
_WIDE = 30
_CELL = 40
_NOT_LARGE = 32 << 20
"""Bytes of a table of pandas up to which it may be read back to see whether it is the same."""


def _is(value: Any, library: str, *names: str) -> bool:
    """Whether something is exactly of one of a library's classes."""
    module = sys.modules.get(library)
    return module is not None and any(type(value) is getattr(module, name, None) for name in names)


# Arrow and Polars ------------------------------------------------------------------------------


class ArrowFormat(Format):
    """Tables and columns of Arrow, as an Arrow file."""

    name, suffix, media = "arrow", ".arrow", "application/vnd.apache.arrow.file"
    exact = swift = mapped = True

    def takes(self, value: Any) -> bool:
        """Whether it is a table or a column of Arrow's own types."""
        pa = sys.modules.get("pyarrow")
        if pa is None:
            return False
        if _is(value, "pyarrow", "Table", "RecordBatch"):
            return all(map(_is_lasting, value.schema.types))
        return isinstance(value, pa.Array | pa.ChunkedArray) and _is_lasting(value.type)

    def write(self, value: Any) -> Buffer:
        """Return the file."""
        pa: Any = sys.modules["pyarrow"]
        kind = _arrow_kind(value)
        table = pa.Table.from_batches([value]) if kind == "RecordBatch" else value
        table = table if kind in ("RecordBatch", "Table") else pa.table({_COLUMN: value})
        metadata = table.schema.metadata
        own = {_OWN: json.dumps({"kind": kind, "plain": metadata is None})}
        table = table.replace_schema_metadata({**(metadata or {}), **own}).unify_dictionaries()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return memoryview(sink.getvalue())

    def read(self, data: Buffer) -> Any:
        """Return the table or column."""
        pa: Any = import_module("pyarrow")
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        metadata = dict(table.schema.metadata or {})
        own = json.loads(metadata.pop(_OWN, b'{"kind": "Table", "plain": true}'))
        if own["kind"] in ("Table", "RecordBatch"):
            table = table.replace_schema_metadata(None if own["plain"] else metadata)
            if own["kind"] == "Table":
                return table
            batches = table.to_batches()
            return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
        column = table.column(0)
        if own["kind"] == "ChunkedArray":
            return column
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def preview(self, value: Any) -> Preview | None:
        """Return the first rows."""
        return _preview(value)


def _arrow_kind(value: Any) -> str:
    names = ("Table", "RecordBatch", "ChunkedArray")
    return next((name for name in names if _is(value, "pyarrow", name)), "Array")


def _is_lasting(type_: Any) -> bool:
    """Whether an Arrow file keeps values of a type as they are."""
    pa: Any = sys.modules["pyarrow"]
    if isinstance(type_, pa.BaseExtensionType) or pa.types.is_union(type_):
        return False
    return all(_is_lasting(type_.field(n).type) for n in range(type_.num_fields))


class PolarsFormat(Format):
    """Tables and columns of Polars, as an Arrow file."""

    name, suffix, media = "polars", ".arrow", "application/vnd.apache.arrow.file"
    exact = swift = True

    def takes(self, value: Any) -> bool:
        """Whether it is a table or a column without Python objects."""
        if _is(value, "polars", "Series"):
            return _is_kept(value.dtype)
        if not _is(value, "polars", "DataFrame"):
            return False
        return not any(name.startswith(_SERIES) for name in value.columns) and all(
            map(_is_kept, value.dtypes)
        )

    def write(self, value: Any) -> Buffer:
        """Return the file."""
        pl: Any = sys.modules["polars"]
        frame = value
        if type(value) is pl.Series:
            frame = pl.DataFrame([value.rename(f"{_SERIES}{value.name}")])
        sink = io.BytesIO()
        frame.write_ipc(sink, compat_level=pl.CompatLevel.newest())
        return sink.getbuffer()

    def read(self, data: Buffer) -> Any:
        """Return the table or column."""
        frame = import_module("polars").read_ipc(data, use_pyarrow=False)
        names = frame.columns
        if len(names) == 1 and names[0].startswith(_SERIES):
            return frame.to_series(0).rename(names[0].removeprefix(_SERIES))
        return frame

    def preview(self, value: Any) -> Preview | None:
        """Return the first rows."""
        return _preview(value)


_SERIES = "daskperiment series "
"""What the name of the column of a Series begins with in its file."""


def _is_kept(dtype: Any) -> bool:
    pl: Any = sys.modules["polars"]
    if dtype.is_nested():
        fields = getattr(dtype, "fields", None)
        inner = [field.dtype for field in fields] if fields is not None else [dtype.inner]
        return all(map(_is_kept, inner))
    lasting = (pl.String, pl.Boolean, pl.Binary, pl.Null, pl.Categorical, pl.Enum)
    return bool(dtype.is_numeric() or dtype.is_temporal() or dtype in lasting)


# Pandas and Dask ------------------------------------------------------------------------------


class ParquetFormat(Format):
    """Tables, columns and indexes of pandas, and tables of Dask, as a Parquet file."""

    name, suffix, media = "parquet", ".parquet", "application/vnd.apache.parquet"
    mapped = True

    def takes(self, value: Any) -> bool:
        """Whether it is a table, a column or an index of pandas, and Arrow is loaded.

        Not if it has what no fingerprint tells and no file keeps: a flag, or texts that are stored
        otherwise than in tables that are read.
        """
        if "pyarrow" not in sys.modules or not _is_pandas(value):
            return False
        flags = getattr(value, "flags", None)
        if flags is not None and not flags.allows_duplicate_labels:
            return False
        # Arrow would warn of labels of several types, and make texts of them.
        labels = getattr(value, "columns", None)
        if "mixed" in getattr(labels, "inferred_type", "") and not hasattr(labels, "levels"):
            return False
        return not any(map(_is_stored_otherwise, _dtypes(value)))

    def suits_outputs(self, value: Any) -> bool:
        """Whether it is of pandas, and small enough to be read back if that is necessary."""
        return _is_pandas(value) and (not _is_large(value) or self.is_exact(value))

    def is_exact(self, value: Any) -> bool:
        """Whether its types are among those that come back bit by bit."""
        return comes_back_exactly(value, _COLUMN)

    def shows(self, value: Any) -> bool:
        """Whether it is a table or column of Dask, which is computed for it."""
        return (
            "dask" in top_modules(value)
            and hasattr(value, "npartitions")
            and hasattr(value, "divisions")
        )

    def writes(self, value: Any) -> bool:
        """Whether it is a table or a column of any of these libraries."""
        return (
            _is_pandas(value)
            or self.shows(value)
            or (hasattr(value, "to_pandas") and not hasattr(value, "npartitions"))
        )

    def write(self, value: Any) -> Buffer:
        """Return the file."""
        pa: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
        if self.shows(value) and value.npartitions > 1:
            with suppress(pa.ArrowException, ValueError, TypeError, KeyError):
                return _by_partitions(value)
            # Partitions that differ in their types make one table only as a whole.
        value = value.compute() if self.shows(value) else value
        value = value if isinstance(value, _pandas_types()) else value.to_pandas()
        if _is_large(value):
            return _in_parts(value)
        sink = pa.BufferOutputStream()
        parquet.write_table(_as_table(value), sink)
        return memoryview(sink.getvalue())

    def read(self, data: Buffer) -> Any:
        """Return the table, column or index."""
        pa: Any = import_module("pyarrow")
        pd: Any = import_module("pandas")
        table = import_module("pyarrow.parquet").read_table(pa.BufferReader(data))
        text = (table.schema.metadata or {}).get(_OWN, b"{}")
        own = {"kind": "DataFrame", "attrs": {}, **json.loads(text)}
        frame = table.to_pandas(types_mapper=pd.ArrowDtype if own.get("arrow") else None)
        return _from_frame(frame, own)

    def preview(self, value: Any) -> Preview | None:
        """Return the first rows."""
        return _preview(value.head(_HEAD) if self.shows(value) else value)


def _as_table(value: Any, schema: Any = None, index: bool | None = None) -> Any:
    """Return a table of Arrow for a value of pandas."""
    frame, own = _as_frame(value)
    table = sys.modules["pyarrow"].Table.from_pandas(frame, schema=schema, preserve_index=index)
    metadata = {**(table.schema.metadata or {}), _OWN: json.dumps(own)}
    return table.replace_schema_metadata(metadata)


def _is_large(value: Any) -> bool:
    size = value.memory_usage(index=True).sum() if hasattr(value, "columns") else value.nbytes
    return bool(size > _NOT_LARGE)


def _in_parts(value: Any) -> Buffer:
    """Return the file of a large table, which is not in memory beside the table."""
    parquet: Any = import_module("pyarrow.parquet")
    with tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
        path = os.path.join(folder, "table.parquet")
        # To look for equal values first takes longer than to write them, and rarely pays.
        parquet.write_table(_as_table(value), path, use_dictionary=False)
        return file_content(path)


def _by_partitions(value: Any) -> Buffer:
    """Return the file of a table of Dask, of which one partition at a time is in memory."""
    parquet: Any = import_module("pyarrow.parquet")
    with tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
        path = os.path.join(folder, "table.parquet")
        first = _as_table(value.partitions[0].compute(), index=True)
        with parquet.ParquetWriter(path, first.schema) as writer:
            writer.write_table(first)
            del first
            for number in range(1, value.npartitions):
                part = value.partitions[number].compute()
                table = _as_table(part, writer.schema, index=True)
                writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
        return file_content(path)


def _as_frame(value: Any) -> tuple[Any, dict[str, Any]]:
    """Return a frame for a value of pandas, and what a file of that does not say."""
    pd: Any = sys.modules["pandas"]
    own: dict[str, Any] = {"attrs": to_plain(dict(getattr(value, "attrs", {})))}
    if isinstance(value, pd.Index):
        frame = value.to_frame(index=False)
        frame.columns = [str(n) for n in range(frame.shape[1])]
        own |= {"kind": "Index", "names": to_plain(list(value.names)), "freq": _freq(value)}
    elif isinstance(value, pd.Series):
        frame = value.to_frame(_COLUMN)
        own |= {"kind": "Series", "name": to_plain(value.name), "freq": _freq(value.index)}
    else:
        frame = value.copy(deep=False)
        own |= {"kind": "DataFrame", "freq": _freq(value.index)}
        if isinstance(columns := value.columns, pd.RangeIndex):
            own["columns"] = [columns.start, columns.stop, columns.step, to_plain(columns.name)]
    dtypes = list(frame.dtypes)
    own["arrow"] = bool(dtypes) and all(isinstance(each, pd.ArrowDtype) for each in dtypes)
    frame.attrs = {}
    return frame, own


def _from_frame(frame: Any, own: dict[str, Any]) -> Any:
    """Return the value of pandas that `_as_frame` was given."""
    pd: Any = sys.modules["pandas"]
    if own["kind"] == "Index":
        several = frame.shape[1] > 1
        index = pd.MultiIndex.from_frame(frame) if several else pd.Index(frame.iloc[:, 0])
        index.names = from_plain(own["names"])
        return _with_freq(index, own["freq"])
    frame.index = _with_freq(frame.index, own.get("freq"))
    if "columns" in own:
        *ends, name = own["columns"]
        frame.columns = pd.RangeIndex(*ends, name=from_plain(name))
    if own["kind"] == "Series":
        frame = frame[_COLUMN].rename(from_plain(own["name"]))
    frame.attrs = from_plain(own["attrs"])
    return frame


def _freq(index: Any) -> str | None:
    found = getattr(index, "freqstr", None)
    return found if isinstance(found, str) else None


def _with_freq(index: Any, freq: str | None) -> Any:
    if freq is not None and hasattr(index, "freq"):
        with suppress(ValueError, TypeError, AttributeError):  # of periods it is part of the type
            index.freq = freq
    return index


def _pandas_types() -> tuple[type, ...]:
    pd: Any = sys.modules.get("pandas")
    return (pd.DataFrame, pd.Series, pd.Index) if pd is not None else ()


def _is_pandas(value: Any) -> bool:
    types = _pandas_types()
    if isinstance(value, types[2:]):
        return True
    return bool(types) and type(value) in types[:2]


def _dtypes(value: Any) -> Iterator[Any]:
    """Yield the types of a table's or column's values and labels."""
    own = getattr(value, "dtypes", ())
    yield from own if hasattr(value, "columns") else [] if hasattr(value, "levels") else [own]
    for index in (getattr(value, name, None) for name in ("index", "columns")):
        if index is not None:
            yield from _dtypes(index)
    for level in getattr(value, "levels", ()):
        yield level.dtype


def _is_stored_otherwise(dtype: Any) -> bool:
    """Whether it is of texts that are stored in another way than pandas does unasked."""
    categories = getattr(dtype, "categories", None)
    inner = dtype if categories is None else categories.dtype
    strings = sys.modules["pandas"].StringDtype
    return isinstance(inner, strings) and bool(inner.storage != strings().storage)


# Previews -------------------------------------------------------------------------------------


def _preview(value: Any) -> Preview | None:
    """Return names and types of the columns, and the first rows."""
    if hasattr(value, "to_frame") and not hasattr(value, "columns"):
        value = value.to_frame()
    if hasattr(value, "to_pylist") and not hasattr(value, "schema"):
        head = [_cell(each) for each in value.slice(0, _HEAD).to_pylist()]
        return Preview("array", ", ".join(head), str(value.type), [len(value)])
    if hasattr(value, "schema") and hasattr(value, "to_pylist"):
        return _arrow_preview(value)
    if not hasattr(value, "columns") or not hasattr(value, "dtypes"):
        return None
    head = _with_index(value.head(_HEAD))
    names = list(head.columns)[:_WIDE]
    columns = [[_cell(name), str(dtype)] for name, dtype in zip(names, head.dtypes, strict=False)]
    rows = head.rows() if hasattr(head, "rows") else head.itertuples(index=False, name=None)
    cells = [[_cell(each) for each in row[:_WIDE]] for row in rows]
    return Preview("table", shape=list(value.shape), columns=columns, rows=cells)


def _with_index(head: Any) -> Any:
    """Return rows with their names as columns before the others, unless these are numbers alone."""
    if not _is_pandas(head) or type(head.index).__name__ == "RangeIndex":
        return head
    try:
        return head.reset_index()
    except ValueError:  # a column has that name, too
        return head


def _arrow_preview(value: Any) -> Preview:
    columns = [[field.name, str(field.type)] for field in list(value.schema)[:_WIDE]]
    rows = [[_cell(each) for each in list(row.values())[:_WIDE]]
            for row in value.slice(0, _HEAD).to_pylist()]  # fmt: skip
    return Preview("table", shape=[value.num_rows, value.num_columns], columns=columns, rows=rows)


def _cell(value: Any) -> str:
    return shorten(one_line(str(value)), _CELL)


FORMATS: tuple[Format, ...] = (ArrowFormat(), PolarsFormat(), ParquetFormat())
