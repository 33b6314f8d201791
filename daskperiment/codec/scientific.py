"""NumPy's and pandas' scalars as plain kinds, without importing either.

A value of theirs can only exist once the library is loaded, so that writing looks in
:data:`sys.modules`. Reading imports the library that a tag belongs to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from daskperiment.codec.kinds import Kind

__all__ = ["SCIENTIFIC", "scientific_kind"]

_EXTENDED = {"longdouble", "float96", "float128"}
_EXTENDED_COMPLEX = {"clongdouble", "complex192", "complex256"}


def scientific_kind(type_: type) -> Kind | None:
    """Find the kind of one of NumPy's or pandas' own scalar types."""
    name = type_.__name__
    # The identity check refuses subclasses and classes that merely have the name.
    numpy = _names("numpy")
    if numpy.get(name) is type_:
        return SCIENTIFIC["numpy"] if issubclass(type_, numpy["generic"]) else None
    pandas = _names("pandas")
    if name in _PANDAS and pandas.get(name) is type_:
        return _PANDAS[name]
    if type_ is type(pandas.get("NaT")) or type_ is type(pandas.get("NA")):
        return SCIENTIFIC["pandas"]
    return None


def _names(module: str) -> dict[str, Any]:
    # Not by getattr: NumPy warns when it is asked for some names.
    loaded = sys.modules.get(module)
    return {} if loaded is None else vars(loaded)


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
    if name == "void" and type(value) is not bytes:
        raise ValueError(f"expected bytes, got {value!r}")
    return type_(value)


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
    "Timedelta": Kind("pandas-timedelta", lambda v: v.asm8, _pandas("Timedelta")),
    "Period": Kind("period", _reduce_period, _build_period),
    "Interval": Kind("interval", lambda v: [v.left, v.right, v.closed], _build_interval),
}

SCIENTIFIC: dict[str, Kind] = {
    "numpy": Kind("numpy", _reduce_numpy, _build_numpy),
    "pandas": Kind("pandas", _reduce_missing, _build_missing),
    **{kind.tag: kind for kind in _PANDAS.values()},
}
"""Tag -> kind, for reading."""
