"""What a task used: time, processor time, memory."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import lru_cache
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
    if sys.platform == "darwin":
        return peak
    # Linux gives kibibytes, and counts from the parent's size on.
    return (peak if peak > _inherited(os.getpid()) else _peak_of_program() or peak) * 1024


@lru_cache(maxsize=1)
def _inherited(pid: int) -> int:
    """Return the peak that this process was born with, in kibibytes; 0 if it is its own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if peak > (_peak_of_program() or peak) else 0


def _peak_of_program() -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


class Stopwatch:
    """Measures from its making on, in the thread that made it."""

    __slots__ = ("_cpu", "_started", "_wall")

    def __init__(self) -> None:
        self._started = time.time()
        self._cpu = time.thread_time()
        self._wall = time.perf_counter()

    def read(self) -> Usage:
        """Return what was used since the start."""
        return Usage(
            self._started,
            # Clocks tell no more than nanoseconds; all digits behind would be kept for ever.
            round(time.perf_counter() - self._wall, 9),
            round(time.thread_time() - self._cpu, 9),
            peak_memory(),
            threading.current_thread().name,
        )
