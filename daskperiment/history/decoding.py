"""Decodes the records of a stream, past those that are damaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from msgspec import Struct

from daskperiment.codec import decode, decode_many
from daskperiment.errors import CorruptRecordError, StoreWarning
from daskperiment.store.protocol import Stored

__all__ = ["chunks", "decoded", "intact"]

T = TypeVar("T", bound=Struct)

_CHUNK = 1000
_body = attrgetter("body")
_number = attrgetter("trial")


def chunks(records: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Cut a stream in pieces, so that the bodies of all are never in memory at once."""
    rest = iter(records)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def intact(stored: Sequence[Stored], type_: type[T]) -> list[tuple[int, T]]:
    """Decode records of one type with their trials, leaving out damaged ones with a warning."""
    return decoded(stored, type_)[0]


def decoded(stored: Sequence[Stored], type_: type[T]) -> tuple[list[tuple[int, T]], list[Stored]]:
    """Decode records, and give those apart that are damaged."""
    try:
        records = decode_many(list(map(_body, stored)), type_)
    except CorruptRecordError:
        return _decoded_singly(stored, type_)
    return list(zip(map(_number, stored), records, strict=True)), []


def _decoded_singly(
    stored: Sequence[Stored], type_: type[T]
) -> tuple[list[tuple[int, T]], list[Stored]]:
    pairs: list[tuple[int, T]] = []
    damaged: list[Stored] = []
    reasons = []
    for one in stored:
        try:
            pairs.append((one.trial, decode(one.body, type_)))
        except CorruptRecordError as error:
            damaged.append(one)
            reasons.append(f"{one.id!r} of trial {one.trial} ({error})")
    _warn_of(reasons)
    return pairs, damaged


def _warn_of(damaged: list[str]) -> None:
    names = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if damaged[3:] else "")
    warnings.warn(
        f"Damaged records are left out: {names}. The others are not affected; restore the store "
        "from a copy if these matter.",
        StoreWarning,
        stacklevel=2,
    )
