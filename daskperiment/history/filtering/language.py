"""The language of filters: what it can say.

A filter is parsed as a Python expression, and only what is listed in this module has a meaning:
comparisons, ``and``, ``or``, ``not``, ``in``, names of columns with parts behind dots, literals,
and the functions of texts. Nothing is called, and nothing is looked up but columns.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Collection, Sequence
from functools import reduce
from keyword import iskeyword
from typing import Any, Protocol

import numpy as np

from daskperiment.capture.source import parse_python
from daskperiment.errors import FilterError
from daskperiment.history.filtering import comparing
from daskperiment.history.table_columns import Column

__all__ = ["Filter", "Mask", "Path", "Table", "no_column", "path_of", "path_text"]

Path = tuple[str, ...]
"""The name of a column, and the names of parts behind it."""
Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""For each row whether something holds."""
_Question = Callable[["Table"], Mask]

_LONGEST = 2000
_DEEPEST = 50
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]+)`""")
_NAME = re.compile(r"`([^`]+)`|([^.`]+)")
_NAMES = re.compile(rf"\s*(?:{_NAME.pattern})(?:\.(?:{_NAME.pattern}))*\s*")
_EXAMPLES = "\"lr > 0.1 and kind == 'rbf'\" or \"`Process Time` > 2 or not startswith(kind, 'r')\""
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE,
    ast.Eq: ast.Eq, ast.NotEq: ast.NotEq, ast.Is: ast.Is, ast.IsNot: ast.IsNot,
    ast.In: ast.In, ast.NotIn: ast.NotIn,
}  # fmt: skip


class Table(Protocol):
    """What a filter is asked of."""

    def __len__(self) -> int: ...

    @property
    def names(self) -> Collection[str]:
        """Names of the columns."""

    def column(self, path: Path) -> Column:
        """Return the column that a path leads to; FilterError if there is none."""


class Filter:
    """Which rows of a table are meant.

    Raises
    ------
    FilterError
        If the text means nothing; the message says which part.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise FilterError(
                f"A filter is a text such as {_EXAMPLES}; got {text!r} ({type(text).__name__})."
            )
        self.text = text
        self.paths: set[Path] = set()
        """What the filter asks for."""
        self._backticks: dict[str, str] = {}
        self._quoted: set[str] = set()
        self._question = self._read(self._parse(text))

    def rows(self, table: Table) -> Mask:
        """Return for each row of a table whether the filter holds.

        A comparison with a value that is missing never holds.
        """
        return self._question(table)

    def _parse(self, text: str) -> ast.expr:
        if len(text) > _LONGEST:
            raise FilterError(f"A filter has at most {_LONGEST} characters; this has {len(text)}.")
        try:
            code = _QUOTED.sub(self._unquoted, text.strip())
            # Half a character, as of the name of a file, is read where it is written as an escape.
            code = code.encode(errors="backslashreplace").decode()
            return _shallow(parse_python(code, mode="eval").body)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = "it is nested too deeply"
            if isinstance(error, SyntaxError | ValueError):
                reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise FilterError(
                f"Cannot read the filter {text!r}: {reason}. Expected something like {_EXAMPLES}."
            ) from error

    def _unquoted(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        placeholder = f"_column_{len(self._backticks)}_"
        self._backticks[placeholder] = match[1]
        return placeholder

    # Questions: what gives truth for each row

    def _read(self, node: ast.expr) -> _Question:
        match node:
            case ast.BoolOp(op=op, values=values):
                both = np.logical_and if isinstance(op, ast.And) else np.logical_or
                questions = [self._read(each) for each in values]
                return lambda table: reduce(both, [each(table) for each in questions])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                question = self._read(operand)
                return lambda table: ~question(table)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
            case ast.Constant(value=bool() as truth):
                return lambda table: np.full(len(table), truth)
        if (path := self._path(node)) is not None:
            self.paths.add(path)
            return lambda table: comparing.truth(table.column(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = (node.value,)
            self._quoted.add(node.value)
            return lambda table: comparing.truth(table.column(name))
        raise self._refused(node)

    def _comparison(self, node: ast.Compare) -> _Question:
        sides = [node.left, *node.comparators]
        pairs = [
            self._pair(type(op), left, right)
            for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
        ]
        return lambda table: reduce(np.logical_and, [pair(table) for pair in pairs])

    def _pair(self, op: type[ast.cmpop], left: ast.expr, right: ast.expr) -> _Question:
        first, second = self._operand(left), self._operand(right)

        def ask(table: Table) -> Mask:
            one, two = first(table), second(table)
            if isinstance(one, comparing.Literal) and isinstance(two, comparing.Literal):
                return np.full(len(table), comparing.holds(op, one.value, two.value))
            if isinstance(one, comparing.Literal):
                return comparing.literal_first(op, _MIRRORED[op], one, two)
            if isinstance(two, comparing.Literal):
                return comparing.with_literal(op, one, two)
            return comparing.of_columns(op, one, two)

        return ask

    def _operand(self, node: ast.expr) -> Callable[[Table], Any]:
        path = self._path(node)
        if path is not None:
            self.paths.add(path)
            return lambda table: table.column(path)
        literal = comparing.Literal(self._literal(node), ast.unparse(node))
        text = literal.value
        if isinstance(text, str) and not text.isidentifier():
            # A name that is no identifier may stand in quotes, too, where there is one.
            return lambda table: table.column((text,)) if text in table.names else literal
        return lambda table: literal

    def _call(self, node: ast.Call) -> _Question:
        match node:
            case ast.Call(func=ast.Name(id="anywhere"), args=[ast.Constant(value=str() as word)]):
                return lambda table: self._anywhere(table, word)
            case ast.Call(func=ast.Name(id=name), args=[subject, text], keywords=[]):
                pass
            case ast.Call(func=ast.Attribute(value=subject, attr=name), args=[text], keywords=[]):
                pass
            case _:
                raise self._refused(node)
        function, path = comparing.TEXT_FUNCTIONS.get(name), self._path(subject)
        wanted = self._literal(text)
        if function is None or path is None or not isinstance(wanted, str):
            raise self._refused(node)
        self.paths.add(path)
        return lambda table: comparing.of_text(function, table.column(path), wanted)

    def _anywhere(self, table: Table, word: str) -> Mask:
        masks = [comparing.of_word(table.column((name,)), word) for name in table.names]
        return reduce(np.logical_or, masks, np.zeros(len(table), bool))

    # What stands in a question

    def _path(self, node: ast.expr) -> Path | None:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(self._name(node.attr))
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return (self._name(node.id), *reversed(parts))

    def _name(self, name: str) -> str:
        return self._backticks.get(name, name)

    def _literal(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return tuple(self._literal(item) for item in items)
        raise self._refused(node)

    def _refused(self, node: ast.expr) -> FilterError:
        said = ast.unparse(node)
        for placeholder, name in self._backticks.items():
            said = said.replace(placeholder, f"`{name}`")
        if isinstance(node, ast.Call):
            known = ", ".join(f"{name}(kind, 'rb')" for name in comparing.TEXT_FUNCTIONS)
            return FilterError(
                f"A filter cannot call {said!r}; it knows {known}, anywhere('word')."
            )
        return FilterError(
            f"A filter cannot hold {said!r}; it is made of columns, numbers, texts, comparisons, "
            "and, or, not, in, and parentheses."
        )


def path_of(text: str, names: Collection[str]) -> Path:
    """Return the path that a text such as ``Result.f1`` or ``metrics.`val/loss`.min`` means.

    A whole name of a column means that one.
    """
    if text in names:
        return (text,)
    path = tuple(quoted or plain.strip() for quoted, plain in _NAME.findall(text))
    if not _NAMES.fullmatch(text) or not all(path):
        raise FilterError(
            f"Expected the name of a column, such as 'Result' or 'Result.f1'; got {text!r}."
        )
    return path


def path_text(path: Sequence[str]) -> str:
    """Return a path as it is written."""
    plain = (part.isidentifier() and not iskeyword(part) for part in path)
    return ".".join(p if is_plain else f"`{p}`" for p, is_plain in zip(path, plain, strict=True))


def no_column(path: Path, names: Collection[str], what: str = "column") -> FilterError:
    """Return the error for a name that there is not, with the nearest one that there is."""
    name = ".".join(path)
    known = {each.casefold(): each for each in names}
    near = difflib.get_close_matches(name.casefold(), known, 1, 0.5)
    hint = f", did you mean {known[near[0]]!r}?" if near else ";"
    listed = ", ".join(map(path_text, ([each] for each in names))) or "none"
    return FilterError(f"There is no {what} {name!r}{hint} there are: {listed}.")


def _shallow(tree: ast.expr) -> ast.expr:
    """Return the expression, if it is not nested so deeply that following it would fail."""
    level: list[ast.AST] = [tree]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise RecursionError
