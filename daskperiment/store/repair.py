"""Repair of a damaged file store: what can be read is saved.

``python -m daskperiment.store.repair <folder of the experiment>`` builds the database anew from
the rows that can be read, and keeps the damaged file beside it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from daskperiment.errors import DaskperimentError, StoreError
from daskperiment.records import BEGUN
from daskperiment.store import rights
from daskperiment.store.faults import explain

__all__ = ["main", "readable", "rebuild", "repair", "salvage"]

OBJECTS = "_objects"
_SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_STEPS = 1000
"""SQLite's own steps between two looks at the clock."""
_PATIENCE = 60.0
"""Seconds that a repair takes to look for rows of each table in what is damaged."""

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
    except sqlite3.Error:
        return last, False
    return last, True


def readable(path: Path) -> sqlite3.Connection:
    """Open a database that may be damaged, to read it only; text that is none comes as bytes."""
    # Who may not write leaves no lock file behind.
    modes = ("ro", "ro&immutable=1") if rights.may_write(path.parent) else ("ro&immutable=1",)
    for mode in modes:
        connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
        connection.text_factory = _text_or_bytes
        try:
            connection.execute("SELECT 1 FROM sqlite_schema")
        except sqlite3.Error as error:
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


def rebuild(
    source: sqlite3.Connection, target: sqlite3.Connection, largest: int, seconds: float
) -> list[str]:
    """Write to a new database what can be read of another one; return the tables with losses."""
    deadline = time.monotonic() + seconds
    target.execute("BEGIN")
    found = source.execute(_SCHEMA).fetchall()
    # Of a damaged schema either may be bytes that are no text.
    tables = [one for one in found if all(type(part) is str for part in one)]
    losses = [] if len(tables) == len(found) else ["the schema"]
    # Objects last: they may be large, and records are worth more.
    for table, sql in sorted(tables, key=lambda one: one[0] == OBJECTS):
        target.execute(sql)
        rows, complete = salvage(source, table, largest, max(deadline - time.monotonic(), 0.1))
        losses += [] if complete else [table]
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            target.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', rows)
    # A trial whose token was lost keeps its id all the same.
    target.execute(
        "INSERT INTO _tokens (trial) SELECT DISTINCT trial FROM trials WHERE id = ? "
        "AND trial > 0 AND trial NOT IN (SELECT trial FROM _tokens)",
        (BEGUN,),
    )
    target.execute("COMMIT")
    return losses


def repair(folder: Path) -> Path:
    """Build the database in an experiment's folder anew from what can be read of it.

    Nobody may write to the store meanwhile. Returns the path under which the damaged database is
    kept. A StoreError if there is none, or not even its first page can be read.
    """
    path = folder / "records.sqlite"
    new, kept = (path.with_name(f"records.{name}.sqlite") for name in ("new", f"{time.time():.0f}"))
    if not path.exists():
        raise StoreError(f"{path} does not exist: give the folder of an experiment")
    try:
        new.unlink(missing_ok=True)
        _rebuild(path, new)
        # Renamed, never removed: whenever this is cut off, both are there under some name.
        os.rename(path, kept)
        for suffix in ("-wal", "-shm"):
            log = Path(f"{path}{suffix}")
            if log.exists():
                os.rename(log, f"{kept}{suffix}")
        rights.share(new)
        os.rename(new, path)
    except (sqlite3.Error, OSError) as error:
        new.unlink(missing_ok=True)
        raise explain(error, path) from error
    return kept


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
