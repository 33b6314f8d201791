"""The rule by which tables are files without being read back is right whenever it says yes."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
pd = pytest.importorskip("pandas")
pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, Phase, event, given, reject, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from daskperiment.capture.fingerprint import exact_fingerprint  # noqa: E402
from daskperiment.formats import format_named, written_for_output  # noqa: E402
from daskperiment.formats.format import joined  # noqa: E402

RELAXED = settings(
    max_examples=120, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
NAMES = st.sampled_from(
    ["a", "b", "", "value", "0", "1", "index", "level_0", "__index_level_0__", "None", "é",
     "a\x00b", "x" * 300]
)  # fmt: skip
ODD_NAMES = NAMES | st.sampled_from(
    [None, 0, 1, 1.5, ("a", "b"), datetime.date(2026, 1, 1), np.str_("a"), True, b"a", float("nan")]
)
TEXTS = st.sampled_from(["", "a", "bc", "é", "数据", "\U0001f389", "\x00", "nan", "None"])
NANS = np.array([0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + 1, 0x7FF0 << 48], "u8").view("f8")
ZONES = ["UTC", "Europe/Paris", "+01:00", datetime.UTC, datetime.timezone(
    datetime.timedelta(minutes=90), "odd")]  # fmt: skip


def numbers(dtype: Any) -> Any:
    def made(rows: int) -> Any:
        size = np.dtype(dtype).itemsize * rows
        return st.binary(min_size=size, max_size=size).map(
            lambda raw: np.frombuffer(raw, dtype).copy()
        )

    return made


def floats(rows: int) -> Any:
    some = st.floats() | st.sampled_from(list(NANS)) | st.sampled_from([0.0, -0.0, np.nan])
    return st.lists(some, min_size=rows, max_size=rows).map(lambda v: np.array(v, "f8"))


def of(values: Any, make: Any) -> Any:
    return lambda rows: st.lists(values, min_size=rows, max_size=rows).map(make)


def moments(unit: str, kind: str) -> Any:
    return of(
        st.integers(-(2**62), 2**62) | st.just(-(2**63)),
        lambda v: np.array(v, "i8").view(f"{kind}8[{unit}]"),
    )


def extension(name: str, values: Any) -> Any:
    return of(values | st.none(), lambda v: pd.array(v, dtype=name))


def categories(ordered: bool, values: Any) -> Any:
    return of(
        st.sampled_from([0, 1, 2, -1]),
        lambda codes: pd.Categorical.from_codes(codes, values, ordered=ordered),
    )


SMALL = st.integers(0, 100)
COLUMNS: dict[str, Any] = {
    **{name: numbers(name) for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8",
                                        "f2", ">i4", ">f8", "c16")},
    "floats": floats,
    "truths": of(st.booleans(), lambda v: np.array(v, "?")),
    **{f"{kind}8[{unit}]": moments(unit, kind)
       for kind in "Mm" for unit in ("s", "ms", "us", "ns")},
    "str": of(TEXTS | st.none(), lambda v: pd.Series(v, dtype="str").array),
    "string": of(TEXTS | st.none(), lambda v: pd.array(v, dtype="string")),
    "string[python]": of(TEXTS, lambda v: pd.array(v, dtype="string[python]")),
    "objects": of(TEXTS | st.just("\ud800") | st.none() | SMALL | st.floats() | st.just(b"x"),
                  lambda v: pd.Series(v, dtype=object)),
    "dates": of(st.dates(), lambda v: pd.Series(v, dtype=object)),
    **{name: extension(name, SMALL) for name in ("Int8", "Int64", "UInt32", "Float64")},
    "boolean": extension("boolean", st.booleans()),
    "categories": categories(False, ["lo", "mid", "hi"]),
    "ordered": categories(True, [3, 1, 2]),
    **{f"zone {zone}": of(st.integers(0, 10**9), lambda v, zone=zone: pd.to_datetime(
        np.array(v, "i8").view("M8[s]")).tz_localize("UTC").tz_convert(zone)) for zone in ZONES},
    "periods": of(SMALL, lambda v: pd.PeriodIndex.from_ordinals(v, freq="M").array),
    "sparse": of(SMALL, lambda v: pd.arrays.SparseArray(np.array(v, "i8"))),
    "intervals": of(SMALL, lambda v: pd.arrays.IntervalArray.from_arrays(v, [n + 1 for n in v])),
    "Arrow": extension("int64[pyarrow]", SMALL),
}  # fmt: skip
USUAL = ["i8", "f4", "floats", "truths", "str", "M8[ns]", "m8[us]", "Int64", "string", "boolean"]


def indexes(rows: int) -> Any:
    flat = (
        st.sampled_from([name for name in COLUMNS if name not in ("f2", ">i4", ">f8")])
        .flatmap(lambda name: COLUMNS[name](rows))
        .map(pd.Index)
    )
    ranges = st.builds(
        lambda start, step: pd.RangeIndex(start, start + rows * step, step),
        st.integers(-3, 3), st.sampled_from([1, 2, -1]),
    )  # fmt: skip
    ends = st.builds(lambda a, b: pd.RangeIndex(a, b, 3), SMALL, SMALL).filter(
        lambda index: len(index) == rows
    )
    dates = st.sampled_from(["D", "h", "ME", "W-TUE"]).map(
        lambda freq: pd.date_range("2026", periods=rows, freq=freq)
    )
    levels = st.tuples(flat, flat).map(pd.MultiIndex.from_arrays)
    return st.one_of(ranges, ranges, flat, dates, levels) if rows else ranges | ends | flat


@st.composite
def tables(draw: Any) -> Any:
    try:
        return drawn_table(draw)
    except (TypeError, ValueError, NotImplementedError):
        return reject()  # pandas makes no such table


def drawn_table(draw: Any) -> Any:
    rows = draw(st.integers(0, 4))
    usual = draw(st.integers(0, 2)) > 0
    texts = st.none() | NAMES if usual else ODD_NAMES
    kinds = draw(st.lists(st.sampled_from(USUAL if usual else list(COLUMNS)), max_size=3))
    index = draw(indexes(rows))
    if isinstance(index, pd.MultiIndex):
        index.names = draw(st.tuples(ODD_NAMES, ODD_NAMES))
    else:
        index.name = draw(texts)
    made = [pd.Series(draw(COLUMNS[kind](rows)), index=index) for kind in kinds]
    table = pd.concat(made, axis=1) if made else pd.DataFrame(index=index)
    labels = draw(st.sampled_from(["texts", "numbers"] if usual else ["texts", "odd", "levels"]))
    if labels in ("texts", "odd"):
        some = NAMES if labels == "texts" else ODD_NAMES
        names = draw(st.lists(some, min_size=len(made), max_size=len(made), unique=usual))
        table.columns = pd.Index(names, name=draw(ODD_NAMES)) if labels == "odd" else names
    elif labels == "levels" and made:
        table.columns = pd.MultiIndex.from_product([["x"], range(len(made))])
    if made and draw(st.integers(0, 3)) == 0:
        table = table.iloc[:, 0].rename(draw(texts))
    if not usual and draw(st.integers(0, 5)) == 0:
        table.attrs["source"] = "a"
    return table


def bits(value: Any) -> list[Any]:
    """Return all bytes of the numbers of a table, which equal ones may differ in."""
    frame = value.to_frame() if isinstance(value, pd.Series) else value
    parts = [frame.iloc[:, number] for number in range(frame.shape[1])]
    return [(str(part.dtype), type(part.dtype), getattr(part.dtype, "tz", None),
             part.to_numpy().tobytes() if isinstance(part.dtype, np.dtype) else list(part.isna()))
            for part in [*parts, value.index] if part.dtype != object]  # fmt: skip


def file_of_exact(format: Any, value: Any) -> bytes | None:
    """Return the file of what a format calls exact; None if it does not, or does not write it."""
    try:
        known = format.takes(value) and format.is_exact(value)
        event("exact" if known else "not known")
        return joined([format.write(value)]) if known else None
    except Exception as error:  # then it is pickled
        event(f"pickled: {type(error).__name__}")
        return None


@given(tables())
@RELAXED
def test_tables_of_pandas(value: Any) -> None:
    """What the rule calls exact comes back equal in each bit, type, label and name."""
    parquet = format_named("parquet")
    data = file_of_exact(parquet, value)
    if data is None:
        return
    back = parquet.read(data)
    assert type(back) is type(value)
    assert exact_fingerprint(back) == exact_fingerprint(value)
    assert bits(back) == bits(value)
    assert type(back.index) is type(value.index)
    check = pd.testing.assert_series_equal if value.ndim == 1 else pd.testing.assert_frame_equal
    check(back, value, check_exact=True, check_freq=True, check_flags=True)


MOMENT = st.integers(-(10**9), 10**9)
ARROW: dict[Any, Any] = {
    pa.int8(): SMALL, pa.uint64(): SMALL, pa.float16(): st.just(0.5), pa.float64(): st.floats(),
    pa.bool_(): st.booleans(), pa.string(): TEXTS, pa.large_string(): TEXTS,
    pa.string_view(): TEXTS, pa.binary(): st.binary(max_size=3), pa.binary(2): st.just(b"ab"),
    pa.null(): st.none(), pa.date32(): MOMENT.map(lambda n: n % 20_000),
    pa.timestamp("s"): MOMENT, pa.timestamp("ns", "Europe/Paris"): MOMENT,
    pa.duration("ms"): MOMENT, pa.time64("us"): SMALL, pa.decimal128(5, 2): st.just(None),
    pa.list_(pa.int16()): st.lists(SMALL, max_size=2),
    pa.list_(pa.field("item", pa.int16(), nullable=False)): st.lists(SMALL, max_size=2),
    pa.list_(pa.float32(), 2): st.just([1.0, 2.0]),
    pa.struct([("x", pa.int8()), ("y", pa.string())]): st.just({"x": 1, "y": "b"}),
    pa.map_(pa.string(), pa.int8()): st.just([("k", 1)]),
    pa.dictionary(pa.int8(), pa.string()): TEXTS,
    pa.dictionary(pa.int32(), pa.string(), ordered=True): TEXTS,
    pa.run_end_encoded(pa.int32(), pa.int64()): SMALL,
}  # fmt: skip


@st.composite
def arrow_values(draw: Any) -> Any:
    rows = draw(st.integers(0, 3))
    columns, fields = [], []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(list(ARROW)))
        values = draw(st.lists(ARROW[kind] | st.none(), min_size=rows, max_size=rows))
        encoded = pa.types.is_run_end_encoded(kind)
        array = pa.array(values, kind.value_type if encoded else kind)
        array = pa.compute.run_end_encode(array) if encoded else array
        columns.append(array)
        odd = {"metadata": {"k": "v"}} if draw(st.booleans()) else {}
        fields.append(pa.field(draw(NAMES) if number else "c", array.type, **odd))
    table = pa.Table.from_arrays(
        columns, schema=pa.schema(fields, draw(st.none() | st.just({"m": "v"})))
    )
    how = draw(st.sampled_from(["table", "sliced", "twice", "batch", "array", "chunks"]))
    if how == "batch":
        return pa.RecordBatch.from_arrays(columns, schema=table.schema)
    if how in ("array", "chunks"):
        return columns[0] if how == "array" else pa.chunked_array([columns[0]] * 2)
    return {"table": table, "sliced": table.slice(1), "twice": pa.concat_tables([table] * 2)}[how]


@given(arrow_values())
@RELAXED
def test_values_of_arrow(value: Any) -> None:
    """Tables, batches and arrays of Arrow come back with their types, nulls and metadata."""
    arrow = format_named("arrow")
    data = file_of_exact(arrow, value)
    if data is None:
        return
    back = arrow.read(data)
    assert type(back) is type(value)
    assert exact_fingerprint(back) == exact_fingerprint(value)
    if hasattr(value, "schema"):
        assert back.schema.equals(value.schema, check_metadata=True)
    else:
        assert back.type == value.type
    assert back.equals(value) or "nan" in str(value.to_pylist())


POLARS: dict[Any, Any] = {
    pl.Int8: SMALL, pl.UInt64: SMALL, pl.Float32: st.just(0.5), pl.Float64: st.floats(),
    pl.Boolean: st.booleans(), pl.String: TEXTS, pl.Binary: st.binary(max_size=3),
    pl.Null: st.none(), pl.Date: st.dates(), pl.Time: st.just(datetime.time(1, 2)),
    pl.Datetime("ms"): st.just(datetime.datetime(2026, 1, 1)),
    pl.Datetime("ns", "Europe/Paris"): st.none(), pl.Duration("us"): st.timedeltas(
        datetime.timedelta(0), datetime.timedelta(1)),
    pl.Categorical(): st.sampled_from(["a", "b"]), pl.Enum(["lo", "hi"]): st.sampled_from(["hi"]),
    pl.Decimal(10, 2): st.none(), pl.List(pl.Int16): st.lists(SMALL, max_size=2),
    pl.Array(pl.Float64, 2): st.just([1.0, float("nan")]),
    pl.Struct({"x": pl.Int8, "y": pl.List(pl.String)}): st.just({"x": 1, "y": ["a", None]}),
    pl.Object: st.just(object),
}  # fmt: skip


@given(st.data())
@RELAXED
def test_values_of_polars(data: Any) -> None:
    """Tables and columns of Polars come back with their types and nulls."""
    rows = data.draw(st.integers(0, 3))
    names = data.draw(st.lists(NAMES, max_size=3, unique=True))
    kinds = [data.draw(st.sampled_from(list(POLARS))) for _ in names]
    columns = [
        pl.Series(name, data.draw(st.lists(POLARS[kind] | st.none(), min_size=rows, max_size=rows)),
                  dtype=kind)
        for name, kind in zip(names, kinds, strict=True)
    ]  # fmt: skip
    value = columns[0] if columns and data.draw(st.booleans()) else pl.DataFrame(columns)
    polars = format_named("polars")
    file = file_of_exact(polars, value)
    if file is None:
        return
    back = polars.read(file)
    assert type(back) is type(value)
    assert exact_fingerprint(back) == exact_fingerprint(value)
    assert back.equals(value, null_equal=True)
    if isinstance(value, pl.Series):
        assert (back.name, back.dtype) == (value.name, value.dtype)
    else:
        assert back.schema == value.schema


@pytest.mark.parametrize(
    ("column", "expected"),
    [(np.arange(5 << 20) / 3, "parquet"), (np.full(5 << 20, -np.nan), None)],
    ids=["numbers", "NaN of another kind"],
)
def test_large_tables(column: Any, expected: str | None) -> None:
    """A table of more than 32 MB is a file if it is known to come back, and else a pickle."""
    table = pd.DataFrame({"a": column, "b": pd.date_range("2026", periods=len(column), freq="s")})
    file = written_for_output(table)
    assert (None if file is None else file.format.name) == expected
    if file is not None:
        pd.testing.assert_frame_equal(file.format.read(joined(file.parts)), table, check_exact=True)
