"""Small tables of a SQLite file that nobody writes to, read without SQLite.

Whoever opens a database parses all of its views first, which takes ten times as long as to read
some rows. So who looks at a thousand experiments reads the pages that these stand on, as SQLite's
page on its file format describes them. Where anything is odd, SQLite is to be asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from struct import error as struct_error
from struct import unpack_from

from daskperiment.locked_files import SQLITE_MAGIC, read_apart
from daskperiment.store.leaf_pages import ODD, Row, row_types, row_values, varint
from daskperiment.store.schema import Schema

__all__ = ["tables_at_rest"]

_INTERIOR, _LEAF = 0x05, 0x0D
"""Kinds of pages of a table."""
_MANY = 100
"""Pages of a table that are read here at most."""


def tables_at_rest(
    path: str, schema: Schema, tables: Mapping[str, int], most: int
) -> dict[str, list[Row]] | None:
    """Return the rows of some tables that are there, if they are short and plain to read.

    ``None`` also of a database that this process has open.

    Parameters
    ----------
    path : str
        Of a database of which the caller makes sure that nobody writes to it.
    schema : Schema
        What it must be.
    tables : mapping
        Name -> number of columns, the first of which is the row id.
    most : int
        Rows of all tables.
    """
    if os.path.exists(f"{path}-journal"):
        return None

    def read(descriptor: int) -> dict[str, list[Row]]:
        pages, left = _TablePages(descriptor, schema), most
        found: dict[str, list[Row]] = {}
        for name, root in pages.roots([*tables]).items():
            found[name] = pages.rows(root, tables[name], left)
            left -= len(found[name])
        return found

    try:
        return read_apart(path, read)
    except (OSError, struct_error, *ODD):
        return None


class _TablePages:
    """The pages of a database file, by way of the trees that its tables are."""

    def __init__(self, descriptor: int, schema: Schema) -> None:
        self._descriptor = descriptor
        first = os.read(descriptor, 4096)
        size = int.from_bytes(first[16:18], "big")
        version, application = (int.from_bytes(first[at : at + 4], "big") for at in (60, 68))
        plain = first[20] == 0 and first[56:60] == b"\0\0\0\1"  # nothing reserved, UTF-8
        ours = application == schema.application and version <= schema.version
        if first[:16] != SQLITE_MAGIC or size != 4096 or not (plain and ours):
            raise ValueError("not such a database")
        self._size = size
        self._first = first

    def roots(self, names: list[str]) -> dict[str, int]:
        """Return the first pages of tables, those of them that are there."""
        wanted = tuple(names)
        found: dict[str, int] = {}
        for page, cells in self._leaves(1, 100):
            found |= _roots_on(page, cells, wanted)
            if len(found) == len(wanted):
                break  # the views come last
        return found

    def rows(self, root: int, columns: int, most: int) -> list[Row]:
        """Return the rows of a table in their order; ValueError if there are more."""
        found: list[Row] = []
        for page, cells in self._leaves(root, 0):
            if len(found) + len(cells) > most:
                raise ValueError("too many rows")
            found.extend(self._row(page, cell, columns) for cell in cells)
        if any(one[0] >= other[0] for one, other in pairwise(found)):
            raise ValueError("rows in no order")
        return found

    def _row(self, page: bytes, at: int, columns: int) -> Row:
        length, at = varint(page, at)
        rowid, at = (page[at], at + 1) if page[at] < 0x80 else varint(page, at)
        types = row_types(page, at, columns)
        # What does not fit goes on elsewhere.
        if types is None or length > self._size - 35 or at + length > self._size:
            raise ValueError("no row that stands on one page")
        return rowid, row_values(page[at : at + length], types)

    def _leaves(self, root: int, start: int) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        """Yield the pages with rows of a tree, and where the rows stand on them."""
        waiting, read = [(root, start)], 0
        while waiting:
            number, start = waiting.pop()
            read += 1
            page = self._page(number)
            if read > _MANY or page[start] not in (_INTERIOR, _LEAF):
                raise ValueError("no tree of a table, or a large one")
            head = 8 if page[start] == _LEAF else 12
            (count,) = unpack_from(">H", page, start + 3)
            cells = unpack_from(f">{count}H", page, start + head)
            if page[start] == _LEAF:
                yield page, cells
                continue
            below = [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]
            below.append(int.from_bytes(page[start + 8 : start + 12], "big"))
            waiting += [(one, 0) for one in reversed(below)]

    def _page(self, number: int) -> bytes:
        if number == 1:
            return self._first
        page = _read_at(self._descriptor, self._size, (number - 1) * self._size)
        if number < 1 or len(page) != self._size:
            raise ValueError("a page is missing")
        return page


def _read_at(descriptor: int, size: int, place: int) -> bytes:
    if hasattr(os, "pread"):  # one call of the system
        return os.pread(descriptor, size, place)
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, size)


@lru_cache(maxsize=16)
def _roots_on(page: bytes, cells: tuple[int, ...], names: tuple[str, ...]) -> dict[str, int]:
    """Return which pages a page of the schema names, those of some tables.

    It is the same page in each database that one version made.
    """
    found: dict[str, int] = {}
    for name in names:
        text = f"table{name}{name}".encode()
        at = page.find(text)
        while at > 0:
            # Its cell begins just before it; in what is not used there may be old ones.
            cell = max((cell for cell in cells if cell < at), default=0)
            if at <= cell + 20:
                found[name] = _root(page, cell, text)
            at = page.find(text, at + 1)
    return found


def _root(page: bytes, at: int, text: bytes) -> int:
    """Return which page a row of the schema names, that begins with this text."""
    _, at = varint(page, at)
    _, at = varint(page, at)
    size, place = varint(page, at)
    kinds = row_types(page, at, 5) or []
    place = at + size
    end = place + len(text)
    if sum([(kind - 13) // 2 for kind in kinds[:3]]) != len(text) or page[place:end] != text:
        raise ValueError("no row of a table")
    if kinds[3] not in (1, 2, 3, 4):
        raise ValueError("no number of a page")
    return int.from_bytes(page[end : end + kinds[3]], "big")
