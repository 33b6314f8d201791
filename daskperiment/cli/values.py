"""Values that are given as text: ``a=1``, ``lr=0.1,0.2``, ``500MB``, ``30d``."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable
from typing import Any

from daskperiment.cli.answering import Refused

__all__ = ["assignments", "duration", "literal", "spaces"]

_OPENING, _CLOSING = "([{", ")]}"
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def literal(text: str) -> Any:
    """Read a Python literal; what is none is text.

    >>> [literal(text) for text in ("1", "2.5", "[1, 'a']", "None", "adam", "'1'")]
    [1, 2.5, [1, 'a'], None, 'adam', '1']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # as of "1if"
            warnings.simplefilter("ignore", DeprecationWarning)
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def assignments(given: Iterable[str]) -> dict[str, Any]:
    """Read parameters, each given as NAME=VALUE.

    >>> assignments(["lr=0.1", "name=x=y"])
    {'lr': 0.1, 'name': 'x=y'}
    """
    return {name: literal(text) for name, text in _pairs(given, "NAME=VALUE, such as lr=0.1")}


def spaces(given: Iterable[str]) -> dict[str, list[Any]]:
    """Read the values of a sweep, each parameter given as NAME=A,B,C.

    >>> spaces(["lr=0.1,0.2", "layers=[8],[8, 4]", "name=adam,sgd"])
    {'lr': [0.1, 0.2], 'layers': [[8], [8, 4]], 'name': ['adam', 'sgd']}
    """
    expected = "NAME=A,B,…, such as lr=0.1,0.2"
    pairs = _pairs(given, expected)
    empty = [name for name, text in pairs if not text.strip()]
    if empty:
        raise Refused(f"Got {empty[0] + '='!r}, which has no value; expected {expected}.")
    return {name: [literal(part.strip()) for part in _parts(text)] for name, text in pairs}


def _pairs(given: Iterable[str], expected: str) -> list[tuple[str, str]]:
    pairs: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise Refused(f"Got {text!r}; expected {expected}.")
        if name in pairs:
            raise Refused(f"Parameter {name!r} is given twice; give it once.")
        pairs[name] = value
    return list(pairs.items())


def _parts(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += char
    return parts


def duration(text: str) -> float:
    """Read a duration in seconds.

    >>> duration("90min"), duration("30d"), duration("5")
    (5400.0, 2592000.0, 5.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)?", text.strip())
    if match is None:
        raise Refused(f"Got {text!r} as a time; expected something like 30d, 12h, 90min or 45s.")
    return float(match[1]) * _UNITS[match[2] or "s"]
