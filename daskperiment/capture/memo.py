"""A small memory of what was worked out for an object, by the object's identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Memo"]

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Remember one value per object.

    Equal objects are kept apart, because code objects of two files may be equal. The object is
    held, so that its identity is not given out again. When full, it starts anew: what is asked for
    is worked out once more, and memory stays bounded in a session that makes functions in a loop.
    """

    def __init__(self, limit: int = 2048) -> None:
        self._items: dict[int, tuple[K, V]] = {}
        self._limit = limit

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """Return what belongs to the object, making it at first."""
        item = self._items.get(id(key))
        if item is not None and item[0] is key:
            return item[1]
        value = make(key)
        if len(self._items) >= self._limit:
            self._items.clear()
        self._items[id(key)] = (key, value)
        return value
