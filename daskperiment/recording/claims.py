"""Claims: of several processes that are about to make the same output, one makes it.

A claim is a lock on a file beside the journals, so that it ends with whoever holds it, however that
ends. Where files cannot be locked nothing is claimed, and each makes the output itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from daskperiment.store import rights

with suppress(ImportError):  # not on every system
    import fcntl

__all__ = ["claimed"]

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.2
"""Seconds between looks at a claim that another one has."""


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[None]:
    """Claim a name as long as a block runs; wait for whoever has it.

    If whoever has it comes to its end, what it made may be there. Then nothing is claimed any more,
    and those that waited go on side by side. If it died, one of them has its claim.

    Parameters
    ----------
    folder : Path
        Where the journals are.
    name : str
        What is claimed, such as a cache key.
    """
    path = folder / "claims" / blake2b(name.encode(), digest_size=16).hexdigest()
    file = _acquired(path)
    try:
        yield
    finally:
        if file is not None:
            _give_back(path, file)


def _acquired(path: Path) -> int | None:
    """Return the locked file of a claim; None if there is none, or another one came to its end."""
    file = _opened(path)
    if file is None:
        return None
    mine = False
    try:
        _lock(file)
        # Whoever comes to an end removes the file before it lets go; who dies does not.
        mine = os.path.samestat(os.stat(path), os.fstat(file))
    except OSError:
        pass  # it came to its end, or there are no locks in this file system
    finally:
        if not mine:
            os.close(file)
    return file if mine else None


def _opened(path: Path) -> int | None:
    if "fcntl" not in globals():
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, rights.PRIVATE_FILE)
    except FileNotFoundError:
        with suppress(OSError):
            rights.make_folder(path.parent, rights.PRIVATE_FOLDER)
            return os.open(path, flags, rights.PRIVATE_FILE)
    except OSError:
        pass  # another user's, or a full or read-only disk
    return None


def _lock(file: int) -> None:
    """Lock a file; Ctrl-C ends the wait."""
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return


def _give_back(path: Path, file: int) -> None:
    with suppress(OSError):
        path.unlink()
    os.close(file)
