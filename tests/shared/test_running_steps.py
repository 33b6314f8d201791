"""Since when a step runs is told while it runs, on each store and by each kind of process."""

from __future__ import annotations

import time

import pytest
from dask.multiprocessing import get as get_in_processes

import daskperiment
from daskperiment.codec import decode
from daskperiment.dashboard.details import describe_trial
from daskperiment.execution.context import CURRENT
from daskperiment.recording import recorder as recording
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Beat, StepRun
from tests.shared.conftest import open_again

AGE = 7200.0
YOUNG = 3600.0
"""Seconds up to which nothing is told of a step here: the machine may stand still for some."""


def let_steps_be_young():
    """Let the steps of this process be young for long."""
    recording.TICK = YOUNG
    return 1


def seen_of_itself():
    """Return what the page tells of the trial whose step calls this, once its process told."""
    step = CURRENT.get()
    recorder = recorder_for(step.trial.store)
    recorder.tick()
    young = describe_trial(recorder.store, step.trial.trial)["unfinished"]
    step.since -= AGE
    recorder.tick()
    recorder.tick()  # it is told once, and with the regular signs of life
    old = describe_trial(recorder.store, step.trial.trial)["unfinished"]
    return young, old, step.since


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", get_in_processes])
def test_told_while_it_runs(place, scheduler, monkeypatch):
    """A step that runs for long is told with the moment of its begin; a short one is not."""
    monkeypatch.setattr(recording, "TICK", YOUNG)  # which the first step does in another process
    ex = daskperiment.Experiment("running", backend=place.backend)
    before = ex(let_steps_be_young)
    look = ex.result(lambda value: seen_of_itself())
    young, old, since = look(before()).compute(scheduler=scheduler, num_workers=1)
    (key,) = young
    assert young[key]["state"] == "ready"
    assert old == {key: {"state": "running", "since": since}}
    store = open_again("running", place.backend)._store
    assert since + AGE == pytest.approx(time.time(), abs=600)
    told = [one.steps for one in decoded(store, "beats", Beat) if one.steps]
    assert told == [{key: since}]
    run = next(one for one in decoded(store, "steps", StepRun) if one.key == key)
    assert run.started == pytest.approx(since + AGE, abs=60)


def decoded(store, stream, type_):
    return [decode(one.body, type_) for one in store.read(stream, [1])]
