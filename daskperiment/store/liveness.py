"""Whether the process that wrote something is still there."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from functools import lru_cache
from pathlib import Path

import dask
import psutil
from dask.utils import parse_timedelta

from daskperiment.cluster import worker
from daskperiment.records import Origin

__all__ = ["current_directory", "current_origin", "heartbeat_timeout", "is_gone", "whereabouts"]

_TOLERANCE = 0.005 if sys.platform == "linux" else 1.0
"""Seconds by which two readings of one process' start may differ: elsewhere than on Linux it is
computed from the boot time, which moves when the system's clock is set."""


def current_directory() -> str:
    """Return the working directory of this process; empty if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def current_origin() -> Origin:
    """Return what others need to find out whether this process still runs: always one object."""
    return _origin(os.getpid())


def whereabouts() -> str:
    """Return where this code runs, for a message that is read elsewhere."""
    here, place = worker(), f"process {os.getpid()} on {current_origin().host}"
    return place if here is None else f"worker {here.address} ({place})"


def heartbeat_timeout() -> float:
    """Return after how many seconds without a heartbeat a trial of another host is lost.

    It is the Dask configuration value ``daskperiment.heartbeat-timeout``; heartbeats are four
    times as frequent.
    """
    return float(parse_timedelta(dask.config.get("daskperiment.heartbeat-timeout", 60)))


def is_gone(origin: Origin) -> bool | None:
    """Return whether a process has ended; ``None`` for one that cannot be seen from this host."""
    here = current_origin()
    if origin.host != here.host:
        return None
    boot = here.boot.partition(".")[0]
    if origin.boot.partition(".")[0] != boot:
        return True
    if origin.boot != here.boot:
        return None  # a container on the same host: its pids are not ours
    try:
        if origin.pid == here.pid:
            born = here.born
        elif psutil.Process(origin.pid).status() == psutil.STATUS_ZOMBIE:
            return True  # it has ended, and its parent has not noticed
        else:
            born = _born(origin.pid)
        return abs(origin.born - born) > _TOLERANCE
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True
    except (psutil.AccessDenied, PermissionError):
        return False


@lru_cache(maxsize=2)
def _origin(pid: int) -> Origin:
    # Keyed by the pid, because a forked child is another process.
    return Origin(host=socket.gethostname(), boot=_boot(), pid=pid, born=_born(pid), user=_user())


def _born(pid: int) -> float:
    """Return when a process started: on Linux since the boot, which no setting of clocks moves."""
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    # The 22nd field of proc(5). The program's name before it may hold spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _boot() -> str:
    """Return what identifies this run of the kernel, and on Linux the namespace of its pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        # Whole minutes: computed from the clock, it may differ by a second between two readings.
        return f"{round(psutil.boot_time() / 60)}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
