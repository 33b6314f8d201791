"""Other places of this machine, where records wait that the journal's own disk does not take.

A process that ends while the disk of its store is full would take with it what waits in memory. It
is written to the folder of the journals of servers, else to the system's folder for temporary
files, and the next process that opens the experiment looks there too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daskperiment.errors import StoreError
from daskperiment.recording.journal import Journal
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.store.opening import spare_folders
from daskperiment.store.protocol import Store

__all__ = ["SparePlaces"]


class SparePlaces:
    """The other places in which records and objects for a store may wait.

    Parameters
    ----------
    store : Store
    writes : OwnedWrites
        Writes what is found there.
    """

    def __init__(self, store: Store, writes: OwnedWrites) -> None:
        self._store = store
        self._writes = writes

    @property
    def waiting(self) -> int:
        """How many records and objects wait there, of processes that are gone."""
        return sum(self._journal(at).waiting + len(_objects(at)) for at in self._used())

    def take(self, write_down: Callable[[Journal], object], pending: PendingObjects) -> list[Path]:
        """Write what waits in memory to the places in order; return those that have some.

        Parameters
        ----------
        write_down : callable
            Writes the records to a journal, until that refuses one.
        pending : PendingObjects
            Of which those in memory are written.
        """
        used: list[Path] = []
        for folder in spare_folders(self._store):
            whole = False
            with suppress(StoreError, OSError):
                _make_ours(folder.parent)
                write_down(self._journal(folder))
                whole = True
            if _is_ours(folder.parent):
                pending.write_down(_objects(folder))
            if any(folder.glob("*.journal")) or len(_objects(folder)):
                used.append(folder)
            if whole and not pending.in_memory:
                break
        return used

    def deliver(self) -> None:
        """Hand over what waits there, of processes that are gone; StoreError if it is refused."""
        for folder in self._used():
            _objects(folder).deliver(self._store)
            self._journal(folder).recover()
            with suppress(OSError):  # something waits there, or is not ours
                (folder / "spool").rmdir()
            with suppress(OSError):
                folder.rmdir()

    def discard(self) -> None:
        """Drop what waits there: the store was deleted."""
        for folder in self._used():
            self._journal(folder).discard()
            _objects(folder).discard()

    def _used(self) -> list[Path]:
        found = [folder for folder in spare_folders(self._store) if folder.is_dir()]
        return [folder for folder in found if _is_ours(folder.parent)]

    def _journal(self, folder: Path) -> Journal:
        return Journal(folder, self._store, self._writes)


def _objects(folder: Path) -> PendingObjects:
    return PendingObjects(folder / "spool", limit=0)


def _make_ours(folder: Path) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} is somebody else's")


def _is_ours(folder: Path) -> bool:
    """Whether nobody but this user can have put something into a folder."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    mine = os.name != "posix" or found.st_uid == os.geteuid()
    return stat.S_ISDIR(found.st_mode) and mine and not found.st_mode & 0o022
