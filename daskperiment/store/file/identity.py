"""Which folder this is: two machines may have different folders of one name."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from daskperiment.errors import StoreError
from daskperiment.store.file.database import Database

__all__ = ["IDENTITY", "check_arrival", "known_identity"]

_TABLE = "CREATE TABLE IF NOT EXISTS _identity (id TEXT NOT NULL)"
_FILL = (
    "INSERT INTO _identity SELECT lower(hex(randomblob(16))) "
    "WHERE NOT EXISTS (SELECT 1 FROM _identity)"
)
IDENTITY = f"{_TABLE};{_FILL}"
"""Statements that give a database a random identity, unless it has one."""


def known_identity(database: Database) -> str | None:
    """Read a database's identity; one that was made before there were any gets its own now.

    Returns
    -------
    str or None
        ``None`` where there is no database, or where it can be neither read nor written.
    """
    with suppress(StoreError):
        with database.reading() as connection:
            if connection is None:
                return None
            found = _read(connection)
        if found is not None:
            return found
        with database.writing() as connection:
            for statement in IDENTITY.split(";"):
                connection.execute(statement)
            return _read(connection)
    return None


def _read(connection: sqlite3.Connection) -> str | None:
    try:
        row = connection.execute("SELECT id FROM _identity").fetchone()
    except sqlite3.OperationalError:
        return None  # from before there were any
    return None if row is None else str(row[0])


def check_arrival(folder: Path, database: Database, expected: str | None, place: str) -> None:
    """Make sure that a folder is, here too, the one that a store was made for elsewhere.

    Raises
    ------
    StoreError
        If it is not.
    """
    if expected is None or known_identity(database) == expected:
        return
    if not folder.is_dir():
        found = "there is no such folder"
    elif not database.path.exists():
        found = "the folder of this name holds no experiment"
    else:
        found = "the folder of this name is another one, or cannot be read"
    raise StoreError(
        f"The experiment is kept in the folder {str(folder)!r}, but {found} where {place} runs. "
        f"Put the experiment into a folder that every worker sees under this name, or give the "
        f"experiment a server as backend: 'redis://host' or 'mongodb://host/database'."
    )
