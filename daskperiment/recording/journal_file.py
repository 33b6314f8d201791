"""The file that a process's journal writes to, until it is large."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from daskperiment.recording import journal_format as frames
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights
from daskperiment.store.faults import explain
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner

__all__ = ["JournalFile"]

ROTATE = 1_000_000
"""A file of more bytes than this is followed by another when all of it is delivered."""


class JournalFile:
    """The journal file of this process. Whoever writes to it holds the journal's lock."""

    _handle = -1
    _inode = 0
    """Which file it was that was closed."""

    def __init__(self, folder: Path) -> None:
        origin = current_origin()
        host = re.sub(r"[^\w.]", "_", origin.host)[:64]
        self.name = uuid.uuid4().hex
        self.path = folder / f"{host}-{origin.pid}-{self.name}.journal"
        self.waiting = 0
        self.loose = False
        """Whether points were written since the last cut."""
        self.numbers: dict[Owner | None, int] = {None: 0}
        """The numbers that owners have in this file."""
        self._owners: dict[int, Owner] = {}
        self._frames = 0
        header = frames.encode_header(frames.JournalHeader(self.name, origin))
        self.size = self.delivered = self._first = len(header)
        # Under its final name only when it says whose it is.
        temporary = unfinished(self.path)
        try:
            rights.make_folder(folder, rights.PRIVATE_FOLDER)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._handle = os.open(temporary, flags, rights.PRIVATE_FILE)
            rights.share(temporary)
            _write_rest(self._handle, header, 0, 0)
            os.rename(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise explain(error, self.path) from error

    @property
    def is_closed(self) -> bool:
        """Whether the file rests, and is small enough to be written on."""
        return self._handle < 0 and self.size <= ROTATE

    def release(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            self._inode = os.fstat(self._handle).st_ino
            os.close(self._handle)
            self._handle = -1

    def opened(self) -> bool:
        """Open the file if it was closed; False if it is no longer there."""
        if self._handle >= 0:
            return True
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        if os.fstat(handle).st_ino != self._inode:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def add(self, data: bytes, count: int) -> None:
        """Write behind all that is there."""
        try:
            # Not in append mode: what failed half-way is written over.
            written = os.pwrite(self._handle, data, self.size)
            if written < len(data):
                _write_rest(self._handle, data, self.size, written)
        except OSError as error:
            raise explain(error, self.path) from error
        self.size += len(data)
        self.waiting += count
        self._frames += count

    def introduce(self, owner: Owner, begun: bytes) -> int:
        """Say who an owner is, and return its number in this file."""
        number = len(self.numbers)
        self.add(frames.encode_owner(owner, number, begun), 0)
        self.numbers[owner], self._owners[number] = number, owner
        return number

    def rewind(self) -> None:
        """Count nothing as delivered."""
        self.delivered, self.waiting = self._first, self._frames

    def first_records(self) -> dict[Owner, bytes]:
        """Return the first records of the owners' trials."""
        return {owner: begun for _, owner, begun in frames.read_owners(self._handle, self.size)}

    def cut(self) -> int:
        """End the groups of points here, and give the offset up to which all is whole."""
        if self.loose:
            self.add(frames.encode_frame(frames.CUT, 0, b""), 0)
            self.loose = False
        return self.size

    def sections(self, end: int) -> Iterator[frames.JournalSection]:
        """Read what is not delivered yet."""
        return frames.sections(self._handle, self.name, self._owners, self.delivered, end)

    def mark(self) -> None:
        """Note in the file what is delivered, so that nobody reads it again in vain."""
        try:
            os.pwrite(self._handle, frames.encode_mark(self.delivered), 0)
        except OSError:
            pass  # delivering again changes nothing

    def is_spent(self) -> bool:
        """Return whether the file is large, or was deleted by somebody else."""
        return self.size > ROTATE or os.fstat(self._handle).st_nlink == 0

    def remove(self) -> None:
        """Delete the file."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # its mark says that all is delivered

    def __del__(self) -> None:
        # When the interpreter ends, a module's names are None.
        if self._handle >= 0 and os is not None:
            os.close(self._handle)


def _write_rest(file: int, data: bytes, offset: int, written: int) -> None:
    """Write what one call did not, or take back all of it."""
    view = memoryview(data)
    try:
        while written < len(data):
            written += os.pwrite(file, view[written:], offset + written)
    except OSError:
        os.ftruncate(file, offset)
        raise
