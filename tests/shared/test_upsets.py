"""What befalls processes on an ordinary day: clocks jump, files vanish, kernels are restarted."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pandas as pd
import pytest

import daskperiment
from tests.helpers.folders import remove_folder
from tests.helpers.ports import free_port
from tests.shared.conftest import KINDS, open_again

HOUR = 3600


def trained(ex: Any, during: Any) -> Any:
    """Return a result whose step calls a function between its points."""

    @ex.persist
    def train(a):
        for epoch in range(4):
            ex.save_metric("loss", epoch, float(a + epoch))
            during(epoch)
        return [a]

    @ex.result
    def score(kept, a):
        return kept[0] * 10

    a = ex.parameter("a", default=1)
    return score(train(a), a)


def check(ex: Any, count: int) -> Any:
    """Check that so many trials are whole, each once, and return the history."""
    history = ex.get_history(verbose=True, running=True)
    assert history.index.tolist() == list(range(1, count + 1))
    assert history["Status"].tolist() == ["succeeded"] * count
    assert history["Result"].tolist() == (10 * history["a"]).tolist()
    for trial, a in history["a"].items():
        assert ex.load_metric("loss", trial)[trial].tolist() == [a + epoch for epoch in range(4)]
        assert ex.get_persisted("train", trial) == [a]
        assert sorted(ex.get_steps(trial)["Step"]) == ["score", "train"]
    return history


@pytest.mark.parametrize("jumps", [[HOUR], [-HOUR], [HOUR, -HOUR, HOUR]])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_clock_jumps_in_a_trial(kind, jumps, make_place, monkeypatch):
    """The clock is set while a trial runs: it is not lost, and its duration is what it was."""
    ex = daskperiment.Experiment("jumps", backend=make_place(kind).backend)
    real, ahead = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])

    def jump(epoch):
        if epoch < len(jumps):
            ahead[0] += jumps[epoch]
            shown = ex.get_history(verbose=True, running=True)["Status"].tolist()
            assert shown[-1] == "running"

    result = trained(ex, jump)
    for a in (1, 2):
        result.bind(a=a).compute(scheduler="synchronous")
    history = check(ex, 2)
    durations = [*history["Process Time"], *ex.get_steps()["Wall Time"]]
    assert all(pd.Timedelta(0) <= one < pd.Timedelta(seconds=60) for one in durations)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_journals_are_deleted(kind, make_place, journal_root):
    """Somebody removes the journals while a trial writes to them: the trial is whole."""
    place = make_place(kind)
    ex = daskperiment.Experiment("deleted", backend=place.backend)
    folder = place.backend / ex.id / "journal" if kind == "folder" else journal_root
    removed = []

    def remove(epoch):
        if epoch in (0, 2) and folder.exists():
            removed.append(epoch)
            remove_folder(folder)

    result = trained(ex, remove)
    for a in (1, 2):
        result.bind(a=a).compute(scheduler="synchronous")
    assert removed
    check(ex, 2)
    check(open_again(ex.id, place.backend), 2)


KERNEL = """
import os, time, daskperiment
from pathlib import Path
ex = daskperiment.Experiment("notebook", backend={backend!r})
@ex.persist
def train(a):
    for epoch in range(4):
        ex.save_metric("loss", epoch, float(a + epoch))
    if a < 0:
        Path({marker!r}).touch()
        time.sleep(60)
    return [a]
@ex.result
def score(kept, a):
    return kept[0] * 10
a = ex.parameter("a", default=1)
result = score(train(a), a)
"""


def test_kernel_is_restarted(make_place, tmp_path):
    """A notebook's kernel is restarted in a trial: it is lost, those around it are whole."""
    made = pytest.importorskip("jupyter_client.manager").KernelManager
    # Those that it would find by itself may be an outgoing connection's before the kernel listens.
    ports = {f"{name}_port": free_port() for name in ("shell", "iopub", "stdin", "hb", "control")}
    manager = made(kernel_name="python3", cache_ports=False, **ports)
    backend, marker = make_place("folder").backend, tmp_path / "marker"
    cells = KERNEL.format(backend=backend.as_uri(), marker=str(marker))
    path = os.pathsep.join(one for one in sys.path if one)
    manager.start_kernel(cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": path})
    client = manager.blocking_client()
    try:
        assert {name: getattr(manager, name) for name in ports} == ports
        client.start_channels()
        client.wait_for_ready(timeout=60)
        assert (
            client.execute_interactive(cells + "result.compute()", output_hook=print)["content"][
                "status"
            ]
            == "ok"
        )
        # Jupyter interrupts a kernel just before it kills it: here it hears of that too late.
        client.execute("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                       "result.bind(a=-1).compute()")  # fmt: skip
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        reply = client.execute_interactive(cells + "result.bind(a=3).compute()", output_hook=print)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    ex = open_again("notebook", backend)
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded", "lost", "succeeded"]
    assert history["a"].tolist() == [1, -1, 3]
    assert ex.load_metric("loss", 2)[2].tolist() == [-1, 0, 1, 2]
    assert history["Result"].tolist()[::2] == [10, 30]
