"""Repair of a damaged file store: what can be read is saved.

``python -m daskperiment.store.repair <folder of the experiment>`` builds the database anew from
the rows that can be read, and keeps the damaged file beside it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from daskperiment.errors import DaskperimentError, StoreError
from daskperiment.records import BEGUN
from daskperiment.store.faults import explain

__all__ = ["main", "repair", "salvage"]


def salvage(
    connection: sqlite3.Connection, table: str, columns: str = "*", after: int = 0
) -> list[Any]:
    """Return the rows that can be read of a table with row ids, those above `after`.

    Ranges that cannot be read are halved until single rows are left.
    """
    found: list[Any] = []
    query = f'SELECT {columns} FROM "{table}" WHERE rowid > ? AND rowid <= ? ORDER BY rowid'
    ranges = [(after, _last(connection, table))]
    while ranges:
        low, high = ranges.pop()
        try:
            found += connection.execute(query, (low, high)).fetchall()
        except sqlite3.DatabaseError:
            if high - low > 1:
                middle = (low + high) // 2
                ranges += [(middle, high), (low, middle)]
    return found


def _last(connection: sqlite3.Connection, table: str) -> int:
    """Return the last row id, from the index if the table's own end is damaged."""
    for index in ("", f' INDEXED BY "sqlite_autoindex_{table}_1"'):
        try:
            query = f'SELECT max(rowid) FROM "{table}"{index}'
            return connection.execute(query).fetchone()[0] or 0
        except sqlite3.DatabaseError:
            continue
    return 100_000  # both ends are damaged: as far as it is worth to search


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
        os.rename(new, path)
    except (sqlite3.Error, OSError) as error:
        new.unlink(missing_ok=True)
        raise explain(error, path) from error
    return kept


def _rebuild(path: Path, new: Path) -> None:
    source = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)
    target = sqlite3.connect(new, isolation_level=None)
    try:
        tables = source.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        target.execute("BEGIN")
        for table, sql in tables.fetchall():
            target.execute(sql)
            rows = salvage(source, table)
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                target.executemany(f'INSERT INTO "{table}" VALUES ({marks})', rows)
        # A trial whose token was lost keeps its id all the same.
        target.execute(
            "INSERT INTO _tokens (trial) SELECT trial FROM trials WHERE id = ? "
            "AND trial NOT IN (SELECT trial FROM _tokens)",
            (BEGUN,),
        )
        target.execute("COMMIT")
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
