"""Processes that are told to end by SIGTERM, each in a way of its own: forked by this program.

It prints how each ended, as JSON: ``python -m tests.survival.terminated FOLDER``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask

import daskperiment

__all__ = ["WAYS"]


def _told(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)  # of the main thread, which is interrupted, or of one that ends with the process


def _result(ex: Any, then: Callable[[], None]) -> Any:
    @ex.result
    def train() -> int:
        for epoch in range(1, 8):
            ex.save_metric("loss", epoch, epoch)
            ex.checkpoint([epoch], epoch)
        then()
        return 1

    return train()


def _synchronous(ex: Any) -> None:
    _result(ex, _told).compute(scheduler="synchronous")


def _threads(ex: Any) -> None:
    _result(ex, _told).compute(scheduler="threads")


def _by_dask(ex: Any) -> None:
    dask.compute(_result(ex, _told), scheduler="synchronous")


def _by_dask_in_threads(ex: Any) -> None:
    dask.compute(_result(ex, _told), scheduler="threads")


def _own_exits(ex: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    _synchronous(ex)


def _own_later(ex: Any) -> None:
    _result(ex, lambda: None).compute(scheduler="synchronous")
    before: Any = signal.getsignal(signal.SIGTERM)

    def own(number: int, frame: Any) -> None:
        Path(ex._store.address.removeprefix("file://")).parent.joinpath("heard").touch()
        before(number, frame)

    signal.signal(signal.SIGTERM, own)
    _synchronous(ex)


def _own_returns(ex: Any) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    _result(ex, lambda: os.kill(os.getpid(), signal.SIGTERM)).compute(scheduler="synchronous")
    assert heard == [signal.SIGTERM]


def _ignored(ex: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _result(ex, lambda: os.kill(os.getpid(), signal.SIGTERM)).compute(scheduler="synchronous")


def _outside(ex: Any) -> None:
    _result(ex, lambda: None).compute(scheduler="synchronous")
    _told()


def _other_thread(ex: Any) -> None:
    thread = threading.Thread(target=_synchronous, args=(ex,))
    thread.start()
    thread.join()


def _swallowed(ex: Any) -> None:
    def swallow() -> None:
        try:
            _told()
        except KeyboardInterrupt:
            return

    _result(ex, swallow).compute(scheduler="synchronous")


def _nested(ex: Any) -> None:
    inner = _result(ex, _told)

    @ex.result
    def outer() -> int:
        return inner.compute(scheduler="synchronous")  # type: ignore[no-any-return]

    outer().compute(scheduler="synchronous")


def _child_of_a_step(ex: Any) -> None:
    def end_a_child() -> None:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        child.start()
        child.terminate()
        child.join()
        assert child.exitcode == -signal.SIGTERM

    _result(ex, end_a_child).compute(scheduler="synchronous")


WAYS: dict[str, tuple[Callable[[Any], None], int, list[str]]] = {
    "synchronous": (_synchronous, -15, ["interrupted"]),
    "threads": (_threads, -15, ["interrupted"]),
    "by_dask": (_by_dask, -15, ["interrupted"]),
    "by_dask_in_threads": (_by_dask_in_threads, -15, ["interrupted"]),
    "own_exits": (_own_exits, 3, ["interrupted"]),
    "own_later": (_own_later, -15, ["succeeded", "interrupted"]),
    "own_returns": (_own_returns, 0, ["succeeded"]),
    "ignored": (_ignored, 0, ["succeeded"]),
    "outside": (_outside, -15, ["succeeded"]),
    "other_thread": (_other_thread, -15, ["lost"]),
    "swallowed": (_swallowed, -15, ["succeeded"]),
    "nested": (_nested, -15, ["interrupted", "interrupted"]),
    "child_of_a_step": (_child_of_a_step, 0, ["succeeded"]),
}
"""Name -> what is done, the status with which the process ends, and those of its trials."""


def _forked(way: str, folder: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    WAYS[way][0](daskperiment.Experiment(way, backend=folder))
    sys.exit(0)


if __name__ == "__main__":
    for name, pid in [(each, _forked(each, sys.argv[1])) for each in WAYS]:
        print(json.dumps([name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]), flush=True)
