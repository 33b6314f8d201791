"""Plain types, each as a pair of small functions.

A *kind* takes a value apart into simpler plain values and puts it together again. It knows
nothing of JSON: :mod:`daskperiment.codec.fields` carries the parts on.

NumPy and pandas are not imported to write: a value of theirs can only exist once the library is
loaded, so that :data:`sys.modules` has it. Reading imports the library that a tag belongs to.
"""

from __future__ import annotations

import pathlib
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from daskperiment.codec.class_values import NamedValue, build_named, reduce_named

__all__ = ["BUILDERS", "FORMS", "KINDS", "Kind", "NotPlainError", "kind_of"]


class NotPlainError(TypeError):
    """A value, or a part of it, is not plain data."""


class Kind(NamedTuple):
    """How one plain type is taken apart and put together."""

    tag: str
    reduce: Callable[[Any], Any]
    """Value -> a simpler plain value."""
    build: Callable[[Any], Any]
    """The simpler value -> an equal value of the same type."""
    form: tuple[type, ...] = (list,)
    """JSON types of the simpler value. Of others nothing is built: of a number where text belongs,
    some types make a gigabyte, and of a range instead of a list any amount."""


# The standard library ----------------------------------------------------------------------------


def _text_of_bytes(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _bytes_of_text(text: str) -> bytes:
    return b64decode(text, validate=True)


def _reduce_time(value: datetime | time) -> Any:
    text = value.replace(tzinfo=None, fold=0).isoformat()
    if value.tzinfo is None and not value.fold:
        return text
    return [text, value.tzinfo, value.fold]


def _build_time(type_: type[datetime] | type[time], parts: Any) -> datetime | time:
    text, zone, fold = (parts, None, 0) if type(parts) is str else parts
    return type_.fromisoformat(text).replace(tzinfo=_zone(zone), fold=fold)


def _zone(value: Any) -> tzinfo | None:
    if value is None or isinstance(value, tzinfo):
        return value
    raise ValueError(f"expected a time zone, got {value!r}")


def _reduce_timezone(value: timezone) -> list[Any]:
    # A name that was given is kept; one that follows from the offset is not.
    offset = value.utcoffset(None)
    name = value.tzname(None)
    return [offset] if name == timezone(offset).tzname(None) else [offset, name]


def _reduce_zone(value: ZoneInfo) -> str:
    # A zone read from a file of unknown name cannot be found again elsewhere.
    if type(value.key) is not str:
        raise NotPlainError(f"{value!r} has no key; use ZoneInfo(key)")
    return value.key


def _reduce_path(value: pathlib.PurePath) -> list[str]:
    text = str(value)
    # A few odd Windows paths are not equal to the path of their own text.
    if type(value)(text) != value:
        raise NotPlainError(f"{value!r} does not survive str()")
    return [type(value).__name__, text]


_PATHS: dict[str, tuple[type[pathlib.PurePath], type[pathlib.PurePath]]] = {
    "PurePosixPath": (pathlib.PurePosixPath, pathlib.PurePosixPath),
    "PureWindowsPath": (pathlib.PureWindowsPath, pathlib.PureWindowsPath),
    "PosixPath": (pathlib.PosixPath, pathlib.PurePosixPath),
    "WindowsPath": (pathlib.WindowsPath, pathlib.PureWindowsPath),
}


def _build_path(parts: Any) -> pathlib.PurePath:
    name, text = parts
    concrete, pure = _PATHS[name]
    try:
        return concrete(text)
    except NotImplementedError:
        # The other system's files do not exist here, but their names can be shown.
        return pure(text)


def _numbers(build: Callable[..., Any], *types: type) -> Callable[[Any], Any]:
    """Return a builder that takes numbers of these types only: of text, Fraction makes any."""

    def checked(parts: Any) -> Any:
        if not set(map(type, parts)) <= set(types):
            raise ValueError(f"expected numbers, got {parts!r}")
        return build(*parts)

    return checked


_TEXT = (str,)

KINDS: dict[type, Kind] = {
    bytes: Kind("bytes", _text_of_bytes, _bytes_of_text, _TEXT),
    bytearray: Kind(
        "bytearray", _text_of_bytes, lambda text: bytearray(_bytes_of_text(text)), _TEXT
    ),
    complex: Kind("complex", lambda v: [v.real, v.imag], _numbers(complex, int, float)),
    range: Kind("range", lambda v: [v.start, v.stop, v.step], _numbers(range, int)),
    date: Kind("date", date.isoformat, date.fromisoformat, _TEXT),
    datetime: Kind("datetime", _reduce_time, partial(_build_time, datetime), (str, list)),
    time: Kind("time", _reduce_time, partial(_build_time, time), (str, list)),
    timedelta: Kind(
        "timedelta", lambda v: [v.days, v.seconds, v.microseconds], _numbers(timedelta, int)
    ),
    timezone: Kind("timezone", _reduce_timezone, lambda parts: timezone(*parts)),
    ZoneInfo: Kind("zone", _reduce_zone, ZoneInfo, _TEXT),
    Decimal: Kind("decimal", str, Decimal, _TEXT),
    Fraction: Kind("fraction", lambda v: [v.numerator, v.denominator], _numbers(Fraction, int)),
    NamedValue: Kind("class", reduce_named, build_named),
    UUID: Kind("uuid", str, UUID, _TEXT),
    **{concrete: Kind("path", _reduce_path, _build_path) for concrete, _ in _PATHS.values()},
}
"""Exact type -> its kind."""


# NumPy and pandas --------------------------------------------------------------------------------

_EXTENDED = {"longdouble", "float96", "float128"}
_EXTENDED_COMPLEX = {"clongdouble", "complex192", "complex256"}


def _reduce_numpy(value: Any) -> list[Any]:
    name = type(value).__name__
    if name in _EXTENDED:
        return ["longdouble", _long_text(value)]
    if name in _EXTENDED_COMPLEX:
        return ["clongdouble", [_long_text(value.real), _long_text(value.imag)]]
    if name in ("datetime64", "timedelta64"):
        return [value.dtype.name, value.view("int64").item()]
    if name == "str_":
        return [name, str.__str__(value)]  # item() drops NUL characters at the end
    if name == "bytes_":
        return [name, bytes(value)]
    if name == "void" and value.dtype.names is not None:
        raise TypeError("a structured NumPy scalar is not plain")
    return [name, value.item()]


def _long_text(value: Any) -> str:
    # Unlike str(), it does not depend on NumPy's print options.
    return str(sys.modules["numpy"].format_float_scientific(value))


def _build_numpy(parts: Any) -> Any:
    numpy = sys.modules.get("numpy") or import_module("numpy")
    name, value = parts
    if name == "clongdouble":
        pair = numpy.array([numpy.longdouble(part) for part in value])
        return pair.view(numpy.clongdouble)[0]
    if name.startswith(("datetime64", "timedelta64")):
        return numpy.int64(value).view(name)
    type_ = vars(numpy).get(_RENAMED.get(name, name))
    if not (isinstance(type_, type) and issubclass(type_, numpy.generic)):
        raise ValueError(f"{name!r} is no NumPy scalar type")
    wanted = _BUFFERS.get(name, _SCALARS)
    if type(value) not in wanted:
        raise ValueError(f"a NumPy {name} of {type(value).__name__}")
    return type_(value)


_SCALARS: tuple[type, ...] = (bool, int, float, complex)
# Of a number, these make zeros: so many.
_BUFFERS: dict[str, tuple[type, ...]] = {
    "void": (bytes,),
    "bytes_": (bytes,),
    "str_": (str,),
    "longdouble": (str,),
}


# NumPy 2 calls bool what NumPy 1 calls bool_; the older name works in both.
_RENAMED = {"bool": "bool_"}


def _reduce_timestamp(value: Any) -> list[Any]:
    zone = value.tzinfo
    pytz = sys.modules.get("pytz")
    if pytz is not None and isinstance(zone, pytz.tzinfo.BaseTzInfo):
        # pandas 2 makes these of names; they differ for each offset, their name does not.
        zone = zone.zone
    parts = [value.asm8, zone, value.fold]
    # pandas computes with whole minutes in places; zones of odd offsets do not survive it.
    if zone is not None and not _same_moment(_build_timestamp(parts), value):
        raise ValueError(f"pandas cannot convert to the zone {zone!r} exactly")
    return parts


def _same_moment(first: Any, second: Any) -> bool:
    return first == second and str(first) == str(second) and first.fold == second.fold


def _build_timestamp(parts: Any) -> Any:
    moment, zone, fold = parts
    stamp = import_module("pandas").Timestamp(moment)
    if zone is not None:
        zone = import_module("pytz").timezone(zone) if isinstance(zone, str) else zone
        stamp = stamp.tz_localize("UTC").tz_convert(zone)
    return stamp if stamp.fold == fold else stamp.replace(fold=fold)


def _reduce_period(value: Any) -> list[Any]:
    if value.freqstr.lstrip("0123456789") == "B":
        raise ValueError("pandas gives up periods of business days")
    return [value.ordinal, value.freqstr]


def _build_period(parts: Any) -> Any:
    ordinal, frequency = parts
    return import_module("pandas").Period(ordinal=ordinal, freq=frequency)


def _build_interval(parts: Any) -> Any:
    left, right, closed = parts
    return import_module("pandas").Interval(left, right, closed=closed)


def _build_missing(name: str) -> Any:
    if name not in ("NaT", "NA"):
        raise ValueError(f"{name!r} is no pandas constant")
    return getattr(import_module("pandas"), name)


def _reduce_missing(value: Any) -> str:
    return "NaT" if value is sys.modules["pandas"].NaT else "NA"


def _pandas(name: str) -> Callable[[Any], Any]:
    return lambda value: getattr(import_module("pandas"), name)(value)


_PANDAS: dict[str, Kind] = {
    "Timestamp": Kind("timestamp", _reduce_timestamp, _build_timestamp),
    "Timedelta": Kind("pandas-timedelta", lambda v: v.asm8, _pandas("Timedelta"), (dict,)),
    "Period": Kind("period", _reduce_period, _build_period),
    "Interval": Kind("interval", lambda v: [v.left, v.right, v.closed], _build_interval),
}

_SCIENTIFIC: dict[str, Kind] = {
    "numpy": Kind("numpy", _reduce_numpy, _build_numpy),
    "pandas": Kind("pandas", _reduce_missing, _build_missing, _TEXT),
    **{kind.tag: kind for kind in _PANDAS.values()},
}
"""Tag -> kind."""

BUILDERS: dict[str, Callable[[Any], Any]] = {
    kind.tag: kind.build for kind in (*KINDS.values(), *_SCIENTIFIC.values())
}
"""Tag -> what makes a value of the parts behind it."""

FORMS: dict[str, tuple[type, ...]] = {
    kind.tag: kind.form for kind in (*KINDS.values(), *_SCIENTIFIC.values())
}
"""Tag -> JSON types of the parts behind it."""


def kind_of(type_: type) -> Kind | None:
    """Return the kind of a plain type; None for any other type, subclasses included."""
    return KINDS.get(type_) or _scientific_kind(type_)


def _scientific_kind(type_: type) -> Kind | None:
    name = type_.__name__
    # The identity check refuses subclasses and classes that merely have the name.
    numpy = _names("numpy")
    if numpy.get(name) is type_:
        return _SCIENTIFIC["numpy"] if issubclass(type_, numpy["generic"]) else None
    pandas = _names("pandas")
    if name in _PANDAS and pandas.get(name) is type_:
        return _PANDAS[name]
    if type_ is type(pandas.get("NaT")) or type_ is type(pandas.get("NA")):
        return _SCIENTIFIC["pandas"]
    return None


def _names(module: str) -> dict[str, Any]:
    """Return the names in a module, none if it is not loaded."""
    # Not by getattr: NumPy warns when it is asked for some names.
    loaded = sys.modules.get(module)
    return {} if loaded is None else vars(loaded)
