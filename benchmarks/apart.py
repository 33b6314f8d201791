"""Each part in a process of its own: what one leaves in memory is no matter of the next."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from benchmarks.timing import Figure

__all__ = ["PartError", "figures_of"]

POLL = 0.5
"""Seconds between looks at whether a part is still there."""
PATIENCE = 30.0
"""Seconds in which a part that is interrupted ends the servers and clusters that it started."""


class PartError(Exception):
    """A part did not come to its end."""


def figures_of(module: str, folder: Path) -> Iterator[Figure]:
    """Yield the figures that a module's function ``run`` takes, as they come.

    Raises
    ------
    PartError
        Behind the last figure of a part that fails. Its process has told why.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_take, args=(module, folder, sending))
    process.start()
    sending.close()
    try:
        yield from _received(receiving, process)
        process.join()
    finally:
        _end(process)
    if process.exitcode:
        raise PartError(f"{module} ended with status {process.exitcode}")


def _take(module: str, folder: Path, sending: Connection) -> None:
    """Send the figures of a part, in its own process."""
    try:
        with sending, closing(importlib.import_module(module).run(folder)) as figures:
            for figure in figures:
                sending.send(figure)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _received(receiving: Connection, process: SpawnProcess) -> Iterator[Figure]:
    over = False
    with receiving:
        while True:
            try:
                if receiving.poll(POLL):
                    yield receiving.recv()
                elif over:
                    return
                else:  # what a part leaves running may hold the other end open
                    over = not process.is_alive()
            except EOFError:
                return


def _end(process: SpawnProcess) -> None:
    """End a part that nobody waits for: a Ctrl-C in a terminal has told it, others have not."""
    process.join(PATIENCE)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT)
        process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
