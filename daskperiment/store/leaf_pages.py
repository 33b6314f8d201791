"""Rows in the pages of a SQLite file, read without the tree that leads to them.

Where a page in the middle of a table's tree is damaged, SQLite finds nothing below it. The pages
with the rows are still there, and each says which rows it has. SQLite's page on its file format
describes what is read here. Nothing is trusted: a row is worth something if an index names it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from daskperiment.store.schema import PAGE

__all__ = ["ODD", "LeafPages", "Row", "row_types", "row_values", "varint"]

_LEAF = 0x0D
"""Kind of a page with rows of a table."""
_LARGEST = 1 << 30
"""Bytes of a row at most: SQLite takes no larger ones."""
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Serial type of an integer -> its bytes."""
ODD = (IndexError, ValueError, OverflowError, UnicodeDecodeError)
"""What comes of bytes that are no row."""

Row = tuple[int, tuple[Any, ...]]
"""A row id, and the values of the row: None in the place of a column that is the row id."""


class LeafPages:
    """The pages of a database file that nobody uses and that has no log: a copy.

    Parameters
    ----------
    path : pathlib.Path
    """

    def __init__(self, path: Path) -> None:
        self._file = _mapped(path)
        said = int.from_bytes(self._file[16:18], "big")
        self._size = said if said in (512, 1024, 2048, 4096, 8192, 16384, 32768) else PAGE

    def rows(self, columns: int) -> Iterator[Row]:
        """Yield what may be rows of so many columns: from all tables, some of them twice."""
        for number in range(1, len(self._file) // self._size + 1):
            page = self._page(number)
            start = 100 if number == 1 else 0
            if len(page) == self._size and page[start] == _LEAF:
                yield from self._rows_of(page, start, columns)

    def _rows_of(self, page: memoryview, start: int, columns: int) -> Iterator[Row]:
        count = int.from_bytes(page[start + 3 : start + 5], "big")
        for at in range(start + 8, min(start + 8 + 2 * count, self._size), 2):
            with suppress(*ODD):
                row = self._row(page, int.from_bytes(page[at : at + 2], "big"), columns)
                if row is not None:
                    yield row

    def _row(self, page: memoryview, at: int, columns: int) -> Row | None:
        length, at = varint(page, at)
        rowid, at = varint(page, at)
        if not 0 < length < _LARGEST:
            return None
        # The head is on the page itself: of another table's rows no more is read.
        types = row_types(page, at, columns)
        if types is None:
            return None
        body = self._payload(page, at, length)
        return (rowid, row_values(body, types)) if len(body) == length else None

    def _payload(self, page: memoryview, at: int, length: int) -> bytes:
        """Return the bytes of a row, of which a part may be on other pages."""
        here, room = length, self._size - 4
        if length > self._size - 35:
            least = (self._size - 12) * 32 // 255 - 23
            here = least + (length - least) % room
            here = here if here <= self._size - 35 else least
        body = bytearray(page[at : at + here])
        following = int.from_bytes(page[at + here : at + here + 4], "big") if here < length else 0
        while len(body) < length and following:
            more = self._page(following)
            following = int.from_bytes(more[:4], "big")
            body += more[4 : 4 + min(room, length - len(body))]
            if len(more) < self._size:
                break
        return bytes(body)

    def _page(self, number: int) -> memoryview:
        start = (number - 1) * self._size
        return self._file[start : start + self._size]


def _mapped(path: Path) -> memoryview:
    with open(path, "rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        # Not shared: there are file systems that map files for one process only.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and the place behind it."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) * (value >> 63), at + 9


def row_types(page: memoryview | bytes, at: int, columns: int) -> list[int] | None:
    """Return the serial types of a row; None if it has not so many columns."""
    head, place = varint(page, at)
    types: list[int] = []
    while place < at + head and len(types) <= columns:
        kind = page[place]
        if kind < 0x80:  # most are; a call would be felt
            place += 1
        else:
            kind, place = varint(page, place)
        types.append(kind)
    return types if len(types) == columns and place == at + head else None


def row_values(body: bytes, types: list[int]) -> tuple[Any, ...]:
    """Return the values of a row of these types."""
    at, _ = varint(body, 0)
    values: list[Any] = []
    for kind in types:
        if kind > 12 and kind & 1:  # a text, as most are; a call would be felt
            end = at + (kind - 13) // 2
            values.append(body[at:end].decode())
            at = end
        else:
            value, at = _value(body, at, kind)
            values.append(value)
    return tuple(values)


def _value(body: bytes, at: int, kind: int) -> tuple[Any, int]:
    """Return a value, and the place behind it; ValueError for one that no record has."""
    if kind in (0, 8, 9):
        return (None, 0, 1)[max(kind - 7, 0)], at
    if kind in _INTEGERS:
        end = at + _INTEGERS[kind]
        return int.from_bytes(body[at:end], "big", signed=True), end
    if kind < 12:
        raise ValueError(kind)
    end = at + (kind - 12) // 2
    part = body[at:end]
    return part.decode() if kind % 2 else part, end
