"""How an experiment's folder is deleted while others may have it open, and what names the deletion.

Who has the database open reads the name there, though its file is gone. Who closed it, such as for
a fork or because it was idle, finds the name beside the folder: in ``.deleted/``, where it is left
only if another process has a journal here, or the folder was gone before, and for 30 days.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from daskperiment.store import rights
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Fault

__all__ = ["Deletions", "left_folders", "move_aside", "remove_folders"]

_KEPT = 30 * 86_400.0
"""Seconds for which a name is kept."""
_FOLDERS = ("objects", "journal", "columns")
_HANDLER = "onexc" if sys.version_info >= (3, 12) else "onerror"
"""Of `shutil.rmtree`: the parameter that takes what is called for each error."""


class Deletions:
    """The names that the deletions of one experiment's folder leave.

    Parameters
    ----------
    folder : pathlib.Path
        The experiment's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = self._noticed = ""
        self._last = ""

    @property
    def _place(self) -> Path:
        # Not kept: who lists a thousand experiments asks for none.
        return self._folder.parent / ".deleted"

    def begin(self) -> str:
        """Return the name of a deletion that begins now, left for others where there are any."""
        before = self._read()
        # Later names are greater, also after the clock was set back.
        number = max(time.time_ns(), int(before.partition("-")[0] or 0) + 1)
        name = f"{number:020}-{uuid.uuid4().hex}"
        self._clear()
        if self._is_shared():
            with suppress(OSError):  # a loss is told of then, and nothing worse
                rights.write(self._place / self._folder.name, name.encode())
                rights.write(self._place / ".gitignore", b"*\n")
        return name

    def withdraw(self, name: str) -> None:
        """Take back a name: the deletion failed."""
        if self._read() == name:
            with suppress(OSError):
                (self._place / self._folder.name).unlink()

    def last(self, noticed: str) -> str:
        """Return what names the last deletion; `noticed` is what the database said of one.

        A name that is older than one that was seen came with a backup, and says nothing.
        """
        if noticed != self._noticed:
            self._noticed = self._last = noticed
        mark = self._read()
        if mark > self._mark:
            self._mark = self._last = mark
        return self._last

    def _read(self) -> str:
        """Return the name that stands beside the folder; empty if there is none."""
        try:
            name = (self._place / self._folder.name).read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""
        return name if len(name) == 53 and name[:20].isdigit() else ""

    def _is_shared(self) -> bool:
        """Return whether another process that may still live has a journal here, or may have had.

        Of a folder that somebody removed before, nothing tells who has it open.
        """
        if not self._folder.exists():
            return self._folder.parent.exists()
        with suppress(OSError):
            return any(map(_is_of_another, os.listdir(self._folder / "journal")))
        return False

    def _clear(self) -> None:
        """Remove names that are old."""
        with suppress(OSError):
            for path in list(self._place.iterdir()):
                if time.time() - path.stat().st_mtime > _KEPT and path.name != ".gitignore":
                    path.unlink()


def _is_of_another(name: str) -> bool:
    """Return whether a file is the journal of another process that is not known to be gone."""
    host, _, rest = name.rpartition(".journal")[0].rpartition("-")[0].rpartition("-")
    if not rest.isdigit() or int(rest) == os.getpid():
        return False
    here = re.sub(r"[^\w.]", "_", current_origin().host)[:64]
    return host != here or psutil.pid_exists(int(rest))


# The folders beside the database ------------------------------------------------------------------


def move_aside(folder: Path) -> list[Path]:
    """Rename what an experiment's folder has in folders of its own; return those that stay.

    The next experiment has others then, which `remove_folders` leaves alone.
    """
    return [path for path in map(folder.joinpath, _FOLDERS) if _stays(path)]


def remove_folders(folder: Path, staying: Collection[Path]) -> None:
    """Remove what was moved aside, also what was left before, and what could not be moved."""
    for left in [*_left(folder), *staying]:
        _remove(left)


def left_folders(folder: Path) -> Iterator[Fault]:
    """Find what a deletion that was cut off left in an experiment's folder."""
    for left in _left(folder):
        what = "what a deletion that was cut off left"
        remedy = "run `daskperiment check --repair` to remove it"
        yield Fault(str(left), what, remedy, partial(_remove, left))


def _left(folder: Path) -> Iterator[Path]:
    for name in _FOLDERS:
        yield from rights.found(folder, f".{name}-*.removed")


def _stays(folder: Path) -> bool:
    """Rename a folder, into which others may go on to write; return whether that cannot be."""
    if folder.is_symlink():  # no more than the name would move
        return True
    if folder.is_file():  # nothing of ours
        return False
    try:
        os.rename(folder, folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.removed"))
    except FileNotFoundError:
        return False
    except OSError:  # a disk of its own, or open on a system that minds
        return True
    return False


def _remove(folder: Path) -> None:
    """Remove a folder, though others may remove it, too."""
    handler: dict[str, Any] = {_HANDLER: _raise_unless_gone}
    shutil.rmtree(folder, **handler)


def _raise_unless_gone(_function: Any, _path: Any, told: Any) -> None:
    error = told[1] if isinstance(told, tuple) else told
    if not isinstance(error, FileNotFoundError):
        raise error
