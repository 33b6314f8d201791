"""The objects of a file store: small ones in its database, large ones as files."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from daskperiment.errors import StoreError
from daskperiment.store import rights
from daskperiment.store.faults import explained
from daskperiment.store.file.database import TRIES, Database
from daskperiment.store.protocol import Buffer, Fault

__all__ = ["FileObjects", "UnnamedObject", "select_in"]

_INLINE = 1_000_000
"""Objects of more bytes than this are files."""
_ABANDONED = 3600.0
"""Seconds after which nobody writes any more to a file that was not written to."""
_MANY = 30_000 if sqlite3.sqlite_version_info >= (3, 32) else 900
"""Values in one statement: fewer than SQLite takes."""
_PIECE = 4 << 20
"""Bytes that are written at a time of what may turn out to be there already."""
_FEW, _SMALL = 4, 4096
"""So many objects, of so many bytes each, are kept at hand when somebody asks for their sizes."""


class UnnamedObject(Sequence[Buffer]):
    """The parts of a large object that a thread writes while the digest is taken of them.

    Whoever knows the digest gives them to `FileObjects.put`, which names the file after it. From
    `begin` on, which may be interrupted as anything else, until `close` they must not change.

    Parameters
    ----------
    parts : sequence of buffer
    path : pathlib.Path
        Of the file while it has no name.
    """

    _thread: threading.Thread | None = None

    def __init__(self, parts: Sequence[Buffer], path: Path) -> None:
        self._parts = parts
        self._path = path
        self._is_dropped = False
        self._piece = _PIECE
        self._is_whole = False

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, place: Any) -> Any:
        return self._parts[place]

    def begin(self) -> None:
        """Let a thread write them, if there can be one."""
        thread = threading.Thread(target=self._write, name="daskperiment-object", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:
            pass
        except BaseException:
            self._is_dropped = True  # it may run, and stops by itself, or be over
            self._remove()
            raise

    def take(self, path: Path) -> bool:
        """Give the file its name; False if that cannot be, and it shall be as any other."""
        if self._thread is None:
            return False
        self._piece = sys.maxsize  # it is wanted: the rest at once
        rights.make_folder(path.parent)
        self._thread.join()
        if not self._is_whole:
            return False
        with suppress(OSError):  # such as where somebody deleted the folder meanwhile
            os.replace(self._path, path)
            self._thread = None
            return True
        self.close()  # it takes room that is needed now
        return False

    def close(self) -> None:
        """Write no more, and remove what nobody took."""
        if self._thread is not None:
            self._is_dropped = True
            try:
                self._thread.join()
            finally:  # an interrupt may come now, too: until it is removed, `__del__` does it
                self._remove()
                self._thread = None

    def __del__(self) -> None:
        # An interrupt came where `close` begins. No thread writes any more: it would hold this.
        if self._thread is not None:
            self._remove()

    def _write(self) -> None:
        # Whatever is in the way: who writes it the usual way meets it, and says so.
        with suppress(Exception):
            self._write_file()
            self._is_whole = not self._is_dropped
        if not self._is_whole:
            self._remove()

    def _write_file(self) -> None:
        parts = [memoryview(part).cast("B") for part in self._parts]
        with self._opened() as file:
            _reserve(file.fileno(), sum(map(len, parts)), self._path.parent)
            for rest in parts:
                while rest and not self._is_dropped:
                    rest = rest[file.write(rest[: self._piece]) :]
        rights.share(self._path)

    def _opened(self) -> FileIO:
        try:
            return open(self._path, "xb", buffering=0)
        except FileNotFoundError:  # the first
            rights.make_folder(self._path.parent)
            return open(self._path, "xb", buffering=0)

    def _remove(self) -> None:
        with suppress(OSError):  # as if this process had been killed meanwhile
            self._path.unlink(missing_ok=True)


class FileObjects:
    """The objects of one experiment; the database has the table ``_objects``."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._intact: dict[str, tuple[int, ...]] = {}
        self._seen: dict[str, bytes] = {}
        """Small objects whose sizes were asked for last, until somebody gets them."""
        self._filed: Collection[str] = ()
        """The large ones among those, which the database does not have."""

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object unless it is there."""
        if not _is_digest(digest):
            raise StoreError(f"Digest {digest!r}: expected 1 to 64 lower-case hexadecimal digits")
        size = sum(memoryview(part).nbytes for part in parts)
        if self._get_row(digest) is not None:
            return
        if size > _INLINE:
            self._put_file(digest, parts, size)
        elif not self._file(digest).exists():
            body = b"".join(parts)
            with self._database.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO _objects VALUES (?, ?)", (digest, body))

    def unnamed(self, parts: Sequence[Buffer]) -> UnnamedObject:
        """Return a large object that can be begun before its digest is known."""
        return UnnamedObject(parts, self._folder / "00" / "00" / f"{uuid.uuid4().hex}.tmp")

    def get(self, digest: str) -> Buffer:
        """Return an object; a large one as a private, writable memory map of its file."""
        if not _is_digest(digest):
            raise KeyError(digest)
        body = self._seen.pop(digest, None)
        if body is None and digest in self._filed:
            with suppress(KeyError):  # somebody removed it meanwhile, and may have put it in a row
                return self._get_file(digest)
        if body is None:
            body = self._get_row(digest)
        return self._get_file(digest) if body is None else body

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those objects that are there."""
        valid = list(filter(_is_digest, digests))
        found = self._sizes_of_rows(valid) if len(valid) > _FEW else self._look_at(valid)
        files = {digest: self._size_of_file(digest) for digest in valid if digest not in found}
        there = {digest: size for digest, size in files.items() if size is not None}
        self._filed = there if len(valid) <= _FEW else ()
        return found | there

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects; what is recorded later uses the space of small ones."""
        valid = list(filter(_is_digest, digests))
        self._seen = {}
        rows = self._sizes_of_rows(valid)
        if rows:
            with self._database.writing() as connection:
                connection.executemany(
                    "DELETE FROM _objects WHERE digest = ?", [(digest,) for digest in rows]
                )
        for digest in valid:
            with explained(self._file(digest)):
                self._file(digest).unlink(missing_ok=True)

    def opened(self, digest: str) -> int | None:
        """Return a descriptor of an object's file, None if it has none."""
        path = self._file(digest)
        with explained(path), suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return None

    def digests(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        query = "SELECT digest FROM _objects"
        nothing: list[Any] = []
        rows = self._database.ask(lambda found: found.execute(query).fetchall(), nothing)
        yield from (digest for (digest,) in rows if isinstance(digest, str))
        names = (path.name for path in rights.found(self._folder, "*/*/*"))
        yield from filter(_is_digest, names)

    def faults(self) -> list[Fault]:
        """Return what killed processes began to write and never finished."""
        left = [*filter(_is_abandoned, rights.found(self._folder, "*/*/*.tmp"))]
        if not left:
            return []
        what = f"{len(left)} files that were never written to the end"
        remedy = "run `daskperiment check --repair` to remove them"
        return [Fault(str(self._folder), what, remedy, lambda: _remove(left))]

    def _sizes_of_rows(self, digests: Collection[str]) -> dict[str, int]:
        # SQLite tells the length of a blob from the head of its row.
        query = "SELECT digest, length(body) FROM _objects WHERE digest IN"
        return self._database.ask(lambda found: dict(select_in(found, query, digests)), {})

    def _look_at(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of a few rows; what is small is at hand for whoever gets it next.

        A plan asks whether an output is still there, and the trial for its bytes: one question
        instead of two, of which the second would take longer than all else that loading does.
        """
        query = (
            "SELECT digest, length(body), CASE WHEN length(body) <= ? THEN body END "
            "FROM _objects WHERE digest IN"
        )
        rows: list[Any] = []
        rows = self._database.ask(
            lambda found: list(select_in(found, query, digests, _SMALL)), rows
        )
        self._seen = {digest: body for digest, _, body in rows if isinstance(body, bytes)}
        return {digest: size for digest, size, _ in rows}

    def _size_of_file(self, digest: str) -> int | None:
        path = self._file(digest)
        with explained(path), suppress(FileNotFoundError):
            return path.stat().st_size
        return None

    def _get_row(self, digest: str) -> bytes | None:
        query = "SELECT body FROM _objects WHERE digest = ?"
        row = self._database.ask(lambda found: found.execute(query, (digest,)).fetchone(), None)
        # Damage may make any type of what was bytes.
        return None if row is None else row[0] if isinstance(row[0], bytes) else b""

    def _file(self, digest: str) -> Path:
        place = digest.ljust(4, "_")
        return self._folder.joinpath(place[:2], place[2:4], digest)

    def _get_file(self, digest: str) -> Buffer:
        from daskperiment.codec import ObjectFile  # noqa: PLC0415  # few have large objects

        path = self._file(digest)
        with explained(path), suppress(FileNotFoundError), open(path, "rb") as file:
            return ObjectFile.of(file, self._intact)
        raise KeyError(digest)

    def _put_file(self, digest: str, parts: Sequence[Buffer], size: int) -> None:
        path = self._file(digest)
        # Of another size is what a power failure left: it is written again.
        if self._size_of_file(digest) == size:
            return
        with explained(path):
            for last in TRIES:
                try:
                    if not isinstance(parts, UnnamedObject) or not parts.take(path):
                        _write_object(path, parts, size)
                    return
                except FileNotFoundError:  # somebody deleted the folder meanwhile
                    if last:
                        raise


def _write_object(path: Path, parts: Sequence[Buffer], size: int) -> None:
    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    rights.make_folder(path.parent)
    try:
        with open(temporary, "xb") as file:
            _reserve(file.fileno(), size, path.parent)
            file.writelines(parts)
        rights.share(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def select_in(
    connection: sqlite3.Connection, query: str, values: Collection[str], *before: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query that ends in ``IN``, for any number of values behind others."""
    # Not by toolz, which lays out a whole batch even for one value.
    wanted = list(dict.fromkeys(values))
    for start in range(0, len(wanted), _MANY):
        chunk = wanted[start : start + _MANY]
        yield from connection.execute(f"{query} ({','.join('?' * len(chunk))})", [*before, *chunk])


_KEEP_SIZE = 1
_ARE_MEMORY: dict[int, bool] = {}
"""Whether files on a device are memory, of those that objects were written to."""


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """Return the system's function that reserves room for a file, None if it has none."""
    try:
        import ctypes  # noqa: PLC0415  # of use for large objects alone

        function: Any = ctypes.CDLL(None).fallocate64
    except (ImportError, AttributeError, OSError, TypeError):
        return None  # no Linux, another C library, or a Python whose files are out of reach by now
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found: Callable[[int, int, int, int], int] = function
    return found


def _reserve(file: int, size: int, folder: Path) -> None:
    """Reserve room for a file in a folder: it is written in two thirds of the time then.

    Where that cannot be done, nothing is: `os.posix_fallocate` would write it twice. Where files
    are memory it would take longer, as all pages are looked up a second time.
    """
    reserve = _fallocate()
    if reserve is not None and not _is_memory(os.fstat(file).st_dev, folder):
        reserve(file, _KEEP_SIZE, 0, size)


def _is_memory(device: int, folder: Path) -> bool:
    """Whether files on a device, on which a folder lies, are memory: looked up once for each.

    An object has one of 65,536 folders, and to look it up goes through all that is mounted.
    """
    with suppress(Exception):  # whatever the system refuses: an object is written all the same
        if device not in _ARE_MEMORY:
            _ARE_MEMORY[device] = rights.file_system(folder) in ("tmpfs", "ramfs")
    return _ARE_MEMORY.get(device, False)


def _is_abandoned(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:
        return False  # finished meanwhile


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        with explained(path):
            path.unlink(missing_ok=True)


def _is_digest(digest: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{1,64}", digest) is not None
