"""Collecting garbage for certain, in the thread that asks for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collect", "without_collector"]


class _Loop:
    """Garbage as soon as nobody has it, which only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@contextmanager
def without_collector() -> Iterator[None]:
    """Leave the garbage that is made in the block to whoever calls `collect`.

    Otherwise a thread of another test, which allocates anything, may find it and run its code.
    """
    works = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if works:
            gc.enable()


def collect() -> None:
    """Collect all garbage that is there.

    ``gc.collect()`` returns at once, having done nothing, while another thread collects. What that
    one does not look at any more shows whether it was so.
    """
    with without_collector():
        loop = weakref.ref(_Loop())
        while loop() is not None:
            gc.collect()
