"""Running a function of the user's: seeded, watched and measured; what it used of the machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import CoroutineType
from typing import Any, NamedTuple

import psutil
from dask.base import is_dask_collection
from dask.delayed import Delayed

from daskperiment.execution.calls import SCALARS, Call
from daskperiment.execution.context import CURRENT, RunningStep
from daskperiment.execution.helper_threads import run_to_end
from daskperiment.execution.observed_files import ObservedFiles, watch_files
from daskperiment.execution.overheard import HEARD, listen
from daskperiment.execution.random_state import release_step, seed_step
from daskperiment.execution.step_records import finish
from daskperiment.formatting import shorten
from daskperiment.seeds import fresh_seed, step_seed

if sys.platform != "win32":
    import resource

__all__ = [
    "Stopwatch",
    "Usage",
    "is_lazy",
    "peak_memory",
    "refuse_node",
    "run_alone",
    "run_call",
    "run_seeded",
    "watched",
]


class Usage(NamedTuple):
    """What was used between two moments."""

    started: float
    wall: float
    cpu: float
    peak: int
    thread: str


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes.

    In one that a larger process began it may be that of up to a millisecond ago.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return peak
    # Linux gives kibibytes, and counts from the parent's size on.
    pid = os.getpid()
    if peak > _inherited(pid):
        return peak * 1024
    return (_peak_in(int(time.monotonic() * 1000), pid) or peak) * 1024


@lru_cache(maxsize=1)
def _inherited(pid: int) -> int:
    """Return the peak that this process was born with, in kibibytes; 0 if it is its own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if peak > (_peak_of_program() or peak) else 0


@lru_cache(maxsize=1)
def _peak_in(millisecond: int, pid: int) -> int:
    """Return `_peak_of_program`, which takes half as long as a short step, once a millisecond."""
    return _peak_of_program()


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


def run_call(running: RunningStep, call: Call, values: Sequence[Any]) -> Any:
    """Run the function of a call with the values of its arguments."""
    count = len(values) - len(call.keywords)
    named = dict(zip(call.keywords, values[count:], strict=True))
    return run_seeded(running, call.function.__wrapped__, values[:count], named)


def run_alone(call: Call, values: Sequence[Any]) -> Any:
    """Run the function of a call in no trial."""
    seed = fresh_seed() if call.seed is None else call.seed
    return run_call(RunningStep(call.step, step_seed(seed, call.step), None), call, values)


def watched(
    running: RunningStep, values: Sequence[Any], directory: str, folders: bool = False
) -> ObservedFiles:
    """Return what will be known of the files that a function opens, besides those it is given.

    Of folders that it is given also who changes what is in them, if that is asked for.
    `directory` is the working directory where the trial was planned.
    """
    watch_files()
    files = running.files = ObservedFiles(directory)
    for value in values:
        several = isinstance(value, (list, tuple)) and value
        if isinstance(value[0] if several else value, (Path, dict)):
            files.give(value, folders)
    return files


def run_seeded(running: RunningStep, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a function with the global random state seeded for it; a coroutine is run to its end."""
    trial, heard = running.trial, HEARD
    if (sys.stdout is not heard.stdout or sys.stderr is not heard.stderr) and trial and trial.logs:
        listen()
    if trial and trial.observers:
        for observe in trial.observers:
            observe(running)
    reset = CURRENT.set(running)
    seed_step(running, reset.old_value)
    try:
        value = function(*args, **kwargs)
        value = run_to_end(value) if type(value) is CoroutineType else value
        if running.at_end:
            finish(running)
        return value
    finally:
        release_step(running)
        CURRENT.reset(reset)
        if running.log is not None:
            running.log.close()


def refuse_node(step: str, value: Any) -> None:
    """Refuse what a step returns, if it is a node or a container of nodes: nobody computes them."""
    if type(value) not in SCALARS and _holds_node(value):
        raise TypeError(
            f"Step {step!r} returned {shorten(repr(value), 60)}, which is not computed. Call "
            "its compute() in the step and return that, or make the node outside and pass it to "
            "the step as an argument."
        )


def _holds_node(value: Any) -> bool:
    if type(value) not in (list, tuple, set, frozenset, dict):
        return isinstance(value, Delayed)
    items = value.values() if type(value) is dict else value
    if set(map(type, items)) <= SCALARS:
        return False
    with suppress(RecursionError):  # a list that contains itself
        return any(map(_holds_node, items))
    return False


def is_lazy(value: Any) -> bool:
    """Whether a value, or an item of it, is a Dask collection."""
    if isinstance(value, (list, tuple)):
        return any(map(is_dask_collection, value[:100]))
    if type(value) is dict:
        return any(map(is_dask_collection, value.values()))
    return bool(is_dask_collection(value))
