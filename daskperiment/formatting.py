"""Text for terminals and HTML for notebooks, made of values that nobody has checked.

What stands in a store may come from anybody: everything here leaves control characters, markup
and endless texts harmless.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from unicodedata import combining, east_asian_width

__all__ = [
    "html_table",
    "install_command",
    "one_line",
    "shorten",
    "shorten_pair",
    "table",
    "width",
]


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


def shorten(text: str, columns: int) -> str:
    """Cut a text to one line of at most so many columns.

    >>> shorten("a long description", 10)
    'a long de…'
    """
    # A text may have any length, and all of it is never needed.
    line = one_line(text[: 4 * columns])
    if width(line) <= columns and len(text) <= 4 * columns:
        return line
    while line and width(line) > columns - 1:
        line = line[: min(len(line) - 1, columns - 1)]
    return line + "…"


def shorten_pair(first: str, second: str, columns: int) -> tuple[str, str]:
    """Shorten two texts so that what distinguishes them stays visible.

    >>> shorten_pair("[0, 0, 0, 0, 0, 1]", "[0, 0, 0, 0, 0, 2]", 8)
    ('… 0, 1]', '… 0, 2]')
    """
    short = shorten(first, columns), shorten(second, columns)
    if first == second or short[0] != short[1]:
        return short
    start = max(0, _common_prefix(first, second) - columns // 2)
    return shorten("…" + first[start:], columns), shorten("…" + second[start:], columns)


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
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


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
    return shlex.join(["pip", "install", *(f"{each.name}{each.specifier}" for each in own)])
