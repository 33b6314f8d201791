"""Which trials are meant: one small language for Python, the command line and the page.

A filter such as ``lr > 0.1 and kind == "rbf"`` is parsed, never evaluated as code, and asked of the
columns of a table. So is what to sort by. Whoever has columns gives them; nothing here reads a
store.
"""

from daskperiment.history.filtering.language import Filter

__all__ = ["Filter"]
