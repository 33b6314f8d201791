"""What a folder gives to files that are written in it: their rights, its lock and its file system.

Where a folder's group, or everybody, may write, they may write to what is made in it too, whatever
the umask of whoever came first: otherwise the second person of a group could not record. In a
folder with the sticky bit, such as ``/tmp``, each has files of their own.
"""

from __future__ import annotations

import os
import random
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from daskperiment.locked_files import OPENING

with suppress(ImportError):  # not on every system
    import fcntl

__all__ = [
    "PRIVATE_FILE",
    "PRIVATE_FOLDER",
    "create",
    "file_system",
    "found",
    "held",
    "make_folder",
    "may_write",
    "share",
    "write",
]

PRIVATE_FILE = 0o600
"""The mode of files that nobody else needs, unless the folder is shared."""
PRIVATE_FOLDER = 0o700
"""The same of folders."""
_PATIENCE = 10.0
"""Seconds for which it is tried to hold a folder."""


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are missing; each takes the rights of the one above.

    As with ``Path.mkdir``, the umask limits the mode.
    """
    if not path.is_dir():
        if not path.parent.is_dir():
            make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)
    share(path)


def create(path: Path) -> None:
    """Make an empty file with the rights of its folder, unless it is there."""
    with OPENING, suppress(FileExistsError):  # another thread may open it at once, as a database
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    share(path)


def write(path: Path, *parts: Any) -> None:
    """Write bytes as a file that appears whole or not at all, with the rights of its folder."""
    make_folder(path.parent)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
        share(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def found(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield what fits a pattern in a folder, which somebody else may remove meanwhile."""
    with suppress(FileNotFoundError):
        yield from folder.glob(pattern)


def share(path: Path) -> None:
    """Let those write to a file or folder who may write to the folder in which it stands.

    Without effect on what belongs to somebody else, and where there are no such rights.
    """
    if os.name != "posix":
        return
    with suppress(OSError):  # a file system that has no rights
        folder, found = os.stat(path.parent), os.lstat(path)
        writers = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not writers or folder.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid():
            return
        if writers & stat.S_IWGRP and not _has_group(path, found, folder.st_gid):
            writers &= ~stat.S_IWGRP
        wanted = found.st_mode | writers | writers << 1
        if stat.S_ISDIR(found.st_mode):
            wanted |= writers >> 1 | (stat.S_ISGID if writers & stat.S_IWGRP else 0)
        if wanted != found.st_mode:
            os.chmod(path, stat.S_IMODE(wanted))


def _has_group(path: Path, found: os.stat_result, group: int) -> bool:
    """Return whether a file belongs to a group, after an attempt to give it to that group."""
    if found.st_gid != group:
        try:
            os.chown(path, -1, group)
        except OSError:
            return False  # not a group of this user
    return True


def may_write(path: Path) -> bool:
    """Return whether this user may write to a file or folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def held(folder: Path, alone: bool = False) -> Iterator[bool]:
    """Hold a folder, alone or with others who do not; for who cannot, it is as if nobody did.

    Only for what is over in a moment. Yields whether there is such a folder.
    """
    try:
        file = _lock(folder, alone)
    except FileNotFoundError:
        yield False
        return
    try:
        yield True
    finally:
        if file is not None:
            with suppress(OSError):  # a fork of another thread may have it, too
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)


def _lock(folder: Path, alone: bool) -> int | None:
    """Return what holds a folder's lock; None where there are no such locks, or somebody stays.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    if "fcntl" not in globals():
        return None
    how = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError:
            return None
        is_held = False
        try:
            fcntl.flock(file, how)
            # It may have been removed meanwhile, and made anew.
            is_held = os.path.samestat(os.fstat(file), os.stat(folder))
        except BlockingIOError:
            time.sleep(random.uniform(0.0005, 0.005))
        except FileNotFoundError:
            continue
        except OSError:
            return None
        finally:
            if not is_held:
                os.close(file)
        if is_held:
            return file
    return None


def file_system(folder: Path) -> str:
    """Return the kind of file system on which a folder lies, as the system calls it."""
    import psutil  # noqa: PLC0415  # most ask for a new database, or in a loop

    real = os.path.realpath(folder)
    longest, kind = "", ""
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):
            longest, kind = point, mount.fstype
    return kind
