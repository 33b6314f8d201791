"""The page's old short terms, such as ``lr>0.1 kind=rbf overflow``, in the language of filters."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from daskperiment.capture.source import parse_python
from daskperiment.errors import FilterError
from daskperiment.formatting import shorten
from daskperiment.history.filtering import Filter
from daskperiment.history.filtering.language import path_of, path_text
from daskperiment.history.history_table import HistoryTable

__all__ = ["column_of_page", "find", "find_assuming", "translated"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_TERM = re.compile(r"(?P<name>[^<>=!~]+?)\s*(?P<sign><=|>=|!=|=|<|>|~)(?P<text>.*)", re.DOTALL)
_SIGN_FIRST = re.compile(r"<=|>=|!=|[=<>~]")
_SIGN_LAST = re.compile(r"(<=|>=|!=|[=<>~])$")
_NEW = re.compile(r"==|\b(?:and|or|not|in|is|None)\b|[()`]")
"""What no short term has: a filter with it is in the language, or wrong."""
_SPELLINGS = 8
_COLUMNS = {
    "trial": "Trial ID", "status": "Status", "result": "Result", "started": "Started",
    "finished": "Finished", "duration": "Process Time", "description": "Description",
    "step": "Step", "seed": "Seed", "host": "Host", "user": "User", "sweep": "Sweep",
    "reproduces": "Reproduces", "name": "Name", "notes": "Notes", "archived": "Archived",
}  # fmt: skip
"""What the page called the columns that every experiment has."""


def find(text: str, table: HistoryTable) -> tuple[str, Mask]:
    """Return a filter in the language, and the rows that it finds.

    Raises FilterError if it is neither in the language nor made of short terms.
    """
    if not text.strip():
        return "", np.ones(len(table), bool)
    try:
        return text.strip(), Filter(text).rows(table)
    except FilterError:
        if _is_of_language(text):
            raise
    became = translated(text, table)
    return became, Filter(became).rows(table)


def find_assuming(text: str, table: HistoryTable) -> tuple[str, Mask]:
    """Do the same for a table that takes any name for a column: others it knows none by.

    So it cannot be seen by the columns which way of writing it is; a word is more likely a word.
    """
    became = text.strip() if _is_of_language(text) else translated(text, table)
    return became, Filter(became).rows(table)


def _is_of_language(text: str) -> bool:
    return bool(_NEW.search(re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)))


def translated(text: str, table: HistoryTable) -> str:
    """Return short terms in the language; FilterError if they cannot be understood.

    They are comparisons by ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` and ``~`` (contains), and
    words that stand anywhere in a row. All of them hold.
    """
    try:
        parts = _joined(shlex.split(text))
    except ValueError as error:
        raise FilterError(f"The filter {shorten(text, 60)!r} has an open quote.") from error
    matches = [(part, _TERM.fullmatch(part)) for part in parts]
    return " and ".join(
        _compared(m["name"], m["sign"], m["text"].strip(), table) if m else f"anywhere({part!r})"
        for part, m in matches
    )


def column_of_page(name: str, table: HistoryTable) -> str:
    """Return what the language calls a column of an address that somebody kept."""
    down = "-" if name.startswith("-") and name not in table.names else ""
    plain = name.removeprefix(down)
    if plain in table.names:
        return name
    if plain.startswith("p:") and plain[2:] in table.names:
        return down + plain[2:]
    if plain.startswith("m:"):
        return down + path_text(("metrics", plain[2:]))
    return down + _COLUMNS.get(plain, plain)


def _compared(name: str, sign: str, text: str, table: HistoryTable) -> str:
    path = _path(name, table)
    column, number = _written(path), _number(text)
    if sign in ("=", "!="):
        folded = text.casefold()
        same = _spellings(path, table, lambda v: [v] if _text(v).casefold() == folded else [])
        literals = [*([number] if number else []), *same] or [repr(text)]
        many = f"{column} in ({', '.join(literals)})"
        equal = f"{column} == {literals[0]}" if len(literals) == 1 else many
        return equal if sign == "=" else f"not {equal}"
    if sign == "~":
        found = _spellings(path, table, lambda v: _pieces(v, text)) or [repr(text)]
        terms = [f"contains({column}, {one})" for one in found]
        return terms[0] if len(terms) == 1 else f"({' or '.join(terms)})"
    return f"{column} {sign} {number or repr(text)}"


def _path(name: str, table: HistoryTable) -> tuple[str, ...]:
    name = name.strip()
    if name in table.names:
        return (name,)
    lower = name.casefold()
    if lower in _COLUMNS:
        return (_COLUMNS[lower],)
    for other in table.names:
        if other.casefold() == lower:
            return (other,)
    try:
        path = path_of(name, table.names)
        table.column(path)
        return path
    except FilterError:
        known = ", ".join([*list(table.columns.parameters)[:8], *_COLUMNS])
        raise FilterError(
            f"There is no column {shorten(name, 40)!r} to filter by. Give one of {known}."
        ) from None


def _written(path: tuple[str, ...]) -> str:
    # What no backticks can hold may stand in quotes.
    return repr(path[0]) if len(path) == 1 and (not path[0] or "`" in path[0]) else path_text(path)


def _number(text: str) -> str:
    """Return a number as a literal of the language; empty if the text is none."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if number != number:
        return ""
    try:
        literal = ast.literal_eval(parse_python(text.strip(), mode="eval"))
        return text if type(literal) in (int, float) else repr(number)
    except (ValueError, SyntaxError):
        return repr(number).replace("inf", "1e999")


def _spellings(
    path: tuple[str, ...], table: HistoryTable, spelled: Callable[[Any], Iterable[Any]]
) -> list[str]:
    """Return, as literals, how the values of a column spell what was meant in any case."""
    found: dict[str, None] = {}
    for value in table.column(path).coded().used():
        if isinstance(value, str | bool) or value is None:
            found.update(dict.fromkeys(map(repr, spelled(value))))
        if len(found) >= _SPELLINGS:
            break
    return list(found)


def _pieces(value: Any, text: str) -> list[str]:
    if not isinstance(value, str):
        return []
    at = value.casefold().find(text.casefold())
    piece = value[at : at + len(text)]
    return [piece] if at >= 0 and piece.casefold() == text.casefold() else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _joined(parts: list[str]) -> list[str]:
    """Return parts with those put together that had spaces around the sign.

    >>> _joined(["lr", ">=", "0.2", "kind=", "rbf", "word"])
    ['lr>=0.2', 'kind=rbf', 'word']
    """
    joined: list[str] = []
    for part in parts:
        if joined and (_SIGN_FIRST.match(part) or _SIGN_LAST.search(joined[-1])):
            joined[-1] += part
        else:
            joined.append(part)
    return joined
