"""What trials use of the machine: when they are looked at, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
import warnings

import psutil
import pytest

from daskperiment.recording import machine_use
from daskperiment.recording.machine_use import MachineUse, used_between
from daskperiment.recording.system_metrics import SystemMetrics, WatchedTrial
from daskperiment.store.protocol import Owner
from tests.helpers.garbage import collect


def use(moment=0.0, processor=0.0, memory=0, traffic=None, gpus=None):
    return MachineUse(moment, processor, memory, traffic or {}, gpus or {})


def test_what_was_used_between_two_moments():
    """Times and bytes become percent and megabytes a second; what fell counts as none."""
    before = use(10.0, 4.0, 5, {"disk_read": 1_000_000, "network_in": 500}, {})
    after = use(12.0, 5.0, 7_000_000, {"disk_read": 5_000_000, "network_in": 100, "new": 1},
                {1: (42.0, 3_000_000)})  # fmt: skip
    assert used_between(before, after) == {
        "cpu_percent": 50.0,
        "memory_mb": 7.0,
        "disk_read_mb_per_s": 2.0,
        "network_in_mb_per_s": 0.0,
        "gpu_1_percent": 42.0,
        "gpu_1_memory_mb": 3.0,
    }
    assert used_between(after, after._replace(processor=1.0))["cpu_percent"] == 0.0


def test_children_count(monkeypatch):
    """The memory and the processor time of this process' children, and of theirs, are counted."""
    collect()  # what other tests left is not let go of meanwhile, and their children do not end
    found, of_others = machine_use._processes, {one.pid for one in psutil.Process().children(True)}
    monkeypatch.setattr(
        machine_use, "_processes", lambda: (one for one in found() if one.pid not in of_others)
    )
    before = MachineUse.now()
    program = "x = bytearray(60_000_000); sum(range(3_000_000)); print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout.readline()
        after = MachineUse.now()
    finally:
        child.communicate(b"\n")
    assert after.memory - before.memory > 50_000_000
    assert after.processor > before.processor


def test_processes_that_end_or_are_others(monkeypatch):
    """A process that ended, or tells nothing, and a system without such numbers are no errors."""

    class Gone:
        def cpu_times(self):
            raise psutil.NoSuchProcess(1)

    class Silent:
        cpu_times = staticmethod(lambda: (1.0, 2.0, 0.0, 0.0))
        memory_info = staticmethod(lambda: types.SimpleNamespace(rss=3))

        def io_counters(self):
            raise psutil.AccessDenied(1)

    monkeypatch.setattr(machine_use, "_processes", lambda: iter([Gone(), Silent()]))
    monkeypatch.delattr(psutil, "net_io_counters")
    found = MachineUse.now()
    assert (found.processor, found.memory, found.traffic) == (3.0, 3, {})


class FakeNvml(types.ModuleType):
    """A library that tells of two GPUs, and not all of the second."""

    def __init__(self, fails=False):
        super().__init__("pynvml")
        self.fails = fails

    def nvmlInit(self):
        if self.fails:
            raise RuntimeError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):
        return number

    def nvmlDeviceGetUtilizationRates(self, handle):
        return types.SimpleNamespace(gpu=40 + handle, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return types.SimpleNamespace(used=2_000_000 * (handle + 1), total=9)


@pytest.fixture
def nvml(monkeypatch):
    """Put a fake in the place of NVML."""
    machine_use._nvml.cache_clear()
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield fake
    machine_use._nvml.cache_clear()


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [(None, [0, 1]), ("1", [1]), ("0, 1", [0, 1]), ("", []), ("GPU-4711", [0, 1])],
)
def test_gpus(nvml, monkeypatch, visible, numbers):
    """Utilisation and memory of the GPUs that the process may use, by their numbers."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    known = {0: (40.0, 2_000_000), 1: (41.0, 4_000_000)}
    assert MachineUse.now().gpus == {number: known[number] for number in numbers}


def test_no_warning_of_others_is_lost(nvml, monkeypatch):
    """What another thread warns of while NVML is looked for is told, NVML's old name is not."""

    def load(name):
        warnings.warn("of another thread", UserWarning, stacklevel=1)
        warnings.warn("The pynvml package is deprecated.", FutureWarning, stacklevel=1)
        return nvml

    machine_use._nvml.cache_clear()
    monkeypatch.setattr(machine_use, "import_module", load)
    with pytest.warns(UserWarning, match="of another thread") as caught:
        assert machine_use._nvml(os.getpid()) is nvml
    assert not any(one.category is FutureWarning for one in caught)


def test_no_gpus(nvml, monkeypatch):
    """Without a driver, without the library, or with GPUs that tell nothing there are none."""
    monkeypatch.setattr(nvml, "nvmlDeviceGetMemoryInfo", lambda handle: 1 / 0)
    assert MachineUse.now().gpus == {}
    machine_use._nvml.cache_clear()
    nvml.fails = True
    assert MachineUse.now().gpus == {}
    machine_use._nvml.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert MachineUse.now().gpus == {}


class Looks:
    """A machine that is looked at, and a clock that is set."""

    def __init__(self):
        self.count = 0
        self.now = 1000.0

    def look(self):
        self.count += 1
        return use(time.monotonic(), memory=self.count * 1_000_000)


@pytest.fixture
def machine():
    return Looks()


def watched(trial, since, every=5.0, at_home=True):
    return WatchedTrial(Owner(trial, "token"), since, every, None, at_home)


def ask(system, machine, now, *trials, first=None):
    machine.now = now
    return [
        (each.owner.trial, point.metric, point.epoch)
        for each, point in system.points(trials, lambda owner: first)
        if point.metric.endswith("memory_mb")
    ]


def test_when_trials_are_looked_at(machine):
    """A trial of five seconds has a point at five, ten, …; a shorter one costs no look at all."""
    system = SystemMetrics(machine.look, lambda: machine.now)
    one = watched(1, 1000.0)
    assert ask(system, machine, 1000.5, one) == []
    assert machine.count == 0
    assert ask(system, machine, 1001.5, one) == []
    assert machine.count == 1
    assert ask(system, machine, 1004.9, one) == []
    assert ask(system, machine, 1005.2, one) == [(1, "system/memory_mb", 5)]
    assert ask(system, machine, 1006.0, one) == []
    assert ask(system, machine, 1010.1, one) == [(1, "system/memory_mb", 10)]
    assert machine.count == 3
    # The thread was late: the points keep to their places.
    assert ask(system, machine, 1023.0, one) == [(1, "system/memory_mb", 25)]
    assert ask(system, machine, 1029.0, one) == []
    assert ask(system, machine, 1030.0, one) == [(1, "system/memory_mb", 30)]


def test_trials_at_once(machine):
    """Two trials that are due at one moment share a look."""
    system = SystemMetrics(machine.look, lambda: machine.now)
    trials = watched(1, 1000.0), watched(2, 1000.1)
    ask(system, machine, 1002.0, *trials)
    assert len(ask(system, machine, 1006.0, *trials)) == 2
    assert machine.count == 2


def test_steps_elsewhere(machine):
    """Steps of another process's trial: seconds since that began, under this process's name."""
    system = SystemMetrics(machine.look, lambda: machine.now)
    system.note_place(17)
    visit = watched(3, 1020.0, at_home=False)
    first = b'{"started": 1000.0, "token": "x"}'
    assert ask(system, machine, 1021.5, visit, first=first) == []
    assert ask(system, machine, 1022.5, visit, first=first) == [
        (3, "system/process-17/memory_mb", 20)
    ]
    assert ask(system, machine, 1023.5, visit, first=b"damaged") == []
    assert ask(system, machine, 1025.5, visit, first=first) == [
        (3, "system/process-17/memory_mb", 25)
    ]


@pytest.mark.skipif(os.name != "posix", reason="there are no such counters")
def test_this_machine_tells_all():
    """Here processor, memory, disk and network are told."""
    before = MachineUse.now()
    assert set(used_between(before, MachineUse.now())) >= {
        "cpu_percent", "memory_mb", "disk_read_mb_per_s", "disk_write_mb_per_s",
        "network_in_mb_per_s", "network_out_mb_per_s",
    }  # fmt: skip
