"""What steps give each other and others see, too: whether it is still what it was.

A step may change in place what another step takes as well. So what is known of an output tells the
fingerprint of the value that the step returned, and of what it was given itself. An output that
was made of something else than the steps before it return is not that of its cache key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from daskperiment.capture.fingerprint import exact_fingerprint, is_array
from daskperiment.capture.members import is_own_code
from daskperiment.codec.buffer_digests import BufferDigests
from daskperiment.execution.calls import SCALARS, Call, member_name
from daskperiment.records import INEXACT, Argument

__all__ = [
    "exact_or_none",
    "given_between",
    "given_by_others",
    "have_parts_in_common",
    "holds_code",
    "holds_moved_code",
    "identities",
    "parts_of",
]

_MOST = 1000
"""How many items of a container are looked at."""


def exact_or_none(value: Any, buffers: BufferDigests | None = None) -> str | None:
    """Return the exact fingerprint of a value; None if it has none, or holds a path.

    What a path leads to may be other files for good reason. `buffers` are digests of large buffers
    that are known to be unchanged.
    """
    paths: list[Any] = []

    def note(path: Any) -> str:
        paths.append(path)
        return ""

    try:
        digest = exact_fingerprint(value, note, None, buffers)
    except Exception:  # what has no fingerprint is not known, and the user's classes may fail
        return None
    return None if paths else digest


def given_by_others(
    call: Call, values: Mapping[str, Any], arguments: Mapping[str, Argument], by_content: bool,
    buffers: BufferDigests | None = None,
) -> dict[str, str]:  # fmt: skip
    """Return the fingerprints of what other nodes gave a step, and others see.

    Parameters
    ----------
    call : Call
    values : mapping
        Argument -> its value, before the step's function ran.
    arguments : mapping
        What is recorded of the arguments.
    by_content : bool
        Whether paths stand there for what they lead to, as in cache keys.
    buffers : BufferDigests, optional
        Digests of large buffers that are known to be unchanged.
    """
    found: dict[str, str | None] = {}
    for name, paths in call.given.items():
        for path in () if name in call.ignore or name in call.secret else paths:
            part = _part(values[name], path)
            known = not path and (by_content or type(part) in SCALARS or is_array(part))
            digest = arguments[name].fingerprint if known else exact_or_none(part, buffers)
            found[member_name(name, path)] = digest
    return {name: each for name, each in found.items() if each and not each.startswith(INEXACT)}


def identities(value: Any) -> set[int]:
    """Return the ids of a value and of what it holds that somebody may change in place."""
    found: set[int] = set()
    for part in _all_parts(value):
        base = getattr(part, "base", None)  # an array whose memory it shares
        found.update((id(part), id(part if base is None else base)))
    return found


def have_parts_in_common(value: Any, other: Any) -> bool:
    """Whether two values hold something that may be changed in place by way of either."""
    return not _changeable(value).isdisjoint(_changeable(other))


def _changeable(value: Any) -> set[int]:
    parts = [part for part in (value, *_all_parts(value)) if type(part) not in _UNCHANGING]
    bases = (getattr(part, "base", None) for part in parts)
    return {id(part) for part in parts} | {id(base) for base in bases if base is not None}


_UNCHANGING = SCALARS | {type, tuple, frozenset, range, FunctionType, BuiltinFunctionType}


def holds_code(value: Any) -> bool:
    """Whether a value holds the user's functions or classes, or objects of these."""
    return any(
        is_own_code(part) or is_own_code(type(part)) or isinstance(part, (partial, MethodType))
        for part in (value, *_all_parts(value))
    )


def holds_moved_code(value: Any) -> bool:
    """Whether a value holds functions or objects of classes that other processes cannot import.

    They are sent there as they are, without their source, and have another fingerprint then.
    """
    return any(
        not _is_importable(part if isinstance(part, (type, FunctionType)) else type(part))
        for part in _all_parts(value)
    )


def _is_importable(code: Any) -> bool:
    if code.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(code.__module__)
    for name in code.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is code


def _all_parts(value: Any) -> Iterator[Any]:
    """Yield a value, what it holds, what that holds and so on, each once, but for scalars."""
    found: set[int] = set()
    waiting = [value]
    while waiting and len(found) < _MOST:
        for part in parts_of(waiting.pop()):
            if id(part) not in found and type(part) not in SCALARS:
                found.add(id(part))
                waiting.append(part)
                yield part


def parts_of(value: Any) -> Iterator[Any]:
    """Yield a value and what it holds, but for scalars."""
    held: Iterable[Any] = ()
    if isinstance(value, (list, tuple, set, frozenset)):
        held = value
    elif isinstance(value, dict):
        held = value.values()
    elif not isinstance(value, type):
        held = getattr(value, "__dict__", {}).values()
    yield value
    yield from (each for each in islice(held, _MOST) if type(each) not in SCALARS)


def given_between(args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return the same of what a function gets that is no step."""
    given = {**{str(number): value for number, value in enumerate(args)}, **kwargs}
    found = {name: exact_or_none(value) for name, value in given.items()}
    return {name: each for name, each in found.items() if each}


def _part(value: Any, path: tuple[Any, ...]) -> Any:
    for each in path:
        value = value[each]
    return value
