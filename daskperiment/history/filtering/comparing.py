"""Comparing columns with literals and with each other, and sorting by them."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from daskperiment.errors import FilterError
from daskperiment.formatting import plain_repr, shorten
from daskperiment.history.stored_values import MISSING, StoredObject
from daskperiment.history.table_columns import CodedColumn, Column, NumberColumn

__all__ = [
    "Literal",
    "TEXT_FUNCTIONS",
    "holds",
    "is_nothing",
    "literal_first",
    "of_columns",
    "of_text",
    "of_word",
    "sorted_rows",
    "truth",
    "with_literal",
]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

TEXT_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "contains": operator.contains,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
"""What may be asked of a text."""
_NUMERIC: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


_DURATION = re.compile(r"(-?\d+(?:\.\d*)?|-?\.\d+)\s*([a-z]*)")
_SECONDS: dict[str, float] = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
    "ms": 1e-3, "us": 1e-6,
}  # fmt: skip


_NUMBER_WORDS = ("nan", "inf", "true", "false")
_DIGIT = re.compile(r"\d")


class Literal(NamedTuple):
    """A value that stands in a filter."""

    value: Any
    text: str


def is_nothing(value: Any) -> bool:
    """Whether a value stands for a missing one: pandas' own, or nan."""
    if value is MISSING or value is None:
        return value is MISSING
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def truth(column: Column) -> Mask:
    """Return for which rows a column is true."""
    if isinstance(column, NumberColumn):
        true: Mask = column.known() & (column.values != 0)
        return true
    return column.truths(_truth)


def _truth(value: Any) -> bool:
    try:
        return not is_nothing(value) and bool(value)
    except (TypeError, ValueError):
        return False


def with_literal(op: type[ast.cmpop], column: Column, literal: Literal) -> Mask:
    """Return for which rows a column stands to a literal as said."""
    value = _in_seconds(literal, column)
    if op in (ast.Is, ast.IsNot) and value is None:
        none = _is_none(column)
        return none if op is ast.Is else ~none
    if isinstance(column, NumberColumn) and type(value) in (int, float, bool) and op in _NUMERIC:
        if abs(value) < 2**63:  # also no nan
            found: Mask = column.known() & _NUMERIC[op](column.values, value)
            return found
        if value != value:
            return np.zeros(len(column), bool)
    return column.coded().truths(lambda each: holds(op, each, value))


def _in_seconds(literal: Literal, column: Column) -> Any:
    """Return a literal as a time or a duration where it stands beside one."""
    value = literal.value
    if isinstance(column, CodedColumn) or column.unit == "number":
        return value
    many = value if isinstance(value, tuple) else (value,)
    read = _moment if column.unit == "moment" else _duration
    found = tuple(read(each) if isinstance(each, str) else each for each in many)
    return found if isinstance(value, tuple) else found[0]


def _moment(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(
            f"{text!r} stands beside a time and is none; expected something like '2026-02-01' or "
            "'2026-02-01T12:30+01:00'. Without an offset it is in UTC."
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise FilterError(
            f"{text!r} stands beside a duration and is none; expected a number of seconds, or "
            "something like '2 min' or '1.5h'."
        )
    return float(found[1]) * _SECONDS[found[2]]


def _is_none(column: Column) -> Mask:
    coded = column.coded()
    none: Mask = coded.truths(lambda value: value is None) | (coded.codes < 0)
    return none


def literal_first(
    op: type[ast.cmpop], mirrored: type[ast.cmpop], literal: Literal, column: Column
) -> Mask:
    """Return for which rows a literal stands to a column as said."""
    if op in (ast.In, ast.NotIn):
        return column.coded().truths(lambda each: holds(op, literal.value, each))
    return with_literal(mirrored, column, literal)


def of_columns(op: type[ast.cmpop], first: Column, second: Column) -> Mask:
    """Return for which rows one column stands to another as said."""
    if isinstance(first, NumberColumn) and isinstance(second, NumberColumn) and op in _NUMERIC:
        known: Mask = first.known() & second.known() & _NUMERIC[op](first.values, second.values)
        return known
    pairs = zip(first.to_list(), second.to_list(), strict=True)
    return np.array([holds(op, one, two) for one, two in pairs], dtype=bool)


def of_text(function: Callable[[str, str], bool], column: Column, wanted: str) -> Mask:
    """Return for which rows a text is as wanted; what is no text is not."""
    return column.coded().truths(lambda each: isinstance(each, str) and function(each, wanted))


def of_word(column: Column, word: str) -> Mask:
    """Return for which rows a word stands in the text of a value, in whatever case."""
    folded = word.casefold()
    may_be_number = folded in _NUMBER_WORDS or _DIGIT.search(folded)
    if isinstance(column, NumberColumn) and not (column.unit == "number" and may_be_number):
        return np.zeros(len(column), bool)
    return column.coded().truths(lambda each: folded in _shown(each).casefold())


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return shorten(value.repr if isinstance(value, StoredObject) else plain_repr(value), 300)


def holds(op: type[ast.cmpop], first: Any, second: Any) -> bool:
    """Whether two values stand to each other as said; what cannot be compared does not."""
    if is_nothing(first) or is_nothing(second):
        return False
    try:
        if op is ast.NotIn:
            return not holds(ast.In, first, second)
        if op is ast.In:
            if isinstance(second, tuple | list | set | frozenset):
                return any(holds(ast.Eq, first, each) for each in second)
            return bool(first in second)
        if op in (ast.Is, ast.IsNot):
            return (first is second) == (op is ast.Is)
        return bool(_NUMERIC[op](_beside(first, second), _beside(second, first)))
    except (TypeError, ValueError, OverflowError):
        return False


def _beside(value: Any, other: Any) -> Any:
    """Return what to compare with another value: text as a time, or a duration as seconds."""
    if isinstance(value, timedelta) and isinstance(other, int | float):
        return value.total_seconds()
    if isinstance(value, str) and isinstance(other, timedelta):
        return timedelta(seconds=_duration(value))
    if not (isinstance(value, str) and isinstance(other, date)):
        return value
    if not isinstance(other, datetime):
        return date.fromisoformat(value)
    time = datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if other.tzinfo and not time.tzinfo else time


# Sorting ------------------------------------------------------------------------------------------


def sorted_rows(column: Column, descending: bool) -> np.ndarray[Any, Any]:
    """Return the rows in the order of a column; those without a value come last.

    Rows of equal values stay as they are. Numbers come before texts, and these before all else.
    """
    if isinstance(column, NumberColumn):
        known, values = column.known(), column.values
    else:
        known, values = _ranks(column)
    rows = np.flatnonzero(known)
    keys = values[rows]
    # Reversed twice, so that a stable sort is one downwards, too.
    found = np.argsort(keys[::-1], kind="stable")[::-1] if descending else None
    by_value = rows[np.argsort(keys, kind="stable") if found is None else len(rows) - 1 - found]
    return np.concatenate([by_value, np.flatnonzero(~known)])


def _ranks(column: CodedColumn) -> tuple[Mask, np.ndarray[Any, Any]]:
    values = column.values
    keys = [_sort_key(value) for value in values]
    ranks = np.full(len(values) + 1, -1, "int64")
    rank, before = -1, None
    for place in sorted(range(len(values)), key=keys.__getitem__):
        if keys[place] != before:
            rank, before = rank + 1, keys[place]
        if not is_nothing(values[place]):
            ranks[place] = rank
    found = ranks[column.codes]
    return found >= 0, found


def _sort_key(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool | int | float) and value == value:
        return 0, value
    if isinstance(value, datetime) and not is_nothing(value):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return 1, aware.timestamp()
    if isinstance(value, timedelta) and not is_nothing(value):
        return 0, value.total_seconds()
    number = _as_number(value)
    if number is not None:
        return 0, number
    return (2, value) if isinstance(value, str) else (3, f"{type(value).__name__} {value!r}")


def _as_number(value: Any) -> float | None:
    if isinstance(value, np.number | np.bool_) and value.dtype.kind in "biuf":
        number = float(value)
        return number if number == number else None
    return None
