"""Folders that go while somebody writes to them, and what is open in them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

__all__ = ["opened_below", "remove_folder"]


def remove_folder(folder: Path) -> None:
    """Remove a folder, in which files may come and go meanwhile, as a background thread does it."""
    assert folder.is_dir()
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def opened_below(folder: Path) -> list[str]:
    """List the descriptors of this process that are of files below a folder.

    How many the process has says less: what other tests left to threads and to the garbage
    collector comes and goes.
    """
    descriptors, found = Path("/proc/self/fd"), []
    if not descriptors.exists():
        pytest.skip("lists descriptors by /proc")
    for name in os.listdir(descriptors):
        with suppress(FileNotFoundError):
            found.append(os.readlink(descriptors / name))
    return sorted(one for one in found if one.startswith(f"{folder}{os.sep}"))
