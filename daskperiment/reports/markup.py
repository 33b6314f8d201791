"""Pieces of HTML and SVG in which every text that comes from a store is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from daskperiment.formatting import harmless

__all__ = ["Markup", "data_table", "facts", "tag"]

_VOID = frozenset({"img", "meta", "br"})


class Markup(str):
    """Text that is markup already: `tag` alone makes it."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Return an element; children that are no markup are text, None and False are left out.

    >>> tag("p", "a < b", tag("b", "bold"), class_="x", aria_label='"')
    '<p class="x" aria-label="&quot;">a &lt; b<b>bold</b></p>'
    """
    given = "".join(
        f' {_attribute(key)}="{escape(harmless(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(_flat(children))}</{name}>")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _flat(children: Iterable[Any]) -> Iterable[str]:
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str | int | float):
            yield escape(harmless(str(child)))
        else:
            yield from _flat(child)


def data_table(name: str, headers: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table that scrolls for itself; the first cell of a row is its heading.

    A cell that is a pair of texts is the short one, with the full one to hover.
    """
    head = tag("thead", tag("tr", [tag("th", one, scope="col") for one in headers]))
    lines = [
        tag("tr", tag("th", first, scope="row"), [_cell(one) for one in rest])
        for first, *rest in rows
    ]
    whole = tag("table", head if headers else None, tag("tbody", lines))
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=name)


def _cell(value: Any) -> Markup:
    if not isinstance(value, tuple):
        return tag("td", value)
    short, full = value
    return tag("td", short, title=None if full == short else full, class_="number")


def facts(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Return names with what they are; those of nothing are left out."""
    return tag("dl", [[tag("dt", name), tag("dd", value)] for name, value in pairs if value])
