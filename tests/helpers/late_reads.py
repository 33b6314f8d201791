"""Reading a store where no thread can be started any more, or where one was left behind."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["WAYS", "printed_late"]

WAYS = ("exit", "thread", *(["fork"] if hasattr(os, "fork") else []))
"""As the interpreter ends, after the main thread, and in a forked child and its parent."""

_SCRIPT = """
import atexit, os, sys, threading
{opening}

def read(found=None):
    count = sum(map(size_of, found or begin()))
    os.write(1, b"%d\\n" % count)  # at once: a parent and its child write
    finish()

def read_after_the_main_thread():
    threading.main_thread().join()
    read()

if sys.argv[1] == "exit":
    atexit.register(read)
elif sys.argv[1] == "thread":
    threading.Thread(target=read_after_the_main_thread).start()
else:
    found = iter(begin())
    for _ in range(int(sys.argv[3])):
        next(found)  # then the next page is on its way
    child = os.fork()
    read(found)
    if child:
        os.waitpid(child, 0)
    os._exit(0)
"""


def printed_late(way: str, opening: str, place: str, before: int = 1) -> list[int]:
    """Return how much is read in one of the ways, twice where a child reads too.

    Parameters
    ----------
    way : str
        One of `WAYS`.
    opening : str
        Lines that define ``begin()``, which gives pages or records of the store at
        ``sys.argv[2]``, ``size_of(one)``, and ``finish()``.
    place : str
        The store.
    before : int
        How many are read before a fork.
    """
    script = _SCRIPT.format(opening=opening)
    command = [sys.executable, "-W", "ignore", "-c", script, way, place, str(before)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return [int(line) for line in done.stdout.split()]
