"""What a person can query in a trial's document, drawn from the bodies of its records.

The bodies stay beside it as they are. This is a view of them in MongoDB's own types, where the
queries that people ask matter more than that every value comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import msgspec
from bson.decimal128 import Decimal128

from daskperiment.codec import from_plain
from daskperiment.records import ObjectRef

__all__ = ["begun_fields", "computed_fields", "ended_fields", "field_name"]

_LARGE = 16 << 10
"""Bytes of JSON above which a value is shown by its size only."""
_DEPTH = 20
"""Levels shown of a nested value: a server takes no more than 100 in one document."""
_INT64 = 2**63
_CHARACTERS = str.maketrans({".": "．", "\0": "␀"})


def begun_fields(body: bytes) -> dict[str, Any]:
    """Give the fields of a trial that began.

    Parameters
    ----------
    body : bytes
        JSON of :class:`~daskperiment.records.Begun`. Whatever else it is makes fewer fields.
    """
    data = _object(body)
    origin = data.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    parameters = data.get("parameters")
    fields = {
        "status": "running",
        "parameters": _shown_all(parameters) if isinstance(parameters, dict) else {},
        "step": _shown(data.get("result")),
        "started": _moment(data.get("started")),
        "seed": _shown(data.get("seed")),
        "host": _shown(origin.get("host")),
        "user": _shown(origin.get("user")),
    }
    return _given(fields)


def computed_fields(body: bytes) -> dict[str, Any]:
    """Give the parameter, by the name of its field, that a computed one adds."""
    data = _object(body)
    name = data.get("name")
    return {field_name(name): _shown(data.get("value"))} if isinstance(name, str) else {}


def ended_fields(body: bytes) -> dict[str, Any]:
    """Give the fields of a trial that ended; none if it is no such record."""
    data = _object(body)
    failure = data.get("failure")
    failure = failure if isinstance(failure, dict) else {}
    status = data.get("status")
    if status not in ("succeeded", "failed", "interrupted"):
        return {}
    fields = {
        "status": status,
        "type": _shown(data.get("type")),
        "finished": _moment(data.get("finished")),
        "elapsed": _shown(data.get("elapsed")),
        "description": _shown(failure.get("description")),
        "failed_step": _shown(failure.get("step")),
    }
    result = {"result": _shown(data.get("value"))} if status == "succeeded" else {}
    return _given(fields) | result


def field_name(name: str) -> str:
    """Give the field for a parameter: no dot, no dollar first, no NUL, whatever the name.

    Examples
    --------
    >>> field_name("layer.size"), field_name("$lr")
    ('layer．size', '＄lr')
    """
    name = _text(name).translate(_CHARACTERS)
    return "＄" + name[1:] if name.startswith("$") else name


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        data = _leniently(body)
    return data if isinstance(data, dict) else {}


def _leniently(body: bytes) -> Any:
    # The standard library reads numbers of any size and halves of surrogate pairs.
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _moment(seconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _shown_all(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field_name(name): _shown(value) for name, value in values.items()}


def _shown(data: Any) -> Any:
    """Give the tagged form of a plain value in MongoDB's types."""
    if data is None or type(data) in (bool, float):
        return data
    try:
        if type(data) is not int and (size := len(json.dumps(data))) > _LARGE:
            return f"({size} bytes)"
        return _native(from_plain(data), _DEPTH)
    except Exception:
        # Damaged, or of a later version: the record itself says more to those who read it.
        return None


def _native(value: Any, depth: int) -> Any:
    if value is None or type(value) in (bool, float):
        return value
    if not depth:
        return "…"
    if isinstance(value, dict):
        return {_key(key): _native(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return _items(value, depth - 1)
    for type_, convert in _CONVERSIONS:
        if isinstance(value, type_):
            return convert(value)
    return _native(value.item(), depth - 1) if hasattr(value, "item") else _text(str(value))


def _items(values: Iterable[Any], depth: int) -> list[Any]:
    return [_native(item, depth) for item in values]


def _key(key: Any) -> str:
    return field_name(key if isinstance(key, str) else str(key))


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _integer(value: int) -> Any:
    return value if -_INT64 <= value < _INT64 else _decimal(Decimal(value))


def _decimal(value: Decimal) -> Any:
    return Decimal128(value) if len(value.as_tuple().digits) <= 34 else str(value)


def _reference(value: ObjectRef) -> dict[str, Any]:
    return _given(
        {
            "type": _text(value.type),
            "repr": _text(value.repr),
            "size": value.size,
            "digest": value.digest,
        }
    )


def _plain_datetime(value: datetime) -> datetime:
    # A subclass of another library, such as a pandas Timestamp, may not be taken by the driver.
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    return datetime(*parts, value.microsecond, value.tzinfo, fold=value.fold)


_CONVERSIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, _text),
    (int, _integer),
    (bytes, bytes),
    (bytearray, bytes),
    (datetime, _plain_datetime),
    (date, lambda value: datetime(value.year, value.month, value.day)),
    (Decimal, _decimal),
    (PurePath, lambda value: _text(str(value))),
    (ObjectRef, _reference),
)
"""Type -> what stands for its values; a datetime is a date, and the first that fits counts."""
