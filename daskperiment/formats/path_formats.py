"""Files and folders that a path leads to, byte by byte."""

from __future__ import annotations

import atexit
import io
import mimetypes
import os
import shutil
import struct
import tempfile
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from daskperiment.errors import StoreWarning
from daskperiment.formats.format import Buffer, Format, file_content
from daskperiment.formats.image_formats import picture_thumbnail
from daskperiment.formats.plain_formats import text_preview
from daskperiment.formatting import shorten
from daskperiment.locked_files import mapped, reading
from daskperiment.records import Preview
from daskperiment.warn import warn_user

__all__ = ["FORMATS", "media_of", "unpacked"]

_TEXTS = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".toml", ".md", ".log", ".py", ".xml",
    ".ini", ".cfg", ".rst", ".jsonl",
})  # fmt: skip
_LARGEST = 20_000_000
_MOST = 1000
_SMALL = 64 << 20
"""Bytes of a file up to which it is read into memory."""
_RAW_NAME = 0x6B64
"""The extra field of an archive's entry that has the name as bytes, where these are no text."""


def media_of(name: str) -> str:
    """Return the media type of a file by its name."""
    if PurePath(name).suffix.lower() in _TEXTS:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


class FileFormat(Format):
    """A file, as it is."""

    name, suffix = "file", ""
    mapped = True

    def takes(self, value: Any) -> bool:
        """Whether it comes back: the path of its copy is another one."""
        return False

    def shows(self, value: Any) -> bool:
        """Whether it is the path of a file that is there."""
        return isinstance(value, Path) and value.is_file()

    def writes(self, value: Any) -> bool:
        """Whether it is the path of a file that is there, as a path or as text."""
        return isinstance(value, str | os.PathLike) and os.path.isfile(value)

    def write(self, value: Any) -> Buffer:
        """Return the file as it is now, whoever writes to it or cuts it meanwhile."""
        with reading(value) as file:
            # Of some no size is told, as of those by which a kernel tells something.
            if os.fstat(file.fileno()).st_size <= _SMALL:
                return file.read()
            with suppress(OSError), tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
                place = os.path.join(folder, "copy")
                with open(place, "wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
                return file_content(place)
            # There is no room for a copy.
            return mapped(value, file)

    def read(self, data: Buffer) -> bytes:
        """Return the bytes."""
        return bytes(data)

    def file_name(self, value: Any) -> str:
        """Return the file's name."""
        return Path(value).name

    def preview(self, value: Any) -> Preview:
        """Return the beginning of a text, or the name."""
        path = Path(value)
        if media_of(path.name) == "text/plain":
            with reading(path) as file:
                text = io.TextIOWrapper(file, encoding="utf-8", errors="replace")
                return text_preview(text.read(2000))
        kind = "image" if media_of(path.name).startswith("image/") else "text"
        return Preview(kind, path.name)  # type: ignore[arg-type]

    def thumbnail(self, value: Any) -> bytes | None:
        """Return a picture, smaller."""
        path = Path(value)
        small = media_of(path.name).startswith("image/") and path.stat().st_size <= _LARGEST
        if not small:
            return None
        with reading(path) as file:
            return picture_thumbnail(file.read())


class FolderFormat(Format):
    """A folder with all that is in it, as a zip file."""

    name, suffix, media = "folder", ".zip", "application/zip"

    def takes(self, value: Any) -> bool:
        """Whether it comes back: the path of its copy is another one."""
        return False

    def shows(self, value: Any) -> bool:
        """Whether it is the path of a folder that is there."""
        return isinstance(value, Path) and value.is_dir()

    def writes(self, value: Any) -> bool:
        """Whether it is the path of a folder that is there, as a path or as text."""
        return isinstance(value, str | os.PathLike) and os.path.isdir(value)

    def write(self, value: Any) -> Buffer:
        """Return the archive, which is the same for equal names and contents.

        What is no file and no folder is left out, and a warning says so.
        """
        names, left_out = _names(Path(value))
        with tempfile.TemporaryDirectory(prefix="daskperiment-") as folder:
            place = os.path.join(folder, "archive.zip")
            with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    _add(archive, name, Path(value, name))
            small = os.path.getsize(place) <= _SMALL
            data = Path(place).read_bytes() if small else file_content(place)
        if left_out:
            listed = shorten(", ".join(map(_readable, left_out)), 200)
            warn_user(
                StoreWarning(
                    f"Of folder {str(value)!r} is not kept: {listed}. "
                    "Links to folders, links that lead nowhere, pipes and sockets are left out; "
                    "copy what is to be kept into the folder."
                )
            )
        return data

    def read(self, data: Buffer) -> bytes:
        """Return the bytes of the archive."""
        return bytes(data)

    def file_name(self, value: Any) -> str:
        """Return the folder's name."""
        return Path(os.path.abspath(value)).name

    def preview(self, value: Any) -> Preview:
        """Return the names in the folder."""
        names = [_readable(name) for name in _names(Path(value))[0]]
        more = f"\n… {len(names) - _MOST} more" if len(names) > _MOST else ""
        return text_preview("\n".join(names[:_MOST]) + more)


def _readable(name: str) -> str:
    """Return a name with escapes for what is no text, as names of files may have."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _entry_of(name: str) -> zipfile.ZipInfo:
    """Return the entry for a name; beside one that archives can have stands one that is no text."""
    shown = _readable(name)
    entry = zipfile.ZipInfo(shown)
    if shown != name:
        raw = os.fsencode(name)
        entry.extra = struct.pack("<HH", _RAW_NAME, len(raw)) + raw
    return entry


def _name_of(entry: zipfile.ZipInfo) -> str:
    """Return the name that the file of an entry had."""
    rest = entry.extra
    while len(rest) >= 4:
        kind, size = struct.unpack_from("<HH", rest)
        raw, rest = rest[4 : 4 + size], rest[4 + size :]
        # Whoever looks at the archive sees the same name, but for escapes.
        if kind == _RAW_NAME and raw.decode(errors="backslashreplace") == entry.filename:
            return os.fsdecode(raw)
    return entry.filename


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = _entry_of(name)
    if name.endswith("/"):
        archive.writestr(entry, b"")
        return
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as file, reading(path) as source:
        shutil.copyfileobj(source, file)


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of all files and empty folders below a folder, and of what is neither.

    Links to folders are neither: they may lead anywhere, and back.
    """
    found: list[Path] = []
    others: list[Path] = []
    for parent, folders, files in os.walk(folder):
        place = Path(parent).relative_to(folder)
        others += [place / name for name in folders if Path(parent, name).is_symlink()]
        for name in files:
            (found if Path(parent, name).is_file() else others).append(place / name)
        if not folders and not files and place.parts:
            found.append(place)
    names = [f"{one.as_posix()}/" if Path(folder, one).is_dir() else one.as_posix()
             for one in found]  # fmt: skip
    return sorted(names), sorted(one.as_posix() for one in others)


def unpacked(data: Buffer, name: str, is_folder: bool) -> Path:
    """Return the path of a copy of a file or folder; it is removed when the process ends."""
    place = Path(tempfile.mkdtemp(dir=_copies()))
    # A name of a store may be anything: only its last part counts.
    path = place / (PurePath(name).name or "file")
    if not is_folder:
        path.write_bytes(data)
        return path
    path.mkdir()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            entry.filename = _name_of(entry)
            archive.extract(entry, path)  # which leads nowhere else, whatever names say
    return path


@lru_cache(maxsize=1)
def _copies() -> str:
    folder = tempfile.mkdtemp(prefix="daskperiment-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


FORMATS: tuple[Format, ...] = (FileFormat(), FolderFormat())
