"""The journal: a local write-ahead file between a trial and its store.

What was written survives SIGKILL of this process, costs one system call, and does not need the
store. Delivering it, in this process or in a later one, writes each record exactly once, because
what is read from the file again has the same ids.

Each process writes a file of its own. Files that a dead process left are adopted by whoever
calls `Journal.recover` on the same folder; those of another host, whose processes cannot be seen
from here, when nothing was written to them for a day.
"""

from __future__ import annotations

import os
import re
import time
import uuid
import warnings
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from daskperiment.errors import StoreError, StoreUnavailableError, StoreWarning
from daskperiment.recording import journal_format as frames
from daskperiment.recording import orphans
from daskperiment.records import Point
from daskperiment.store.faults import explain
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record, Store

__all__ = ["Journal"]

_ROTATE = 1_000_000
"""A file of more bytes than this is removed when all of it is delivered."""

_encode_point = msgspec.json.Encoder().encode
_registry: weakref.WeakSet[Journal] = weakref.WeakSet()


class Journal:
    """Write records and points now, deliver them to the store later.

    Any number of threads may use a journal at once. A forked child writes to a file of its own.

    Parameters
    ----------
    folder : Path
        Where the journals of this store's writers are; created by the first write.
    store : Store
        Where the records go.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store
        self._reset()
        _registry.add(self)

    def _reset(self) -> None:
        self._writing = Lock()
        self._flushing = Lock()
        self._file: _File | None = None

    def write(self, record: Record) -> None:
        """Write a record; it survives SIGKILL of this process when this returns.

        Raises
        ------
        StoreError
            If the file cannot be written, as on a full disk. Nothing of the record was written.
        """
        data = frames.encode_record(record)
        with self._writing:
            (self._file or self._create()).add(data, 1)

    def point(self, trial: int, point: Point) -> None:
        """Write a point of a metric; as `write`, and as fast as can be."""
        data = frames.encode_frame(frames.POINT, trial, _encode_point(point))
        with self._writing:
            file = self._file or self._create()
            file.add(data, 1)
            file.loose = True

    def flush(self, timeout: float | None = None) -> list[Record]:
        """Deliver everything that was written so far.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which no further batch is begun.

        Returns
        -------
        list of Record
            What ``Store.append`` returned.

        Raises
        ------
        StoreError
            From the store. Nothing is lost; what was not delivered can be flushed again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._flushing.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            raise self._late(timeout)
        try:
            return self._deliver(deadline, timeout)
        finally:
            self._flushing.release()

    def recover(self) -> int:
        """Adopt and deliver the journals of dead processes in the folder.

        Two that adopt one journal at once do no harm. A live process' journal is not touched.

        Returns
        -------
        int
            How many records were delivered.

        Raises
        ------
        StoreError
            From the store. Nothing is lost.
        """
        return sum(orphans.adopt(path, self._store) for path in self._orphans())

    @property
    def waiting(self) -> int:
        """How many points and records are not delivered yet, dead processes' included."""
        with self._writing:
            own = self._file.waiting if self._file else 0
        return own + sum(map(orphans.count, self._orphans()))

    def close(self) -> None:
        """Deliver what waits, and remove the file.

        If the store is away the file stays, and a `StoreWarning` says so: a later `flush`, or
        another process' `recover`, delivers it.
        """
        try:
            self.flush()
        except StoreError as error:
            warnings.warn(
                f"{self.waiting} records for {self._store.address} wait in {self.folder} until "
                f"the store can be reached ({error})",
                StoreWarning,
                stacklevel=2,
            )
        with self._writing:
            if self._file is not None and not self._file.waiting:
                self._file.remove()
                self._file = None

    def _create(self) -> _File:
        self._file = _File(self.folder)
        return self._file

    def _deliver(self, deadline: float | None, timeout: float | None) -> list[Record]:
        with self._writing:
            file = self._file
            if file is None or not file.waiting:
                return []
            end = file.cut()
        standing: list[Record] = []
        try:
            for records, done, count in frames.batches(file.sections(end)):
                if deadline is not None and time.monotonic() >= deadline:
                    raise self._late(timeout)
                standing += self._store.append(records)
                with self._writing:
                    file.delivered, file.waiting = done, file.waiting - count
        finally:
            file.mark()
        with self._writing:
            if not file.waiting and file.is_spent() and self._file is file:
                file.remove()
                self._file = None
        return standing

    def _late(self, timeout: float | None) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._store.address} did not take all records within {timeout!r} seconds. What is "
            f"left stays in {self.folder} and can be flushed again"
        )

    def _orphans(self) -> Iterator[Path]:
        return orphans.find(self.folder, self._file.path if self._file else None)


class _File:
    """The journal file of this process. Whoever writes to it holds the journal's lock."""

    _handle = -1

    def __init__(self, folder: Path) -> None:
        origin = current_origin()
        host = re.sub(r"[^\w.]", "_", origin.host)[:64]
        self.name = uuid.uuid4().hex
        self.path = folder / f"{host}-{origin.pid}-{self.name}.journal"
        self.waiting = 0
        self.loose = False
        """Whether points were written since the last cut."""
        header = frames.encode_header(frames.Header(self.name, origin))
        self.size = self.delivered = len(header)
        # Under its final name only when it says whose it is.
        temporary = self.path.with_suffix(".new")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            _write(self._handle, header, 0)
            os.rename(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise explain(error, self.path) from error

    def add(self, data: bytes, count: int) -> None:
        """Write behind all that is there."""
        try:
            # Not in append mode: what failed half-way is written over.
            _write(self._handle, data, self.size)
        except OSError as error:
            raise explain(error, self.path) from error
        self.size += len(data)
        self.waiting += count

    def cut(self) -> int:
        """End the groups of points here, and give the offset up to which all is whole."""
        if self.loose:
            self.add(frames.encode_frame(frames.CUT, 0, b""), 0)
            self.loose = False
        return self.size

    def sections(self, end: int) -> Iterator[frames.Section]:
        """Read what is not delivered yet."""
        return frames.sections(self._handle, self.name, self.delivered, end)

    def mark(self) -> None:
        """Note in the file what is delivered, so that nobody reads it again in vain."""
        try:
            os.pwrite(self._handle, frames.encode_mark(self.delivered), 0)
        except OSError:
            pass  # delivering again changes nothing

    def is_spent(self) -> bool:
        """Tell whether the file is large, or was deleted by somebody else."""
        return self.size > _ROTATE or os.fstat(self._handle).st_nlink == 0

    def remove(self) -> None:
        """Delete the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # its mark says that all is delivered

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all or nothing."""
    written = os.pwrite(file, data, offset)
    if written == len(data):
        return
    try:
        view = memoryview(data)
        while written < len(data):
            written += os.pwrite(file, view[written:], offset + written)
    except OSError:
        os.ftruncate(file, offset)
        raise


def _after_fork_in_child() -> None:
    # The parent delivers what it wrote, and a lock may have been held by a thread of its own.
    for journal in list(_registry):
        journal._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
