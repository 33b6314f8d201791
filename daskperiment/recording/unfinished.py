"""Files beside journals that are being written, and those that killed processes never finished.

Such a file has its final name only when it is whole. Until then its name says who writes it, so
that the next process can tell whether anybody still does.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from daskperiment.store.liveness import current_origin

__all__ = ["clear_unfinished", "unfinished"]

_NAME = re.compile(r".*\.([0-9a-f]{12})-([0-9]+)-[0-9a-f]{8}\.part")
_ABANDONED = 86_400.0
"""Seconds without a write after which one of another host, or of another boot, counts as left."""


def unfinished(path: Path) -> Path:
    """Return under which name this process writes a file that is to have this path."""
    mark = f"{_here()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f"{path.name}.{mark}.part")


def clear_unfinished(*folders: Path) -> list[Path]:
    """Remove what nobody writes any more; return which files these were."""
    left = [path for folder in folders for path in _parts(folder) if _is_left(path)]
    for path in left:
        with suppress(OSError):  # another process was faster, or it is not ours to remove
            path.unlink()
    return left


def _parts(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            return iter([Path(each.path) for each in entries if each.name.endswith(".part")])
    except OSError:
        return iter(())  # there is none, or it is somebody else's


def _is_left(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    if found is not None and found[1] == _here():
        return not psutil.pid_exists(int(found[2]))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except OSError:
        return False  # finished or removed meanwhile


def _here() -> str:
    """Return what identifies the processes that can be seen from this one, by their ids."""
    origin = current_origin()
    text = f"{origin.host} {origin.boot}"
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=6).hexdigest()
