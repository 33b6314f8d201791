"""Reading the streams of an experiment's database: in pages, in outlines' columns, or at rest.

Rows of which damage made something else than records are left out, with a warning.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec

from daskperiment.errors import StoreError, StoreWarning
from daskperiment.records import LATER_STREAMS, STREAMS
from daskperiment.store.faults import SQLITE_ERRORS, is_absent
from daskperiment.store.file.database import Database
from daskperiment.store.outlines import Outlines
from daskperiment.store.protocol import Stored
from daskperiment.store.reading_ahead import ask_ahead
from daskperiment.store.record_pages import GATHERED, ArrangedRows, RecordPage, RowColumns
from daskperiment.store.resting_tables import tables_at_rest
from daskperiment.store.schema import HOLDER, SCHEMA, is_stream
from daskperiment.warn import warn_user

__all__ = ["ODD", "StreamReader"]

ODD = "typeof(trial) != 'integer' OR typeof(id) != 'text' OR typeof(body) = 'null'"
"""Of a row that is no record."""
_COLUMNS = "position, trial, id, CAST(body AS BLOB)"
_AFTER = "WHERE position > ? AND (trial != ? OR id != ?) ORDER BY position"
_OF_TRIALS = (
    'WHERE position IN (SELECT position FROM "{}" WHERE position > ? AND trial IN '
    "(SELECT value FROM json_each(?)){}) ORDER BY position"
)
"""The numbers are put in order alone: long bodies would be written out to be sorted with them."""
_STARTING = " AND id >= ? AND id < ?"
_ALL_STARTING = (
    'WHERE position IN (SELECT position FROM "{}" WHERE id >= ? AND id < ? AND trial >= 0) '
    "ORDER BY position"
)
"""The index that keeps ids unique has them without the bodies between them."""
_HIGHEST = "\U0010ffff" * 200
"""Behind the beginning of an id it is above all that begin so: none is longer."""

# So many records at once: a long history is never in memory as a whole.
_PAGE = 2_000
_LONG_PAGE = 8_000
"""Of those that fill outlines, which take less."""
_FIRST_PAGE = 500
"""Of a stream that is read as a whole: few, for it is not known how long they are."""
_PAGE_BYTES = 8 << 20
"""Of the pages after it, which have fewer records where these are long."""
_FEW_ROWS = 400
"""Of a database that is not opened for them; of more SQLite is quicker."""

_ALWAYS = frozenset(STREAMS) - frozenset(LATER_STREAMS)
"""Streams that each database has."""
_TYPES = ((1, int), (2, str), (3, bytes))
"""Place in a row, and the type that is there unless SQLite's own bookkeeping is damaged."""
_body_of = itemgetter(3)
_Arranged = tuple[int, int, Stored, Callable[[], RecordPage]]
_FILLS = re.compile(rb"\[").match
"""Whether a body is what fills an outline."""
# Makes a Stored of a row without a Python call.
_as_stored: Any = partial(tuple.__new__, Stored)


class StreamReader:
    """Reads the streams of one database, and fills its `outlines`."""

    def __init__(self, database: Database, outlines: Outlines) -> None:
        self._database = database
        self._outlines = outlines

    def read(self, stream: str, trials: Collection[int] | None, after: int) -> Iterable[Stored]:
        """Read a stream page by page, see `Store.read`."""
        if not is_stream(stream):
            return []
        rows, complete = self._read_page(stream, trials, after)
        return rows if complete else chain(rows, self._read_on(stream, rows[-1].position))

    def read_starting(self, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
        """Read the records of a trial, or of all, whose ids begin with a text."""
        trials = None if trial is None else [trial]
        if not start:
            return self.read(stream, trials, 0)
        return self._read_page(stream, trials, 0, start)[0] if is_stream(stream) else []

    def _read_on(self, stream: str, after: int) -> Iterator[Stored]:
        complete = False
        while not complete:
            rows, complete = self._read_page(stream, None, after)
            yield from rows
            # In pages that point at each other rows come again and again.
            complete = complete or rows[-1].position <= after
            after = rows[-1].position if rows else after

    def _read_page(
        self, stream: str, trials: Collection[int] | None, after: int, start: str = ""
    ) -> tuple[list[Stored], bool]:
        """Return some records, and whether these are the last."""

        def select(connection: sqlite3.Connection) -> list[Stored]:
            try:
                rows = _select(connection, stream, trials, after, start)
                # Asked without a call of ours, as most questions find no such row.
                short = any(map(_FILLS, filter(None, map(_body_of, rows))))
                return self._outlines.whole(connection, rows) if short else rows
            except sqlite3.OperationalError as error:
                if _may_be_absent(stream, error):
                    return []
                raise

        nothing: list[Stored] = []
        found = self._database.ask(select, nothing)
        rows = self.intact(stream, found)
        return rows, trials is not None or len(found) < _PAGE or not rows

    def read_pages(self, stream: str) -> Iterator[RecordPage]:
        """Read a stream as `read` does, with the records together that fill one outline.

        SQLite gathers the next page while one is gone through.
        """
        after, most = 0, min(_FIRST_PAGE, _LONG_PAGE)
        rows = self._gathered(stream, after, most)
        while page := self._arranged(stream, after, most, rows):
            count, size, last, make = page
            if last.position <= after:
                return  # in pages of a database that point at each other rows come again
            after = last.position
            if count < most:
                yield make()
                return
            most = min(_LONG_PAGE, _PAGE_BYTES * count // (size + 1) + 1)
            # For one page: in a child that is forked meanwhile its thread is not there.
            with ThreadPoolExecutor(1, "daskperiment-page") as threads:
                answer = ask_ahead(threads, partial(self._gathered, stream, after, most))
                yield make()
                rows = answer()

    def _gathered(self, stream: str, after: int, most: int) -> RowColumns | None:
        """Return rows of a stream; ``None`` where it is not this simple."""
        query = f'SELECT {GATHERED} FROM (SELECT * FROM "{stream}" {_AFTER} LIMIT {most})'
        try:
            with self._database.reading() as connection:
                if connection is not None:
                    found = connection.execute(query, (after, *HOLDER[:2])).fetchone()
                    return RowColumns.gathered(*found)
        except (StoreError, *SQLITE_ERRORS):
            pass
        return None

    def _arranged(
        self, stream: str, after: int, most: int, rows: RowColumns | None
    ) -> _Arranged | None:
        """Return how many rows and bytes there are, the last record, and what makes the page."""
        if rows is None:
            return self._arranged_one_by_one(stream, after, most)
        if not rows.bodies:
            return None

        def arrange(connection: sqlite3.Connection) -> ArrangedRows:
            return ArrangedRows(connection, self._outlines, rows)

        found: ArrangedRows | None = self._database.ask(arrange, None)
        if found is None:
            return None
        size = sum(map(len, rows.bodies))
        return len(rows.bodies), size, found.last, partial(found.page, self._whole)

    def _whole(self, rows: list[Stored]) -> list[Stored]:
        return self._database.ask(partial(self._outlines.whole, rows=rows), rows)

    def _arranged_one_by_one(self, stream: str, after: int, most: int) -> _Arranged | None:
        query = f'SELECT {_COLUMNS} FROM "{stream}" {_AFTER} LIMIT {most}'

        def select(connection: sqlite3.Connection) -> tuple[int, int, RecordPage | None]:
            rows = connection.execute(query, (after, *HOLDER[:2])).fetchall()
            size = sum(map(len, filter(None, map(_body_of, rows))))
            if rows and _are_intact(rows):
                found = ArrangedRows(connection, self._outlines, RowColumns.of(rows))
                whole = partial(self._outlines.whole, connection)
                return len(rows), size, found.page(whole)
            some = self._outlines.whole(connection, [Stored(*row) for row in rows])
            intact = self.intact(stream, some)
            return len(rows), size, RecordPage(intact[-1], intact) if intact else None

        nothing: tuple[int, int, RecordPage | None] = (0, 0, None)
        count, size, page = self._database.ask(select, nothing)
        return None if page is None else (count, size, page.last, lambda: page)

    def read_at_rest(self, stream: str) -> list[Stored] | None:
        """Return the records of a short stream of a database to which nobody writes, else None.

        None also where rows are no records: who reads them all the same tells of that, once.
        """

        def select(connection: sqlite3.Connection) -> list[Stored]:
            return Outlines().whole(connection, _select(connection, stream, None, 0))

        rows = self._few_at_rest(stream)
        rows = self._database.ask_at_rest(select) if rows is None else rows
        if rows is None or len(rows) == _PAGE:
            return None
        return rows if not rows or _are_intact(rows) else None

    def _few_at_rest(self, stream: str) -> list[Stored] | None:
        """Return the records of a stream that has few, read without opening the database."""
        found = tables_at_rest(
            str(self._database.path), SCHEMA, {stream: 4, "_outlines": 4}, _FEW_ROWS
        )
        if found is None or stream not in found:
            return None
        try:
            rows = [
                Stored(position, trial, id, body.encode())
                for position, (_, trial, id, body) in found[stream]
                if (trial, id) != HOLDER[:2]
            ]
            return Outlines.fill(rows, found.get("_outlines", ()))
        except (AttributeError, ValueError, msgspec.MsgspecError):
            return None  # a row is no record, or fills no outline that is whole

    def intact(self, stream: str, rows: list[Stored]) -> list[Stored]:
        """Leave out rows of which damage made something else, with a warning."""
        if not rows or _are_intact(rows):
            return rows
        intact = [row for row in rows if all(type(row[at]) is kind for at, kind in _TYPES)]
        text = (
            f"{self._database.path} has {len(rows) - len(intact)} rows in {stream!r} that are no "
            f"records: they are left out"
        )
        warn_user(StoreWarning(text))
        return intact

    def count_odd(self, stream: str) -> int:
        """Count the rows that are no records, which SQLite does not mind."""
        query = f'SELECT count(*) FROM "{stream}" WHERE {ODD}'

        def count(connection: sqlite3.Connection) -> int:
            try:
                return int(connection.execute(query).fetchone()[0])
            except sqlite3.OperationalError as error:
                if _may_be_absent(stream, error):
                    return 0
                raise

        return self._database.ask(count, 0)


def _may_be_absent(stream: str, error: sqlite3.Error) -> bool:
    """Whether a stream is not there yet; of one that each database has it would be damage."""
    return is_absent(error) and stream not in _ALWAYS


def _are_intact(rows: Sequence[tuple[Any, ...]]) -> bool:
    return all({*map(type, map(itemgetter(at), rows))} == {kind} for at, kind in _TYPES)


def _select(
    connection: sqlite3.Connection, stream: str, trials: Collection[int] | None, after: int,
    start: str = "",
) -> list[Stored]:  # fmt: skip
    query = f'SELECT {_COLUMNS} FROM "{stream}"'
    if trials is None and start:
        where = _ALL_STARTING.format(stream)
        found = connection.execute(f"{query} {where}", (start, start + _HIGHEST))
    elif trials is None:
        found = connection.execute(f"{query} {_AFTER} LIMIT {_PAGE}", (after, *HOLDER[:2]))
    else:
        wanted = json.dumps([int(trial) for trial in trials])
        where = _OF_TRIALS.format(stream, _STARTING * bool(start))
        ends = (start, start + _HIGHEST) if start else ()
        found = connection.execute(f"{query} {where}", (after, wanted, *ends))
    return list(map(_as_stored, found))
