"""Pages of a stream: records by themselves, and those that fill one outline together.

What reads many records works on whole columns of values then, and makes no body of those that are
all right. Which stores have outlines, and where, is the stores' matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
from toolz import partition_all

from daskperiment.store.outlines import Outline, Outlines, items_of
from daskperiment.store.protocol import Stored

__all__ = ["FilledOutline", "Paged", "RecordPage", "page_of", "pages_in_any_order", "pages_of"]

_FEW = 20
"""Records of one outline that are rather read one by one."""
_START: Any = itemgetter(slice(0, 16))
"""Of a body that fills an outline, with the number and the comma after it."""


class FilledOutline(NamedTuple):
    """Records of which the bodies fill one outline."""

    outline: Outline
    positions: Sequence[int]
    trials: Sequence[int]
    ids: Sequence[str]
    columns: Sequence[Sequence[bytes]]
    """For each gap of the outline, in its order, the JSON that stands in it in each record."""

    def whole(self) -> list[Stored]:
        """Return the records as they were written."""
        bodies = map(self.outline.format.__mod__, zip(*self.columns, strict=True))
        return [*map(Stored, self.positions, self.trials, self.ids, bodies)]


class RecordPage(NamedTuple):
    """Some records of a stream, which may be in any order."""

    last: Stored
    """That at the highest position up to here."""
    records: Sequence[Stored]
    filled: Sequence[FilledOutline] = ()


@runtime_checkable
class Paged(Protocol):
    """A store that knows a quicker way to read a whole stream; others need not."""

    def read_pages(self, stream: str) -> Iterator[RecordPage]:
        """Read what `read` does of a whole stream, page by page."""


def pages_of(records: Iterable[Stored], size: int) -> Iterator[RecordPage]:
    """Return so many records a page, each by itself."""
    for piece in partition_all(size, records):
        yield RecordPage(piece[-1], piece)


def pages_in_any_order(parts: Iterable[Sequence[Stored]]) -> Iterator[RecordPage]:
    """Return parts of a stream as pages, of which the last one names the last record of all."""
    last: Stored | None = None
    for records in parts:
        if records:
            last = max(records) if last is None else max(last, max(records))
            yield RecordPage(last, records)


def page_of(
    connection: sqlite3.Connection, outlines: Outlines, rows: Sequence[tuple[int, int, str, bytes]]
) -> RecordPage:
    """Return rows of a database, which are not none, as a page.

    Each step goes through all rows in C: a line of Python for each is felt in a million.
    """
    columns: list[Any] = [*zip(*rows, strict=True)]
    known = outlines.known(connection)
    filled: list[FilledOutline] = []
    alone: list[int] = []
    for start, places in _places_by_start(columns[3]).items():
        outline = known.get(start[1:].partition(b",")[0]) if start[:1] == b"[" else None
        one = None
        if outline is not None and len(places) >= _FEW:
            one = _filled(outline, *map(itemgetter(*places), columns))
        if one is None:
            alone += places
        else:
            filled.append(one)
    some = [Stored(*rows[place]) for place in sorted(alone)]
    last = outlines.whole(connection, [Stored(*rows[-1])])[0]
    return RecordPage(last, outlines.whole(connection, some), filled)


def _places_by_start(bodies: Sequence[bytes]) -> Mapping[bytes, list[int]]:
    """Return the places of bodies by what they begin with, if they fill an outline."""
    starts = [*map(_START, bodies)]
    cut = {one: _cut(one) for one in {*starts}}
    kinds = [*map(cut.__getitem__, starts)]
    found: dict[bytes, list[int]] = {kind: [] for kind in cut.values()}
    if len(found) == 1:
        return {kinds[0]: [*range(len(kinds))]}
    add = {kind: places.append for kind, places in found.items()}
    for place, kind in enumerate(kinds):
        add[kind](place)
    return found


def _cut(start: bytes) -> bytes:
    number, comma, _ = start.partition(b",")
    return number + comma if start[:1] == b"[" and comma else b""


def _filled(
    outline: Outline, positions: Sequence[int], trials: Sequence[int], ids: Sequence[str],
    bodies: Sequence[bytes],
) -> FilledOutline | None:  # fmt: skip
    """Return rows of one outline; ``None`` if one of them has too few values or too many."""
    columns = _split(outline, bodies) or _parsed(outline, bodies)
    if columns is None:
        return None
    if outline.trial is not None:
        columns.insert(outline.trial, [*map(b'"%010x"'.__mod__, trials)])
    return FilledOutline(outline, positions, trials, ids, columns)


def _split(outline: Outline, bodies: Sequence[bytes]) -> list[Sequence[bytes]] | None:
    """Return the values of rows in which no value has a comma, a column for each."""
    size = outline.size
    # One list, and none for each row: Python looks through all that it has now and then.
    items = b",".join(bodies).split(b",")
    if len(items) != size * len(bodies) or {*items[::size]} != {outline.start[:-1]}:
        return None
    last = items[size - 1 :: size]
    if {one[-1:] for one in last} != {b"]"}:
        return None
    columns: list[Sequence[bytes]] = [items[at::size] for at in range(1, size - 1)]
    return [*columns, [one[:-1] for one in last]]


def _parsed(outline: Outline, bodies: Sequence[bytes]) -> list[Sequence[bytes]] | None:
    """Return the values of rows, though there are commas in texts or in what is nested."""
    try:
        items = [*map(items_of, bodies)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if {*map(len, items)} != {outline.size}:
        return None
    columns: list[Sequence[bytes]] = [*zip(*items, strict=True)]
    return columns[1:]
