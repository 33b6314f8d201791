"""Text for terminals and HTML for notebooks, made of values that nobody has checked.

What stands in a store may come from anybody: everything here leaves control characters, markup
and endless texts harmless.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import reprlib
from collections.abc import Iterable, Sequence
from datetime import date, time
from html import escape
from pathlib import PurePath
from typing import Any
from unicodedata import combining, east_asian_width

__all__ = [
    "brief",
    "harmless",
    "html_table",
    "install_command",
    "listed",
    "nearest",
    "one_line",
    "plain_repr",
    "shorten",
    "shorten_pair",
    "table",
    "told_change",
    "width",
]


_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d_]*\.?[\d_]*([eE][-+]?\d+)")
"""A number with an exponent: without that it reads as another number."""
_OF_MEMBERS = (enum.Enum.__repr__, enum.Flag.__repr__)
"""What writes a member of an enum, unless its class has another way."""


def width(text: str) -> int:
    """Return the number of columns that a text takes in a terminal.

    >>> width("lr"), width("学習率")
    (2, 6)
    """
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if combining(char):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def one_line(text: str) -> str:
    r"""Replace line breaks and other control characters by their escapes.

    >>> one_line("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def harmless(text: str) -> str:
    r"""Return a text with control characters as escapes; only its lines stay.

    >>> harmless("a\tb")
    'a\\tb'
    """
    return "\n".join(map(one_line, text.split("\n")))


def plain_repr(value: Any) -> str:
    """Return a value's ``repr`` where no shorter text says the same.

    A member of an enum is its name, a date, a time and a path are their text. Integers have digits
    of base 16 where Python writes no others.

    >>> plain_repr(10**10_000)[:12]
    '0x9b84ea2855'
    >>> plain_repr(date(2026, 2, 1))
    '2026-02-01'
    """
    if isinstance(value, enum.Enum) and type(value).__repr__ in _OF_MEMBERS and value.name:
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, (date, time, PurePath)):
        return str(value)
    try:
        return repr(value)
    except ValueError:
        if isinstance(value, int):
            return hex(value)
        return f"<{type(value).__name__} that holds an integer of very many digits>"


def shorten(text: str, columns: int) -> str:
    """Cut a text to one line of at most so many columns.

    >>> shorten("a long description", 10)
    'a long de…'
    >>> shorten("1.2345678901234567e-05", 12)
    '1.23456…e-05'
    """
    # A text may have any length, and all of it is never needed.
    line = one_line(text[: 4 * columns])
    if width(line) <= columns and len(text) <= 4 * columns:
        return line
    while line and width(line) > columns - 1:
        line = line[: min(len(line) - 1, columns - 1)]
    number = _number_at(text, len(line)) if text.startswith(line) else None
    return line + "…" if number is None else _before_exponent(text, number, columns)


def _number_at(text: str, place: int) -> re.Match[str] | None:
    """Return the number with an exponent that would lose it if the text was cut at a place."""
    found = _NUMBER.finditer(text, 0, place + 500)
    return next((one for one in found if one.start() < place < one.end()), None)


def _before_exponent(text: str, number: re.Match[str], columns: int) -> str:
    """Cut a text within a number, so that it keeps its exponent; else before the number."""
    start, end, exponent = number.start(), number.end(), number[1]
    rest = "…" if end < len(text) else ""
    digits = columns - start - len(exponent) - len(rest) - 1
    if digits < 3:
        return text[: min(start, columns - 1)] + "…"
    return text[: start + digits] + "…" + exponent + rest


def shorten_pair(first: str, second: str, columns: int) -> tuple[str, str]:
    """Shorten two texts so that what distinguishes them stays visible.

    >>> shorten_pair("[0, 0, 0, 0, 0, 1]", "[0, 0, 0, 0, 0, 2]", 8)
    ('… 0, 1]', '… 0, 2]')
    """
    short = shorten(first, columns), shorten(second, columns)
    if first == second or short[0] != short[1]:
        return short
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(second):
        return _last_digits(first, columns), _last_digits(second, columns)
    start = max(0, _common_prefix(first, second) - columns // 2)
    number = _number_at(first, start)
    start = start if number is None else number.start()
    return shorten("…" + first[start:], columns), shorten("…" + second[start:], columns)


def _last_digits(number: str, columns: int) -> str:
    """Return the beginning of a number and its end with the exponent."""
    return number if len(number) <= columns else number[:3] + "…" + number[4 - columns :]


def listed(items: Iterable[object], most: int) -> str:
    """Return the first of some items in a row, and how many more there are.

    >>> listed([1, 2, 3, 4], 3)
    '1, 2, 3 and 1 more'
    """
    texts = list(map(str, items))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question for the name that was probably meant; empty if none is near.

    >>> nearest("schedular", ["scheduler", "seed"])
    "; did you mean 'scheduler'?"
    """
    from difflib import get_close_matches  # noqa: PLC0415  # for those who mistype

    found = get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


class _Brief(reprlib.Repr):
    """Writes values of which a few characters tell something; nothing for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _BRIEF

    def repr_instance(self, value: Any, level: int) -> str:
        """Return the text of what reprlib does not know."""
        kind = type(value)
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)][: self.maxdict]
            parts = [f"{n}={self.repr1(getattr(value, n, None), level - 1)}" for n in names]
            return f"{kind.__name__}({', '.join(parts)})"
        if isinstance(value, type) or hasattr(value, "__code__"):
            return str(value.__qualname__)
        if isinstance(value, (enum.Enum, PurePath)) or kind.__module__ in _TELLING:
            text = plain_repr(value)
            if " at 0x" in text:  # of another object it is another one, whatever that is worth
                raise _Untold
            return shorten(text, self.maxother)
        if kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            return shorten(repr(value.item()), self.maxother)
        raise _Untold


class _Untold(Exception):
    """A value is no matter of a few characters."""


_BRIEF = 60
_TELLING = ("builtins", "datetime", "decimal", "fractions", "uuid", "zoneinfo", "ipaddress")
_SCALARS = (bool, int, float, complex, type(None))


def brief(value: Any) -> str:
    """Return a value in short, for people; empty if a few characters do not tell it.

    >>> brief(0.2), brief([1, 2]), brief(object)
    ('0.2', '[1, 2]', 'object')
    """
    try:
        if type(value) in _SCALARS and len(text := repr(value)) <= _BRIEF:
            return text
        return shorten(_Brief().repr(value), _BRIEF)
    except Exception:  # values may fail in any way when they are to be written
        return ""


def told_change(
    first: str, second: str, columns: int, arrow: str = "→", code: Sequence[str] = (),
    data: bool | None = None,
) -> str:  # fmt: skip
    """Return how a value changed of which short texts are known; the texts may be empty or equal.

    `code` says what changed of the code in it, and `data` whether anything else did; None if nobody
    knows.

    >>> told_change("0.2", "0.3", 20), told_change("", "", 20), told_change("f", "f", 20)
    (' 0.2 → 0.3', ': other data', ' f: other data or code')
    >>> told_change("f", "f", 20, code=["code of f changed"], data=False)
    ': code of f changed'
    """
    named = [*code] if len(code) <= _NAMED else [*code[: _NAMED - 1], "more"]
    if named and data is False:
        return ": " + " and ".join(named)
    if not first or not second:
        told = ": other data"
    elif first == second:
        told = f" {shorten(first, columns)}: other data" + (" or code" if data is None else "")
    else:
        told = " " + f" {arrow} ".join(shorten_pair(first, second, columns))
    return " and ".join([told, *named])


_NAMED = 5
"""How many parts of code are named at most."""


def _common_prefix(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Align texts in columns; without headers if these are empty.

    >>> print(table(["name", "value"], [["lr", "0.1"], ["momentum", "0.9"]]))
    name      value
    lr        0.1
    momentum  0.9
    """
    lines = [[one_line(cell) for cell in row] for row in ([headers, *rows] if headers else rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        indent + "  ".join(map(_padded, line, widths)).rstrip() if any(line) else ""
        for line in lines
    )


def _padded(cell: str, columns: int) -> str:
    return cell + " " * (columns - width(cell))


def html_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table in which every cell is escaped text.

    >>> html_table(["name"], [["<b>"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = f"<thead>{_html_row(headers, 'th')}</thead>" if headers else ""
    body = "".join(_html_row(row, "td") for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _html_row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(harmless(cell))}</{tag}>" for cell in cells) + "</tr>"


def install_command(extra: str) -> str:
    """Return the command that installs what an extra of this package needs.

    It names the packages themselves: ``pip install "daskperiment[extra]"`` would ask the package
    index for this one, and take whatever has its name there.
    """
    # Slow to load, and only needed where something is missing.
    from importlib.metadata import PackageNotFoundError, requires  # noqa: PLC0415

    from packaging.requirements import Requirement  # noqa: PLC0415

    try:
        needed = [Requirement(text) for text in requires("daskperiment") or []]
    except PackageNotFoundError:  # run from a folder where it is not installed
        return f"pip install '.[{extra}]'"
    own = [each for each in needed if each.marker and each.marker.evaluate({"extra": extra})
           and not each.marker.evaluate({"extra": ""})]  # fmt: skip
    import shlex  # noqa: PLC0415  # for those who lack a package

    return shlex.join(["pip", "install", *(f"{each.name}{each.specifier}" for each in own)])
