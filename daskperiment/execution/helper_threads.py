"""Threads that steps start: which step a thread works for.

Threads do not inherit context variables. A function that a step gives to a ``ThreadPoolExecutor``,
or to a ``ThreadPool`` (as joblib and ``multiprocessing.dummy`` do), takes the step along: it is
certain whose call it is. A thread remembers the step that started it, but somebody else may use it
too: it works for that step where no other runs in this process. All else is refused, never guessed.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from inspect import iscoroutinefunction
from multiprocessing.pool import ThreadPool
from types import FrameType
from typing import Any

from daskperiment.errors import UncertainStepError
from daskperiment.execution.context import ACTIVE, CURRENT, TURN, RunningStep

__all__ = [
    "bound",
    "carry_steps",
    "have_threads",
    "run_to_end",
    "running_step",
    "speaking_step",
    "waits_for",
]

_ORIGIN = "_daskperiment_origin"
"""Attribute of a thread that a step started: the step, and the turn of the thread."""

_OURS = "daskperiment-"
"""What the names of the package's own threads begin with, whoever was the first to need them."""

_POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")


def running_step() -> RunningStep | None:
    """Return the step that this thread works for, None outside of steps.

    Raises
    ------
    UncertainStepError
        If it may be one of several, or none.
    """
    step = CURRENT.get()
    return step if step is not None else _by_origin(threading.current_thread())


def speaking_step() -> RunningStep | None:
    """Return the step whose log has what this thread says: in doubt the one that started it."""
    step = CURRENT.get()
    if step is None:
        origin: tuple[weakref.ref[RunningStep], int] | None
        origin = getattr(threading.current_thread(), _ORIGIN, None)
        step = origin[0]() if origin is not None else None
    return step


def have_threads() -> bool:
    """Whether a thread lives besides this one that may run anything of the user's.

    Whoever started it, and when: it may hold what a step returns. Nor is it this one if it is a
    step's, whose caller goes on meanwhile.
    """
    here = threading.current_thread()
    return any(
        (each is not here or hasattr(each, _ORIGIN)) and not each.name.startswith(_OURS)
        for each in threading.enumerate()
    )


def _by_origin(thread: threading.Thread) -> RunningStep | None:
    running = [step for step in ACTIVE if step.halted is None]
    origin: tuple[weakref.ref[RunningStep], int] | None = getattr(thread, _ORIGIN, None)
    if origin is None and (not running or thread is threading.main_thread()):
        return None
    step = origin[0]() if origin is not None else None
    if origin is not None and step is not None and (step.halted or running == [step]):
        TURN.set(origin[1])
        return step
    raise _uncertain(len(running))


def _uncertain(count: int) -> UncertainStepError:
    steps = {0: "the step that started it has ended", 1: "a step runs in this process"}
    return UncertainStepError(
        "It is not certain for which step this thread works: "
        f"{steps.get(count, f'{count} steps run in this process')}, and the thread was not given "
        "the context of one. Call ex.wrap(function) in the step, and let the thread call what it "
        "returns."
    )


def bound(step: RunningStep, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that works for a step in whatever thread it is called."""
    if iscoroutinefunction(function):

        @wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            with _Working(step, _turn_of(step)):
                return await function(*args, **kwargs)

        return call_later

    @wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with _Working(step, _turn_of(step)):
            return function(*args, **kwargs)

    return call


def _turn_of(step: RunningStep) -> int | None:
    """Return the turn of a call that begins now: the one of the call that makes it, if any."""
    return TURN.get() if CURRENT.get() is step else step.next_turn()


class _Working:
    """While it is entered, this thread works for a step."""

    __slots__ = ("_reset", "_step", "_turn")

    def __init__(self, step: RunningStep, turn: int | None) -> None:
        self._step, self._turn = step, turn

    def __enter__(self) -> None:
        self._reset = CURRENT.set(self._step), TURN.set(self._turn)

    def __exit__(self, *error: object) -> None:
        current, turn = self._reset
        TURN.reset(turn)
        CURRENT.reset(current)


def _work(
    step: RunningStep, turn: int | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    with _Working(step, turn):
        return function(*args, **kwargs)


def run_to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine of a step returns, from an event loop of its own."""
    import asyncio  # noqa: PLC0415  # for those who have coroutines

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A loop runs in this thread already, as in a notebook: it waits as for any other step.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


# What carries steps into threads ------------------------------------------------------------------


def carry_steps() -> None:
    """Let calls that steps give to threads take their step along, from now on in this process."""
    if getattr(threading.Thread.start, _ORIGIN, False):
        return
    _replace(threading.Thread, "start", _remembering)
    _replace(ThreadPoolExecutor, "submit", _carrying)
    for name in _POOL_METHODS:
        if hasattr(ThreadPool, name):
            _replace(ThreadPool, name, _carrying)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    replacement = wraps(original)(make(original))
    setattr(replacement, _ORIGIN, True)
    setattr(owner, name, replacement)


def _remembering(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start_and_remember(self: threading.Thread) -> None:
        step = CURRENT.get()
        if step is not None:
            # Weakly: a thread may outlive its step, and must not keep its trial alive.
            setattr(self, _ORIGIN, (weakref.ref(step), step.next_turn()))
        start(self)

    return start_and_remember


def _carrying(submit: Callable[..., Any]) -> Callable[..., Any]:
    def submit_with_step(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        step = CURRENT.get()
        if step is not None and callable(function):
            function = partial(_work, step, step.next_turn(), function)
            for name in ("callback", "error_callback"):
                if isinstance(self, ThreadPool) and kwargs.get(name) is not None:
                    # No turn of its own: what it gives to threads is next, as from the step itself.
                    kwargs[name] = partial(_work, step, None, kwargs[name])
        return submit(self, function, *args, **kwargs)

    return submit_with_step


def _after_fork() -> None:
    for step in ACTIVE:
        step.halted = "forked"
        step.log = None  # its lock may be held by a thread that is not here
    ACTIVE.clear()


def waits_for(outer: RunningStep, step: RunningStep) -> bool:
    """Whether a step waits in Dask for another one to run."""
    if outer.thread == step.thread:
        return True
    frame = _frames().get(outer.thread)
    while frame is not None and frame.f_globals.get("__name__") != "dask.local":
        frame = frame.f_back
    return frame is not None


def _frames() -> dict[int, FrameType]:
    """Return what each thread runs.

    Should the collector begin its work within the call, Python 3.11 waits for itself for ever.
    """
    works = gc.isenabled()
    gc.disable()
    try:
        found: dict[int, FrameType] = getattr(sys, "_current_frames")()  # noqa: B009
        return found
    finally:
        if works:
            gc.enable()
