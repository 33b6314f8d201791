"""What a step used."""

from __future__ import annotations

import subprocess
import sys

from daskperiment.execution.running import Stopwatch, peak_memory


def test_stopwatch_measures_wall_and_processor_time():
    """Wall time and the thread's processor time grow; the thread and the peak are told."""
    watch = Stopwatch()
    total = sum(range(200_000))
    usage = watch.read()
    assert total
    assert usage.wall > 0
    assert usage.cpu > 0
    assert usage.thread == "MainThread"
    assert usage.peak > 1_000_000


def test_peak_memory_grows_with_what_is_used():
    """The peak follows an allocation, and does not sink afterwards."""
    before = peak_memory()
    data = bytearray(before)
    grown = peak_memory()
    del data
    assert grown > before
    assert peak_memory() >= grown


def test_peak_of_a_large_process_is_not_its_childs():
    """A small process that a large one started tells its own peak."""
    data = bytearray(300_000_000)
    data[::4096] = b"x" * len(data[::4096])
    code = "from daskperiment.execution.running import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250_000_000
    assert peak_memory() > 300_000_000
