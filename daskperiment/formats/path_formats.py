"""Files and folders that a path leads to, byte by byte."""

from __future__ import annotations

import atexit
import io
import mimetypes
import mmap
import os
import shutil
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from daskperiment.formats.format import Buffer, Format
from daskperiment.formats.image_formats import picture_thumbnail
from daskperiment.formats.plain_formats import text_preview
from daskperiment.records import Preview

__all__ = ["FORMATS", "media_of", "unpacked"]

_TEXTS = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".toml", ".md", ".log", ".py", ".xml",
    ".ini", ".cfg", ".rst", ".jsonl",
})  # fmt: skip
_LARGEST = 20_000_000
_MOST = 1000


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
        """Return the file, mapped into memory rather than read."""
        with open(value, "rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0  # which cannot be mapped
            return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

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
            with open(path, encoding="utf-8", errors="replace") as file:
                return text_preview(file.read(2000))
        kind = "image" if media_of(path.name).startswith("image/") else "text"
        return Preview(kind, path.name)  # type: ignore[arg-type]

    def thumbnail(self, value: Any) -> bytes | None:
        """Return a picture, smaller."""
        path = Path(value)
        small = media_of(path.name).startswith("image/") and path.stat().st_size <= _LARGEST
        return picture_thumbnail(path.read_bytes()) if small else None


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

    def write(self, value: Any) -> bytes:
        """Return the archive, which is the same for equal names and contents."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in _names(Path(value)):
                path = Path(value, name)
                if name.endswith("/"):
                    archive.writestr(zipfile.ZipInfo(name), b"")
                    continue
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as file, open(path, "rb") as source:
                    shutil.copyfileobj(source, file)
        return target.getvalue()

    def read(self, data: Buffer) -> bytes:
        """Return the bytes of the archive."""
        return bytes(data)

    def file_name(self, value: Any) -> str:
        """Return the folder's name."""
        return Path(os.path.abspath(value)).name

    def preview(self, value: Any) -> Preview:
        """Return the names in the folder."""
        names = _names(Path(value))
        more = f"\n… {len(names) - _MOST} more" if len(names) > _MOST else ""
        return text_preview("\n".join(names[:_MOST]) + more)


def _names(folder: Path) -> list[str]:
    """Return the names of all files below a folder, and of the folders that are empty."""
    found = []
    for parent, folders, files in os.walk(folder):
        place = Path(parent).relative_to(folder)
        found += [(place / name).as_posix() for name in files]
        if not folders and not files and place.parts:
            found.append(f"{place.as_posix()}/")
    return sorted(found)


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
        archive.extractall(path)  # which leads nowhere else, whatever names say
    return path


@lru_cache(maxsize=1)
def _copies() -> str:
    folder = tempfile.mkdtemp(prefix="daskperiment-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


FORMATS: tuple[Format, ...] = (FileFormat(), FolderFormat())
