"""Collecting garbage for certain, in the thread that asks for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collect", "collected_by_nobody_else"]


class _Loop:
    """Garbage as soon as nobody has it, which only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@contextmanager
def collected_by_nobody_else() -> Iterator[None]:
    """Leave the garbage that is made in the block to `collect`.

    Elsewise a thread of another test, which allocates anything, may find it and run its code.
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
    with collected_by_nobody_else():
        loop = weakref.ref(_Loop())
        while loop() is not None:
            gc.collect()
