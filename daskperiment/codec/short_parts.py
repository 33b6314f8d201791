"""The fields of a value that are plain and short, which are recorded beside its object."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from itertools import chain, islice
from typing import Any

import msgspec

from daskperiment.codec.class_values import named
from daskperiment.codec.held_numbers import number_in_array
from daskperiment.codec.kinds import NotPlainError

__all__ = ["short_parts"]

ToPlain = Callable[[Any], Any]

_PARTS, _PART_LEVELS, _MOST_PARTS = 4_000, 3, 1_000
"""Bytes of JSON, levels, and number of the fields that are recorded beside an object."""
_LEFT_OUT = object()
"""Stands where a part has no form."""
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)


def short_parts(value: Any, to_plain: ToPlain) -> dict[str, Any]:
    """Return the fields of a value that are plain and short, by name; never raises.

    What is longer is left out, wherever it stands, and so is what a dict has under other names than
    texts. `to_plain` makes the form of a field, or raises NotPlainError.
    """
    try:
        return _fitting(value, _PART_LEVELS, _PARTS, to_plain)[0]
    except Exception:
        return {}


def _fitting(
    value: Any, levels: int, room: int, to_plain: ToPlain
) -> tuple[dict[str, Any], int]:  # fmt: skip
    """Return the parts of a value that fit into so many bytes, and how many these take."""
    found: dict[str, Any] = {}
    taken = 0
    for name, part in _fields(value):
        form, size = _part(part, levels, room - taken - len(name), to_plain)
        if form is not _LEFT_OUT:
            found[name] = form
            taken += len(name) + size
    return found, taken


def _part(value: Any, levels: int, room: int, to_plain: ToPlain) -> tuple[Any, int]:
    """Return the form of one part and its bytes; without a form if it is long or not plain."""
    number = number_in_array(value)
    value = value if number is None else number
    if _is_short(value, room):
        try:
            form = to_plain(named(value) if isinstance(value, enum.Enum) else value)
            size = len(msgspec.json.encode(form))
            if size <= room:
                return form, size
        except NotPlainError:
            pass
    parts, size = _fitting(value, levels - 1, room, to_plain) if levels else ({}, 0)
    return (parts, size) if parts else (_LEFT_OUT, 0)


def _is_short(value: Any, room: int) -> bool:
    """Whether a value may have so few bytes: what is long is not encoded to see that."""
    waiting = [value]
    while waiting and room > 0:
        each = waiting.pop()
        room -= 1
        if type(each) in (str, bytes, bytearray):
            room -= len(each)
        elif type(each) in _SIZED:
            room -= len(each)
            if room > 0:
                waiting.extend(chain(each, each.values()) if type(each) is dict else each)
    return room > 0


def _fields(value: Any) -> list[tuple[str, Any]]:
    """Return names and values of the fields of what has some, but those that its repr hides."""
    kind = type(value)
    if isinstance(value, dict):
        # By dict's own method: a class may compute what it gives. "$" is a mark of records.
        items = islice(dict.items(value), _MOST_PARTS)
        return [(name, part) for name, part in items if isinstance(name, str) and name != "$"]
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.repr]
    elif isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        names = list(kind._fields)
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__ if field.repr]
    else:
        known = getattr(kind, "model_fields", None)  # of pydantic
        names = [name for name, field in known.items() if field.repr] if known else []
    return [(name, getattr(value, name)) for name in names if isinstance(name, str)]
