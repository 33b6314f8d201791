"""Packing files of a journal that are delivered: they are kept, and hardly ever read again."""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

from daskperiment.recording import journal_format as frames
from daskperiment.recording.unfinished import unfinished
from daskperiment.store import rights

__all__ = ["pack", "unpacked"]

_PIECE = 1 << 16
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
                packed.write(squeezer.compress(piece))
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
        opener, place = zlib.decompressobj(), head
        while place < size:
            piece = os.pread(handle, _PIECE, place)
            if not piece:
                break  # cut by somebody: what is left is read
            whole.write(opener.decompress(piece))
            place += len(piece)
        whole.flush()
        return os.dup(whole.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, rights.PRIVATE_FILE)
