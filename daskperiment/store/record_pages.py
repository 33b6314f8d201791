"""Pages of a stream: records by themselves, and those that fill one outline together.

What reads many records works on whole columns of values then, and makes no body of those that are
all right. Which stores have outlines, and where, is the stores' matter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
from toolz import partition_all

from daskperiment.store.outlines import Outline, Outlines, items_of
from daskperiment.store.protocol import Stored

__all__ = [
    "GATHERED",
    "ArrangedRows",
    "FilledOutline",
    "Paged",
    "RecordPage",
    "RowColumns",
    "pages_in_any_order",
    "pages_of",
]

_FEW = 20
"""Records of one outline that are rather read one by one."""
GATHERED = """sum(typeof(trial) <> 'integer' OR typeof(id) <> 'text' OR body IS NULL),
    CAST(group_concat(position) AS BLOB), CAST(group_concat(trial) AS BLOB),
    CAST(group_concat(id, x'0a') AS BLOB), CAST(group_concat(body, x'0a') AS BLOB)"""
"""SQL for columns of rows, each as one text: SQLite makes it in one step, in which Python goes on.

No record has the character between ids and bodies; where one does, their number is another.
"""
_integers: Any = msgspec.json.Decoder(list[int]).decode
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


class RowColumns(NamedTuple):
    """Rows of a stream as they stand in a database, a column for each of their parts."""

    positions: Sequence[int]
    trials: Sequence[int]
    ids: Sequence[str]
    bodies: Sequence[bytes]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, str, bytes]]) -> RowColumns:
        """Return the columns of rows, of which there is one."""
        return cls(*zip(*rows, strict=True))

    @classmethod
    def gathered(cls, odd: int | None, *columns: Any) -> RowColumns | None:
        """Return the columns of what :data:`GATHERED` selects, unless something is odd in them."""
        if odd is None:
            return cls((), (), (), ())
        try:
            positions, trials = (_integers(b"[%b]" % each) for each in columns[:2])
            ids, bodies = columns[2].decode().split("\n"), columns[3].split(b"\n")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        counts = {len(positions), len(trials), len(ids), len(bodies)}
        return None if odd or len(counts) > 1 else cls(positions, trials, ids, bodies)

    def take(self, places: Sequence[int]) -> list[Stored]:
        """Return some rows, each by itself."""
        positions, trials, ids, bodies = self
        return [Stored(positions[at], trials[at], ids[at], bodies[at]) for at in places]


class ArrangedRows:
    """Rows of a database, which are not none, by the outline that they fill.

    Each step goes through all rows in C: a line of Python for each is felt in a million.
    """

    def __init__(
        self, connection: sqlite3.Connection, outlines: Outlines, rows: RowColumns
    ) -> None:
        self._rows = rows
        self._filling: list[tuple[Outline, Sequence[int]]] = []
        alone: list[int] = []
        known = outlines.known(connection)
        for start, places in _places_by_start(rows.bodies).items():
            outline = known.get(start[1:].partition(b",")[0]) if start[:1] == b"[" else None
            if outline is not None and len(places) >= _FEW:
                self._filling.append((outline, places))
            else:
                alone += places
        self._alone = outlines.whole(connection, rows.take(sorted(alone)))
        self.last = outlines.whole(connection, rows.take([len(rows.bodies) - 1]))[0]

    def page(self, whole: Callable[[list[Stored]], list[Stored]]) -> RecordPage:
        """Return the page; `whole` is asked for bodies that do not fill their outline."""
        filled: list[FilledOutline] = []
        odd: list[int] = []
        for outline, places in self._filling:
            few = len(places) < len(self._rows.bodies)
            columns: Any = map(itemgetter(*places), self._rows) if few else self._rows
            one = _filled(outline, *columns)
            if one is None:
                odd += places
            else:
                filled.append(one)
        records = self._alone
        if odd:
            records = sorted([*records, *whole(self._rows.take(odd))])
        return RecordPage(self.last, records, filled)


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
    count, start = len(bodies), outline.start
    text = b",".join(bodies)
    between = b"]," + start
    if text[: len(start)] != start or text[-1:] != b"]" or text.count(between) != count - 1:
        return None
    # One list, and none for each row: Python looks through all that it has now and then. Between
    # two rows stands what is no value, so that none has too many for another that has too few.
    items = text[len(start) : -1].replace(between, b",\n,").split(b",")
    size = outline.size
    if len(items) != size * count - 1 or {*items[size - 1 :: size]} - {b"\n"}:
        return None
    return [items[at::size] for at in range(size - 1)]


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
