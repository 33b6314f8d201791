"""Which variables matter to code that goes through the whole environment.

A copy of the environment is a plain dict, and what is taken from it later is seen by nobody. So
the code that copies says which variables it means: by the texts in it, names and beginnings of
names. Where it says none, all of them count, but for those that differ between any two terminals.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType

from daskperiment.capture.origin import origin_of_file

__all__ = ["variables_meant"]

_FOR_PROCESSES = ("subprocess", "multiprocessing", "asyncio")
"""Modules that hand the environment on to another process."""
_SETTINGS = ("pydantic_settings", "environs", "dynaconf", "starlette")
"""Libraries that make settings of the environment."""
_PREFIX = re.compile(r"[A-Za-z]\w*_")
_NAME = re.compile(r"[A-Z][A-Z0-9_]+")


def variables_meant(names: Iterable[str], frame: FrameType | None) -> list[str]:
    """Return names of variables that code means, and beginnings of names with a star behind."""
    while frame is not None and _top(frame) in sys.stdlib_module_names:
        if _top(frame) in _FOR_PROCESSES:
            return []
        frame = frame.f_back
    if frame is None or not _is_users(frame):
        return ["*"] if frame is not None and _top(frame) in _SETTINGS else []
    texts: dict[str, None] = {}
    handed_on = False
    while frame is not None and _is_users(frame):
        texts.update(dict.fromkeys(_texts_of(frame)))
        handed_on |= not {"subprocess", "Popen"}.isdisjoint(frame.f_code.co_names)
        frame = frame.f_back
    return _named_by(texts, list(names)) or ([] if handed_on else ["*"])


def _named_by(texts: Iterable[str], names: list[str]) -> list[str]:
    known = {name.lower(): name for name in names}
    prefixes = [f"{text}*" for text in texts if any(
        len(text) > 2 and name.startswith(text.lower()) and name != text.lower() for name in known
    ) or _PREFIX.fullmatch(text)]  # fmt: skip
    exact = [known.get(text.lower(), text) for text in texts
             if text.lower() in known or _NAME.fullmatch(text)]  # fmt: skip
    there = [name for name in exact if name.lower() in known]
    # A text that names no variable which is there may be about anything.
    return [*exact, *prefixes] if there or prefixes else []


def _texts_of(frame: FrameType) -> Iterator[str]:
    read: list[object] = [*frame.f_locals.values()]
    for code in _codes(frame.f_code):
        read += [frame.f_globals.get(name) for name in code.co_names]
        for value in code.co_consts:
            read += value if isinstance(value, (tuple, frozenset)) else [value]
    yield from (each for each in read if isinstance(each, str))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _is_users(frame: FrameType) -> bool:
    return origin_of_file(frame.f_code.co_filename) == "own" and _top(frame) != "daskperiment"


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
