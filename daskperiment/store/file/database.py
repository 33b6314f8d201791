"""One SQLite database: safe for threads, processes and ``fork``.

There are two connections at most, one that reads and one that writes, each used by one thread at a
time. So any number of threads costs no more files, and writers of one process queue for a lock
instead of polling the database for it. Those of many processes take turns.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from daskperiment.errors import CorruptRecordError, StoreError, StoreWarning
from daskperiment.locked_files import OPENING, reading
from daskperiment.store import rights
from daskperiment.store.faults import (
    SQLITE_ERRORS,
    database_name,
    explain,
    explained,
    has_no_descriptors,
    is_busy,
    is_damage,
)
from daskperiment.store.file.recovery import Recovery
from daskperiment.store.protocol import Fault
from daskperiment.store.schema import Schema, make_views
from daskperiment.warn import warn_user

if TYPE_CHECKING:
    from daskperiment.store.file.turns import WriterTurn

__all__ = ["TRIES", "Database"]

T = TypeVar("T")

_PATIENCE = 60.0
"""Seconds to wait for other writers before giving up."""
_BUSY = 10.0
"""Seconds of these that SQLite waits by itself at a time."""
TRIES = (False,) * 20 + (True,)
"""Of opening or writing a file that somebody else deletes meanwhile; the last one is ``True``."""

# Not at every commit: a killed process loses nothing, a machine without power might.
_SYNCED = "PRAGMA synchronous = NORMAL"
_DELETED = "_deleted"
"""Table that a database has when it is about to be deleted."""
_NO_SHARED_MEMORY = "SQLITE_IOERR_SHMMAP"
_NO_ACCESS = ("SQLITE_CANTOPEN", "SQLITE_READONLY", _NO_SHARED_MEMORY)
_NO_ROOM = "SQLITE_IOERR_SHMSIZE"
"""On a disk that is full to the last page: whoever is the first cannot make the log's index."""
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "afs", "lustre", "gpfs", "beegfs")


_registry: weakref.WeakSet[SharedConnection] = weakref.WeakSet()
# Held over a fork too, so that no connection is made between closing them all and the fork itself.
_registry_lock = threading.RLock()


class SharedConnection:
    """A connection that one thread at a time uses."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.turn: WriterTurn | None = None
        """Of a connection that writes, once it found the database busy."""
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.path = Path()
        self.holds = False
        """Whether the thread that uses it holds the folder alone."""
        self.transient = False
        """Whether it must be opened anew for each reading, because it cannot lock the file."""
        with _registry_lock:
            _registry.add(self)

    def open(self, path: Path, mode: str) -> sqlite3.Connection:
        """Open a connection, in a mode as in SQLite's file URLs."""
        url = f"{path.as_uri()}?mode={mode}"
        self.transient = mode.startswith("ro&")
        with OPENING:
            self.connection = sqlite3.connect(
                url, uri=True, isolation_level=None, timeout=_BUSY, check_same_thread=False
            )
        self.path, self.file = path, _file_at(path)
        return self.connection

    def is_at(self, path: Path) -> bool:
        """Return whether the open file is still the one at this path."""
        return self.file is not None and self.file == _file_at(path)

    def roll_back(self) -> None:
        """End a transaction, if there is one, as if it had never begun."""
        if self.connection is not None and self.connection.in_transaction:
            self.connection.rollback()

    def close(self) -> None:
        """Close the connection, if there is one, which is in no transaction."""
        connection, self.connection = self.connection, None
        self.file = None  # its number may be that of the next file
        if connection is not None:
            # The last one that closes a database removes its log, by name: if somebody deleted the
            # database meanwhile it might be that of the next one.
            alone = self.holds or self.transient  # a transient one has no log
            with nullcontext() if alone else rights.held(self.path.parent):
                connection.close()
        if self.turn is not None:
            self.turn.end()

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        """Keep others from deleting a folder's database.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        """
        with nullcontext(True) if self.holds else rights.held(folder) as is_there:
            if not is_there:
                raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(folder))
            yield


def _execute(connection: sqlite3.Connection, statement: str) -> Any:
    """Return a statement's first row; try again while the database is locked.

    SQLite's own timeout does not cover every kind of lock.
    """
    deadline = 0.0
    while True:
        try:
            return connection.execute(statement).fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            deadline = deadline or time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.01))


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path, ``None`` if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _was_absent(error: Exception) -> bool:
    """Return whether an error may come of a file that was not there at that moment."""
    return isinstance(error, FileNotFoundError) or database_name(error) == "SQLITE_CANTOPEN"


def _leave_log(path: Path) -> None:
    """Give up a log that was begun elsewhere: whoever has the database alone shares no memory."""
    with closing(sqlite3.connect(path, isolation_level=None)) as alone:
        _execute(alone, "PRAGMA locking_mode = EXCLUSIVE")
        _execute(alone, "PRAGMA journal_mode = DELETE")


def _uses_log(path: Path) -> bool:
    """Return whether a database is in the mode of write-ahead logging, by its first page."""
    if os.path.exists(f"{path}-shm"):
        return True  # and not read: a connection of this process would lose its locks
    with reading(path) as file:
        return file.read(20)[18:] == b"\x02\x02"


# SQLite's locks do not survive a fork: a connection that was open then makes the child believe
# that it holds locks which it does not. So all are closed before, and opened again when needed.


def _before_fork() -> None:
    _registry_lock.acquire()
    for shared in list(_registry):
        shared.lock.acquire()
        shared.close()


def _after_fork() -> None:
    for shared in list(_registry):
        shared.lock.release()
    _registry_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


class Database:
    """A database file that is created, with its folder, by its first write.

    Every error leaves as a `StoreError`.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        self._reader = SharedConnection()
        self._writer = SharedConnection()
        self._recovery = Recovery(path)
        self.deletion = ""
        """What names the last deletion that was noticed here."""
        weakref.finalize(self, _close, self._reader, self._writer)

    def writing(self) -> _Transaction:
        """Return a context whose connection is in a transaction that no other writer shares."""
        return _Transaction(self, self._writer)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection for reading, ``None`` if nothing was ever written."""
        shared = self._reader
        with shared.lock:
            try:
                yield self.open_reader(shared)
            except (*SQLITE_ERRORS, OSError) as error:
                raise explain(error, self.path) from error
            finally:
                if shared.transient:
                    shared.close()

    def ask(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """Return an answer, of what can be recovered where damage stops the question.

        `nothing` is the answer where nothing was ever written.
        """
        try:
            with self.reading() as connection:
                return nothing if connection is None else question(connection)
        except CorruptRecordError as error:
            cause = error.__cause__
            if not isinstance(cause, SQLITE_ERRORS) or not is_damage(cause):
                raise
            with explained(self.path):
                return self._recovery.ask(question, cause)

    def ask_at_rest(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return an answer of a file that nobody writes to, as the caller has to make sure.

        No other file is made or locked for it, which takes longer than a short answer. It is
        ``None`` where there is no such database, where a change may stand beside it, or if
        anything is odd: `ask` knows what to do then.
        """
        if os.path.exists(f"{self.path}-journal"):
            return None
        shared = SharedConnection()
        try:
            connection = shared.open(self.path, "ro&immutable=1")
            return question(connection) if self._check(connection) else None
        except (StoreError, *SQLITE_ERRORS):
            return None
        finally:
            shared.close()

    def faults(self, seconds: float) -> list[Fault]:
        """Return what SQLite's check says within so many seconds."""
        deadline = time.monotonic() + seconds
        try:
            with self.reading() as connection:
                if connection is None:
                    return []
                connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
                try:
                    said = connection.execute("PRAGMA integrity_check(3)").fetchall()
                finally:
                    connection.set_progress_handler(None, 0)
        except StoreError as error:
            cause = error.__cause__
            if database_name(cause or error) == "SQLITE_INTERRUPT":
                return []
            return [self._fault(str(cause or error))]
        text = "; ".join(" ".join(str(text).split()) for (text,) in said)
        return [] if text == "ok" else [self._fault(text)]

    def _fault(self, said: str) -> Fault:
        # Only what is a database that was damaged can be built anew.
        remedy = (
            "run `daskperiment check --repair` while nobody writes to it, which builds it anew of "
            "all that can be read and keeps the damaged file"
        )
        what = f"damaged: {said[:300]}"
        return Fault(str(self.path), what, remedy, self._repair)

    def _repair(self) -> None:
        from daskperiment.store.repair import repair  # noqa: PLC0415  # of a damaged one alone

        self.close()
        repair(self.path.parent)

    def remove(self, name: str, also: Callable[[], object]) -> None:
        """Delete the database's files; a later write makes new ones.

        `name` tells those who have it open that it was deleted. `also` removes what belongs to it,
        before there can be a next one.
        """
        # A connection that is open elsewhere notices before it writes that its file is no longer
        # here. One that is being made, opened or closed meanwhile might leave a log that the next
        # database finds, or remove that one's.
        writer = self._writer
        try:
            with writer.lock, rights.held(self.path.parent, alone=True) as is_there:
                if not is_there:
                    return
                writer.holds = True
                try:
                    if _file_at(self.path) is not None:
                        self._name_deletion(name)
                        self._unlink()
                    also()
                finally:
                    writer.close()
                    writer.holds = False
        except OSError as error:
            raise explain(error, self.path) from error
        finally:
            self.close()

    def _name_deletion(self, name: str) -> None:
        with suppress(StoreError), self.writing() as connection:
            # Whoever has the file open reads it there when the file is gone.
            connection.execute(f"CREATE TABLE IF NOT EXISTS {_DELETED} (name TEXT)")
            connection.execute(f"INSERT INTO {_DELETED} VALUES (?)", (name,))

    def _unlink(self) -> None:
        try:
            with self.writing():
                self._unlink_files()
        except CorruptRecordError as error:
            if database_name(error.__cause__ or error) == "SQLITE_NOTADB":
                raise  # it may well be somebody else's file
            self._unlink_files()

    def _unlink_files(self) -> None:
        # In this order nobody finds an old log beside a new database.
        for suffix in ("-wal", "-shm", "-journal", ""):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connections; later calls open them again."""
        _close(self._reader, self._writer)
        self._recovery.forget()

    def open_writer(self, shared: SharedConnection) -> sqlite3.Connection:
        """Return the open connection; open or create the database if need be."""
        if shared.connection is not None and shared.is_at(self.path):
            return shared.connection
        self.leave(shared)
        rights.make_folder(self.path.parent)
        with shared.held(self.path.parent):
            rights.create(self.path)  # SQLite gives its log the rights of the database
            connection = self._open(shared, "rw")
            self._prepare(connection, shared)
        return connection

    def _prepare(self, connection: sqlite3.Connection, shared: SharedConnection) -> None:
        """Set what one that writes needs, and make the tables of a database that is new."""
        complete = self._check(connection)
        if not complete:  # what is lost with the power before anything is recorded is nobody's
            connection.execute("PRAGMA synchronous = OFF")
        logged = self._set_journal_mode(connection, complete) == "wal"
        if complete or not logged:
            connection.execute(_SYNCED)
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MB: fewer waits for the disk
        connection.execute("PRAGMA journal_size_limit = 1000000")  # which it does not take after
        connection.execute("PRAGMA cache_size = -800")  # 0.8 MB: who writes needs the last pages
        if not complete:
            self._create(connection, shared)
            _hide_from_git(self.path.parent)
        make_views(connection)
        if not complete:
            connection.execute(_SYNCED)
        if _execute(connection, "PRAGMA journal_mode")[0] == "wal":
            connection.execute("PRAGMA busy_timeout = 0")  # `WriterTurn` waits

    def open_reader(self, shared: SharedConnection) -> sqlite3.Connection | None:
        """Return the open connection, ``None`` where there is no database yet."""
        here = _file_at(self.path)
        if shared.connection is not None and shared.file == here:
            return shared.connection
        for last in TRIES:
            self.leave(shared)
            if here is None:
                return None
            try:
                connection = self._open_for_reading(shared)
                if self._check(connection):
                    return connection
                here = None
            except (sqlite3.DatabaseError, FileNotFoundError) as error:
                before, here = here, _file_at(self.path)
                # A number alone says little of a file that was not open: the next one may have it.
                if last or (here == before and not _was_absent(error)):
                    raise  # else it was deleted meanwhile, and what is there now is read
        return None

    def leave(self, shared: SharedConnection) -> None:
        """Close a connection whose file is elsewhere by now, and note whether it was deleted."""
        if shared.connection is not None:
            with suppress(sqlite3.Error):  # there is no such table: it was moved or removed
                # Who deletes may wait for it, and holds the folder meanwhile.
                shared.roll_back()
                query = f"SELECT name FROM {_DELETED} ORDER BY rowid DESC"
                found = shared.connection.execute(query).fetchone()
                self.deletion = str(found[0]) if found else self.deletion
        shared.close()

    def _open(self, shared: SharedConnection, mode: str) -> sqlite3.Connection:
        """Open a connection, and see that it can read; for who holds the folder.

        SQLite opens the files one by one, the database with the connection and its log with the
        first statement: nobody may remove them meanwhile, or they were of two databases.
        """
        try:
            connection = shared.open(self.path, mode)
            _execute(connection, "SELECT 1 FROM sqlite_schema")
        except sqlite3.OperationalError as error:
            if database_name(error) != _NO_SHARED_MEMORY or mode != "rw":
                raise
            shared.close()
            _leave_log(self.path)
            return shared.open(self.path, mode)
        return connection

    def _open_for_reading(self, shared: SharedConnection) -> sqlite3.Connection:
        """Open a connection; for who may not write, one that makes no lock and log files.

        They would belong to this user, and stand in the way of those who may.
        """
        for mode in self._reading_modes():
            try:
                with shared.held(self.path.parent):
                    os.stat(self.path)  # of one that is gone every mode says that it may not
                    return self._open(shared, mode)
            except sqlite3.OperationalError as error:
                shared.close()
                # Without descriptors another mode would show the database without its log.
                name = database_name(error)
                # Nor is there anything to lock out where nobody has a log, or room for one.
                may_go_on = name.startswith(_NO_ACCESS) and not has_no_descriptors(error)
                if not may_go_on and (name != _NO_ROOM or self._has_log()):
                    raise
        if self._has_log():
            text = (
                f"{self.path}-wal holds records that cannot be shown from a folder where this user "
                f"may not write: copy the folder {self.path.parent} and open the copy to see them"
            )
            warn_user(StoreWarning(text))
        return shared.open(self.path, "ro&immutable=1")

    def _reading_modes(self) -> tuple[str, ...]:
        if rights.may_write(self.path):
            return ("rw", "ro")
        if not _uses_log(self.path):
            return ("ro",)
        # Who writes at this moment has made both files, and they can be read.
        return ("ro&readonly_shm=1",) if self._has_log() else ()

    def _has_log(self) -> bool:
        """Return whether records may stand in SQLite's log, and not yet in the database."""
        try:
            return os.stat(f"{self.path}-wal").st_size > 0
        except FileNotFoundError:
            return False

    def clear_way(self) -> bool:
        """Remove an empty log and its index that this user may not write to; True if there was one.

        Somebody who may only read left them. Who may not write to the database can have put
        nothing there.
        """
        files = [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-shm")]
        foreign = [file for file in files if file.exists() and not rights.may_write(file)]
        if not foreign or self._has_log() or not rights.may_write(self.path):
            return False
        for file in files:
            file.unlink(missing_ok=True)
        return True

    def _check(self, connection: sqlite3.Connection) -> bool:
        """Return whether the database has its tables; refuse one that is not ours or is newer."""
        known = self._schema
        version = _execute(connection, "PRAGMA user_version")[0]
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
        return bool(found == self._schema.application)

    def _set_journal_mode(self, connection: sqlite3.Connection, complete: bool) -> str:
        # Write-ahead logging needs shared memory, which network and some other file systems do not
        # have. A complete database that is in another mode may be in use from such a file system.
        mode = _execute(connection, "PRAGMA journal_mode")[0]
        local = "delete" if complete and mode != "wal" else "wal"
        folder, new = self.path.parent, local == "wal" != mode
        apart = _on_network(folder) or (new and not _shares_memory(folder))
        wanted = "delete" if apart else local
        if mode != wanted:
            _execute(connection, f"PRAGMA journal_mode = {wanted}")
        return wanted

    def _create(self, connection: sqlite3.Connection, shared: SharedConnection) -> None:
        """Create the tables; harmless if another process does so at the same moment."""
        _execute(connection, "BEGIN IMMEDIATE")
        if not shared.is_at(self.path):  # or its log may be that of the next database
            raise FileNotFoundError(errno.ENOENT, "deleted meanwhile", str(self.path))
        for statement in self._schema.tables.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self._schema.application}")
        connection.execute(f"PRAGMA user_version = {self._schema.version}")
        _execute(connection, "COMMIT")


class _Transaction(NamedTuple):
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or a rollback if an exception passes."""

    database: Database
    shared: SharedConnection

    def __enter__(self) -> sqlite3.Connection:
        self.shared.lock.acquire()
        try:
            return self._begin()
        except BaseException as error:
            self._undo()
            self.shared.close()
            self.shared.lock.release()
            if isinstance(error, (*SQLITE_ERRORS, OSError)):
                raise explain(error, self.database.path) from error
            raise

    def _begin(self) -> sqlite3.Connection:
        shared, path = self.shared, self.database.path
        for last in TRIES:
            try:
                # Whether its file is still there is asked below, under the lock.
                connection = shared.connection or self.database.open_writer(shared)
                shared.roll_back()  # if an interrupt came at a bad moment
                if shared.turn is not None:
                    shared.turn.prepare(connection)
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if not is_busy(error):
                        raise
                    self._turn().begin(connection, _PATIENCE)
                if shared.is_at(path):
                    return connection
            except (sqlite3.DatabaseError, FileNotFoundError, FileExistsError) as error:
                may_pass = isinstance(error, (sqlite3.OperationalError, OSError))
                if last or (shared.is_at(path) and not (may_pass and self.database.clear_way())):
                    raise
            self.database.leave(shared)  # the file was deleted meanwhile: begin with a new one
        raise StoreError(f"{path} vanishes as soon as it is created: see who deletes it")

    def _turn(self) -> WriterTurn:
        if self.shared.turn is None:
            from daskperiment.store.file.turns import WriterTurn  # noqa: PLC0415  # most write alone

            self.shared.turn = WriterTurn(self.database.path)
        return self.shared.turn

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        connection = self.shared.connection
        try:
            if error is None and connection is not None:
                _execute(connection, "COMMIT")
                return
        except (*SQLITE_ERRORS, KeyboardInterrupt) as failure:
            error = failure
            raise
        finally:
            if error is not None:
                self._undo()
            self.shared.lock.release()
            if isinstance(error, (*SQLITE_ERRORS, OSError)):
                raise explain(error, self.database.path) from error

    def _undo(self) -> None:
        try:
            self.shared.roll_back()
        except SQLITE_ERRORS:
            self.shared.close()


def _hide_from_git(folder: Path) -> None:
    """Keep what is recorded out of the user's repository, and out of what is recorded of it."""
    with suppress(OSError):  # nothing depends on it
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        rights.share(folder / ".gitignore")


def _shares_memory(folder: Path) -> bool:
    """Return whether processes can share memory that is a file in a folder."""
    with tempfile.TemporaryFile(dir=folder) as file, suppress(OSError):
        file.truncate(mmap.PAGESIZE)
        mmap.mmap(file.fileno(), 0).close()
        return True
    return False


def _on_network(folder: Path) -> bool:
    """Return whether a folder lies on a network file system."""
    return rights.file_system(folder).lower().startswith(_NETWORK)


def _close(*connections: SharedConnection) -> None:
    for shared in connections:
        with shared.lock:
            shared.close()
