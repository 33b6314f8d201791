"""Faults of files and databases as store errors, which name the file and the remedy."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError

__all__ = [
    "SQLITE_ERRORS",
    "database_name",
    "explain",
    "explained",
    "has_no_descriptors",
    "is_absent",
    "is_busy",
    "is_damage",
]

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What comes of a database: the second where it tells, in its message, of text that is none."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    errno.EROFS: ". The file system is mounted read-only, as it is after a fault of the device: "
    "have it mounted for writing, or give another folder as backend",
    errno.EIO: ". The device reports a fault: look into the system's log, and copy the folder to "
    "another device while it can be read",
    errno.EMFILE: ". This process has too many files open: raise the limit (ulimit -n)",
    errno.ENFILE: ". The system has too many files open: end what opens them",
}
"""What to do about errors of the system."""
_OPENED = 6
"""Descriptors that SQLite takes at most to open a database, and those of its last try."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def explain(error: BaseException, path: Path) -> StoreError:
    """Return an error of SQLite or of the system, about this path, as a store error."""
    if isinstance(error, StoreError):
        return error
    if _is_full(error) or _has_no_room(error, path):
        return StoreError(f"{_why_full(error, path)} ({error})")
    if has_no_descriptors(error):
        return StoreError(f"{path}: {error}{_REMEDIES[errno.EMFILE]}")
    if isinstance(error, SQLITE_ERRORS):
        return _explain_database(error, path)
    return _explain_system(error, path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise what SQLite or the system raise about a path as a store error."""
    try:
        yield
    except (*SQLITE_ERRORS, OSError) as error:
        raise explain(error, path) from error


def _is_full(error: BaseException) -> bool:
    """Return whether an error says that a device is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return database_name(error) == "SQLITE_FULL"


def _why_full(error: BaseException, path: Path) -> str:
    """Return what is used up, and what to do."""
    if getattr(error, "errno", None) == errno.EDQUOT:
        return (
            f"The quota of this user is used up on the device that holds {path}: nothing of this "
            "call was written. Delete files of yours there, or have the quota raised"
        )
    with suppress(OSError, AttributeError):  # not every system tells
        found = os.statvfs(next(folder for folder in path.parents if folder.exists()))
        if found.f_files and not found.f_ffree:
            return (
                f"No more files can be made on the device that holds {path}, though it may have "
                "space left: its inodes are used up. Delete files there"
            )
    return (
        f"No space is left on the device that holds {path}: nothing of this call was written. "
        "Free some space and try again"
    )


def is_damage(error: BaseException) -> bool:
    """Return whether an error says that a database is damaged."""
    if isinstance(error, UnicodeDecodeError):
        return True
    name, text = database_name(error), str(error)
    if isinstance(error, sqlite3.OperationalError) and name in ("", "SQLITE_ERROR"):
        # Text that is none, and a table or column that the database of each release has.
        return "decode to UTF-8" in text or "no such " in text
    return name.startswith(_DAMAGE)


def database_name(error: BaseException) -> str:
    """Return SQLite's name for an error, empty if it has none."""
    return str(getattr(error, "sqlite_errorname", None) or "")


def is_absent(error: sqlite3.Error) -> bool:
    """Whether it is a table that is missing."""
    # Of the second kind where another process makes tables meanwhile.
    kinds = ("SQLITE_ERROR", "SQLITE_SCHEMA")
    return database_name(error) in kinds and "no such table" in str(error)


def is_busy(error: BaseException) -> bool:
    """Return whether a database is locked by others."""
    return database_name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _has_no_room(error: BaseException, path: Path) -> bool:
    """Return whether the disk is full: of its lock and log files SQLite does not say so."""
    if not database_name(error).startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return False
    try:
        # The index of its log alone takes SQLite 32 kB.
        return shutil.disk_usage(path.parent).free < 65536
    except OSError:
        return False


def has_no_descriptors(error: BaseException) -> bool:
    """Return whether SQLite could not open a file for want of descriptors: it does not say so."""
    if not database_name(error).startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")):
        return False
    taken: list[int] = []
    try:
        while len(taken) < _OPENED:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as failure:
        return failure.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return False


def _explain_database(error: BaseException, path: Path) -> StoreError:
    name = database_name(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreUnavailableError(
            f"{path} stayed locked by another process for too long ({error}). Look for one that "
            f"hangs while it writes, end it and try again"
        )
    if name.startswith("SQLITE_NOTADB"):
        return CorruptRecordError(
            f"{path} is not a SQLite database, or its first page is damaged. If it is not yours, "
            f"give another folder as backend; else run `daskperiment check --repair` while no "
            f"process writes to it, or put a backup copy in its place"
        )
    if is_damage(error):
        import shlex  # noqa: PLC0415  # for the rare fault alone

        return CorruptRecordError(
            f"{path} is damaged ({error}). To save what can be read, run "
            f"`python -m daskperiment.store.repair {shlex.quote(str(path.parent))}` while no "
            f"process writes to it; the damaged file is kept"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreError(
            f"{path} cannot be opened for writing ({error}): check that it is a file, that you may "
            f"write to it and its folder, and that its file system is not mounted read-only; or "
            f"give another folder as backend"
        )
    # SQLite does not say why it could not write.
    why = _REMEDIES[errno.EROFS] if name.startswith("SQLITE_IOERR") and _is_read_only(path) else ""
    return StoreError(f"{path}: {error} ({name or type(error).__name__}){why}")


def _is_read_only(path: Path) -> bool:
    """Return whether a file system takes no writes, as one that gave up after a fault."""
    try:
        # What it is mounted as does not tell: it may have given up since.
        with tempfile.TemporaryFile(dir=path.parent):
            return False
    except OSError as error:
        return error.errno == errno.EROFS


def _explain_system(error: BaseException, path: Path) -> StoreError:
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return StoreError(
            f"{path.parent} cannot hold a store, because a file stands where a folder is "
            f"expected ({error}): move it away, or give another folder as backend"
        )
    if isinstance(error, PermissionError):
        return StoreError(
            f"{path} may not be read or written by this user ({error}): change its permissions, "
            f"or give another folder as backend"
        )
    remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, "")
    return StoreError(f"{path}: {error or type(error).__name__}{remedy}")
