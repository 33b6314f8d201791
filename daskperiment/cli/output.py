"""Printing what was recorded, for people and for programs.

What stands in a store may come from anybody: nothing of it is taken for markup, and control
characters are shown as escapes, so that a terminal never acts on them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from daskperiment.formatting import one_line, plain_repr, shorten, table, width

__all__ = [
    "as_json", "as_text", "exact", "is_nothing", "is_terminal", "plain_json", "print_pairs",
    "print_rows", "print_source", "print_table", "print_text", "safe",
]  # fmt: skip

_WIDE = 60
_MAIN_COLUMNS = {
    "Trial ID", "Result", "Success", "Process Time", "Description", "Metric", "Last", "Curve",
}  # fmt: skip
_ALL = "A pipe has all."
_ROWS = 500
"""So many rows of a table are shown on a terminal."""
_FOLDED = 30
"""A column of longer texts may be made so narrow, and then has several lines."""
_STATUS_STYLES = {
    "succeeded": "green", "True": "green", "failed": "red", "False": "red", "lost": "red",
    "interrupted": "yellow", "pruned": "yellow", "running": "cyan",
}  # fmt: skip
_FORMULAS = tuple("=+-@|%＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula."""
_LONG = 10_000
"""Bits of an integer that JSON has as text."""
_STYLED = {"Status", "Success", "status"}


# Values as text --------------------------------------------------------------------------------


def _is_missing(value: Any) -> bool:
    """Whether a value is what pandas puts where nothing is."""
    return type(value).__name__ in ("NAType", "NaTType")


def is_nothing(value: Any) -> bool:
    """Whether a value stands for a missing one: pandas' own, or nan."""
    return _is_missing(value) or (isinstance(value, float) and value != value)


def _shown(value: Any) -> str:
    """Return a value as people read it: rounded, and not too long."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime) and not _is_missing(value):
        return value.strftime("%Y-%m-%d %H:%M:%S") + ("Z" if value.tzinfo else "")
    if isinstance(value, timedelta) and not _is_missing(value):
        return f"{value.total_seconds():.3g} s"
    return shorten(exact(value), _WIDE)


def exact(value: Any) -> str:
    """Return a value as programs read it: nothing is cut, and durations are in seconds."""
    if _is_missing(value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        return repr(value.total_seconds())
    if isinstance(value, date):
        return value.isoformat()
    if type(value).__module__ == "numpy" and value.ndim == 0 and value.dtype.kind in "biufc":
        return repr(value.item())
    return plain_repr(value)


def plain_json(value: Any) -> Any:
    """Return what JSON can hold of a value.

    What is missing and nan are null, infinity is text, durations are seconds; what JSON has no
    form for is its ``repr``.
    """
    if _is_missing(value) or value is None:
        return None
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if type(value).__name__ == "StoredObject":  # importing the class would load the history
        return {name: getattr(value, name) for name in ("type", "repr", "size", "reason")}
    if type(value) is int and value.bit_length() > _LONG:
        return plain_repr(value)
    return value if isinstance(value, bool | int | float | str) else plain_repr(value)


def safe(text: str) -> str:
    """Return a text with control characters as escapes; lines and tabs stay."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


# Printing --------------------------------------------------------------------------------------


def is_terminal() -> bool:
    """Whether a person sees what is printed."""
    return sys.stdout.isatty()


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], console: Console | None = None
) -> None:
    """Print a table: laid out on a terminal, with tabs between columns elsewhere."""
    if console is None and not is_terminal():
        print_text("\n".join("\t".join(map(one_line, line)) for line in _lines(headers, rows)))
        return
    console = console or _console()
    total, rows = len(rows), rows[-_ROWS:]
    cells = [[_cell(header, row[at]) for row in rows] for at, header in enumerate(headers)]
    kept = _fitting(headers, cells, console.width)
    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    for at in kept:
        laid_out.add_column(Text(one_line(headers[at])), overflow="fold")
    for number in range(len(rows)):
        laid_out.add_row(*(cells[at][number] for at in kept))
    console.print(laid_out)
    hidden = [one_line(name) for at, name in enumerate(headers) if at not in kept]
    if hidden:
        console.print(Text(f"No room for: {', '.join(hidden)}. {_ALL}"))
    if total > len(rows):
        console.print(Text(f"The last {len(rows)} of {total} rows. {_ALL}"))


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[Any]], format_: str) -> None:
    """Print rows as a table, JSON or CSV."""
    if format_ == "table":
        print_table(headers, rows)
        return
    text = as_text(headers, rows, format_)
    # JSON is plain ASCII; in CSV a line break stays inside its quotes.
    click.echo(text if format_ == "json" else safe(text), nl=False)


def _fitting(headers: Sequence[str], cells: Sequence[Sequence[Text]], columns: int) -> list[int]:
    """Return the columns that fit: those that matter most, then the others from the left."""
    kept: list[int] = []
    for at in sorted(range(len(headers)), key=lambda at: headers[at] not in _MAIN_COLUMNS):
        longest = max((cell.cell_len for cell in cells[at]), default=0)
        columns -= max(width(headers[at]), min(_FOLDED, longest)) + (2 if kept else 0)
        if columns < 0 and kept:
            break
        kept.append(at)
    return sorted(kept)


def _lines(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    return [list(headers), *(list(map(exact, row)) for row in rows)]


def _cell(header: str, value: Any) -> Text:
    text = _shown(value)
    style = _STATUS_STYLES.get(text, "") if header in _STYLED else ""
    numeric = isinstance(value, int | float | timedelta) and not isinstance(value, bool)
    return Text(text, style=style, justify="right" if numeric else "left")


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other."""
    if not is_terminal():
        print_text(table([], pairs))
        return
    grid = Table.grid(padding=(0, 2))
    for _ in range(2):
        grid.add_column(overflow="fold")
    for name, value in pairs:
        style = _STATUS_STYLES.get(value, "") if name in _STYLED else ""
        grid.add_row(Text(one_line(name), style="bold"), Text(one_line(value), style=style))
    _console().print(grid)


def print_source(source: str) -> None:
    """Print Python code, in colour on a terminal."""
    if not is_terminal():
        print_text(source)
        return
    _console().print(Syntax(safe(source), "python", theme="ansi_dark", background_color="default"))


def print_text(text: str) -> None:
    """Print text as it is, but for control characters."""
    click.echo(safe(text))


def as_text(headers: Sequence[str], rows: Iterable[Sequence[Any]], format_: str) -> str:
    """Return rows as JSON, or else as CSV."""
    if format_ == "json":
        return as_json([dict(zip(headers, row, strict=True)) for row in rows]) + "\n"
    file = io.StringIO()
    cells = ([_harmless(cell) for cell in row] for row in [headers, *rows])
    csv.writer(file, lineterminator="\n").writerows(cells)
    return file.getvalue()


def _harmless(cell: Any) -> str:
    """Return a cell of CSV that no terminal acts on and no spreadsheet computes.

    A text that begins like a formula gets an apostrophe in front, as spreadsheets want it.
    """
    text = safe(exact(cell))
    is_formula = isinstance(cell, str) and text.lstrip("\t\n '\"")[:1] in _FORMULAS
    return f"'{text}" if is_formula else text


def as_json(data: Any, ascii_only: bool = True) -> str:
    """Return JSON; plain ASCII holds no character that a terminal could act on."""
    return json.dumps(plain_json(data), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def _console() -> Console:
    return Console(markup=False, emoji=False, highlight=False)
