"""Conditions on rows, as ``lr > 0.1 and Success``: a small language of its own.

A condition is parsed as a Python expression, and only what is listed in this module has a
meaning: comparisons, ``and``, ``or``, ``not``, ``in``, names of columns, literals. Nothing is
called, and nothing is looked up but columns.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from daskperiment.cli.output import is_nothing

__all__ = ["Condition", "ConditionError"]

Row = Mapping[str, Any]
Test = Callable[[Row], Any]

_LONGEST = 2000
_DEEPEST = 50
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]+)`""")
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: any(_holds(operator.eq, item, each) for each in items)
    if isinstance(items, tuple) else item in items,
    ast.NotIn: lambda item, items: not _COMPARISONS[ast.In](item, items),
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}  # fmt: skip


class ConditionError(ValueError):
    """A condition that means nothing; the message says which part."""


class Condition:
    """A condition on rows that have these names; ConditionError if it is none, or names others.

    Names that are no identifiers stand in backticks, or in quotes.

    >>> holds = Condition("lr > 0.1 and not `Process Time` > 60", ["lr", "Process Time"])
    >>> holds({"lr": 0.5, "Process Time": 3}), holds({"lr": 0.5, "Process Time": 61})
    (True, False)
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._names = names
        self._backticks: dict[str, str] = {}
        self.used: set[str] = set()
        """The names that the condition asks for."""
        self._test = self._compile(self._parse(text))

    def __call__(self, row: Row) -> bool:
        """Whether the condition holds for a row. A comparison with nothing never holds."""
        return _truth(self._test(row))

    def _parse(self, text: str) -> ast.expr:
        if len(text) > _LONGEST:
            raise ConditionError(f"A condition has at most {_LONGEST} characters.")
        try:
            tree = ast.parse(_QUOTED.sub(self._unquoted, text.strip()), mode="eval").body
            return _shallow(tree)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
            raise ConditionError(
                f"Cannot read the condition {text!r}: {reason}. Expected something like "
                '"lr > 0.1 and Success" or "`Process Time` > 2 or Status == \'failed\'".'
            ) from error

    def _unquoted(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        placeholder = f"_column_{len(self._backticks)}_"
        self._backticks[placeholder] = match[1]
        return placeholder

    def _compile(self, node: ast.expr) -> Test:
        match node:
            case ast.BoolOp(op=op, values=values):
                tests = [self._compile(each) for each in values]
                many = all if isinstance(op, ast.And) else any
                return lambda row: many(_truth(test(row)) for test in tests)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                test = self._compile(operand)
                return lambda row: not _truth(test(row))
            case ast.Compare():
                return self._comparison(node)
            case ast.Name(id=name):
                return self._column(self._backticks.get(name, name))
            case ast.Constant(value=str(name)) if not name.isidentifier() and name in self._names:
                return self._column(name)
        value = self._literal(node)
        return lambda row: value

    def _column(self, name: str) -> Test:
        if name not in self._names:
            known = ", ".join(each if each.isidentifier() else f"`{each}`" for each in self._names)
            raise ConditionError(f"There is no column {name!r}; there are: {known}.")
        self.used.add(name)
        return lambda row: row[name]

    def _comparison(self, node: ast.Compare) -> Test:
        operands = [self._compile(each) for each in (node.left, *node.comparators)]
        compare = [_COMPARISONS[type(op)] for op in node.ops]

        def test(row: Row) -> bool:
            values = [operand(row) for operand in operands]
            pairs = zip(compare, values, values[1:], strict=False)
            return all(_holds(each, first, second) for each, first, second in pairs)

        return test

    def _literal(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return tuple(self._literal(item) for item in items)
        raise ConditionError(
            f"A condition cannot hold {ast.unparse(node)!r}; it is made of columns, numbers, "
            "texts, comparisons, and, or, not, in, and parentheses."
        )


def _shallow(tree: ast.expr) -> ast.expr:
    """Return the expression, if it is not nested so deeply that following it would fail."""
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise RecursionError


def _truth(value: Any) -> bool:
    if is_nothing(value):
        return False
    try:
        return bool(value)
    except (TypeError, ValueError):
        return False


def _holds(compare: Callable[[Any, Any], Any], first: Any, second: Any) -> bool:
    if is_nothing(first) or is_nothing(second):
        return False
    try:
        return bool(compare(_beside(first, second), _beside(second, first)))
    except (TypeError, ValueError, OverflowError):
        return False  # what cannot be compared does not hold


def _beside(value: Any, other: Any) -> Any:
    """Return what to compare with another value: text as a time, or a duration as seconds."""
    if isinstance(value, timedelta) and isinstance(other, int | float):
        return value.total_seconds()
    if not (isinstance(value, str) and isinstance(other, date)):
        return value
    if not isinstance(other, datetime):
        return date.fromisoformat(value)
    time = datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if other.tzinfo and not time.tzinfo else time
