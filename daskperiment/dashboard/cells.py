"""Recorded values as short texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from daskperiment.compare.wording import show
from daskperiment.formatting import shorten
from daskperiment.history.stored_values import MISSING, StoredObject

__all__ = [
    "Cell",
    "LONG",
    "LONGEST",
    "as_number",
    "cell",
    "finite_numbers",
    "full_text",
    "truncate",
]

_SHORT = 80
"""Characters of a value in a table."""
LONG = 20_000
"""Characters of a value that is shown for itself."""
LONGEST = 200_000
"""Characters of a source, a diff or a traceback."""

Cell = list[Any]
"""``[text, kind]`` or ``[text, kind, full text]``, as the page wants it."""


def full_text(value: Any) -> str:
    """Return a value as text, up to `LONG` characters, without unpickling anything."""
    return truncate(str(show(value)))


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
        return _text_cell(value, "text")
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


def finite_numbers(values: Iterable[Any]) -> list[float] | None:
    """Return values as numbers; None if one of them is none, or is not finite."""
    found = []
    for value in values:
        number = as_number(value)
        if number is None or not math.isfinite(number):
            return None
        found.append(number)
    return found
