"""Installed distributions, and which files they own: wherever they lie, as their metadata say.

`pip install` writes a folder of metadata beside the packages, whether these go to
``site-packages``, to a folder of ``--target`` or into an image. A folder of sources has none, or
one that says that it is developed there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

__all__ = ["InstalledPackage", "is_owned", "is_site", "owner_of"]

_SITES = frozenset({"site-packages", "dist-packages"})
_INFOS = (".dist-info", ".egg-info")


class InstalledPackage(NamedTuple):
    """The distribution that a file came with."""

    name: str
    version: str


def is_site(path: str) -> bool:
    """Whether a path leads through a folder that installers put packages into."""
    return not _SITES.isdisjoint(path.split(os.sep))


def owner_of(path: str) -> InstalledPackage | None:
    """Return the distribution that owns a file, given by its absolute path.

    The folder of a namespace package ends with a separator.
    """
    found = _owner(path)
    return None if found is None else found.package


def is_owned(path: str) -> bool:
    """Whether a distribution owns a file, which is told more quickly than which."""
    return _owner(path) is not None


def _owner(path: str) -> _MetadataFolder | None:
    for root in _roots(path):
        parts = path[len(root) :].split(os.sep)
        folder = _folder(root, _stamp(root))
        for info in folder.candidates(parts[0].partition(".")[0]) if folder else ():
            if info.owns("/".join(parts)):
                return info
    return None


def _roots(path: str) -> Iterator[str]:
    """Yield the folders that a module's file may have been found from, the longest first."""
    found = {os.path.join(os.path.abspath(each), "") for each in sys.path}
    parts = path.split(os.sep)
    ends = [place + 1 for place, part in enumerate(parts) if part in _SITES]
    found.update(os.path.join(os.sep.join(parts[:end]), "") for end in ends)
    yield from sorted((each for each in found if path.startswith(each)), key=len, reverse=True)


def _stamp(root: str) -> int | None:
    try:
        return os.stat(root).st_mtime_ns
    except OSError:
        return None


class _MetadataFolder:
    """What one distribution's metadata say of the files beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _text(self, name: str) -> str | None:
        try:
            return (self._path / name).read_text("utf-8", "surrogateescape")
        except OSError:
            return None

    @cached_property
    def package(self) -> InstalledPackage:
        """Return name and version."""
        found = metadata.Distribution.at(self._path)
        return InstalledPackage(
            found.metadata["Name"] or self._path.stem.partition("-")[0], found.version
        )

    @cached_property
    def _files(self) -> frozenset[str] | None:
        record = self._text("RECORD")
        if record is not None:
            lines = record.splitlines()
            paths = [each[1:].partition('"')[0] if each[:1] == '"' else each.partition(",")[0]
                     for each in lines]  # fmt: skip
            return frozenset(paths)
        written = self._text("installed-files.txt")
        if written is None:
            return None
        parent = self._path.name
        return frozenset(os.path.normpath(f"{parent}/{line}") for line in written.splitlines())

    def brings(self) -> frozenset[str]:
        """Return the names of the modules and packages that stand directly in the folder."""
        named = self._text("top_level.txt")
        if named is not None:
            return frozenset(named.split())
        return frozenset(re.split(r"[./]", path, maxsplit=1)[0] for path in self._files or ())

    def owns(self, file: str) -> bool:
        """Whether a file, by its path in the folder, came with the distribution."""
        if self._files is None:
            # Packages of a system list no files. Beside sources, such metadata own nothing.
            return is_site(str(self._path))
        if file.endswith("/"):
            return any(path.startswith(file) for path in self._files)
        return file in self._files


@dataclass(frozen=True)
class _SiteFolder:
    """A folder with installed distributions."""

    infos: dict[str, list[_MetadataFolder]]
    """By the names that distributions have in file names."""

    @cached_property
    def _by_module(self) -> dict[str, list[_MetadataFolder]]:
        found: dict[str, list[_MetadataFolder]] = {}
        for info in (info for each in self.infos.values() for info in each):
            for top in info.brings():
                found.setdefault(top, []).append(info)
        return found

    def candidates(self, top: str) -> Iterator[_MetadataFolder]:
        """Yield the distributions that may have brought a module, the likely one first."""
        yield from self.infos.get(_normal(top), ())
        # Another name: sklearn comes with scikit-learn.
        yield from self._by_module.get(top, ())


@lru_cache(maxsize=256)
def _folder(root: str, stamp: int | None) -> _SiteFolder | None:
    try:
        names = sorted(each for each in os.listdir(root) if each.endswith(_INFOS))
    except OSError:
        return None
    infos: dict[str, list[_MetadataFolder]] = {}
    for name in names:
        info = _MetadataFolder(Path(root, name))
        infos.setdefault(_normal(name.partition("-")[0].partition(".egg-info")[0]), []).append(info)
    return _SiteFolder(infos) if infos else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
