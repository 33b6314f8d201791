"""Journals that dead processes left: found, counted, and delivered by whoever comes next."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from daskperiment.errors import StoreWarning
from daskperiment.recording import journal_format as frames
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.store.faults import explain
from daskperiment.store.liveness import is_gone
from daskperiment.warn import warn_user

__all__ = ["adopt", "count_left", "left_journals"]

_ABANDONED = 86_400.0
"""Seconds without a write after which another host's journal is adopted."""


def left_journals(folder: Path, own: Collection[str]) -> Iterator[Path]:
    """Yield the journals in a folder whose process is gone; those of some names are this one's."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(".journal")]
    except (FileNotFoundError, PermissionError):
        return  # those of somebody else are theirs to deliver
    except OSError as error:
        raise explain(error, folder / "journal") from error
    for name in names:
        if name not in own and _is_orphan(path := folder / name):
            yield path


def _is_orphan(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # adopted meanwhile, or not ours to read
    try:
        header = frames.read_header(file)
        gone = None if header is None else is_gone(header.origin)
        return time.time() - os.fstat(file).st_mtime > _ABANDONED if gone is None else gone
    finally:
        os.close(file)


def adopt(path: Path, writes: OwnedWrites) -> int:
    """Deliver a journal to a store and remove it; return the number of its records."""
    delivered = skipped = 0

    def watched(sections: Iterator[frames.JournalSection]) -> Iterator[frames.JournalSection]:
        nonlocal skipped
        for section in sections:
            skipped += section.skipped
            yield section

    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0  # adopted by another
    except OSError as error:
        raise explain(error, path) from error
    try:
        names = frames.read_names(file, os.fstat(file).st_size)
        for records, _, _ in frames.batches(watched(_remaining(file, path, names))):
            writes.append(records, lambda: names.begun)
            delivered += len(records)
    finally:
        os.close(file)
    try:
        if skipped:
            _set_aside(path, skipped)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, path) from error
    return delivered


def _set_aside(path: Path, skipped: int) -> None:
    aside = path.with_suffix(".damaged")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    text = (
        f"{path} is damaged: {skipped} bytes of it cannot be read, the rest was delivered. It is "
        f"kept as {aside.name}; delete it if you do not need it"
    )
    warn_user(StoreWarning(text))


def _remaining(
    file: int, path: Path, names: frames.JournalNames
) -> Iterator[frames.JournalSection]:
    # The name is in the file's name too, should the header be damaged.
    header = frames.read_header(file)
    name = header.journal if header else path.stem.rpartition("-")[2]
    start, end = frames.read_mark(file), os.fstat(file).st_size
    return frames.sections(file, name, names, start, end)


def count_left(path: Path) -> int:
    """Count the points and records of a journal that were not delivered."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        size = os.fstat(file).st_size
        names = frames.read_names(file, size)
        return sum(section.frames for section in _remaining(file, path, names))
    finally:
        os.close(file)
