"""What people read of a value of any type: its type, and one line; never raises."""

from __future__ import annotations

from collections.abc import Callable
from reprlib import Repr
from typing import Any

from daskperiment.formatting import one_line, plain_repr, shorten

__all__ = ["describe", "guarded", "short_line"]

_LONGEST = 200
"""Characters of a description."""


def describe(value: Any) -> tuple[str, str]:
    """Return a value's type and one line of at most 200 characters, for people; never raises.

    Examples
    --------
    >>> describe([1, 2])
    ("<class 'list'>", '[1, 2]')
    """
    type_ = guarded(lambda v: str(type(v)), value) or type.__repr__(type(value))
    text = guarded(_REPR.repr, value) or f"{type.__repr__(type(value))} without a readable repr"
    return one_line(type_), short_line(text)


def guarded(show: Callable[[Any], str], value: Any) -> str:
    """Return a text of a value, empty if making it fails."""
    try:
        return show(value)
    except Exception:
        return ""


def short_line(text: str) -> str:
    """Return a text as one line of at most 200 characters."""
    # Cut twice: before, because a repr may have any length, and after, because escapes are long.
    # Escaped, because lone surrogates would not fit into JSON.
    line = one_line(" ".join(text[: 4 * _LONGEST].split()))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class _BoundedRepr(Repr):
    """Writes the first elements, and the first digits."""

    def repr_int(self, x: int, level: int) -> str:
        """Return the number, by digits of base 16 where Python writes no others."""
        return shorten(plain_repr(x), self.maxlong)


def _bounded_repr() -> Repr:
    bounded = _BoundedRepr()
    bounded.maxlevel = 4
    bounded.maxlist = bounded.maxtuple = bounded.maxset = bounded.maxfrozenset = 20
    bounded.maxdict = bounded.maxarray = bounded.maxdeque = 20
    bounded.maxstring = bounded.maxlong = bounded.maxother = _LONGEST
    return bounded


_REPR = _bounded_repr()
"""A repr that does not first write out a list of a million elements."""
