"""What a step used: time, processor and memory."""

from __future__ import annotations

import sys
import threading
import time
from typing import NamedTuple

import psutil

if sys.platform != "win32":
    import resource

__all__ = ["Stopwatch", "Usage", "peak_memory"]


class Usage(NamedTuple):
    """What was used between two moments."""

    started: float
    wall: float
    cpu: float
    peak: int
    thread: str


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Measures from its making on, in the thread that made it."""

    __slots__ = ("_cpu", "_started", "_wall")

    def __init__(self) -> None:
        self._started = time.time()
        self._cpu = time.thread_time()
        self._wall = time.perf_counter()

    def read(self) -> Usage:
        """Tell what was used since the start."""
        return Usage(
            self._started,
            time.perf_counter() - self._wall,
            time.thread_time() - self._cpu,
            peak_memory(),
            threading.current_thread().name,
        )
