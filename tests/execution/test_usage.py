"""What a step used."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from daskperiment.execution import running
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is inherited")
def test_who_began_large_reads_its_peak_once_a_millisecond(monkeypatch):
    """What many short steps ask for is not read from a file for each of them."""
    read, now = [], [5.0]
    monkeypatch.setattr(running, "_inherited", lambda pid: sys.maxsize)
    monkeypatch.setattr(running, "_peak_of_program", lambda: read.append(1) or len(read))
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: now[0]))
    running._peak_in.cache_clear()
    assert {peak_memory() for _ in range(100)} == {1024}
    now[0] += 0.001
    assert {peak_memory() for _ in range(100)} == {2048}
    running._peak_in.cache_clear()
