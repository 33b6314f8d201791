"""Machines whose clocks differ by an hour share an experiment."""

from __future__ import annotations

import math
import os
import signal
import time
from typing import NamedTuple

import dask
import pandas as pd
import pytest

import daskperiment
from daskperiment.codec import encode
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Begun, Origin
from daskperiment.store.protocol import Owner
from tests.shared.conftest import KINDS
from tests.survival.processes import nursery

HOUR = 3600
LIMIT = 2.5
"""Seconds without a sign of life after which a trial of another machine counts as lost."""


@pytest.fixture
def machines(make_place, journal_root, monkeypatch):
    """Start processes on what counts as other machines."""
    monkeypatch.setenv("DASK_DASKPERIMENT__HEARTBEAT_TIMEOUT", f"{LIMIT} s")
    with nursery() as place:
        yield place


@pytest.mark.parametrize("kind", KINDS[:3])
def test_order_and_durations(kind, make_place, machines):
    """Order is by trial id and durations are right, whatever the clocks of the writers show."""
    backend = make_place(kind).backend
    turns = [HOUR, -HOUR, 0, HOUR]
    for seconds in turns:
        assert machines.join(machines.start("abroad", backend, seconds, 3)) == 0
    ex = daskperiment.Experiment("many", backend=backend)
    history = ex.get_history(verbose=True)
    assert history.index.tolist() == list(range(1, 13))
    assert history["a"].tolist() == [start + i for start in turns for i in range(3)]
    assert history["Status"].unique().tolist() == ["succeeded"]
    durations = [*history["Process Time"], *ex.get_steps()["Wall Time"]]
    assert all(pd.Timedelta(0) <= one < pd.Timedelta(seconds=60) for one in durations)
    # The clocks did differ.
    assert not history["Started"].is_monotonic_increasing


class Waiting(NamedTuple):
    """A process with a trial that waits for a file."""

    pid: int
    gate: object
    experiment: daskperiment.Experiment
    trial: int

    def status(self):
        history = self.experiment.get_history(verbose=True, running=True)
        return history.loc[self.trial, "Status"]


def wait_until(condition):
    """Wait until something holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_signs_of_life(make_place, machines, tmp_path):
    """A living trial of another machine is not lost, a silent one is, and a late end holds."""
    waiting = []
    for kind in KINDS[:3]:
        backend = make_place(kind).backend
        for seconds in (HOUR, -HOUR):
            log, gate = (tmp_path / f"{name} {kind} {seconds}" for name in ("log", "gate"))
            pid = machines.start("waiting", backend, seconds, str(log), str(gate))
            wait_until(lambda log=log: log.exists() and log.read_text())
            ex = daskperiment.Experiment("waiting", backend=backend)
            waiting.append(Waiting(pid, gate, ex, int(log.read_text())))
    with dask.config.set({"daskperiment.heartbeat-timeout": f"{LIMIT} s"}):
        # Longer than the limit nobody is lost; anew if the machine stood still, and all with it.
        begin, deadline = time.monotonic(), time.monotonic() + 60
        while time.monotonic() < begin + 1.5 * LIMIT:
            assert time.monotonic() < deadline
            if [one.status() for one in waiting] != ["running"] * len(waiting):
                begin = time.monotonic()
            time.sleep(0.1)
        for one in waiting:
            os.kill(one.pid, signal.SIGSTOP)
        wait_until(lambda: all(one.status() == "lost" for one in waiting))
        for one in waiting:
            one.gate.touch()
            os.kill(one.pid, signal.SIGCONT)
            assert machines.join(one.pid) == 0
        assert [one.status() for one in waiting] == ["succeeded"] * len(waiting)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_clock_of_the_store_is_set(kind, make_place, monkeypatch):
    """Whichever way a store's clock is set, whoever sends signs of life is running, others lost."""
    ex = daskperiment.Experiment("set", backend=make_place(kind).backend)
    recorder, clock = recorder_for(ex._store), {"ahead": 0}
    recorder.wake = lambda: None
    state = type(ex._store).state

    def shifted(store, *owners):
        true = state(store, *owners)
        return true._replace(clock=true.clock + clock["ahead"])

    monkeypatch.setattr(type(ex._store), "state", shifted)
    origin = Origin("another host", "boot", 1, 0.0, "somebody")
    body = Begun("token", "use", time.time(), 0, {}, "", "", "", origin)
    trial = recorder.store.allocate("token", encode(body)).trial
    recorder.trials.begin(Owner(trial, "token"), "token")

    def status():
        return ex.get_history(verbose=True, running=True).loc[trial, "Status"]

    for clock["ahead"] in (0, HOUR, 0, -HOUR, -HOUR, 7 * 24 * HOUR, 0):
        monkeypatch.setattr(recorder, "_beaten", -math.inf)
        recorder.tick()
        assert status() == "running"
    recorder.trials.end("token")
    for clock["ahead"] in (HOUR, -HOUR):
        assert status() == "lost"
