"""Asking a server for what comes next while what came is gone through."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ask_ahead"]

T = TypeVar("T")


def ask_ahead(threads: ThreadPoolExecutor, ask: Callable[[], T]) -> Callable[[], T]:
    """Ask in a thread, if one can be had; return what waits for the answer, or asks itself."""
    process = os.getpid()
    try:
        coming = threads.submit(ask)
    except RuntimeError:  # the interpreter ends, or there are too many threads
        return ask
    return lambda: coming.result() if os.getpid() == process else ask()
