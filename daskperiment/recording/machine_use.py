"""What this process and its children use of the machine: processor, memory, disk, network, GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import psutil

from daskperiment.warn import ignore_old_nvml

__all__ = ["MachineUse", "used_between"]

_MEGA = 1e6


class MachineUse(NamedTuple):
    """What was used up to a moment; what grows all the time is told in all that there was."""

    moment: float
    """By the monotonic clock, in seconds."""
    processor: float
    """Seconds of processors."""
    memory: int
    """Bytes that are resident now."""
    traffic: dict[str, int]
    """Bytes: from and to disks by these processes, over the network by the whole machine."""
    gpus: dict[int, tuple[float, int]]
    """Number of a GPU -> how busy it is in percent, and bytes of its memory in use."""

    @classmethod
    def now(cls) -> MachineUse:
        """Return what is used at this moment."""
        processor, memory, read, written, tells = 0.0, 0, 0, 0, False
        for process in _processes():
            with suppress(psutil.Error, OSError):  # it ended meanwhile, or is somebody else's
                processor += sum(process.cpu_times()[:4])
                memory += process.memory_info().rss
                disk: Any = process.io_counters()  # type: ignore[attr-defined, unused-ignore]
                read, written, tells = read + disk.read_bytes, written + disk.write_bytes, True
        traffic = {"disk_read": read, "disk_write": written} if tells else {}
        with suppress(OSError, AttributeError):
            network = psutil.net_io_counters()
            traffic |= {"network_in": network.bytes_recv, "network_out": network.bytes_sent}
        return cls(time.monotonic(), processor, memory, traffic, _gpus())


def used_between(before: MachineUse, after: MachineUse) -> dict[str, float]:
    """Return by name what was used between two moments: percent, megabytes, and those a second.

    100 percent of the processor is one core that is busy all the time.
    """
    seconds = max(after.moment - before.moment, 1e-3)
    # Of a child that ended nobody is told any more what it had used.
    found = {
        "cpu_percent": 100 * max(0.0, after.processor - before.processor) / seconds,
        "memory_mb": after.memory / _MEGA,
    }
    for name, size in after.traffic.items():
        if name in before.traffic:
            moved = max(0, size - before.traffic[name])
            found[f"{name}_mb_per_s"] = moved / seconds / _MEGA
    for number, (busy, used) in after.gpus.items():
        found |= {f"gpu_{number}_percent": busy, f"gpu_{number}_memory_mb": used / _MEGA}
    return {name: round(value, 3) for name, value in found.items()}


def _processes() -> Iterator[psutil.Process]:
    with suppress(psutil.Error):
        process = psutil.Process()
        yield process
        yield from process.children(recursive=True)


def _gpus() -> dict[int, tuple[float, int]]:
    nvml = _nvml(os.getpid())
    found: dict[int, tuple[float, int]] = {}
    for number, handle in _handles(nvml) if nvml is not None else ():
        with suppress(Exception):  # what a GPU does not tell; each version has errors of its own
            busy = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            found[number] = busy, int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    return found


@lru_cache(maxsize=1)
def _nvml(pid: int) -> Any:
    """Return the library that tells of GPUs, made ready for this process; None if it tells none."""
    # Any error: it is optional, and there may be a library without a driver.
    with suppress(Exception):
        ignore_old_nvml()
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        return nvml
    return None


def _handles(nvml: Any) -> Iterator[tuple[int, Any]]:
    """Yield the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = None if visible is None else visible.replace(" ", "").split(",") if visible else []
    with suppress(Exception):
        for number in range(nvml.nvmlDeviceGetCount()):
            # Of those that are named otherwise, such as by what they are made of, all are shown.
            if named is None or str(number) in named or not all(map(str.isdigit, named)):
                yield number, nvml.nvmlDeviceGetHandleByIndex(number)
