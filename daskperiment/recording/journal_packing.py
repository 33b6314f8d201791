"""Packing files of a journal that are delivered: they are kept, and hardly ever read again."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import IO

from daskperiment.recording import journal_format as frames
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights

__all__ = ["pack", "unpacked"]

_PIECE = 1 << 16
_HEAD = Struct("<IB")
"""Before each part of a piece: its length, and whether it is frames whose bytes are turned."""
_NUMBERS = frames.NUMBER_HEAD
_WIDE = frames.NUMBER_FRAME.size
_FEW = 8
_LEVEL = 1
"""Of packing: the others take several times as long for a few percent."""


def pack(path: Path, handle: int, head: int, size: int) -> tuple[int, int] | None:
    """Put a packed file in the place of one; return it, open, and its size.

    Who finds it when this process is gone sees that nothing of it waits. None if there is no room,
    or if somebody deleted the file: then it is to stay so.

    Parameters
    ----------
    path : Path
        Of the file.
    handle : int
        The file, open.
    head : int
        Bytes of its header, which stays as it is.
    size : int
        Bytes of the file.
    """
    temporary = unfinished(path)
    try:
        if os.fstat(handle).st_nlink == 0:
            return None
        with open(temporary, "xb+", opener=_private) as packed:
            rights.share(temporary)
            packed.write(os.pread(handle, head, 0))
            squeezer, place = zlib.compressobj(_LEVEL), head
            while place < size:
                piece = os.pread(handle, min(_PIECE, size - place), place)
                packed.write(squeezer.compress(b"".join(_parts(piece))))
                place += len(piece)
            packed.write(squeezer.flush())
            taken = packed.tell()
            packed.seek(0)
            packed.write(frames.encode_mark(taken))
            packed.flush()
            os.rename(temporary, path)
            return os.dup(packed.fileno()), taken
    except (OSError, ValueError):  # no room, or it was removed meanwhile
        with suppress(OSError):
            temporary.unlink()
        return None


def unpacked(handle: int, head: int, size: int) -> int:
    """Return a file without a name, open, that has all as it was before it was packed.

    Raises
    ------
    OSError
        If there is no room for it.
    """
    with tempfile.TemporaryFile() as whole:
        whole.write(os.pread(handle, head, 0))
        opener, place, waiting = zlib.decompressobj(), head, b""
        while place < size:
            piece = os.pread(handle, _PIECE, place)
            if not piece:
                break  # cut by somebody: what is left is read
            waiting = _write_whole(whole, waiting + opener.decompress(piece))
            place += len(piece)
        whole.flush()
        return os.dup(whole.fileno())


def _parts(piece: bytes) -> Iterator[bytes]:
    """Yield the parts of a piece of a file, each behind its head.

    Of many frames of numbers the first bytes of all come first, then the second ones and so on: as
    these are alike, that is packed in half the time to half the size.
    """
    start = 0
    while start < len(piece):
        begin = end = piece.find(_NUMBERS, start)
        while piece.startswith(_NUMBERS, end) and end + _WIDE <= len(piece):
            end += _WIDE
        if begin < 0 or end - begin < _FEW * _WIDE:
            begin = end = len(piece) if begin < 0 else max(end, begin + 1)
        if begin > start:
            yield _HEAD.pack(begin - start, False) + piece[start:begin]
        if end > begin:
            some = piece[begin:end]
            yield _HEAD.pack(len(some), True)
            yield from [some[place::_WIDE] for place in range(_WIDE)]
        start = end


def _write_whole(file: IO[bytes], data: bytes) -> bytes:
    """Write the parts that are whole as they were; return what is left."""
    start = 0
    while start + _HEAD.size <= len(data):
        length, is_turned = _HEAD.unpack_from(data, start)
        begin = start + _HEAD.size
        part = data[begin : begin + length]
        if len(part) < length:
            break
        if is_turned:
            count, frames_again = length // _WIDE, bytearray(length)
            for place in range(_WIDE):
                frames_again[place::_WIDE] = part[place * count : (place + 1) * count]
            part = bytes(frames_again)
        file.write(part)
        start = begin + length
    return data[start:]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, rights.PRIVATE_FILE)
