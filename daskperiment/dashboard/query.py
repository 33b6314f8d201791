"""Filtering and sorting the table of trials, in words that are never evaluated as code."""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from daskperiment.dashboard.cells import as_number, sort_key
from daskperiment.dashboard.trial_index import TrialRow
from daskperiment.errors import FilterError
from daskperiment.formatting import shorten
from daskperiment.history.stored_values import MISSING, StoredObject
from daskperiment.store.protocol import Store

__all__ = ["FIXED", "Query", "differing", "value_of"]

_TERM = re.compile(r"(?P<name>[^<>=!~]+?)\s*(?P<sign><=|>=|!=|=|<|>|~)(?P<text>.*)", re.DOTALL)
_SIGN_FIRST = re.compile(r"<=|>=|!=|[=<>~]")
_SIGN_LAST = re.compile(r"(<=|>=|!=|[=<>~])$")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _ended(name: str) -> Callable[[TrialRow], Any]:
    return lambda row: getattr(row.ended, name) if row.ended else MISSING


FIXED: dict[str, Callable[[TrialRow], Any]] = {
    "trial": lambda row: row.trial,
    "status": lambda row: row.status,
    "started": lambda row: row.begun.started,
    "finished": _ended("finished"),
    "duration": _ended("elapsed"),
    "description": lambda row: row.description or MISSING,
    "step": lambda row: row.begun.result,
    "seed": lambda row: row.begun.seed,
    "host": lambda row: row.begun.origin.host,
    "user": lambda row: row.begun.origin.user,
    "sweep": lambda row: MISSING if row.begun.sweep is None else row.begun.sweep,
    "resumes": lambda row: MISSING if row.begun.resumes is None else row.begun.resumes,
    "reproduces": lambda row: MISSING if row.begun.source is None else row.begun.source,
}
"""Columns that every experiment has, but the result."""


def value_of(row: TrialRow, column: str, store: Store) -> Any:
    """Return the value in a column: ``p:`` and a parameter, ``result``, or one of `FIXED`."""
    if column.startswith("p:"):
        return row.parameter(column[2:], store)
    if column == "result":
        return row.result(store)
    get = FIXED.get(column)
    return get(row) if get else MISSING


class _Term(NamedTuple):
    column: str
    sign: str
    text: str

    def holds(self, row: TrialRow, store: Store) -> bool:
        value = value_of(row, self.column, store)
        if value is MISSING:
            return self.sign == "!="
        number, wanted = as_number(value), _number(self.text)
        if self.sign in _COMPARISONS:
            compare = _COMPARISONS[self.sign]
            if number is not None and wanted is not None:
                return compare(number, wanted)
            return isinstance(value, str) and wanted is None and compare(value, self.text)
        if self.sign == "~":
            return self.text.casefold() in _text(value)
        if number is not None and wanted is not None:
            equal = number == wanted
        else:
            equal = _text(value) == self.text.casefold()
        return equal == (self.sign == "=")


class Query(NamedTuple):
    """Which trials to show, and by which column they are sorted."""

    terms: tuple[_Term, ...] = ()
    words: tuple[str, ...] = ()
    statuses: frozenset[str] = frozenset()
    column: str = "trial"
    descending: bool = True

    @classmethod
    def read(cls, text: str, names: Sequence[str], statuses: Iterable[str], sort: str) -> Query:
        """Return the query that a person wrote; FilterError if it cannot be understood.

        The text has terms such as ``lr>0.1 kind=rbf overflow``: comparisons by ``=``, ``!=``,
        ``<``, ``<=``, ``>``, ``>=`` and ``~`` (contains) with a parameter or another column, and
        words that stand anywhere in a row. All of them must hold. No status stands for any; with
        ``-`` before the column to sort by, the highest come first.
        """
        try:
            parts = _joined(shlex.split(text))
        except ValueError as error:
            raise FilterError(f"The filter {shorten(text, 60)!r} has an open quote.") from error
        matches = [(part, _TERM.fullmatch(part)) for part in parts]
        return cls(
            terms=tuple(
                _Term(_column(m["name"], names), m["sign"], m["text"]) for _, m in matches if m
            ),
            words=tuple(part.casefold() for part, match in matches if not match),
            statuses=frozenset(statuses),
            column=sort.removeprefix("-") or "trial",
            descending=sort.startswith("-") or not sort,
        )

    @property
    def is_filter(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.terms or self.words or self.statuses)

    def holds(self, row: TrialRow, names: Sequence[str], store: Store) -> bool:
        """Return whether a trial is to be shown."""
        if self.statuses and row.status not in self.statuses:
            return False
        if not all(term.holds(row, store) for term in self.terms):
            return False
        return not self.words or self._is_found(row, names, store)

    def _is_found(self, row: TrialRow, names: Sequence[str], store: Store) -> bool:
        columns = [*(f"p:{name}" for name in names), "result", "trial", "status", "description"]
        columns += ["step", "host", "user", "sweep"]
        values = (value_of(row, column, store) for column in columns)
        text = "\n".join(_text(value) for value in values if value is not MISSING)
        return all(word in text for word in self.words)

    def sorted_ids(self, values: Iterable[tuple[int, Any]]) -> list[int]:
        """Return ids of trials sorted by these values; those without one come last."""
        pairs = list(values)
        keyed = [(sort_key(value), trial) for trial, value in pairs if value is not MISSING]
        without = [trial for trial, value in pairs if value is MISSING]
        keyed.sort(reverse=self.descending)
        return [trial for _, trial in keyed] + without[:: -1 if self.descending else 1]


def differing(rows: Sequence[TrialRow], names: Sequence[str]) -> set[str]:
    """Return the names of the parameters that are not the same in all of these trials."""
    same = set(names)
    for row in rows:
        same = {name for name in same if _form(row, name) == _form(rows[0], name)}
        if not same:
            break
    return set(names) - same


def _form(row: TrialRow, name: str) -> tuple[type, Any]:
    # 1, 1.0 and True are equal, and not the same value of a parameter.
    form = row.form(name)
    return type(form), form


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


def _column(name: str, names: Sequence[str]) -> str:
    if name in names:
        return f"p:{name}"
    lower = name.strip().casefold()
    if lower in FIXED or lower == "result":
        return lower
    for other in names:
        if other.casefold() == lower:
            return f"p:{other}"
    known = ", ".join([*names[:8], "result", *FIXED])
    raise FilterError(
        f"There is no column {shorten(name, 40)!r} to filter by. Give one of {known}."
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.casefold()
    text = value.repr if isinstance(value, StoredObject) else repr(value)
    return shorten(text, 300).casefold()
