"""Other places of this machine, where records wait that the journal's own disk does not take.

What waited in memory while the disk of its store is full would be lost with its process. It is
written to the folder of the journals of servers, else to the system's folder for temporary files,
and the next process that opens the experiment looks there too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from daskperiment.errors import StoreError
from daskperiment.recording.journal import Journal
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.store.opening import spare_folders
from daskperiment.store.protocol import Buffer, Record, Store, flat

__all__ = ["SparePlaces"]

_ROOM = 256 << 20
"""Bytes of the objects that may wait in one place: it is there for other things."""


class SparePlaces:
    """The other places in which records and objects for a store may wait.

    Parameters
    ----------
    store : Store
    writes : OwnedWrites
        Writes what is found there.

    Attributes
    ----------
    holds : bool
        Whether something of this process may wait there.
    """

    def __init__(self, store: Store, writes: OwnedWrites) -> None:
        self._store = store
        self._writes = writes
        self._journals: dict[Path, Journal] = {}
        self.holds = False

    @property
    def waiting(self) -> int:
        """How many records and objects wait there, of this process and of those that are gone."""
        return sum(self._journal(at).waiting + len(_objects(at)) for at in self._used())

    @property
    def used(self) -> list[Path]:
        """Those in which something waits, if something of this process may."""
        return [at for at in self._used() if _has_something(at)] if self.holds else []

    def write(self, record: Record) -> bool:
        """Write a record down in the first place that takes it; False if none does.

        It survives SIGKILL of this process then.
        """
        for folder in self._usable():
            journal = self._journal(folder)
            try:
                journal.write(record)
            except StoreError:
                journal.remove_delivered()  # a file that was begun in vain
                continue
            self.holds = True
            return True
        return False

    def keep(self, digest: str, parts: Sequence[Buffer]) -> bool:
        """Keep an object in the first place that takes it, as `write`; False if none does."""
        size = sum(len(flat(part)) for part in parts)
        for folder in self._usable():
            objects = _objects(folder)
            with suppress(StoreError):
                if objects.size + size <= _ROOM:
                    objects.keep(digest, parts)
                    self.holds = True
                    return True
        return False

    def new_journals(self) -> Iterator[Journal]:
        """Yield a journal of its own for each place, the first one that is written to counts."""
        return (Journal(at, self._store, self._writes) for at in self._usable())

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
            if _has_something(folder):
                self.holds = True
                used.append(folder)
            if whole and not pending.in_memory:
                break
        return used

    def deliver_objects(self) -> None:
        """Hand over the objects that wait there; StoreError if one is refused."""
        for folder in self._used():
            _objects(folder).deliver(self._store)

    def flush(self, timeout: float | None = None) -> list[Record]:
        """Deliver the records of this process that wait there, as `Journal.flush`."""
        self.holds, standing = False, []
        try:
            for journal in list(self._journals.values()):
                standing += journal.flush(timeout)
                journal.remove_delivered()
            if any(len(_objects(folder)) for folder in self._used()):
                self.holds = True
        except BaseException:
            self.holds = True
            raise
        return standing

    def deliver(self) -> None:
        """Hand over what waits there, of processes that are gone; StoreError if it is refused."""
        self.deliver_objects()
        for folder in self._used():
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
        self.holds = False

    def _usable(self) -> Iterator[Path]:
        """Yield those in which nobody but this user can put something, made if need be."""
        for folder in spare_folders(self._store):
            with suppress(OSError):
                _make_ours(folder.parent)
                yield folder

    def _used(self) -> list[Path]:
        found = [folder for folder in spare_folders(self._store) if folder.is_dir()]
        return [folder for folder in found if _is_ours(folder.parent)]

    def _journal(self, folder: Path) -> Journal:
        found = self._journals.get(folder)
        return found or self._journals.setdefault(
            folder, Journal(folder, self._store, self._writes)
        )


def _has_something(folder: Path) -> bool:
    return any(folder.glob("*.journal")) or len(_objects(folder)) > 0


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
