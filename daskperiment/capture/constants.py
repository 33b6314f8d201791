"""Whether the values that code reads are still the same, told quickly.

A value that cannot change is the same while the name is bound to the same object. Lists, dicts and
sets of such values are compared item by item. Other values are fingerprinted again, whatever their
size: a table that was altered in place would otherwise bring back outputs of the table before it.
Array data are quick to digest; a large table of texts that steps share is better made by a step.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import logging
import pathlib
import types
from collections.abc import Callable
from typing import Any

from daskperiment.capture.fingerprint import encoder_for

__all__ = ["fingerprint_constant", "is_fixed"]

_FIXED = (
    *(type(None), bool, int, float, complex, str, bytes, range, type),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, enum.Enum, pathlib.PurePath, logging.Logger),
)
_ITEMS = 2000
_END: Any = object()

Check = Callable[[], bool]


def is_fixed(value: Any) -> bool:
    """Tell whether a value cannot change, or only in ways that are watched elsewhere."""
    if type(value) in (tuple, frozenset):
        return len(value) <= _ITEMS and all(map(is_fixed, value))
    return issubclass(type(value), _FIXED)


def fingerprint_constant(value: Any) -> tuple[str | None, Check | None]:
    """Fingerprint a value that code reads.

    Returns
    -------
    fingerprint : str or None
        ``None`` if it has none.
    check : callable or None
        Tells whether the value is still the same; ``None`` if the binding says enough.
    """
    encoder = encoder_for()
    try:
        encoder.feed(value)
        digest = encoder.digest()
    except Exception:
        return None, None
    if is_fixed(value):
        return digest.hex(), None
    items = _flatten(value)
    if items is not None:
        return digest.hex(), functools.partial(_same_items, value, items)
    return digest.hex(), functools.partial(_same_digest, value, digest, encoder.code)


def _same_items(value: Any, items: list[Any]) -> bool:
    now = _flatten(value)
    return now is not None and len(now) == len(items) and all(map(_is, now, items))


def _is(one: Any, other: Any) -> bool:
    return one is other


def _same_digest(value: Any, digest: bytes, code: dict[int, tuple[Any, bytes]]) -> bool:
    # The code of classes and functions is watched apart, and taken from the last time.
    encoder = encoder_for(code)
    try:
        encoder.feed(value)
        return encoder.digest() == digest
    except Exception:
        return False


def _flatten(value: Any) -> list[Any] | None:
    """List the items of nested containers; ``None`` if they hold what may change unseen."""
    items: list[Any] = []
    return items if _collect(value, items) else None


def _collect(value: Any, items: list[Any]) -> bool:
    kind = type(value)
    if len(items) > _ITEMS:
        return False
    items.append(value)
    if kind is dict:
        found = all(_collect(k, items) and _collect(v, items) for k, v in list(value.items()))
    elif kind in (list, tuple, set, frozenset):
        found = all(_collect(item, items) for item in list(value))
    else:
        return issubclass(kind, _FIXED)
    # Marks where a container ends, so that an item that moves out of it is seen.
    items.append(_END)
    return found
