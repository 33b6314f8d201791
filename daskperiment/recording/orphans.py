"""Journals that dead processes left: whoever finds them delivers them."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from daskperiment.errors import StoreWarning
from daskperiment.recording import journal_format as frames
from daskperiment.store.faults import explain
from daskperiment.store.liveness import is_gone
from daskperiment.store.protocol import Store

__all__ = ["adopt", "count", "find"]

_PATIENCE = 86_400.0
"""Seconds without a write after which another host's journal is adopted."""


def find(folder: Path, own: Path | None) -> Iterator[Path]:
    """Find the journals in a folder whose process is gone."""
    try:
        with os.scandir(folder) as entries:
            paths = [Path(e.path) for e in entries if e.name.endswith(".journal")]
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain(error, folder / "journal") from error
    for path in paths:
        if path != own and _is_orphan(path):
            yield path


def _is_orphan(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # adopted meanwhile, or not ours to read
    try:
        header = frames.read_header(file)
        gone = None if header is None else is_gone(header.origin)
        return time.time() - os.fstat(file).st_mtime > _PATIENCE if gone is None else gone
    finally:
        os.close(file)


def adopt(path: Path, store: Store) -> int:
    """Deliver a journal to a store and remove it; give the number of its records."""
    delivered = skipped = 0

    def watched(sections: Iterator[frames.Section]) -> Iterator[frames.Section]:
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
        for records, _, _ in frames.batches(watched(_remaining(file, path))):
            store.append(records)
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
    warnings.warn(
        f"{path} is damaged: {skipped} bytes of it cannot be read, the rest was delivered. It is "
        f"kept as {aside.name}; delete it if you do not need it",
        StoreWarning,
        stacklevel=2,
    )


def _remaining(file: int, path: Path) -> Iterator[frames.Section]:
    # The name is in the file's name too, should the header be damaged.
    header = frames.read_header(file)
    name = header.journal if header else path.stem.rpartition("-")[2]
    return frames.sections(file, name, frames.read_mark(file), os.fstat(file).st_size)


def count(path: Path) -> int:
    """Count the points and records of a journal that were not delivered."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return sum(section.frames for section in _remaining(file, path))
    finally:
        os.close(file)
