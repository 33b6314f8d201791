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
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from zlib import crc32

import msgspec

from daskperiment.codec import FLOAT_POINT
from daskperiment.errors import (
    RecordsRefusedError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.recording import journal_format as frames
from daskperiment.recording.journal_packing import pack, unpacked
from daskperiment.recording.left_journals import adopt, count_left, left_journals
from daskperiment.recording.mapped_journal import MappedEnd
from daskperiment.recording.owned_writes import OwnedWrites
from daskperiment.recording.unfinished import unfinished
from daskperiment.records import LogPiece, Point
from daskperiment.store import rights
from daskperiment.store.faults import explain
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner, Record, Store
from daskperiment.warn import warn_user

__all__ = ["Journal", "JournalFile", "SeriesWriter"]

LONG = 1_000_000
"""A file of more bytes than this is followed by another."""
_MUCH = 2_000_000
"""Bytes after which what waits is not left until the next turn of the background thread."""
_PIECE = 1 << 18
_MOMENT = 0.005
_MOMENTS = 10
"""So often a loop leaves so many seconds to whoever delivers, for each piece of so many bytes."""
_LOOP = 256
"""Points of a file after which it is a loop that saves them."""
_KEPT = 4 << 20
"""Bytes of packed files that are kept though they are delivered: the store may go back."""

_encode_point = msgspec.json.Encoder().encode
_pack_frame, _store_frame = frames.NUMBER_FRAME.pack, frames.NUMBER_FRAME.pack_into
_pack_float = FLOAT_POINT.pack
_MAGIC, _FLOAT = frames.MAGIC, frames.FLOAT
_NUMBER, _LENGTH = frames.NUMBER_FRAME.size, FLOAT_POINT.size
_JOURNALS: weakref.WeakSet[Journal] = weakref.WeakSet()


class Journal:
    """Write records and points now, deliver them to the store later.

    Any number of threads may use a journal at once. A forked child writes to a file of its own.

    Parameters
    ----------
    folder : Path
        Where the journals of this store's writers are; created by the first write.
    store : Store
        Where the records go.
    writes : OwnedWrites, optional
        Writes them, and knows the first records of the trials that they belong to.

    Attributes
    ----------
    on_much : callable
        Called when so much waits that it is to be delivered soon.
    quick : JournalFile, optional
        What a `SeriesWriter` may write to without asking: None until `quicken` is called.
    """

    quick: JournalFile | None

    def __init__(self, folder: Path, store: Store, writes: OwnedWrites | None = None) -> None:
        self.folder = folder
        self.on_much: Callable[[], None] = lambda: None
        self._store = store
        self._writes = writes or OwnedWrites(store)
        self.reset()
        _JOURNALS.add(self)

    def reset(self) -> None:
        """Begin anew, with a file of its own: for a forked child."""
        self._writing = Lock()
        self._flushing = Lock()
        self._file: JournalFile | None = None
        self.quick = None
        self._spent: deque[JournalFile] = deque()
        """Files of before: what the store loses is read from them again."""
        self._behind = False
        """Whether something of them waits."""

    def write(self, record: Record) -> None:
        """Write a record; it survives SIGKILL of this process when this returns.

        Raises
        ------
        StoreError
            If the file cannot be written, as on a full disk. Nothing of the record was written.
        """
        with self._writing:
            file = self._file or self._create()
            number = file.numbers.get(record.owner)
            if number is None:  # asked here, as each call is felt in a trial
                number = self._number(file, record.owner)
            file.add(frames.encode_record(record, number), 1)

    def point(self, trial: int, point: Point, owner: Owner | None = None) -> None:
        """Write a point of a metric, of whatever kind; as `write`."""
        encoded = _encode_point(point)
        with self._writing:
            file = self._file or self._create()
            place = trial | self._number(file, owner) << frames.OWNERS
            file.add(frames.encode_frame(frames.POINT, place, encoded), 1)
            file.loose = True
            if file.size > file.much:
                file.hear()
                self.on_much()

    def quicken(self) -> None:
        """Let writers of series write on by themselves: all is as it mostly is."""
        with self._writing:
            self.quick = self._file

    def slow_down(self) -> None:
        """Let each point come by whoever looks how things are."""
        self.quick = None

    def _number(self, file: JournalFile, owner: Owner | None) -> int:
        """Return the number of an owner in a file, which is told of it if it was not yet."""
        number = file.numbers.get(owner)
        if number is None and owner is not None:
            number = file.introduce(owner, self._writes.begun.get(owner, b""))
        return number or 0

    def _series(self, file: JournalFile, owner: Owner, metric: str) -> tuple[int, int]:
        """Return the place in all frames of a series of points, and where checksums start."""
        place = owner.trial | self._number(file, owner) << frames.OWNERS
        series = frames.Series(place, metric)
        return file.series.get(series) or file.begin_series(series)

    def pieces(
        self, trial: int, pieces: Sequence[LogPiece], owner: Owner, patience: float
    ) -> bool:  # fmt: skip
        """Write pieces of a log in one call; as `write`.

        False if the journal is in use for longer than so many seconds: what a finalizer prints may
        come while this thread itself writes here.
        """
        encoded = [_encode_point(piece) for piece in pieces]
        if not self._writing.acquire(timeout=patience):
            return False
        try:
            file = self._file or self._create()
            place = trial | self._number(file, owner) << frames.OWNERS
            found = b"".join([frames.encode_frame(frames.LOG, place, each) for each in encoded])
            file.add(found, len(encoded))
            file.loose = True
        finally:
            self._writing.release()
        return True

    def rewind(self) -> None:
        """Deliver everything again that the files have: the store may have lost it."""
        with self._flushing, self._writing:
            # One that was deleted while it rested cannot be read any more.
            self._spent = deque(file for file in self._spent if file.opened() and _rewound(file))
            self._behind = bool(self._spent)
            if self._file is not None:
                self._file.rewind()

    def rest(self) -> None:
        """Close the files that are delivered, until they are needed again."""
        with self._flushing, self._writing:
            self.quick = None
            if self._file is not None and not self._file.waiting:
                self._spent.append(self._file)
                self._file = None
            for file in self._spent:
                if not file.waiting:
                    file.release()

    def leave_removed(self) -> None:
        """Begin a new file if somebody removed this process's, so that others see that it is here.

        What was delivered of the removed one can still be read here.
        """
        with self._flushing, self._writing:
            if self._file is not None and not self._file.waiting and self._file.is_spent():
                self._spent.append(self._file)
                self._file = self.quick = None

    def make_room(self) -> None:
        """Remove what is kept though it is delivered: room is needed for what is not."""
        with self._writing:
            self._trim(0)

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
        return sum(adopt(path, self._writes) for path in self._orphans())

    @property
    def is_delivering(self) -> bool:
        """Whether somebody delivers what it has just now."""
        return self._flushing.locked()

    @property
    def waiting(self) -> int:
        """How many points and records are not delivered yet, dead processes' included."""
        with self._writing:
            own = sum(file.waiting for file in (*self._spent, self._file) if file is not None)
        return own + sum(map(count_left, self._orphans()))

    def close(self) -> None:
        """Deliver what waits, and remove the file.

        If the store is away the file stays, and a `StoreWarning` says so: a later `flush`, or
        another process' `recover`, delivers it.
        """
        try:
            self.flush()
        except StoreError as error:
            text = (
                f"{self.waiting} records for {self._store.address} wait in {self.folder} until "
                f"the store can be reached ({error})"
            )
            warn_user(StoreWarning(text))
        self.remove_delivered()

    def remove_delivered(self) -> None:
        """Remove the files of which all is delivered."""
        with self._writing:
            self._trim(0)
            if self._file is not None and not self._file.waiting:
                self._file.remove()
                self._file = self.quick = None

    def drop(self) -> None:
        """Remove what this process wrote here, delivered or not: it stands elsewhere."""
        with self._writing:
            if self._file is not None:
                self._file.remove()
                self._file = self.quick = None

    def discard(self) -> None:
        """Drop what waits, of this process and of dead ones: the store was deleted."""
        with self._flushing, self._writing:
            for file in (*self._spent, self._file):
                if file is not None:
                    file.remove()
            self._spent.clear()
            self._file = self.quick = None
            for path in self._orphans():
                with suppress(OSError):  # adopted meanwhile
                    path.unlink()

    def _create(self) -> JournalFile:
        rested = self._spent[-1] if self._spent else None
        if rested is not None and rested.is_closed and rested.opened():
            self._file = self._spent.pop()
        else:
            self._file = JournalFile(self.folder)
        return self._file

    def _deliver(self, deadline: float | None, timeout: float | None) -> list[Record]:
        standing: list[Record] = []
        while True:
            with self._writing:
                file = self._next_behind() if self._behind else self._file
                if file is None or not file.waiting:
                    return standing
                end = file.cut()
                latest = file is self._file
                if latest and end > LONG:  # also while a loop goes on writing
                    self._file, self.quick, self._behind = None, None, True
                    self._spent.append(file)
            try:
                for records, done, count in frames.batches(file.sections(end)):
                    if deadline is not None and time.monotonic() >= deadline:
                        raise self._late(timeout)
                    standing += self._append(records, file)
                    with self._writing:
                        file.delivered = done
                        file.handed_over += count
            finally:
                file.mark()
            with self._writing:
                # What a store has lost is read from the file once more, if it was removed or not.
                spent = self._writes.loss is None and not file.waiting and file.is_spent()
                if spent and self._file is file:
                    self._file = self.quick = None
                    self._spent.append(file)
                if latest:
                    self._behind = False
            if spent:
                self._put_away(file)
            if latest:
                return standing

    def _put_away(self, file: JournalFile) -> None:
        """Keep a file that is delivered, as far as there is room for it."""
        file.pack()  # while others write
        with self._writing:
            if file in self._spent:
                self._trim(_KEPT)
            else:  # room was made meanwhile
                file.remove()

    def _next_behind(self) -> JournalFile | None:
        """Return the next file of those of before of which something waits, else the last one."""
        file = next((file for file in self._spent if file.waiting), None)
        self._behind = file is not None
        return file or self._file

    def _trim(self, limit: int) -> None:
        """Remove the oldest files that are delivered, as far as the others are within a limit."""
        size = sum(file.taken for file in self._spent)
        while self._spent and size > limit and not self._spent[0].waiting:
            size -= self._spent[0].taken
            self._spent.popleft().remove()

    def _append(self, records: list[Record], file: JournalFile) -> list[Record]:
        writes = self._writes
        if not writes.alters:
            with suppress(RecordsRefusedError):  # and then as below
                standing = self._store.append(records)
                for record in reversed(records):
                    if record.stream == "trials" and record.owner is not None:
                        writes.known = record
                        break
                return standing
        return writes.append(records, file.first_records)

    def _late(self, timeout: float | None) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._store.address} did not take all records within {timeout!r} seconds. What is "
            f"left stays in {self.folder} and can be flushed again"
        )

    def _orphans(self) -> Iterator[Path]:
        # Those of before stay for a while, and who saves little asks after each record.
        own = {file.path.name for file in (*self._spent, self._file) if file is not None}
        return left_journals(self.folder, own)


class SeriesWriter:
    """Writes points of one metric of one trial: floats at short whole numbers.

    Any number of threads may use it at once.

    Attributes
    ----------
    store : Store
        As whoever saves the points knows it.
    """

    __slots__ = ("_file", "_journal", "_metric", "_owner", "_place", "_seed", "store")

    def __init__(self, journal: Journal, store: Store, owner: Owner, metric: str) -> None:
        self._journal, self._owner, self._metric = journal, owner, metric
        self.store = store
        self._file: JournalFile | None = None
        self._place = self._seed = 0

    def add(self, epoch: int, value: float) -> bool:
        """Write a point of this moment; it survives SIGKILL of this process when this returns.

        False if it was not written, as somebody is to look first how things are.
        """
        # Without a call more: there may be 500,000 in a second.
        data = _pack_float(epoch, value, time.time())
        journal = self._journal
        with journal._writing:
            file = journal.quick
            if file is None or (file is not self._file and not self._begin(file)):
                return False
            size, checksum, end = file.size, crc32(data, self._seed), file.end
            if size <= end.last or (size >= end.worthwhile and end.reserve(file.handle, size)):
                _store_frame(
                    end.memory, size - end.base, _MAGIC, _FLOAT, _LENGTH, checksum, self._place,
                    data,
                )  # fmt: skip
            else:
                frame = _pack_frame(_MAGIC, _FLOAT, _LENGTH, checksum, self._place, data)
                try:  # as `add` does, and nothing is mapped
                    written = os.pwrite(file.handle, frame, size)
                    if written < _NUMBER:
                        _write_rest(file.handle, frame, size, written)
                except OSError:
                    return False
            file.size = size + _NUMBER
            file.count += 1
            file.loose = True
            is_much = file.size > file.much
            if is_much:
                file.hear(_PIECE if journal.is_delivering else _MUCH)
                journal.on_much()
        if is_much:
            # A loop that makes no system call leaves hardly a moment to whoever delivers.
            for _ in range(_MOMENTS):
                if not journal.is_delivering or file.size - file.delivered < _MUCH:
                    break
                time.sleep(_MOMENT)
        return True

    def _begin(self, file: JournalFile) -> bool:
        """Say in a file what is written to it."""
        owner = self._owner
        try:
            self._place, self._seed = self._journal._series(file, owner, self._metric)
        except StoreError:
            return False
        self._file = file
        return True


class JournalFile:
    """One file of the journal of this process. Whoever writes to it holds the journal's lock."""

    handle = -1
    """The open file; negative while it is closed."""
    _inode = 0
    """Which file it was that was closed."""

    def __init__(self, folder: Path) -> None:
        origin = current_origin()
        host = re.sub(r"[^\w.]", "_", origin.host)[:64]
        self.name = uuid.uuid4().hex
        self.path = folder / f"{host}-{origin.pid}-{self.name}.journal"
        self.loose = False
        """Whether points were written since the last cut."""
        self.numbers: dict[Owner | None, int] = {None: 0}
        """The numbers that owners have in this file."""
        self.series: dict[frames.Series, tuple[int, int]] = {}
        """What the frames of their points begin with."""
        self._names = frames.JournalNames({}, {}, {})
        self.count = 0
        """How many records and points it has."""
        self.much = _MUCH
        """The size beyond which what waits is to be delivered at once."""
        self.handed_over = 0
        """How many of them are delivered."""
        self._packed = 0
        """Bytes that it takes, if it is packed."""
        self.end = MappedEnd(self.path, _LOOP * _NUMBER, _NUMBER)
        header = frames.encode_header(frames.JournalHeader(self.name, origin))
        self.size = self.delivered = self._first = len(header)
        # Under its final name only when it says whose it is.
        temporary = unfinished(self.path)
        try:
            rights.make_folder(folder, rights.PRIVATE_FOLDER)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.handle = os.open(temporary, flags, rights.PRIVATE_FILE)
            rights.share(temporary)
            _write_rest(self.handle, header, 0, 0)
            os.rename(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise explain(error, self.path) from error

    @property
    def waiting(self) -> int:
        """How many records and points are not delivered yet."""
        return self.count - self.handed_over

    @property
    def taken(self) -> int:
        """Bytes that it takes on the disk."""
        return self._packed or self.size

    @property
    def is_closed(self) -> bool:
        """Whether the file rests, and is small enough to be written on."""
        return self.handle < 0 and self.size <= LONG

    def release(self) -> None:
        """Close the file."""
        if self.handle >= 0:
            if self.end.leave():
                with suppress(OSError):  # then it keeps the room that it does not need
                    os.ftruncate(self.handle, self.size)
            self._inode = os.fstat(self.handle).st_ino
            os.close(self.handle)
            self.handle = -1

    def opened(self) -> bool:
        """Open the file if it was closed; False if it is no longer there."""
        if self.handle >= 0:
            return True
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        if os.fstat(handle).st_ino != self._inode:
            os.close(handle)
            return False
        self.handle = handle
        return True

    def add(self, data: bytes, count: int) -> None:
        """Write behind all that is there."""
        try:
            # Not in append mode: what failed half-way is written over.
            written = os.pwrite(self.handle, data, self.size)
            if written < len(data):
                self.end.leave()  # as it may become shorter
                _write_rest(self.handle, data, self.size, written)
        except OSError as error:
            raise explain(error, self.path) from error
        self.size += len(data)
        self.count += count

    def introduce(self, owner: Owner, begun: bytes) -> int:
        """Say who an owner is, and return its number in this file."""
        number = len(self.numbers)
        self.add(frames.encode_owner(owner, number, begun), 0)
        self.numbers[owner], self._names.owners[number] = number, owner
        return number

    def begin_series(self, series: frames.Series) -> tuple[int, int]:
        """Say what a series is; return the place of its points, and where checksums start."""
        number = len(self._names.series) + 1
        self.add(frames.encode_series(series, number), 0)
        self._names.series[number] = series
        place = number << frames.OWNERS | series.place & (1 << frames.OWNERS) - 1
        self.series[series] = found = place, frames.checksum_start(frames.FLOAT, place)
        return found

    def rewind(self) -> None:
        """Count nothing as delivered.

        Raises
        ------
        OSError
            If it is packed, and there is no room to unpack it.
        """
        if self._packed:
            self._take(unpacked(self.handle, self._first, self._packed), 0)
            self._names = frames.read_names(self.handle, self.size)
        self.delivered, self.handed_over = self._first, 0

    def pack(self) -> None:
        """Let it take less of the disk: all of it is delivered, and hardly ever read again."""
        if not self._packed:
            found = pack(self.path, self.handle, self._first, self.size)
            if found is not None:
                self._take(*found)
                # Nobody writes on: it says itself whose all is, should that be read again.
                self.numbers, self.series = {}, {}
                self._names = frames.JournalNames({}, {}, {})

    def _take(self, handle: int, packed: int) -> None:
        self.end.leave()
        os.close(self.handle)
        self.handle, self._packed = handle, packed

    def first_records(self) -> dict[Owner, bytes]:
        """Return the first records of the owners' trials."""
        return frames.read_names(self.handle, self.size).begun

    def cut(self) -> int:
        """End the groups of points here, and give the offset up to which all is whole."""
        if self.loose:
            self.add(frames.encode_frame(frames.CUT, 0, b""), 0)
            self.loose = False
        return self.size

    def sections(self, end: int) -> Iterator[frames.JournalSection]:
        """Read what is not delivered yet."""
        return frames.sections(self.handle, self.name, self._names, self.delivered, end)

    def hear(self, more: int = _MUCH) -> None:
        """Note that somebody was told how much waits, until there are so many bytes more."""
        self.much = self.size + more

    def mark(self) -> None:
        """Note in the file what is delivered, so that nobody reads it again in vain."""
        try:
            os.pwrite(self.handle, frames.encode_mark(self.delivered), 0)
        except OSError:
            pass  # delivering again changes nothing

    def is_spent(self) -> bool:
        """Return whether the file is large, or was deleted by somebody else."""
        return self.size > LONG or os.fstat(self.handle).st_nlink == 0

    def remove(self) -> None:
        """Delete the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # its mark says that all is delivered

    def __del__(self) -> None:
        # When the interpreter ends, a module's names are None.
        if self.handle >= 0 and os is not None:
            os.close(self.handle)


def _write_rest(file: int, data: bytes, offset: int, written: int) -> None:
    """Write what one call did not, or take back all of it."""
    view = memoryview(data)
    try:
        while written < len(data):
            written += os.pwrite(file, view[written:], offset + written)
    except OSError:
        os.ftruncate(file, offset)
        raise


def _rewound(file: JournalFile) -> bool:
    """Count nothing of a file as delivered; False if that cannot be."""
    try:
        file.rewind()
    except OSError:
        return False
    return True


def _after_fork_in_child() -> None:
    # The parent delivers what it wrote, and a lock may have been held by a thread of its own.
    for journal in list(_JOURNALS):
        journal.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
