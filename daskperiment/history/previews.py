"""What was told of values when they were kept, for notebooks and terminals: nothing is loaded.

A preview comes from whoever could write to the store, so that all of it is text, and a picture
is shown as one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from daskperiment.formatting import harmless, html_table, table
from daskperiment.records import ObjectRef, Preview

__all__ = ["padded", "preview_facts", "preview_html", "preview_text"]

_LINES = 12
"""Of a table or a text in a terminal."""
_COLUMNS = 8
_WIDTH = 30
"""Characters of a cell in a terminal."""


def preview_text(reference: ObjectRef) -> str:
    """Return what is told of a value, as lines for a terminal."""
    found = reference.preview
    if reference.reason is not None:
        return harmless(f"not kept: {reference.reason}")
    if found is None:
        return harmless(reference.repr)
    parts = [preview_facts(found)]
    if found.text and found.kind != "html":
        parts.append("\n".join(found.text.splitlines()[:_LINES]))
    if found.columns:
        parts.append(_grid(found))
    return harmless("\n".join(filter(None, parts)) or reference.repr)


def _grid(found: Preview) -> str:
    if not found.rows:
        return table(["name", "type"], _cut(found.columns[:_LINES], 2))
    shown = min(len(found.columns), _COLUMNS)
    rows = _cut([*_heads(found), *found.rows[:_LINES]], shown)
    laid_out = table(rows[0], rows[1:])
    more = len(found.columns) - shown
    return f"{laid_out}\nand {more} more columns" if more else laid_out


def _heads(found: Preview) -> list[list[str]]:
    """Return the names of a table's columns, and their types."""
    return [list(each) for each in zip(*padded(found.columns, 2), strict=True)]


def padded(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return rows of one length: whoever wrote the record may have written them of any."""
    return [[*row, *[""] * width][:width] for row in rows]


def _cut(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    return [list(map(_short, row)) for row in padded(rows, width)]


def _short(text: str) -> str:
    line = harmless(text).replace("\n", " ").replace("\t", " ")
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def preview_facts(found: Preview) -> str:
    """Return type, shape and statistics in one line; empty if none is known."""
    shape = " × ".join(map(str, found.shape))
    stats = [f"{name} {text}" for name, text in found.stats.items()]
    return ", ".join(filter(None, [found.dtype, shape, *stats]))


def preview_html(reference: ObjectRef, picture: bytes | None = None) -> str:
    """Return what is told of a value as HTML, with its small picture as PNG, if it has one."""
    found = reference.preview
    if reference.reason is not None:
        return _tag("p", f"not kept: {reference.reason}")
    if picture is not None:
        return f'<img alt="" src="data:image/png;base64,{b64encode(picture).decode()}">'
    if found is None:
        return _tag("pre", reference.repr)
    parts = [_tag("p", facts)] if (facts := preview_facts(found)) else []
    if found.text and found.kind != "html":
        parts.append(_tag("pre", found.text))
    if found.columns and found.rows:
        names, types = _heads(found)
        parts.append(html_table(names, [types, *found.rows]))
    elif found.columns:
        parts.append(html_table(["name", "type"], found.columns))
    return "".join(parts) or _tag("pre", reference.repr)


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(harmless(text))}</{name}>"
