"""One file of a journal: written by this process, delivered, packed, and perhaps read again."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from daskperiment.recording import journal_format as frames
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights
from daskperiment.store.faults import explain
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Owner

__all__ = ["LONG", "JournalFile", "write_rest"]

LONG = 1_000_000
"""A file of more bytes than this is followed by another."""
_MUCH = 2_000_000
"""Bytes after which what waits is not left until the next turn of the background thread."""
_PIECE = 1 << 20
_LEVEL = 1
"""Of packing: the others take several times as long for a few percent."""


class JournalFile:
    """The journal file of this process. Whoever writes to it holds the journal's lock."""

    handle = -1
    """The open file; negative while it is closed."""
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
        self.places: dict[Owner | None, tuple[int, int]] = {}
        """What the frames of their points begin with."""
        self._owners: dict[int, Owner] = {}
        self.count = 0
        """How many records and points it has."""
        self.much = _MUCH
        """The size beyond which what waits is to be delivered at once."""
        self._packed = 0
        """Bytes that it takes, if it is packed."""
        header = frames.encode_header(frames.JournalHeader(self.name, origin))
        self.size = self.delivered = self._first = len(header)
        # Under its final name only when it says whose it is.
        temporary = unfinished(self.path)
        try:
            rights.make_folder(folder, rights.PRIVATE_FOLDER)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.handle = os.open(temporary, flags, rights.PRIVATE_FILE)
            rights.share(temporary)
            write_rest(self.handle, header, 0, 0)
            os.rename(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise explain(error, self.path) from error

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
                write_rest(self.handle, data, self.size, written)
        except OSError as error:
            raise explain(error, self.path) from error
        self.size += len(data)
        self.waiting += count
        self.count += count

    def introduce(self, owner: Owner, begun: bytes) -> int:
        """Say who an owner is, and return its number in this file."""
        number = len(self.numbers)
        self.add(frames.encode_owner(owner, number, begun), 0)
        self.numbers[owner], self._owners[number] = number, owner
        return number

    def rewind(self) -> None:
        """Count nothing as delivered.

        Raises
        ------
        OSError
            If it is packed, and there is no room to unpack it.
        """
        if self._packed:
            self._unpack()
        self.delivered, self.waiting = self._first, self.count

    def pack(self) -> None:
        """Let it take less of the disk: all of it is delivered, and hardly ever read again.

        Who finds it when this process is gone sees that nothing of it waits.
        """
        temporary = unfinished(self.path)
        try:
            if self._packed or os.fstat(self.handle).st_nlink == 0:
                return  # it was deleted by somebody, and is to stay so
            with open(temporary, "xb+", opener=_private) as packed:
                rights.share(temporary)
                packed.write(os.pread(self.handle, self._first, 0))
                squeezer, place = zlib.compressobj(_LEVEL), self._first
                while place < self.size:
                    piece = os.pread(self.handle, min(_PIECE, self.size - place), place)
                    packed.write(squeezer.compress(piece))
                    place += len(piece)
                packed.write(squeezer.flush())
                size = packed.tell()
                packed.seek(0)
                packed.write(frames.encode_mark(size))
                packed.flush()
                os.rename(temporary, self.path)
                self._take(packed.fileno())
        except (OSError, ValueError):  # no room, or it was removed meanwhile
            with suppress(OSError):
                temporary.unlink()
        else:
            self._packed = size

    def _unpack(self) -> None:
        """Read from a file without a name from here on, which has all as it was."""
        with tempfile.TemporaryFile() as whole:
            whole.write(os.pread(self.handle, self._first, 0))
            opener, place = zlib.decompressobj(), self._first
            while place < self._packed:
                piece = os.pread(self.handle, _PIECE, place)
                if not piece:
                    break  # cut by somebody: what is left is read
                whole.write(opener.decompress(piece))
                place += len(piece)
            whole.flush()
            self._take(whole.fileno())
        self._packed = 0

    def _take(self, handle: int) -> None:
        old, self.handle = self.handle, os.dup(handle)
        os.close(old)

    def first_records(self) -> dict[Owner, bytes]:
        """Return the first records of the owners' trials."""
        return {owner: begun for _, owner, begun in frames.read_owners(self.handle, self.size)}

    def cut(self) -> int:
        """End the groups of points here, and give the offset up to which all is whole."""
        if self.loose:
            self.add(frames.encode_frame(frames.CUT, 0, b""), 0)
            self.loose = False
        return self.size

    def sections(self, end: int) -> Iterator[frames.JournalSection]:
        """Read what is not delivered yet."""
        return frames.sections(self.handle, self.name, self._owners, self.delivered, end)

    def hear(self) -> None:
        """Note that somebody was told how much waits."""
        self.much = self.size + _MUCH

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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, rights.PRIVATE_FILE)


def write_rest(file: int, data: bytes, offset: int, written: int) -> None:
    """Write what one call did not, or take back all of it."""
    view = memoryview(data)
    try:
        while written < len(data):
            written += os.pwrite(file, view[written:], offset + written)
    except OSError:
        os.ftruncate(file, offset)
        raise
