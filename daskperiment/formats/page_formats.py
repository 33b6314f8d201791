"""What shows itself as a page: charts of plotly and altair, and whatever has ``_repr_html_``."""

from __future__ import annotations

from typing import Any

from daskperiment.formats.format import Buffer, Format
from daskperiment.formats.trees import top_modules
from daskperiment.records import Preview

__all__ = ["FORMATS"]

_LIBRARIES = frozenset({"plotly", "altair", "bokeh", "folium", "IPython"})
"""Whose objects are pictures, and nothing else that somebody would load."""

_SHOW = "_repr_html_"
"""What notebooks ask an object for that shows itself as a page."""


class HTMLFormat(Format):
    """A page."""

    name, suffix, media = "html", ".html", "text/html"

    def takes(self, value: Any) -> bool:
        """Whether it comes back: no chart does."""
        return False

    def shows(self, value: Any) -> bool:
        """Whether it is a chart, or a table with styles."""
        modules = top_modules(value)
        if "pandas" in modules:
            return type(value).__name__ == "Styler"
        return bool(_LIBRARIES & modules) and self.writes(value)

    def writes(self, value: Any) -> bool:
        """Whether it is a page, or can show itself as one."""
        if isinstance(value, str):
            return True
        return any(hasattr(value, name) for name in (_SHOW, "to_html"))

    def write(self, value: Any) -> bytes:
        """Return the page; of plotly one that needs nothing of the network."""
        return _page(value).encode("utf-8", "replace")

    def read(self, data: Buffer) -> str:
        """Return the text of the page."""
        return bytes(data).decode("utf-8", "replace")

    def preview(self, value: Any) -> Preview:
        """Say what it is a page of."""
        return Preview("html", type(value).__name__)


def _page(value: Any) -> str:
    if isinstance(value, str):
        return value
    modules = top_modules(value)
    if "plotly" in modules:
        return str(value.to_html(include_plotlyjs=True, full_html=True))
    if "altair" in modules or not hasattr(value, _SHOW):
        return str(value.to_html())
    text = getattr(value, _SHOW)()
    if not isinstance(text, str):
        raise TypeError(f"its {_SHOW}() returned {type(text).__name__}, expected text")
    return text


FORMATS: tuple[Format, ...] = (HTMLFormat(),)
