"""Counting the calls of functions, which do not depend on the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from daskperiment.capture import environment
from tests.helpers.garbage import without_collector


def calls_of(action: Callable[[], object], folder: str = "") -> int:
    """Return how many functions were called, those of C included.

    With a folder, how many of those that are written in Python there. The garbage collector rests
    meanwhile: what it calls is of what other tests left.
    """
    count, counted = 0, ("call",) if folder else ("call", "c_call")

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in counted and frame.f_code.co_filename.startswith(folder)

    before = sys.getprofile()
    with without_collector():
        sys.setprofile(note)
        try:
            action()
        finally:
            sys.setprofile(before)
    return count


def let_surroundings_rest(patch: pytest.MonkeyPatch) -> None:
    """Read installed packages and sources that git knows of once, whatever other tests write.

    Now and then it is looked whether they changed, and all are read again after a file came to a
    folder of the import path, as other processes of the tests make some.
    """
    patch.setattr(environment, "time", SimpleNamespace(monotonic=lambda: 0.0))
