"""The tables of an experiment's database in a folder, and a first page that leads to them."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from daskperiment.locked_files import reading
from daskperiment.records import BEGUN, LATER_STREAMS, REMOVED, STREAMS
from daskperiment.store.outlines import OUTLINED, OUTLINES, VERSION, whole_rows

__all__ = [
    "HOLDER",
    "IDENTITY",
    "OBJECTS",
    "PAGE",
    "SCHEMA",
    "STREAM",
    "Schema",
    "is_stream",
    "make_views",
    "with_first_page",
]

PAGE = 4096
"""Bytes of a page, where a database does not say otherwise."""
OBJECTS = "CREATE TABLE IF NOT EXISTS _objects (digest TEXT PRIMARY KEY, body BLOB NOT NULL)"
"""Makes the table of small objects."""
STREAM = """CREATE TABLE IF NOT EXISTS {} (
    position INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (trial, id)
)"""
HOLDER = (-1, REMOVED, b"{}")
"""Trial, id and body of a row that stands where a stream ended of which the last record was
removed; no question shows it."""
IDENTITY = (
    "CREATE TABLE IF NOT EXISTS _identity (id TEXT NOT NULL)",
    "INSERT INTO _identity SELECT lower(hex(randomblob(16))) "
    "WHERE NOT EXISTS (SELECT 1 FROM _identity)",
)
"""Statements that give a database a random identity, unless it has one."""
_STREAMS = [STREAM.format(each) for each in STREAMS if each not in LATER_STREAMS]
_TOKENS = "CREATE TABLE IF NOT EXISTS _tokens (trial INTEGER PRIMARY KEY, token TEXT UNIQUE)"


class Schema(NamedTuple):
    """What a database file must be."""

    application: int
    """Marks the file as ours (SQLite's ``application_id``)."""
    version: int
    """Of the schema; a file with a higher one is refused."""
    tables: str
    """Statements that create the tables, separated by semicolons."""


SCHEMA = Schema(
    application=0x64706572,
    version=VERSION,
    tables=";".join([_TOKENS, OBJECTS, *IDENTITY, *_STREAMS, OUTLINES]),
)
_EARLIER = SCHEMA._replace(tables=";".join([_TOKENS, OBJECTS, *_STREAMS, OUTLINES]))
"""Of databases from before there were identities: their tables begin at other pages."""


def is_stream(name: str) -> bool:
    """Whether a table of this name may be that of a stream."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name) is not None and name[:7] != "sqlite_"


def _views() -> dict[str, str]:
    """Return the statements that make the views, by name.

    Whoever opens a database parses them: what fills outlines stands in them once for each stream.
    """
    views = {f"_whole_{stream}": whole_rows(stream) for stream in sorted(OUTLINED - {"outputs"})}
    from daskperiment.codec.sql_views import VIEWS  # noqa: PLC0415  # for those who write

    for name, query in VIEWS.items():
        views[name] = re.sub("<([a-z]+)>", r"_whole_\1", query)
    return {name: f"CREATE VIEW {name} AS {query}" for name, query in views.items()}


def make_views(connection: sqlite3.Connection) -> None:
    """Make the views that a database lacks or has from another version, if it can be written.

    Nothing of our own reads them, so that nothing fails for want of one.
    """
    with suppress(sqlite3.Error):
        query = "SELECT name, sql FROM sqlite_schema WHERE type = 'view'"
        there = dict(connection.execute(query).fetchall())
        views = _views()
        if all(there.get(name) == text for name, text in views.items()):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(OUTLINES)
            for name, text in views.items():
                connection.execute(f"DROP VIEW IF EXISTS {name}")
                connection.execute(text)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.rollback()


def with_first_page(path: Path) -> sqlite3.Connection | None:
    """Return a copy of a database whose first page is damaged, with one that is whole.

    The first page says where each table begins, and that is the same in all of our databases.
    ``None`` if it does not come out as one of ours. The copy is gone when it is closed.
    """
    folder = Path(tempfile.mkdtemp(prefix="daskperiment-"))
    try:
        for schema in (SCHEMA, _EARLIER):
            copy = _copied(path, folder)
            _write_first_page(copy, schema)
            connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
            if _is_ours(connection):
                return connection
            connection.close()
    finally:
        # Open files stay readable without their names, but not on every system.
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _copied(path: Path, folder: Path) -> Path:
    copy = folder / "records.sqlite"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        with (
            suppress(FileNotFoundError),
            reading(f"{path}{suffix}") as source,
            open(f"{copy}{suffix}", "wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
    return copy


def _write_first_page(path: Path, schema: Schema) -> None:
    new = path.with_name("new.sqlite")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        for statement in schema.tables.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
    page = bytearray(new.read_bytes()[:PAGE])
    page[28:32] = (path.stat().st_size // PAGE).to_bytes(4, "big")
    if path.with_name(f"{path.name}-wal").exists():
        page[18:20] = b"\x02\x02"  # what stands in the log counts
    with open(path, "r+b") as file:
        file.write(page)


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether trials begin where they should."""
    with suppress(sqlite3.Error):
        query = "SELECT count(*) FROM {} WHERE id = ? AND trial > 0 AND body LIKE '{{%'"
        found = [
            connection.execute(query.format(name), (BEGUN,)).fetchone()[0]
            for name in ("trials", "steps")
        ]
        connection.execute("PRAGMA wal_checkpoint")
        return bool(found[0]) and not found[1]
    return False
