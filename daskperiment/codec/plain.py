"""Plain values <-> a tagged form that JSON can hold.

JSON's own types stand for themselves. Anything else is ``{"$": tag, "v": parts}``, where the
parts are plain values again. The tag ``"object"`` belongs to
:class:`~daskperiment.records.ObjectRef` and has its own fields.

Only exact types are plain. A subclass (a named tuple, an ``IntEnum``, an ``OrderedDict``) may mean
more than its base does, so that it is kept as an object.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec

from daskperiment.codec.kinds import KINDS, NotPlainError
from daskperiment.codec.scientific import SCIENTIFIC, scientific_kind
from daskperiment.errors import CorruptRecordError
from daskperiment.records import ObjectRef

__all__ = ["MAX_DEPTH", "NotPlainError", "from_plain", "is_object", "object_ref", "to_plain"]

MAX_DEPTH = 100
"""Levels of nesting up to which a value is plain.

Fixed and well below the interpreter's recursion limit: what was written from a shallow stack can
be read from a deep one.
"""

_INT64 = 2**63


def to_plain(value: Any) -> Any:
    """Give the tagged, JSON-ready form of a plain value.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, range,
        complex, date, datetime, time, timedelta, timezone, ZoneInfo, Decimal, Fraction, UUID, a
        path, a NumPy scalar, or pandas' Timestamp, Timedelta, Period, Interval, NaT or NA.

    Returns
    -------
    object
        Of None, bool, int of 64 bit, finite float, str that UTF-8 can hold, list, and dict with
        such keys. Shares no mutable part with `value`.

    Raises
    ------
    NotPlainError
        If the value, or a part of it, is of another type, or nests deeper than `MAX_DEPTH`.

    Examples
    --------
    >>> to_plain({"lr": 0.1, "layers": (64, 32)})
    {'lr': 0.1, 'layers': {'$': 'tuple', 'v': [64, 32]}}
    """
    try:
        return _encode(value, MAX_DEPTH)
    except RecursionError:
        raise NotPlainError("the value nests too deeply for the stack it is read on") from None


def _encode(value: Any, depth: int) -> Any:
    type_ = type(value)
    if type_ is float:
        return value if isfinite(value) else _tagged("float", repr(value))
    if type_ is int:
        return value if -_INT64 <= value < _INT64 else _tagged("int", hex(value))
    if type_ is str:
        return value if value.isascii() or _is_unicode(value) else _encode_surrogates(value)
    if value is None or type_ is bool:
        return value
    if not depth:
        raise NotPlainError(f"the value nests deeper than {MAX_DEPTH} levels")
    if type_ is dict:
        return _encode_dict(value, depth - 1)
    if type_ is list:
        return [_encode(item, depth - 1) for item in value]
    if type_ is tuple:
        return _tagged("tuple", [_encode(item, depth - 1) for item in value])
    if type_ is set or type_ is frozenset:
        return _encode_set(value, type_.__name__, depth - 1)
    return _encode_kind(value, type_, depth - 1)


def _tagged(tag: str, parts: Any) -> dict[str, Any]:
    return {"$": tag, "v": parts}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encode_surrogates(text: str) -> dict[str, Any]:
    return _tagged("str", KINDS[bytes].reduce(text.encode("utf-8", "surrogatepass")))


def _encode_dict(value: dict[Any, Any], depth: int) -> dict[str, Any]:
    for key in value:
        if type(key) is not str or key == "$" or not (key.isascii() or _is_unicode(key)):
            pairs = [[_encode(k, depth), _encode(v, depth)] for k, v in value.items()]
            return _tagged("dict", pairs)
    return {key: _encode(item, depth) for key, item in value.items()}


def _encode_set(value: set[Any] | frozenset[Any], tag: str, depth: int) -> dict[str, Any]:
    # The order of a set differs between processes; sorted, equal sets have equal forms.
    items = [_encode(item, depth) for item in value]
    return _tagged(tag, sorted(items, key=msgspec.json.encode))


def _encode_kind(value: Any, type_: type, depth: int) -> dict[str, Any]:
    try:
        kind = KINDS.get(type_) or scientific_kind(type_)
        parts = kind.reduce(value) if kind else None
    except Exception as error:
        name = type.__repr__(type_)
        raise NotPlainError(f"a value of {name} is not plain data: {error}") from error
    if kind is None:
        raise NotPlainError(f"a value of {type.__repr__(type_)} is not plain data")
    return _tagged(kind.tag, _encode(parts, depth))


def from_plain(data: Any) -> Any:
    """Give the value of a tagged form: the inverse of `to_plain`.

    Runs no code but that of the types that `to_plain` names. A form tagged ``"object"`` gives its
    :class:`~daskperiment.records.ObjectRef`, not the object.

    Parameters
    ----------
    data : object
        What `to_plain` returned, or what JSON made of it.

    Raises
    ------
    CorruptRecordError
        If a tag is unknown or its parts do not fit it.

    Examples
    --------
    >>> from_plain({"lr": 0.1, "layers": {"$": "tuple", "v": [64, 32]}})
    {'lr': 0.1, 'layers': (64, 32)}
    """
    try:
        return _decode(data)
    except (CorruptRecordError, MemoryError):
        raise
    except RecursionError:
        raise CorruptRecordError(
            f"a stored value nests deeper than the {MAX_DEPTH} levels that are ever written; "
            "the record is damaged: restore it from a backup"
        ) from None


def _decode(data: Any) -> Any:
    type_ = type(data)
    if type_ is dict:
        if "$" in data:
            return _decode_tagged(data)
        return {key: _decode(item) for key, item in data.items()}
    if type_ is list:
        return [_decode(item) for item in data]
    return data


def _decode_tagged(data: dict[str, Any]) -> Any:
    tag = data["$"]
    if tag == "object":
        return object_ref(data)
    build = _BUILDERS.get(tag) if type(tag) is str else None
    if build is None:
        raise CorruptRecordError(
            f"a stored value has the tag {tag!r}, which this version does not know; "
            "update daskperiment if a newer version wrote it, else restore it from a backup"
        )
    try:
        return build(_decode(data["v"]))
    except (CorruptRecordError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise CorruptRecordError(
            f"a stored value with the tag {tag!r} cannot be read: {type(error).__name__}: {error}; "
            "the record is damaged, or this machine lacks what it names (a time zone, say)"
        ) from error


def _decode_float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"expected nan, inf or -inf, got {text!r}")
    return float(text)


def _decode_int(text: str) -> int:
    return int(text, 16)


def _decode_surrogates(text: str) -> str:
    raw: bytes = KINDS[bytes].build(text)
    return raw.decode("utf-8", "surrogatepass")


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "int": _decode_int,
    "float": _decode_float,
    "str": _decode_surrogates,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    **{kind.tag: kind.build for kind in (*KINDS.values(), *SCIENTIFIC.values())},
}


def is_object(data: Any) -> bool:
    """Tell whether a record's field refers to an object rather than holding a plain value."""
    return type(data) is dict and data.get("$") == "object"


def object_ref(data: Any) -> ObjectRef:
    """Read a field for which `is_object` holds."""
    try:
        return msgspec.convert(data, ObjectRef)
    except msgspec.ValidationError as error:
        raise CorruptRecordError(
            f"the reference to an object cannot be read: {error}; restore the record from a backup"
        ) from error
