"""Repair of a damaged file store: what can be read is saved.

``python -m daskperiment.store.repair <folder of the experiment>`` builds the database anew from
the rows that can be read, and keeps the damaged file beside it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from daskperiment.errors import DaskperimentError, StoreError
from daskperiment.records import BEGUN
from daskperiment.store import rights
from daskperiment.store.faults import SQLITE_ERRORS, explain, is_damage
from daskperiment.store.outlines import (
    OUTLINED,
    OUTLINES,
    insert_outlines,
    intact_outlines,
    outline_of,
)
from daskperiment.store.schema import with_first_page

if TYPE_CHECKING:
    from daskperiment.store.leaf_pages import LeafPages

__all__ = ["main", "readable", "rebuild", "repair", "salvage"]

OBJECTS = "_objects"
_SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_STEPS = 1000
"""SQLite's own steps between two looks at the clock."""
_PATIENCE = 60.0
"""Seconds that a repair takes to look for rows of each table in what is damaged."""

_ABANDONED = 86_400.0
"""Seconds after which nobody builds a database any more that has not taken its place."""

_Row = tuple[Any, ...]


def salvage(
    connection: sqlite3.Connection, table: str, largest: int, seconds: float
) -> tuple[list[_Row], bool]:
    """Return the rows that can be read of a table with row ids, and whether these are all.

    A stretch is read from either end as far as it can be, and what is left is halved: the widest
    stretches first, so that little is left out when the time is up. Row ids above `largest` are
    found from the end only: no table has that many rows.
    """
    found: dict[int, _Row] = {}
    deadline = time.monotonic() + seconds
    stretches = deque([(0, 2**62)])
    complete = True
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        while stretches and time.monotonic() < deadline:
            low, high = stretches.popleft()
            low, whole = _read(connection, table, (low, high), "ASC", found)
            if whole:
                continue
            high, whole = _read(connection, table, (low, high), "DESC", found)
            complete = complete and whole
            high = min(high, max(largest, low) + 1)
            if not whole and high - low > 2:
                middle = (low + high) // 2
                stretches += [(low, middle + 1), (middle, high)]
    finally:
        connection.set_progress_handler(None, 0)
    return [found[rowid] for rowid in sorted(found)], complete and not stretches


def _ends(connection: sqlite3.Connection, table: str, seconds: float) -> tuple[list[_Row], bool]:
    """Return the rows before and behind all that cannot be read, and whether these are all."""
    found: dict[int, _Row] = {}
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        low, whole = _read(connection, table, (0, 2**62), "ASC", found)
        if not whole:
            _, whole = _read(connection, table, (low, 2**62), "DESC", found)
    finally:
        connection.set_progress_handler(None, 0)
    return [found[rowid] for rowid in sorted(found)], whole


def _read(
    connection: sqlite3.Connection,
    table: str,
    between: tuple[int, int],
    order: str,
    found: dict[int, _Row],
) -> tuple[int, bool]:
    """Read rows from one end until one cannot be read; return its place, and whether none was."""
    last = between[0] if order == "ASC" else between[1]
    query = f'SELECT rowid, * FROM "{table}" WHERE rowid > ? AND rowid < ? ORDER BY rowid {order}'
    try:
        for rowid, *row in connection.execute(query, between):
            # Pages that point at each other would go on for ever.
            if rowid in found or not between[0] < rowid < between[1]:
                return last, False
            found[rowid] = tuple(row)
            last = rowid
    except SQLITE_ERRORS:
        return last, False
    return last, True


def readable(path: Path) -> sqlite3.Connection:
    """Open a database that may be damaged, to read it only; text that is none comes as bytes.

    One whose first page is damaged is opened as a copy with a page that is whole.
    """
    try:
        connection = _opened(path)
        if connection.execute(_SCHEMA + " AND name = 'trials'").fetchone() is not None:
            return connection
        connection.close()  # its first page leads nowhere
    except SQLITE_ERRORS as error:
        if not is_damage(error):
            raise
        mended = with_first_page(path)
        if mended is None:
            raise
    else:
        mended = with_first_page(path)
    connection = mended or _opened(path)
    connection.text_factory = _text_or_bytes
    return connection


def _opened(path: Path) -> sqlite3.Connection:
    # Who may not write leaves no lock file behind.
    modes = ("ro", "ro&immutable=1") if rights.may_write(path.parent) else ("ro&immutable=1",)
    for mode in modes:
        connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
        connection.text_factory = _text_or_bytes
        try:
            connection.execute("SELECT 1 FROM sqlite_schema")
        except SQLITE_ERRORS as error:
            connection.close()
            if mode == modes[-1] or not isinstance(error, sqlite3.OperationalError):
                raise
            continue
        break
    return connection


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _insert(target: sqlite3.Connection, table: str, rows: list[_Row]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        target.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', rows)


class _Lost(NamedTuple):
    """Rows of a table that could not be read where its tree leads to them."""

    columns: list[str]
    key: int | None
    """Place of the column that is the row id."""
    named: list[int]
    """Places of the columns that the index names."""
    missing: set[_Row]
    """Row id and the index's columns of each."""
    complete: bool
    """Whether the index names all rows, as far as can be told."""


def _lost(source: sqlite3.Connection, table: str, rows: list[_Row]) -> _Lost:
    """Return which rows the index of a table names beside those that were read."""
    columns: list[str] = []
    indexed: list[str] = []
    key, named = None, []
    with suppress(sqlite3.Error):
        for _, name, kind, _, _, primary in source.execute(f'PRAGMA table_info("{table}")'):
            if primary and kind == "INTEGER":
                key = len(columns)
            columns.append(name)
        index = f"sqlite_autoindex_{table}_1"
        indexed = [name for _, _, name in source.execute(f'PRAGMA index_info("{index}")')]
        named = [columns.index(name) for name in indexed]
    missing: set[_Row] = set()
    complete = bool(indexed)
    if indexed:
        query = f'SELECT rowid, {", ".join(indexed)} FROM "{table}" INDEXED BY "{index}"'
        try:
            missing.update(source.execute(query))
        except SQLITE_ERRORS:
            complete = False
    if key is None:  # what was read does not tell its row ids
        there = {tuple(row[at] for at in named) for row in rows}
        missing = {one for one in missing if one[1:] not in there}
    else:
        missing -= {(row[key], *(row[at] for at in named)) for row in rows}
    return _Lost(columns, key, named, missing, complete)


def _find_lost(
    pages: LeafPages, target: sqlite3.Connection, lost: dict[str, _Lost], deadline: float
) -> None:
    """Look for lost rows in all pages of a file, and write those that are found."""
    for width in {len(one.columns) for one in lost.values() if one.missing}:
        tables = {name: one for name, one in lost.items() if len(one.columns) == width}
        for rowid, values in pages.rows(width):
            if time.monotonic() > deadline:
                break
            for name, one in tables.items():
                known = (rowid, *(values[at] for at in one.named))
                if known in one.missing:
                    one.missing.discard(known)
                    row = [rowid if at == one.key else value for at, value in enumerate(values)]
                    _insert(target, name, [tuple(row)])
                    break
    for name, one in lost.items():
        # Of a table with nothing but its key, the index has all that is to know.
        if one.key is not None and len(one.columns) == 1 + len(one.named):
            _insert(target, name, [(row[0], *row[1:]) for row in one.missing])
            one.missing.clear()


def rebuild(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    largest: int,
    seconds: float,
) -> list[str]:
    """Write to a new database what can be read of another one; return the tables with losses.

    Rows to which no tree leads any more are looked for in all of its pages.
    """
    deadline = time.monotonic() + seconds
    target.execute("BEGIN")
    found = source.execute(_SCHEMA).fetchall()
    # Of a damaged schema either may be bytes that are no text.
    tables = [one for one in found if all(type(part) is str for part in one)]
    losses = [] if len(tables) == len(found) else ["the schema"]
    # Objects last: they may be large, and records are worth more.
    names = [name for name, _ in sorted(tables, key=lambda one: one[0] == OBJECTS)]
    lost: dict[str, _Lost] = {}
    for _, sql in tables:
        target.execute(sql)
    # Most is read at once. Halving what is left takes long, and pages may have it.
    for table in names:
        rows, complete = _ends(source, table, max(deadline - time.monotonic(), 0.1))
        _insert(target, table, rows)
        if not complete:
            lost[table] = _lost(source, table, rows)
    if lost:
        with _pages_of(source) as pages:
            _find_lost(pages, target, lost, deadline)
    for table in [name for name, one in lost.items() if one.missing or not one.complete]:
        rows, complete = salvage(source, table, largest, max(deadline - time.monotonic(), 0.1))
        _insert(target, table, rows)
        losses += [] if complete else [table]
    _save_outlines(source, target)
    # A trial whose token was lost keeps its id all the same.
    target.execute(
        "INSERT INTO _tokens (trial) SELECT DISTINCT trial FROM trials WHERE id = ? "
        "AND trial > 0 AND trial NOT IN (SELECT trial FROM _tokens)",
        (BEGUN,),
    )
    target.execute("COMMIT")
    return losses


@contextmanager
def _pages_of(source: sqlite3.Connection) -> Iterator[LeafPages]:
    """Give the pages of a database, in a copy that SQLite makes of them as they are.

    Not by reading its file: as soon as that is closed, the other connections of this process to it
    have lost their locks.
    """
    from daskperiment.store.leaf_pages import LeafPages  # noqa: PLC0415  # of a damaged one alone

    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder, "pages.sqlite")
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            source.backup(target)
        yield LeafPages(copy)


def _save_outlines(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Take each outline from where it is whole: a table, its index, or a page without a tree."""
    found: dict[int, tuple[str, str]] = {}
    with suppress(*SQLITE_ERRORS):
        found = {number: (kind, text) for number, kind, text in intact_outlines(source)}
    if _filled(target) - found.keys():
        with _pages_of(source) as pages:
            for number, values in pages.rows(4):
                outline = outline_of(values)
                if outline is not None:
                    found.setdefault(number, outline)
    target.execute(OUTLINES)
    target.execute("DELETE FROM _outlines")
    insert_outlines(target, found)


def _filled(target: sqlite3.Connection) -> set[int]:
    """Return the numbers of the outlines that rows of a database fill."""
    number = "CAST(substr(body, 2, 20) AS INTEGER)"
    found: set[int] = set()
    for stream in OUTLINED:
        with suppress(sqlite3.OperationalError):  # there is no such table
            query = f"SELECT DISTINCT {number} FROM {stream} WHERE substr(body, 1, 1) = '['"
            found.update(each for (each,) in target.execute(query))
    return found


def repair(folder: Path) -> Path:
    """Build the database in an experiment's folder anew from what can be read of it.

    Nobody may write to the store meanwhile. Returns the path under which the damaged database is
    kept. A StoreError if there is none, or it is no database of an experiment.
    """
    path = folder / "records.sqlite"
    new = path.with_name(f"records.{uuid.uuid4().hex[:8]}.new.sqlite")
    if not path.exists():
        raise StoreError(f"{path} does not exist: give the folder of an experiment")
    _clear(folder)
    try:
        before = _state(path)
        _rebuild(path, new)
        rights.share(new)
        # Renamed, never removed: whenever this is cut off, both are there under some name.
        with rights.held(folder, alone=True):  # who opens it finds files of one of them
            if _state(path) != before:
                raise StoreError(
                    f"{path} is not what it was when repairing it began, as if somebody else "
                    "repaired, deleted or wrote it: check it again while nobody does"
                )
            kept = _unused(path)
            os.rename(path, kept)
            for suffix in ("-wal", "-shm"):
                log = Path(f"{path}{suffix}")
                if log.exists():
                    os.rename(log, f"{kept}{suffix}")
            os.rename(new, path)
    except (*SQLITE_ERRORS, OSError) as error:
        raise explain(error, path) from error
    finally:
        new.unlink(missing_ok=True)
    return kept


def _state(path: Path) -> list[tuple[int, ...]]:
    """Return what is another if a database is another one, or was written to."""
    found: list[tuple[int, ...]] = []
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            one = os.stat(f"{path}{suffix}")
            if one.st_size:  # who only reads makes an empty log
                # Not when it was changed otherwise: as root SQLite sets a log's owner at each
                # opening.
                found.append((one.st_ino, one.st_size, one.st_mtime_ns))
    return found


def _unused(path: Path) -> Path:
    """Return the name under which a damaged database is kept: another than of those before."""
    moments = count(int(time.time()))
    names = (path.with_name(f"records.{moment}.sqlite") for moment in moments)
    return next(name for name in names if not name.exists())


def _clear(folder: Path) -> None:
    """Remove what was half built when somebody was killed long ago."""
    for path in rights.found(folder, "records.*.new.sqlite"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _rebuild(path: Path, new: Path) -> None:
    source, target = readable(path), sqlite3.connect(new, isolation_level=None)
    try:
        rebuild(source, target, path.stat().st_size, _PATIENCE)
        for pragma in ("application_id", "user_version"):
            value = source.execute(f"PRAGMA {pragma}").fetchone()[0]
            target.execute(f"PRAGMA {pragma} = {value}")
    finally:
        source.close()
        target.close()


def main() -> int:
    """Repair the folder that the command line names."""
    if len(sys.argv) != 2:
        print(f"usage: {Path(sys.executable).name} -m daskperiment.store.repair <folder>")
        return 2
    try:
        kept = repair(Path(sys.argv[1]).absolute())
    except DaskperimentError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The database is built anew. The damaged one is kept as {kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
