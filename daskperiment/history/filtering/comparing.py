"""Comparing columns with literals and with each other, and sorting by them."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from daskperiment.formatting import plain_repr, shorten
from daskperiment.history.filtering.value_meaning import (
    beside,
    is_nothing,
    moment,
    seconds,
    sort_key,
    text_of,
)
from daskperiment.history.stored_values import StoredObject
from daskperiment.history.table_columns import CodedColumn, Column, NumberColumn

__all__ = [
    "Literal",
    "TEXT_FUNCTIONS",
    "holds",
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


_NUMBER_WORDS = ("nan", "inf", "true", "false")
_DIGIT = re.compile(r"\d")
_EXACT = 2**53
"""Up to here each integer is a float of its own."""


class Literal(NamedTuple):
    """A value that stands in a filter."""

    value: Any
    text: str


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
        if abs(value) < 2**63 and (same := _beside_numbers(column, value)) is not None:
            found: Mask = column.known() & _NUMERIC[op](column.values, same)
            return found
        if value != value:
            return np.zeros(len(column), bool)
    return column.coded().truths(lambda each: holds(op, each, value))


def _beside_numbers(column: NumberColumn, value: int | float) -> int | float | None:
    """Return a number to compare with a column's; ``None`` if that would round what it compares.

    Integers and floats are compared as floats, which do not tell all integers apart.
    """
    if column.values.dtype.kind == "f":
        return value if float(value) == value else None
    return int(value) if abs(value) >= _EXACT else value


def _are_exact(column: NumberColumn) -> bool:
    """Whether each number of a column is the same as a float."""
    values = column.values
    if values.dtype.kind != "i" or not len(values):
        return True
    return int(values.min()) >= -_EXACT and int(values.max()) <= _EXACT


def _in_seconds(literal: Literal, column: Column) -> Any:
    """Return a literal as a time or a duration where it stands beside one."""
    value = literal.value
    if isinstance(column, CodedColumn) or column.unit == "number":
        return value
    many = value if isinstance(value, tuple) else (value,)
    read = moment if column.unit == "moment" else seconds
    found = tuple(read(each) if isinstance(each, str) else each for each in many)
    return found if isinstance(value, tuple) else found[0]


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
        same_kind = first.values.dtype.kind == second.values.dtype.kind
        if same_kind or (_are_exact(first) and _are_exact(second)):
            known: Mask = first.known() & second.known() & _NUMERIC[op](first.values, second.values)
            return known
    pairs = zip(first.to_list(), second.to_list(), strict=True)
    return np.array([holds(op, one, two) for one, two in pairs], dtype=bool)


def of_text(function: Callable[[str, str], bool], column: Column, wanted: str) -> Mask:
    """Return for which rows a text is as wanted; what is no text is not."""

    def asked(value: Any) -> bool:
        text = text_of(value)
        return text is not None and function(text, wanted)

    return column.coded().truths(asked)


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
            return bool(first in (second if isinstance(second, str) else text_of(second) or second))
        if op in (ast.Is, ast.IsNot):
            return (first is second) == (op is ast.Is)
        return bool(_NUMERIC[op](beside(first, second), beside(second, first)))
    except (TypeError, ValueError, OverflowError):
        return False


# Sorting ------------------------------------------------------------------------------------------


def sorted_rows(column: Column, descending: bool) -> np.ndarray[Any, Any]:
    """Return the rows in the order of a column; those without a value come last.

    Rows of equal values stay as they are. Numbers come before texts, and these before all else.
    """
    if isinstance(column, NumberColumn):
        known, values = column.known(), column.values
    else:
        known, values = _ranks(column)
    # Of a million rows each array is felt: those that are not needed are not made.
    rows = None if known.all() else np.flatnonzero(known)
    keys = values if rows is None else values[rows]
    if descending:
        # Reversed twice, so that a stable sort is one downwards, too.
        found = np.argsort(keys[::-1], kind="stable")[::-1]
        found = np.subtract(len(keys) - 1, found, out=found)
    else:
        found = np.argsort(keys, kind="stable")
    del keys
    return found if rows is None else np.concatenate([rows[found], np.flatnonzero(~known)])


def _ranks(column: CodedColumn) -> tuple[Mask, np.ndarray[Any, Any]]:
    values = column.values
    keys = [sort_key(value) for value in values]
    ranks = np.full(len(values) + 1, -1, "int64")
    rank, before = -1, None
    for place in sorted(range(len(values)), key=keys.__getitem__):
        if keys[place] != before:
            rank, before = rank + 1, keys[place]
        if not is_nothing(values[place]):
            ranks[place] = rank
    found = ranks[column.codes]
    return found >= 0, found
