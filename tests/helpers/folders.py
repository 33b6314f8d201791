"""Folders that go while somebody writes to them."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["remove_folder"]


def remove_folder(folder: Path) -> None:
    """Remove a folder, in which files may come and go meanwhile, as a background thread does it."""
    assert folder.is_dir()
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
