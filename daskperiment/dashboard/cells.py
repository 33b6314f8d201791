"""Recorded values as short texts, and in an order that holds for values of any kind."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from daskperiment.compare.wording import show
from daskperiment.formatting import shorten
from daskperiment.history.stored_values import MISSING, StoredObject, viewed
from daskperiment.store.protocol import Store

__all__ = [
    "Cell", "LONG", "LONGEST", "TruncatedText", "as_number", "cell", "full_text", "sort_key",
    "trimmed", "truncate",
]  # fmt: skip

_SHORT = 80
"""Characters of a value in a table."""
LONG = 20_000
"""Characters of a value that is shown for itself."""
LONGEST = 200_000
"""Characters of a source, a diff or a traceback."""
_KEPT = 2_000
"""Bytes of a value up to which a table of many trials keeps it as it is."""

Cell = list[Any]
"""``[text, kind]`` or ``[text, kind, full text]``, as the page wants it."""


class TruncatedText(str):
    """The beginning of a value that is too large to be kept for each trial of a table."""

    __slots__ = ()


def full_text(value: Any) -> str:
    """Return a value as text, up to `LONG` characters, without unpickling anything."""
    text = value if isinstance(value, TruncatedText) else show(value)
    return truncate(str(text))


def truncate(text: str, length: int = LONG) -> str:
    """Return a text up to a length, and how much is left out.

    >>> truncate("abcdef", 4)
    'abcd… (2 more characters)'
    """
    if len(text) <= length:
        return text
    return f"{text[:length]}… ({len(text) - length:,} more characters)"


def cell(value: Any) -> Cell:
    """Return a value as a cell of the table.

    >>> cell(0.1234567891), cell("rbf"), cell(True)
    (['0.123457', 'number', '0.1234567891'], ['rbf', 'text'], ['True', 'flag'])
    """
    if value is MISSING:
        return ["", "none"]
    if isinstance(value, str):
        return _text_cell(str(value), "cut" if isinstance(value, TruncatedText) else "text")
    if isinstance(value, StoredObject):
        return [shorten(value.repr, _SHORT), "object", f"{value.type}, {value.size} bytes"]
    if isinstance(value, bool) or value is None:
        return [repr(value), "flag"]
    # An integer may have any number of digits: only these are made short at once.
    text = shorten(show(value), _SHORT) if isinstance(value, int) else full_text(value)
    if isinstance(value, int | float):
        short = f"{value:.6g}" if isinstance(value, float) else text
        return [short, "number"] if short == text else [short, "number", text]
    return _text_cell(text, "number" if as_number(value) is not None else "value")


def _text_cell(text: str, kind: str) -> Cell:
    short = shorten(text, _SHORT)
    return [short, kind] if short == text else [short, kind, truncate(text, 1000)]


def as_number(value: Any) -> float | None:
    """Return what can be drawn on an axis as a float, and None for anything else."""
    if isinstance(value, bool | str | bytes) or value is None or value is MISSING:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a key that puts numbers before texts before the rest; not for `MISSING`."""
    if isinstance(value, str):
        return 2, (value.casefold(), value)
    if isinstance(value, bool):
        return 0, float(value)
    if isinstance(value, int):
        # As it is: a float cannot hold every integer.
        return 0, value
    number = as_number(value)
    if number is not None:
        # NaN has no place of its own among numbers.
        return (1, 0.0) if math.isnan(number) else (0, number)
    return 3, shorten(show(value), _SHORT)


def trimmed(form: Any, store: Store) -> Any:
    """Return a recorded form, or a `TruncatedText` if it is large."""
    if not isinstance(form, dict | list | str) or len(msgspec.json.encode(form)) <= _KEPT:
        return form
    return TruncatedText(shorten(show(viewed(form, store)), 4 * _SHORT))
