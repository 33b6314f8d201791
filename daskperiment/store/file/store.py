"""The file store: one folder with a SQLite database and files for large objects.

::

    <folder>/
        records.sqlite     streams, tokens and small objects (beside it SQLite's -wal and -shm)
        objects/ab/cd/…    objects above 1 MB, each a file under its digest
        columns/           what readers made of the records; may be deleted at any time
        journal/           journals of the processes that write here
        clock              its time stamp is the file system's clock; in it stands who writes next

Any number of processes may use a folder at once, on one machine or on several that share it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daskperiment.errors import StoreError
from daskperiment.records import BEGUN, STREAMS
from daskperiment.store import rights
from daskperiment.store.faults import explained, is_absent
from daskperiment.store.file.database import Database
from daskperiment.store.file.deletions import (
    Deletions,
    left_folders,
    move_aside,
    remove_folders,
)
from daskperiment.store.file.objects import FileObjects, UnnamedObject, select_in
from daskperiment.store.object_methods import ObjectMethods
from daskperiment.store.outlines import (
    AFTER,
    CHANGED,
    OUTLINED,
    STEP_IN_OUTPUT,
    Outlines,
    holds,
)
from daskperiment.store.protocol import (
    Allocation,
    Buffer,
    Fault,
    Owner,
    Record,
    State,
    Stored,
    refused,
    removed_token,
)
from daskperiment.store.schema import HOLDER, IDENTITY, SCHEMA, STREAM, is_stream

if TYPE_CHECKING:
    from daskperiment.store.file.stream_reader import StreamReader
    from daskperiment.store.record_pages import RecordPage

__all__ = ["FileStore", "FolderState"]

_ASIDE = (
    "CREATE TABLE IF NOT EXISTS _aside "
    "(stream TEXT, position INTEGER, trial INTEGER, id TEXT, body TEXT)"
)
_GIVE_ID = (
    "INSERT OR IGNORE INTO _tokens (token) "
    "SELECT ? WHERE NOT EXISTS (SELECT 1 FROM _tokens WHERE token = 'removed:' || ?)"
)
"""As `removed_token` has it; a call less for each trial."""
_GIVE_UP = "UPDATE _tokens SET token = ? WHERE trial = ? AND token = ?"
_INSERT_AT = 'INSERT INTO "{}" (position, trial, id, body) VALUES (?, ?, ?, CAST(? AS TEXT))'
_LISTED = "(SELECT value FROM json_each(?))"
_FEW = 4
"""Outputs that are written one by one, which tells at once what stands in their place."""
_MANY, _ROOM = 100, "PRAGMA cache_size = -4000"
"""Outputs of which so many at once are some of thousands, and pages that stay at hand for them.

Their ids are in no order, so that a few find many pages of the index."""
_NEWER = "SELECT trial, id FROM outputs WHERE position > ?"
_owner_of = attrgetter("owner")
_row_of = itemgetter(1, 2, 3)

_Row = tuple[int, str, bytes]


class FolderState(NamedTuple):
    """What the file system says of an experiment's database: another one after each write."""

    file: int
    size: int
    log_size: int
    changed: int
    """When the last of its files changed, in nanoseconds."""

    def is_settled(self) -> bool:
        """Whether a write from now on makes another state of it.

        A file that changes twice within a tick of the file system's clock may look as if it had
        changed once. There are clocks that tick every two seconds; those that tell parts of a
        microsecond tick a hundred times a second or more.
        """
        tick = 0.1 if self.changed % 1000 else 2.0
        return self.changed < (time.time() - tick) * 1e9


class FileStore(ObjectMethods):
    """One experiment in a folder of its own, which the first write creates.

    `identity` is what the folder had in the process that the store comes from, if in any.
    """

    def __init__(self, folder: Path, identity: str | None = None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._database = Database(self.folder / "records.sqlite", SCHEMA)
        self._objects = FileObjects(self.folder / "objects", self._database)
        self._clock = _FolderClock(os.path.join(self.folder, "clock"))
        self._deletions = Deletions(self.folder)
        self._written = Outlines()
        """As the connection sees them that writes."""
        self._seen = Outlines()
        self._identity = identity

    def __repr__(self) -> str:
        return f"FileStore({str(self.folder)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        identity = self._identity or _known_identity(self._database)
        return FileStore, (self.folder, identity), self.carried()

    def without_secrets(self) -> FileStore:
        """Return a store on the same folder that knows nothing secret of where its objects are."""
        return FileStore(self.folder, self._identity or _known_identity(self._database))

    def check_arrival(self, place: str) -> None:
        """Raise StoreError unless the folder is, here too, the one that the store was pickled with.

        `place` is where this is, for the message. Nothing is created.
        """
        if self._identity is None or _known_identity(self._database) == self._identity:
            return
        if not self.folder.is_dir():
            found = "there is no such folder"
        elif not self._database.path.exists():
            found = "the folder of this name holds no experiment"
        else:
            found = "the folder of this name is another one, or cannot be read"
        raise StoreError(
            f"The experiment is kept in the folder {str(self.folder)!r}, but {found} where "
            f"{place} runs. Put the experiment into a folder that every worker sees under this "
            f"name, or give the experiment a server as backend: 'redis://host' or "
            f"'mongodb://host/database'."
        )

    @cached_property
    def address(self) -> str:
        """The folder as a ``file://`` URL."""
        return self.folder.as_uri()

    def allocate(self, token: str, body: bytes, known: Record | None = None) -> Allocation:
        """Allocate the token's trial id, in one transaction with its first record."""
        try:
            with self._database.writing() as connection:
                execute = connection.execute
                added = execute(_GIVE_ID, (token, token))
                if new := added.rowcount == 1:
                    trial = added.lastrowid or 0
                    first = [Record("trials", trial, BEGUN, body)]
                    rows = _rows(connection, "trials", first, self._written)
                    execute(_insert("trials"), rows[0])
                else:
                    query = "SELECT trial FROM _tokens WHERE token IN (?, ?)"
                    (trial,) = execute(query, (token, removed_token(token))).fetchone()
                stands = known is None or _stands(connection, known)
        except BaseException:
            self._written.forget()  # outlines that were made were rolled back
            raise
        return Allocation(trial, self._clock.read(), new, stands)

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Write records in one transaction."""
        if not records:
            return []
        standing: list[Record] = []
        owners = {*map(_owner_of, records)} - {None}
        try:
            with self._database.writing() as connection:
                if owners and (strangers := _strangers(connection, owners)):
                    self._check_removed(connection, strangers)
                    records = [one for one in records if one.owner not in strangers]
                streams: dict[str, list[Record]] = {}
                for one in records:
                    streams.setdefault(one.stream, []).append(one)
                for stream, batch in streams.items():
                    if stream not in OUTLINED:
                        _add(connection, stream, [*map(_row_of, batch)])
                        continue
                    rows = _rows(connection, stream, batch, self._written)
                    if stream == "outputs":
                        standing += _standing_outputs(connection, rows, self._written)
                    else:
                        _add(connection, stream, rows)
        except BaseException:
            self._written.forget()
            raise
        return standing

    def _check_removed(
        self, connection: sqlite3.Connection, strangers: dict[Owner, int | None]
    ) -> None:
        """Raise RecordsRefusedError if an owner that is not there was not removed either."""
        gone = {Owner(one.trial, removed_token(one.token)): one for one in strangers}
        lost = {gone[one] for one in _strangers(connection, gone)}
        if lost:
            raise refused(self.address, {one: strangers[one] for one in lost})

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        """Remove trials and write their markers in one transaction."""
        owners = {*map(_owner_of, markers)}
        trials = json.dumps([one.trial for one in markers])
        with self._database.writing() as connection:
            if strangers := _strangers(connection, owners):
                self._check_removed(connection, strangers)
            last = _last(connection, "trials")
            for stream in _streams(connection):
                _erase(connection, stream, f"trial IN {_LISTED}", trials)
            _erase(connection, "outputs", f"trial = 0 AND id IN {_LISTED}", json.dumps([*outputs]))
            rows = [(last + place, *_row_of(one)) for place, one in enumerate(markers, start=1)]
            connection.executemany(_INSERT_AT.format("trials"), rows)
            for one in owners - {None}:
                connection.execute(_GIVE_UP, (removed_token(one.token), one.trial, one.token))

    @cached_property
    def _reader(self) -> StreamReader:
        with explained(self.folder):  # without descriptors there is no module either
            from daskperiment.store.file.stream_reader import (  # noqa: PLC0415  # who records reads nothing
                StreamReader,
            )

        return StreamReader(self._database, self._seen)

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream page by page, with a warning if part of it cannot be read."""
        return self._reader.read(stream, trials, after)

    def read_starting(self, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
        """Read the records whose ids begin with a text, by the index of identities."""
        return self._reader.read_starting(stream, trial, start)

    def read_pages(self, stream: str) -> Iterator[RecordPage]:
        """Read a stream as `read` does, with the records together that fill one outline."""
        return self._reader.read_pages(stream)

    def read_at_rest(self, stream: str, before: FolderState) -> list[Stored] | None:
        """Return the records of a short stream, if nobody has written for a while; else ``None``.

        It is what `read` returns, in a fraction of its time. `before` is the state of a moment ago.
        """
        if before.log_size or not before.is_settled():
            return None
        rows = self._reader.read_at_rest(stream)
        return rows if rows is not None and self.folder_state() == before else None

    def find(self, ids: Collection[str]) -> list[Record]:
        """Find outputs by the index of the table's identities."""
        query = "SELECT id, CAST(body AS BLOB) FROM outputs WHERE trial = 0 AND id IN"

        def select(connection: sqlite3.Connection) -> list[Record]:
            return [
                Record(
                    "outputs",
                    0,
                    id,
                    self._seen.body(connection, 0, body) if body[:1] == b"[" else body,
                )
                for id, body in list(select_in(connection, query, ids))
                if type(body) is bytes
            ]

        nothing: list[Record] = []
        return self._database.ask(select, nothing)

    def state(self, known: Record | None = None) -> State:
        """Return the highest trial id and the file system's clock."""
        row = self._database.ask(lambda found: _glance(found, known), None)
        latest, stands = row or (0, known is None)
        return State(latest, self._clock.read(), stands)

    def faults(self, seconds: float) -> list[Fault]:
        """Return damage of the database, as SQLite's own check tells it, and files half written."""
        found = self._database.faults(seconds)
        # Of a damaged database it is built anew what can be read.
        rows = [] if found else [one for stream in STREAMS for one in self._odd_rows(stream)]
        return [*found, *rows, *self._objects.faults(), *left_folders(self.folder)]

    def _odd_rows(self, stream: str) -> Iterator[Fault]:
        """Find rows that are no records."""
        if count := self._reader.count_odd(stream):
            remedy = "run `daskperiment check --repair` to set them aside"
            what = f"{count} rows in {stream!r} are no records"
            mend = partial(self._set_odd_aside, stream)
            yield Fault(str(self._database.path), what, remedy, mend)

    def _set_odd_aside(self, stream: str) -> None:
        from daskperiment.store.file.stream_reader import ODD  # noqa: PLC0415  # as in `_reader`

        with self._database.writing() as connection:
            _move_aside(connection, stream, ODD, ())

    def opened_object(self, digest: str) -> int | None:
        """Return a descriptor of the file of a large object, None if it has none."""
        found: int | None = self._objects.opened(digest)
        return found

    @property
    def begins_objects(self) -> bool:
        """Whether large objects stay here, as far as is known, so that they can be begun."""
        # Whether others named another place is found out by `put`: meanwhile it is written.
        return self.place is None and not self._buckets

    def unnamed_object(self, parts: Sequence[Buffer]) -> UnnamedObject:
        """Return a large object that can be begun before its digest is known."""
        found: UnnamedObject = self._objects.unnamed(parts)
        return found

    def digests(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        yield from self._objects.digests()
        yield from self.digests_elsewhere()

    def set_aside(self, stream: str, record: Stored) -> None:
        """Move a record to the table of those that were set aside."""
        with self._database.writing() as connection:
            _move_aside(connection, stream, "position = ?", (record.position,))

    def folder_state(self) -> FolderState | None:
        """Return what changes with each write, without opening the database; ``None`` of none."""
        try:
            found = os.stat(self._database.path)
        except OSError:
            return None
        size, changed = 0, _changed(found)
        with suppress(FileNotFoundError):
            log = os.stat(f"{self._database.path}-wal")
            if log.st_size:  # who only reads makes an empty one
                size, changed = log.st_size, max(changed, _changed(log))
        return FolderState(found.st_ino, found.st_size, size, changed)

    def has_aside(self) -> bool:
        """Whether any record was set aside."""
        query = "SELECT 1 FROM sqlite_schema WHERE name = '_aside'"
        return self._database.ask(lambda found: bool(found.execute(query).fetchone()), False)

    def delete(self) -> None:
        """Remove the files written here, and the folder if no other file is in it."""
        self.delete_elsewhere()
        staying = self._remove_database()
        with explained(self.folder):
            remove_folders(self.folder, staying)
            for name in ("clock", ".gitignore"):
                (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # it was never made, or other files are in it
            self.folder.rmdir()

    def _remove_database(self) -> list[Path]:
        """Remove it, and rename the folders beside it; return those that stay."""
        staying: list[Path] = []
        name = self._deletions.begin()
        try:
            self._database.remove(name, lambda: staying.extend(move_aside(self.folder)))
        except BaseException:
            self._deletions.withdraw(name)
            raise
        return staying

    def last_deletion(self) -> str:
        """Return what names the last deletion, as the removed database or what it left says."""
        with suppress(StoreError), self._database.reading():
            pass
        return self._deletions.last(self._database.deletion)

    def close(self) -> None:
        """Close files and connections; a later call opens them again."""
        self._database.close()


def _changed(found: os.stat_result) -> int:
    # Who puts a copy in a file's place may set the one time, and not the other.
    return max(found.st_mtime_ns, found.st_ctime_ns)


class _FolderClock:
    """The file system's clock: the same for all machines that share it.

    No file is kept open for it, so that a process may have any number of experiments.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> float:
        """Return the time, by this machine's clock where the folder is absent or read-only."""
        try:
            try:
                os.utime(self._path)
            except FileNotFoundError:
                rights.create(Path(self._path))
                os.utime(self._path)
            return os.stat(self._path).st_mtime
        except OSError:
            return time.time()


# Identity: two machines may have different folders of one name ------------------------------------


def _known_identity(database: Database) -> str | None:
    """Return a database's identity; one that was made before there were any gets its own now.

    ``None`` where there is no database, or where it can be neither read nor written.
    """
    with suppress(StoreError):
        with database.reading() as connection:
            if connection is None:
                return None
            found = _read_identity(connection)
        if found is not None:
            return found
        with database.writing() as connection:
            for statement in IDENTITY:
                connection.execute(statement)
            return _read_identity(connection)
    return None


def _read_identity(connection: sqlite3.Connection) -> str | None:
    try:
        row = connection.execute("SELECT id FROM _identity").fetchone()
    except sqlite3.OperationalError:
        return None  # from before there were any
    return None if row is None else str(row[0])


# Statements ---------------------------------------------------------------------------------------


def _glance(connection: sqlite3.Connection, known: Record | None) -> tuple[int, bool]:
    """Return the highest trial id, and whether a record is there."""
    row = connection.execute("SELECT max(trial) FROM _tokens").fetchone()
    return row[0] or 0, known is None or _stands(connection, known)


def _stands(connection: sqlite3.Connection, known: Record) -> bool:
    """Whether a record of the stream ``trials`` is there, in the trial of its owner."""
    query = (
        "SELECT 1 FROM trials JOIN _tokens USING (trial) WHERE trial = ? AND id = ? AND token = ?"
    )
    token = known.owner.token if known.owner else ""
    if connection.execute(query, (known.trial, known.id, token)).fetchone() is not None:
        return True
    removed = "SELECT 1 FROM _tokens WHERE trial = ? AND token = ?"
    return connection.execute(removed, (known.trial, removed_token(token))).fetchone() is not None


def _strangers(
    connection: sqlite3.Connection, owners: Collection[Owner]
) -> dict[Owner, int | None]:
    """Return those owners that are not there, with the ids that their tokens have."""
    tokens = [*map(itemgetter(1), owners)]
    numbers: dict[str, int]
    if len(tokens) == 1:  # as most have that come from one process
        query = "SELECT token, trial FROM _tokens WHERE token = ?"
        numbers = dict(connection.execute(query, tokens))
    else:
        query = f"SELECT token, trial FROM _tokens WHERE token IN {_LISTED}"
        numbers = dict(connection.execute(query, (json.dumps(tokens),)))
    found = {}
    for owner in owners:
        number = numbers.get(owner.token)
        if number != owner.trial:
            found[owner] = number
    return found


def _streams(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all tables of records."""
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return [name for (name,) in found if is_stream(name)]


def _last(connection: sqlite3.Connection, stream: str) -> int:
    return connection.execute(f'SELECT max(position) FROM "{stream}"').fetchone()[0] or 0


def _erase(connection: sqlite3.Connection, stream: str, condition: str, value: str) -> None:
    """Delete records; the position of the last one is not given out again."""
    last = _last(connection, stream)
    connection.execute(f'DELETE FROM "{stream}" WHERE {condition}', (value,))
    if _last(connection, stream) < last:
        connection.execute(f'DELETE FROM "{stream}" WHERE trial = ? AND id = ?', HOLDER[:2])
        connection.execute(_INSERT_AT.format(stream), (last, *HOLDER))


@lru_cache
def _insert(stream: str) -> str:
    return (
        f'INSERT INTO "{stream}" (trial, id, body) VALUES (?, ?, CAST(? AS TEXT)) '
        "ON CONFLICT (trial, id) DO NOTHING"
    )


def _move_aside(
    connection: sqlite3.Connection, stream: str, condition: str, values: tuple[Any, ...]
) -> None:
    connection.execute(_ASIDE)
    rows = f'"{stream}" WHERE {condition}'
    insert = f"INSERT INTO _aside SELECT ?, position, trial, id, body FROM {rows}"
    connection.execute(insert, (stream, *values))
    connection.execute(f"DELETE FROM {rows}", values)


def _rows(
    connection: sqlite3.Connection, stream: str, batch: Iterable[Record], outlines: Outlines
) -> list[_Row]:
    """Return trial, id and body of records, in short where the body fills an outline.

    All in one function: each call is felt in a trial.
    """
    version = connection.execute(CHANGED).fetchone()[0]
    if connection is not outlines.connection or version != outlines.version:
        outlines.look_again(connection)
    rows: list[_Row] = []
    for _, trial, id, body, _ in batch:
        rows.append((trial, id, body))
        if stream == "outputs":  # their ids are digests, so the step tells; a call would be felt
            found = STEP_IN_OUTPUT.search(body)
            kind = stream if found is None else f"{stream} {found[1].decode(errors='replace')}"
        else:  # a few calls of one step are kinds of their own, and many are one
            name, _, call = id.partition("-")[0].partition("#")
            kind = f"{stream} {name}" if len(call) > 1 else f"{stream} {name}{call}"
        for one in outlines.by_kind.get(kind, ()):
            found = one.match(body)
            if found is None:
                continue
            values = [*found.groups()]
            if one.trial is not None and values.pop(one.trial) != b'"%010x"' % trial:
                continue
            short = b"%b%b]" % (one.start, b",".join(values))
            if short.count(b",") == one.size - 1 or holds(short, values):
                rows[-1] = (trial, id, short)
                break
        else:
            before = outlines.before[kind]
            if len(before) < AFTER and kind not in outlines.by_kind:
                before.append((body, trial))  # most kinds have few
            else:
                outlines.learn(connection, kind, trial, body)
    return rows


def _add(connection: sqlite3.Connection, stream: str, rows: list[_Row]) -> None:
    try:
        connection.executemany(_insert(stream), rows)
    except sqlite3.OperationalError as error:
        if not is_absent(error) or not is_stream(stream):
            raise
        connection.execute(STREAM.format(f'"{stream}"'))
        connection.executemany(_insert(stream), rows)


def _standing_outputs(
    connection: sqlite3.Connection, rows: list[_Row], outlines: Outlines
) -> list[Record]:
    """Write outputs, and return those that stand in the place of some."""
    insert, new = _insert("outputs"), None
    if len(rows) > _FEW:
        last, before = _last(connection, "outputs"), connection.total_changes
        if len(rows) > _MANY:
            connection.execute(_ROOM)
        connection.executemany(insert, rows)
        if connection.total_changes - before == len(rows):
            return []
        # Asked together: most are new, of whatever they are a part.
        new = set(connection.execute(_NEWER, (last,)))
    standing = []
    query = "SELECT CAST(body AS BLOB) FROM outputs WHERE trial = ? AND id = ?"
    for trial, id, body in rows:
        if new is None:
            if connection.execute(insert, (trial, id, body)).rowcount:
                continue
        elif (trial, id) in new:
            new.remove((trial, id))  # one more of the same id stands in its place
            continue
        (there,) = connection.execute(query, (trial, id)).fetchone()
        standing.append(Record("outputs", trial, id, outlines.body(connection, trial, there)))
    return standing
