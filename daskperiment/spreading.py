"""What spreads along a graph: from each node to all behind it, the nearest first.

All that reaches each of n nodes would be n² things. So of each kind only some are passed on, nodes
that nothing is added to share what they have, and nothing recurses: a graph may be deeper than
Python's stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Item", "Spreading"]

T = TypeVar("T")


class Item(NamedTuple, Generic[T]):
    """One thing that spreads."""

    kind: str
    name: Hashable
    """Two of one kind and name are one thing."""
    what: T


class Spreading(Generic[T]):
    """What reaches the nodes of one graph, worked out for those that are asked for.

    Parameters
    ----------
    before : callable
        Returns the keys of the nodes before one.
    own : callable
        Returns the items that begin at a node.
    most : int
        How many items of one kind are passed on.
    """

    def __init__(
        self, before: Callable[[str], Iterable[str]], own: Callable[[str], Sequence[Item[T]]],
        most: int,
    ) -> None:  # fmt: skip
        self._before = before
        self._own = own
        self._most = most
        self._arriving: dict[str, tuple[Item[T], ...]] = {}
        self._leaving: dict[str, tuple[Item[T], ...]] = {}
        self._opened: set[str] = set()
        self._known: dict[tuple[tuple[str, Hashable], ...], tuple[Item[T], ...]] = {}

    def arriving(self, key: str) -> tuple[Item[T], ...]:
        """Return what begins before a node and reaches it; equal answers are one object."""
        waiting = [key]
        while waiting:
            each = waiting[-1]
            if each in self._opened:
                waiting.pop()
                if each not in self._arriving:
                    self._settle(each)
            else:
                self._opened.add(each)
                waiting += [one for one in self._before(each) if one not in self._opened]
        return self._arriving[key]

    def leaving(self, key: str) -> tuple[Item[T], ...]:
        """Return the same with what begins at the node itself."""
        self.arriving(key)
        return self._leaving[key]

    def _settle(self, key: str) -> None:
        # In a circle, which two graphs laid upon each other may have, one of them comes last.
        found = [self._leaving.get(each) for each in self._before(key)]
        sources = list({id(each): each for each in found if each}.values())
        arriving = sources[0] if len(sources) == 1 else self._merged(_in_turns(sources))
        own = self._own(key)
        self._arriving[key] = arriving
        self._leaving[key] = self._merged([*own, *arriving]) if own else arriving

    def _merged(self, items: Iterable[Item[T]]) -> tuple[Item[T], ...]:
        found: dict[tuple[str, Hashable], Item[T]] = {}
        counts: Counter[str] = Counter()
        for item in items:
            identity = item[:2]
            if identity not in found and counts[item.kind] < self._most:
                counts[item.kind] += 1
                found[identity] = item
        return self._known.setdefault(tuple(found), tuple(found.values()))


def _in_turns(sources: Sequence[Sequence[Item[T]]]) -> Iterator[Item[T]]:
    """Yield the first of each, then the second: those that are near before those that are far."""
    for turn in range(max(map(len, sources), default=0)):
        for source in sources:
            if turn < len(source):
                yield source[turn]
