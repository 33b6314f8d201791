"""Plain values come back equal and of the same type."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import io
import math
import pathlib
import struct
import subprocess
import sys
import warnings
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.codec import NotPlainError, from_plain, is_object, object_ref, to_plain
from daskperiment.codec.fields import MAX_DEPTH
from daskperiment.errors import CorruptRecordError
from daskperiment.records import ObjectRef


def same(first: Any, second: Any) -> bool:
    """Equal and of the same type all the way down, nan equal to nan, 0.0 unlike -0.0."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return same(list(first.items()), list(second.items()))
    if isinstance(first, (set, frozenset)):
        return len(first) == len(second) and all(any(same(a, b) for b in second) for a in first)
    if isinstance(first, (float, np.floating)):
        return _same_float(first, second)
    if isinstance(first, (complex, np.complexfloating)):
        return _same_float(first.real, second.real) and _same_float(first.imag, second.imag)
    if isinstance(first, Decimal):
        return first.as_tuple() == second.as_tuple()
    if isinstance(first, (dt.datetime, dt.time)):
        zones = same(first.tzinfo, second.tzinfo)
        naive = first.replace(tzinfo=None) == second.replace(tzinfo=None)
        return (first is second or naive) and first.fold == second.fold and zones
    if isinstance(first, (np.datetime64, np.timedelta64)):
        return first.dtype == second.dtype and first.view("i8") == second.view("i8")
    return first is second or bool(first == second)


def _same_float(first: Any, second: Any) -> bool:
    if np.isnan(first) or np.isnan(second):
        return bool(np.isnan(first) and np.isnan(second))
    return bool(first == second and np.signbit(first) == np.signbit(second))


def through_json(value: Any) -> Any:
    """Give what a store gives back of a value."""
    return from_plain(msgspec.json.decode(msgspec.json.encode(to_plain(value))))


def assert_survives(value: Any) -> None:
    back = through_json(value)
    assert same(back, value), f"{value!r} came back as {back!r}"


any_text = st.text(st.characters(codec=None, exclude_categories=()))
zones = st.one_of(
    st.none(),
    st.timezones(),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
)
whole_minutes = st.one_of(
    st.none(),
    st.sampled_from(["UTC", "Europe/Paris", "Asia/Kolkata"]).map(zoneinfo.ZoneInfo),
    st.integers(-1400, 1400).map(lambda m: dt.timezone(dt.timedelta(minutes=m))),
)
leaves = {
    "None": st.none(),
    "bool": st.booleans(),
    "int": st.integers() | st.integers(2**62, 2**65) | st.integers(-(2**65), -(2**62)),
    "float": st.floats(),
    "str": any_text,
    "bytes": st.binary(),
    "complex": st.complex_numbers(),
    "range": st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=zones, allow_imaginary=True),
    "time": st.times(timezones=zones),
    "timedelta": st.timedeltas(),
    "timezone": zones,
    "Decimal": st.decimals(),
    "Fraction": st.fractions(),
    "UUID": st.uuids(),
    "PurePosixPath": st.builds(pathlib.PurePosixPath, any_text.filter(lambda s: "\0" not in s)),
    "Path": st.builds(pathlib.Path, st.text("ab./ é")),
}
hashable = st.recursive(
    # A signalling Decimal cannot be hashed.
    st.one_of(*leaves.values()).filter(lambda v: not (isinstance(v, Decimal) and v.is_snan())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
anything = st.recursive(
    st.one_of(*leaves.values(), st.builds(bytearray, st.binary())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(any_text | st.just("$"), inner, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("name", leaves)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_builtin_leaf_survives(name: str, data: st.DataObject) -> None:
    """A value of each plain type of the standard library comes back equal and of its type."""
    assert_survives(data.draw(leaves[name]))


@settings(max_examples=300, deadline=None)
@given(anything)
def test_nested_values_survive(value: Any) -> None:
    """Plain values nested in each other come back equal, in order and of their types."""
    assert_survives(value)


@pytest.mark.parametrize(
    "value",
    [
        10**400,
        -(10**5000),
        2**63,
        -(2**63),
        -0.0,
        math.nan,
        math.inf,
        -math.inf,
        complex(-0.0, math.nan),
        "\ud800",
        "\ud83d\ude00 as two halves",
        "nul \0 and 𝄞",
        "x" * 10_000_000,
        bytearray(b"ab"),
        {"$": "object"},
        {"$": {"$": 1}},
        {"\udcff": 1},
        {"z": 1, "a": 2},
        {2: "b", 1: "a", None: "c", (1, "x"): "d", 1.5: "e"},
        {1, 2.5, "a", None, (1, 2), frozenset({3})},
        {True, 2},
        Decimal("sNaN123"),
        Decimal("-0E+7"),
        Decimal("1.10"),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        dt.datetime(2024, 10, 27, 2, 30, fold=1),
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))),
        dt.time(1, 2, 3, 4, tzinfo=dt.UTC, fold=1),
        dt.timezone(dt.timedelta(hours=1), "named"),
        dt.timedelta.min,
        pathlib.PureWindowsPath("c:\\a\\b"),
        pathlib.Path(),
        range(10, 0, -3),
        Fraction(1, 10**400),
        UUID(int=0),
    ],
    ids=lambda value: repr(type(value)),
)
def test_awkward_values_survive(value: Any) -> None:
    """Values at the edges of their types come back equal."""
    assert_survives(value)


def test_path_of_another_system_is_read_as_pure() -> None:
    """A path that was written on another system is shown as a pure path of that system."""
    foreign, pure = (
        ("WindowsPath", pathlib.PureWindowsPath)
        if isinstance(pathlib.Path(), pathlib.PosixPath)
        else ("PosixPath", pathlib.PurePosixPath)
    )
    assert from_plain({"$": "path", "v": [foreign, "a"]}) == pure("a")


def test_timezone_keeps_its_name() -> None:
    """The name that a fixed offset was given is kept, though it takes no part in equality."""
    zone = dt.timezone(dt.timedelta(hours=1), "named")
    assert through_json(zone).tzname(None) == "named"
    assert through_json(dt.UTC) is dt.UTC


NUMPY_TYPES = sorted(
    {np.dtype(code).type for code in np.typecodes["All"]} - {np.object_}, key=lambda t: t.__name__
)


@pytest.mark.parametrize("type_", NUMPY_TYPES, ids=lambda type_: type_.__name__)
def test_every_numpy_scalar_type_survives(type_: type) -> None:
    """Zero, and random bytes read as a scalar of the type, come back as that type."""
    assert_survives(np.zeros((), type_)[()])
    if type_ in (np.str_, np.void, np.bytes_, np.longdouble, np.clongdouble, np.bool_):
        return
    if type_ in (np.datetime64, np.timedelta64):
        type_ = np.dtype(f"{np.dtype(type_).char}8[25s]")
    for scalar in np.frombuffer(np.random.default_rng(0).bytes(3200), type_):
        assert_survives(scalar)


@pytest.mark.parametrize(
    "value",
    [
        np.float64("nan"),
        np.float32("-inf"),
        np.float16(0.1),
        np.longdouble(1) / 3,
        np.longdouble("nan"),
        np.clongdouble(1j) / 3,
        np.longlong(5),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("a\ud800\0"),
        np.bytes_(b"a\0b"),
        np.void(b"ab"),
        np.int64(-(2**63)).view("M8"),  # not a time, of no unit
        np.datetime64("NaT", "ns"),
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01T00:00:00.123456789"),
        np.int64(5).view("m8"),
        np.timedelta64(-7, "25s"),
        {np.int64(1): np.float64(2.5)},
    ],
    ids=repr,
)
def test_awkward_numpy_scalars_survive(value: Any) -> None:
    """NumPy scalars at the edges come back equal and of the same type."""
    assert_survives(value)


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(
        dt.datetime(1930, 1, 1),
        dt.datetime(2260, 1, 1),
        timezones=whole_minutes,
        allow_imaginary=False,
    ),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_pandas_timestamps_survive(moment: dt.datetime, unit: str) -> None:
    """A Timestamp comes back equal, with its unit, zone and fold."""
    stamp = pd.Timestamp(moment).as_unit(unit)
    back = through_json(stamp)
    assert type(back) is pd.Timestamp
    assert (back, back.unit, back.fold) == (stamp, stamp.unit, stamp.fold)
    assert same(back.tzinfo, stamp.tzinfo)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2260, 1, 1), timezones=zones))
def test_pandas_timestamps_survive_or_are_not_plain(moment: dt.datetime) -> None:
    """A Timestamp that pandas itself cannot rebuild is refused when written, not when read."""
    try:
        stamp = pd.Timestamp(moment)
        form = to_plain(stamp)
    except (ValueError, NotPlainError):
        return
    assert from_plain(form) == stamp


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-01-01 00:00:00.123456789"),
        pd.Timestamp("2024-01-01", tz="UTC"),
        pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Paris"),
        pd.Timestamp("2024-01-01").replace(fold=1),
        pd.Timestamp.max,
        pd.Timedelta("1 days 00:00:00.000000001"),
        pd.Timedelta.min,
        pd.NaT,
        pd.NA,
        pd.Period("2024-01", "M"),
        pd.Period("2024-01-03", "W-WED"),
        pd.Period("2024", "3D"),
        pd.Interval(0, 1.5, closed="both"),
        pd.Interval(pd.Timestamp("2024"), pd.Timestamp("2025"), closed="left"),
        [pd.NaT, {"a": pd.NA}],
    ],
    ids=repr,
)
def test_pandas_scalars_survive(value: Any) -> None:
    """The scalars of pandas come back equal, and the constants as themselves."""
    back = through_json(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if value is not pd.NA and value is not pd.NaT and not isinstance(value, list):
        assert back == value


class Colour(enum.IntEnum):
    red = 1


class Pair(NamedTuple):
    a: int


class Text(str):
    pass


class Number(np.float64):
    pass


class Timestamp:
    """Shares no more than its name with pandas' class."""


@pytest.mark.parametrize(
    "value",
    [
        Colour.red,
        Pair(1),
        Text("a"),
        Number(1),
        Timestamp(),
        collections.OrderedDict(a=1),
        collections.defaultdict(int),
        object(),
        len,
        int,
        ...,
        np.zeros(3),
        np.zeros((), "i4,f8")[()],
        np.dtype("f8"),
        pd.Series([1]),
        pd.Timestamp,
        memoryview(b"a"),
        {"a": [1, {2: (object(),)}]},
        {Text("a"): 1},
        [Colour.red],
    ],
    ids=lambda value: repr(type(value)),
)
def test_other_types_are_not_plain(value: Any) -> None:
    """Subclasses and foreign types are refused, at any depth."""
    with pytest.raises(NotPlainError):
        to_plain(value)


def test_not_plain_names_the_type() -> None:
    """The error names the type that is in the way."""
    with pytest.raises(NotPlainError, match="Pair"):
        to_plain([{"a": Pair(1)}])
    assert issubclass(NotPlainError, TypeError)


def test_asking_numpy_for_a_name_warns_of_nothing() -> None:
    """NumPy warns of names that it gave up, such as object; looking for a type does not ask it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for value in (object(), type("str", (), {})(), type("testing", (), {})()):
            with pytest.raises(NotPlainError):
                to_plain(value)
    assert seen == []


def test_long_double_ignores_print_options() -> None:
    """How NumPy is told to print numbers does not change what is kept of them."""
    with np.printoptions(precision=3, legacy="1.13"):
        assert_survives(np.longdouble(1) / 3)
        assert_survives(np.clongdouble(1j) / 3)


def test_zone_without_key_is_not_plain() -> None:
    """A time zone that was read from an unnamed file is refused, for nobody could find it again."""
    # The smallest zone file there is: version 1, one zone type, the name UTC.
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    content = b"TZif" + bytes(16) + counts + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(content))
    with pytest.raises(NotPlainError, match="no key"):
        to_plain(dt.datetime(2024, 1, 1, tzinfo=zone))


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_has_a_fixed_limit() -> None:
    """Values nest up to a fixed number of levels; deeper ones and cycles are not plain."""
    assert_survives(nested(MAX_DEPTH))
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (nested(MAX_DEPTH + 1), nested(1000), nested(100_000), cycle):
        with pytest.raises(NotPlainError, match="deep"):
            to_plain(value)


def test_short_stack_is_not_plain() -> None:
    """Where the stack has no room left for a value, it is not plain; nothing crashes."""

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            to_plain(nested(MAX_DEPTH))

    seen = set()
    for levels in range(0, sys.getrecursionlimit(), 25):
        try:
            descend(levels)
        except NotPlainError:
            seen.add("not plain")
        except RecursionError:
            seen.add("stack used up before")
    assert "not plain" in seen


def test_forms_of_equal_sets_are_equal() -> None:
    """The form of a set does not depend on the order in which it was made."""
    numbers, reverse = [0, 8, 16, 24], [24, 16, 8, 0]
    forward, backward = set(numbers), set(reverse)
    assert list(forward) != list(backward)
    assert to_plain(forward) == to_plain(backward)


def test_form_shares_nothing() -> None:
    """Changing a value after its form was made leaves the form alone."""
    value = {"a": [1]}
    form = to_plain(value)
    value["a"].append(2)
    assert form == {"a": [1]}


def test_json_types_stand_for_themselves() -> None:
    """What JSON can hold is written as it is, so that a person can read and query it."""
    value = {"a": 1, "b": [0.5, "é", None, True], "c": {"d": -1}}
    assert to_plain(value) == value


@pytest.mark.parametrize(
    "data",
    [
        {"$": "nonsense", "v": 1},
        {"$": ["list"], "v": 1},
        {"$": None},
        {"$": "int"},
        {"$": "int", "v": "zz"},
        {"$": "int", "v": 1},
        {"$": "float", "v": "1.5"},
        {"$": "set", "v": [[1]]},
        {"$": "dict", "v": [1]},
        {"$": "bytes", "v": "é"},
        {"$": "path", "v": ["Popen", "a"]},
        {"$": "zone", "v": "../../etc/passwd"},
        {"$": "zone", "v": "No/Where"},
        {"$": "datetime", "v": ["2024-01-01", "UTC", 0]},
        {"$": "numpy", "v": ["load", "a"]},
        {"$": "numpy", "v": ["void", 10**12]},
        {"$": "numpy", "v": [1, 2]},
        {"$": "pandas", "v": "read_pickle"},
        {"$": "object"},
        {"$": "object", "type": 1, "repr": "a"},
        nested(100_000),
    ],
    ids=lambda data: repr(data)[:40] if isinstance(data, dict) else "deep",
)
def test_damaged_forms_are_reported(data: Any) -> None:
    """A form that `to_plain` never makes raises CorruptRecordError, wherever it stands."""
    for form in (data, [data], {"a": {"$": "tuple", "v": [data]}}):
        with pytest.raises(CorruptRecordError):
            from_plain(form)


def test_object_reference_is_read_as_such() -> None:
    """A reference to an object is told apart from plain data, and gives its record."""
    form = {"$": "object", "type": "<class 'A'>", "repr": "A()", "digest": "00", "size": 3}
    assert is_object(form)
    assert object_ref(form) == ObjectRef("<class 'A'>", "A()", size=3, digest="00")
    assert from_plain([form]) == [object_ref(form)]
    for data in (None, 1, "object", ["$"], {}, {"$": "tuple", "v": []}, to_plain(form)):
        assert not is_object(data)


def test_importing_the_codec_loads_neither_numpy_nor_pandas() -> None:
    """The codec alone, and writing builtin values with it, imports no large library."""
    script = (
        "import sys, dask.delayed; before = set(sys.modules); import daskperiment.codec as c; "
        "c.pack({'a': (1, b'2')}); c.from_plain(c.to_plain(1j)); "
        "print({'numpy', 'pandas'} & (set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
