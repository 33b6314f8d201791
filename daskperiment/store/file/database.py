"""One SQLite database: safe for threads, processes and ``fork``.

There are two connections at most, one that reads and one that writes, each used by one thread at a
time. So any number of threads costs no more files, and writers of one process queue for a lock
instead of polling the database for it.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.store.faults import database_name, explain
from daskperiment.store.file.connection import Lane, execute, identity

__all__ = ["Database", "Layout"]

_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "afs", "lustre", "gpfs", "beegfs")


class Layout(NamedTuple):
    """What a database file must be."""

    application: int
    """Marks the file as ours (SQLite's ``application_id``)."""
    version: int
    """Of the schema; a file with a higher one is refused."""
    schema: str
    """Statements that create the tables, parted by semicolons."""


class Database:
    """A database file that is created, with its folder, by its first write.

    Every error leaves as a `StoreError`.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self._layout = layout
        self._reader = Lane()
        self._writer = Lane()
        weakref.finalize(self, _close, self._reader, self._writer)

    def writing(self) -> _Transaction:
        """Give a connection within a transaction that no other writer shares."""
        return _Transaction(self, self._writer)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection for reading, ``None`` if nothing was ever written."""
        lane = self._reader
        with lane.lock:
            try:
                yield self.open_reader(lane)
            except (sqlite3.Error, OSError) as error:
                raise explain(error, self.path) from error
            finally:
                if lane.transient:
                    lane.close()

    def remove(self) -> None:
        """Delete the database's files; a later write makes new ones."""
        try:
            if identity(self.path) is None:
                return
            with self.writing():
                self._unlink()
        except CorruptRecordError as error:
            if database_name(error.__cause__ or error) == "SQLITE_NOTADB":
                raise  # it may well be somebody else's file
            self._unlink()
        except OSError as error:
            raise explain(error, self.path) from error
        finally:
            self.close()

    def _unlink(self) -> None:
        # In this order nobody finds an old log beside a new database. A connection that is open
        # elsewhere notices before it writes that its file is no longer here.
        for suffix in ("-wal", "-shm", "-journal", ""):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections; later calls open them again."""
        for lane in (self._reader, self._writer):
            with lane.lock:
                lane.close()

    # Opening: used by this module alone ------------------------------------------------------

    def open_writer(self, lane: Lane) -> sqlite3.Connection:
        """Give the lane's connection; open or create the database if need be."""
        if lane.connection is not None and lane.is_at(self.path):
            return lane.connection
        lane.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = lane.open(self.path, "rwc")
        complete = self._check(connection)
        self._set_journal_mode(connection, complete)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MB: fewer waits for the disk
        if not complete:
            self._create(connection)
            _hide_from_git(self.path.parent)
        return connection

    def open_reader(self, lane: Lane) -> sqlite3.Connection | None:
        """Give the lane's connection, ``None`` where there is no database yet."""
        here = identity(self.path)
        if lane.connection is not None and lane.file == here:
            return lane.connection
        lane.close()
        if here is None:
            return None
        connection = self._open_for_reading(lane)
        if self._check(connection):
            return connection
        lane.close()
        return None

    def _open_for_reading(self, lane: Lane) -> sqlite3.Connection:
        """Open a connection; on media that cannot be written, one that needs no lock file."""
        for mode in ("rw", "ro"):
            try:
                connection = lane.open(self.path, mode)
                execute(connection, "SELECT 1 FROM sqlite_schema")
                return connection
            except sqlite3.OperationalError as error:
                lane.close()
                if not database_name(error).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                    raise
        log = Path(f"{self.path}-wal")
        if log.exists() and log.stat().st_size:
            warnings.warn(
                f"{log} holds records that cannot be shown from a folder where this user may not "
                f"write: copy the folder {self.path.parent} and open the copy to see them",
                StoreWarning,
                stacklevel=2,
            )
        return lane.open(self.path, "ro&immutable=1")

    def _check(self, connection: sqlite3.Connection) -> bool:
        """Refuse a database that is not ours or is newer; tell whether it has its tables."""
        known = self._layout
        version = execute(connection, "PRAGMA user_version")[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == known.application:
            if version > known.version:
                raise StoreError(
                    f"{self.path} was written by a newer daskperiment (schema version {version}, "
                    f"this one knows {known.version}): upgrade daskperiment to open it"
                )
            return True
        # What another process is about to create shows as an empty database.
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if (version or application or tables) and not self._is_ours_by_now(connection):
            raise StoreError(
                f"{self.path} is a SQLite database of another program (application_id "
                f"{application}): move it away, or give another folder as backend"
            )
        return bool(tables)

    def _is_ours_by_now(self, connection: sqlite3.Connection) -> bool:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        return bool(found == self._layout.application)

    def _set_journal_mode(self, connection: sqlite3.Connection, complete: bool) -> None:
        # Write-ahead logging needs shared memory, which network file systems do not have. A
        # complete database that is in another mode may be in use from such a file system.
        mode = execute(connection, "PRAGMA journal_mode")[0]
        local = "delete" if complete and mode != "wal" else "wal"
        wanted = "delete" if _on_network(self.path.parent) else local
        if mode != wanted:
            execute(connection, f"PRAGMA journal_mode = {wanted}")

    def _create(self, connection: sqlite3.Connection) -> None:
        """Create the tables; harmless if another process does so at the same moment."""
        execute(connection, "BEGIN IMMEDIATE")
        for statement in self._layout.schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self._layout.application}")
        connection.execute(f"PRAGMA user_version = {self._layout.version}")
        execute(connection, "COMMIT")


class _Transaction:
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or a rollback if an exception passes."""

    __slots__ = ("_database", "_lane")

    def __init__(self, database: Database, lane: Lane) -> None:
        self._database = database
        self._lane = lane

    def __enter__(self) -> sqlite3.Connection:
        self._lane.lock.acquire()
        try:
            return self._begin()
        except BaseException as error:
            self._lane.close()
            self._lane.lock.release()
            if isinstance(error, sqlite3.Error | OSError):
                raise explain(error, self._database.path) from error
            raise

    def _begin(self) -> sqlite3.Connection:
        lane, path = self._lane, self._database.path
        for last in (False,) * 20 + (True,):
            try:
                # Whether its file is still there is asked below, under the lock.
                connection = lane.connection or self._database.open_writer(lane)
                if connection.in_transaction:  # an interrupt came at a bad moment
                    connection.rollback()
                execute(connection, "BEGIN IMMEDIATE")
                if lane.is_at(path):
                    return connection
            except (sqlite3.OperationalError, FileNotFoundError, FileExistsError):
                if last or lane.is_at(path):
                    raise
            lane.close()  # the file was deleted meanwhile: begin again with a new one
        raise StoreError(f"{path} vanishes as soon as it is created: see who deletes it")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._lane.connection
        try:
            if error is None and connection is not None:
                execute(connection, "COMMIT")
                return
        except (sqlite3.Error, KeyboardInterrupt) as failure:
            error = failure
            raise
        finally:
            if error is not None:
                self._undo()
            self._lane.lock.release()
            if isinstance(error, sqlite3.Error | OSError):
                raise explain(error, self._database.path) from error

    def _undo(self) -> None:
        connection = self._lane.connection
        try:
            if connection is not None and connection.in_transaction:
                connection.rollback()
        except sqlite3.Error:
            self._lane.close()


def _hide_from_git(folder: Path) -> None:
    """Keep what is recorded out of the user's repository, and out of what is recorded of it."""
    try:
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError:
        pass  # nothing depends on it


def _on_network(folder: Path) -> bool:
    """Tell whether a folder lies on a network file system."""
    real = os.path.realpath(folder)
    longest, kind = "", ""
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):
            longest, kind = point, mount.fstype
    return kind.lower().startswith(_NETWORK)


def _close(*lanes: Lane) -> None:
    for lane in lanes:
        with lane.lock:
            lane.close()
