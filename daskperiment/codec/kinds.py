"""Plain types of the standard library, each as a pair of small functions.

A *kind* takes a value apart into simpler plain values and puts it together again. It knows
nothing of JSON: :mod:`daskperiment.codec.plain` carries the parts on.
"""

from __future__ import annotations

import pathlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = ["KINDS", "Kind", "NotPlainError"]


class NotPlainError(TypeError):
    """A value, or a part of it, is not plain data."""


class Kind(NamedTuple):
    """How one plain type is taken apart and put together."""

    tag: str
    reduce: Callable[[Any], Any]
    """Value -> a simpler plain value."""
    build: Callable[[Any], Any]
    """The simpler value -> an equal value of the same type."""


def _text_of_bytes(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _bytes_of_text(text: str) -> bytes:
    return b64decode(text, validate=True)


def _reduce_datetime(value: datetime) -> Any:
    text = value.replace(tzinfo=None, fold=0).isoformat()
    if value.tzinfo is None and not value.fold:
        return text
    return [text, value.tzinfo, value.fold]


def _build_datetime(parts: Any) -> datetime:
    text, zone, fold = (parts, None, 0) if type(parts) is str else parts
    return datetime.fromisoformat(text).replace(tzinfo=_zone(zone), fold=fold)


def _reduce_time(value: time) -> Any:
    text = value.replace(tzinfo=None, fold=0).isoformat()
    if value.tzinfo is None and not value.fold:
        return text
    return [text, value.tzinfo, value.fold]


def _build_time(parts: Any) -> time:
    text, zone, fold = (parts, None, 0) if type(parts) is str else parts
    return time.fromisoformat(text).replace(tzinfo=_zone(zone), fold=fold)


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


def _build_range(parts: Any) -> range:
    return range(*parts)


KINDS: dict[type, Kind] = {
    bytes: Kind("bytes", _text_of_bytes, _bytes_of_text),
    bytearray: Kind("bytearray", _text_of_bytes, lambda text: bytearray(_bytes_of_text(text))),
    complex: Kind("complex", lambda v: [v.real, v.imag], lambda parts: complex(*parts)),
    range: Kind("range", lambda v: [v.start, v.stop, v.step], _build_range),
    date: Kind("date", date.isoformat, date.fromisoformat),
    datetime: Kind("datetime", _reduce_datetime, _build_datetime),
    time: Kind("time", _reduce_time, _build_time),
    timedelta: Kind(
        "timedelta",
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda parts: timedelta(*parts),
    ),
    timezone: Kind("timezone", _reduce_timezone, lambda parts: timezone(*parts)),
    ZoneInfo: Kind("zone", _reduce_zone, ZoneInfo),
    Decimal: Kind("decimal", str, Decimal),
    Fraction: Kind(
        "fraction", lambda v: [v.numerator, v.denominator], lambda parts: Fraction(*parts)
    ),
    UUID: Kind("uuid", str, UUID),
    **{concrete: Kind("path", _reduce_path, _build_path) for concrete, _ in _PATHS.values()},
}
"""Exact type -> its kind."""
