"""Recorded values as short texts, and in an order that holds for values of any kind."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from daskperiment.compare.wording import show
from daskperiment.formatting import shorten
from daskperiment.history.values import MISSING, StoredObject, viewed
from daskperiment.store.protocol import Store

__all__ = ["CELL", "LONG", "Cell", "as_number", "cell", "cut", "full_text", "sort_key", "trimmed"]

CELL = 80
"""Characters of a value in a table."""
LONG = 20_000
"""Characters of a value that is shown for itself."""
_KEPT = 2_000
"""Bytes of a value up to which a table of many trials keeps it as it is."""

Cell = list[Any]
"""``[text, kind]`` or ``[text, kind, full text]``, as the page wants it."""


def full_text(value: Any) -> str:
    """Write a value at some length, without unpickling anything."""
    text = value if isinstance(value, Cut) else show(value)
    return cut(str(text))


def cut(text: str, length: int = LONG) -> str:
    """Keep a text to a length, and say how much is left out.

    >>> cut("abcdef", 4)
    'abcd… (2 more characters)'
    """
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text) - length:,} more characters)"


def cell(value: Any) -> Cell:
    """Make the cell of a table.

    >>> cell(0.1234567891), cell("rbf"), cell(True)
    (['0.123457', 'number', '0.1234567891'], ['rbf', 'text'], ['True', 'flag'])
    """
    if value is MISSING:
        return ["", "none"]
    if isinstance(value, str):
        return _with_title(str(value), "cut" if isinstance(value, Cut) else "text")
    if isinstance(value, StoredObject):
        return [shorten(value.repr, CELL), "object", f"{value.type}, {value.size} bytes"]
    if isinstance(value, bool) or value is None:
        return [repr(value), "flag"]
    text = shorten(show(value), CELL) if isinstance(value, int) else full_text(value)
    if isinstance(value, int | float):
        short = f"{value:.6g}" if isinstance(value, float) else text
        return [short, "number"] if short == text else [short, "number", text]
    return _with_title(text, "number" if as_number(value) is not None else "value")


def _with_title(text: str, kind: str) -> Cell:
    short = shorten(text, CELL)
    return [short, kind] if short == text else [short, kind, cut(text, 1000)]


def as_number(value: Any) -> float | None:
    """Give what can be drawn on an axis as a float, and ``None`` for anything else."""
    if isinstance(value, bool | str | bytes) or value is None or value is MISSING:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number


def sort_key(value: Any) -> tuple[int, Any]:
    """Order numbers before texts before the rest; call it with anything but `MISSING`."""
    if isinstance(value, str):
        return 2, (value.casefold(), value)
    if isinstance(value, bool):
        return 0, float(value)
    if isinstance(value, int):
        return 0, value
    number = as_number(value)
    if number is not None:
        return (1, 0.0) if math.isnan(number) else (0, number)
    return 3, shorten(show(value), CELL)


class Cut(str):
    """The beginning of a value that is too large to be kept for each trial of a table."""

    __slots__ = ()


def trimmed(form: Any, store: Store) -> Any:
    """Give a recorded form, or a `Cut` if it is large."""
    if not isinstance(form, dict | list | str) or len(msgspec.json.encode(form)) <= _KEPT:
        return form
    return Cut(shorten(show(viewed(form, store)), 4 * CELL))
