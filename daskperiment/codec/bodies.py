"""Records <-> bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec

from daskperiment.errors import CorruptRecordError

__all__ = ["decode", "decode_each", "decode_many", "encode"]

T = TypeVar("T", bound=msgspec.Struct)

_ENCODER = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """Give a record's JSON.

    Text that UTF-8 cannot hold (a file name, say, or an exception's message) is written with
    backslash escapes, so that it never costs the record.
    """
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        return _ENCODER.encode(_escaped(msgspec.to_builtins(record)))


def _escaped(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_escaped(key): _escaped(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_escaped(item) for item in data]
    return data


def decode(body: bytes, type_: type[T]) -> T:
    """Read a record from its JSON.

    Fields that this version does not know are passed over, so that it reads what a later one
    writes.

    Raises
    ------
    CorruptRecordError
        If the bytes are not the JSON of such a record.
    """
    try:
        record: T = _decoder(type_).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(body, type_, error) from error
    return record


def decode_many(bodies: Sequence[bytes], type_: type[T]) -> list[T]:
    """Read many records of one type in one pass.

    Raises
    ------
    CorruptRecordError
        If any of them is damaged; `decode` on each finds the others.
    """
    try:
        records: list[T] = _list_decoder(type_).decode(b"[" + b",".join(bodies) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        records = []
    if len(records) == len(bodies):
        return records
    # One by one, so that the message is about the damaged one.
    return [decode(body, type_) for body in bodies]


def decode_each(bodies: Sequence[bytes], type_: type[T]) -> list[T | CorruptRecordError]:
    """Return the record of each body, or in its place the error that says what is wrong with it."""
    try:
        return list(decode_many(bodies, type_))
    except CorruptRecordError:
        return [_decode_or_error(body, type_) for body in bodies]


def _decode_or_error(body: bytes, type_: type[T]) -> T | CorruptRecordError:
    try:
        return decode(body, type_)
    except CorruptRecordError as error:
        return error


def _damaged(body: bytes, type_: type, error: Exception) -> CorruptRecordError:
    start = bytes(body[:60])
    return CorruptRecordError(
        f"a record of {len(body)} bytes that begins with {start!r} is no {type_.__name__} "
        f"({error}): it is damaged; restore it from a backup (the others can still be read)"
    )


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


@cache
def _list_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(list[type_])
