"""What `processes.Nursery` talks to: a process that forks programs as it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["take_orders"]


def take_orders(run: Callable[..., Any]) -> None:
    """Take orders, and answer each with a number.

    Parameters
    ----------
    run : callable
        Runs a program, given its name and arguments, in a child of this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = set()
    for line in sys.stdin:
        order, *arguments = json.loads(line)
        if order == "start":
            answer = _start(run, *arguments)
            running.add(answer)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(*arguments, 0)[1])
            running -= set(arguments)
        print(answer, flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _start(run: Callable[..., Any], *arguments: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    run(*arguments)
    sys.exit()
