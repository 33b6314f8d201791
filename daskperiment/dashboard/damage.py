"""Records that may be damaged, and an experiment that may be another one by now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from daskperiment.codec import decode_each
from daskperiment.errors import CorruptRecordError
from daskperiment.records import BEGUN
from daskperiment.store.protocol import Store, Stored

__all__ = ["begins_with", "first_token", "undamaged"]

T = TypeVar("T", bound=Struct)


class _Start(Struct):
    token: str


def first_token(store: Store, ids: Sequence[int]) -> tuple[int, str] | None:
    """Return the first trial with its token, which tells it from one of a later experiment."""
    begun = [one for one in store.read("trials", ids[:1]) if one.id == BEGUN] if ids else []
    found = undamaged(begun, _Start)
    return (ids[0], found[0][1].token) if found else None


def begins_with(store: Store, trial: int, token: str) -> bool:
    """Whether an experiment's first trial is still the one with this token.

    It is not where the experiment was deleted; of one whose record is damaged, nothing is known.
    """
    begun = [one for one in store.read("trials", [trial]) if one.id == BEGUN]
    found = undamaged(begun, _Start)
    return bool(begun) and (not found or found[0][1].token == token)


def undamaged(stored: Sequence[Stored], type_: type[T]) -> list[tuple[Stored, T]]:
    """Return what was stored with its records, but for damaged ones. Nobody is warned."""
    records = decode_each([one.body for one in stored], type_, [one.trial for one in stored])
    pairs = zip(stored, records, strict=True)
    return [(one, each) for one, each in pairs if not isinstance(each, CorruptRecordError)]
