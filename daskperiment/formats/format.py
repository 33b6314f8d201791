"""What a format is: what it takes, how it writes and reads that, and what it shows of it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from daskperiment.records import Preview

__all__ = ["Buffer", "Format", "Written", "file_content", "joined"]

Buffer = Any
"""Something that supports the buffer protocol: bytes, memoryview, mmap."""


class Format:
    """A way to keep values as the bytes of a file that other programs can read.

    A class of its own derives from it, names itself, and defines `takes`, `write` and `read`; an
    instance is handed to :func:`daskperiment.formats.register`.

    Attributes
    ----------
    name : str
        By which it is asked for and recorded.
    suffix : str
        Ending of the names of such files, with the point.
    media : str
        Media type of such files.
    exact : bool
        Whether `takes` itself makes sure that `read` gives back an equal value of the same type.
        Otherwise each value is read back and compared before the format is used unasked.
    swift : bool
        Whether it is as fast as pickle, so that the outputs of steps are kept in it unasked.
    mapped : bool
        Whether `read` takes any buffer, so that large files are not copied first. Otherwise it
        is given bytes.

    Examples
    --------
    >>> import daskperiment.formats
    >>> class Point:
    ...     def __init__(self, x, y):
    ...         self.x, self.y = x, y
    >>> class PointFormat(daskperiment.formats.Format):
    ...     name, suffix = "point", ".txt"
    ...     def takes(self, value):
    ...         return type(value) is Point
    ...     def write(self, value):
    ...         return f"{value.x} {value.y}".encode()
    ...     def read(self, data):
    ...         return Point(*map(int, data.split()))
    >>> daskperiment.formats.register(PointFormat())
    """

    name: str = ""
    suffix: str = ".bin"
    media: str = "application/octet-stream"
    exact: bool = False
    swift: bool = False
    mapped: bool = False

    def takes(self, value: Any) -> bool:
        """Whether a value may come back as it was: equal, and of the same type."""
        raise NotImplementedError

    def is_exact(self, value: Any) -> bool:
        """Whether a value that it takes is known to come back as it was; else it is read back."""
        return self.exact

    def suits_outputs(self, value: Any) -> bool:
        """Whether a step's output is kept in it unasked, as it costs little beside pickle."""
        return self.swift

    def shows(self, value: Any) -> bool:
        """Whether artifacts are kept in it unasked, though the value itself does not come back."""
        return False

    def writes(self, value: Any) -> bool:
        """Whether a value can be written where this format is asked for."""
        return self.takes(value) or self.shows(value)

    def write(self, value: Any) -> Buffer | Sequence[Buffer]:
        """Return the bytes of the file, or several buffers that make it one after the other."""
        raise NotImplementedError

    def read(self, data: Buffer) -> Any:
        """Return the value of a file's bytes. It must run no code that stands in them."""
        raise NotImplementedError

    def preview(self, value: Any) -> Preview | None:
        """Return what is shown of a value without reading it; None if that is its repr."""
        return None

    def thumbnail(self, value: Any) -> bytes | None:
        """Return a small picture of a value, as PNG; None if there is none."""
        return None

    def file_name(self, value: Any) -> str:
        """Return the name that the value's file had; empty if it had none."""
        return ""

    def __repr__(self) -> str:
        return f"<format {self.name!r}>"


class Written(NamedTuple):
    """A value as a file of one format."""

    format: Format
    parts: list[Buffer]
    """The file's bytes in order. They may refer to the value's own memory."""


def file_content(path: str) -> Buffer:
    """Return the bytes of a file that may be removed then: not in memory as a whole."""
    with open(path, "rb") as file:
        if os.name != "posix" or os.fstat(file.fileno()).st_size == 0:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def joined(parts: Sequence[Buffer]) -> bytes:
    """Return the bytes of several buffers."""
    return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)
