"""What all tests share."""

from __future__ import annotations

import importlib
import os
import signal
import threading

import dask
import pytest
from hypothesis import settings

import daskperiment
from daskperiment import experiment
from daskperiment.recording.registry import close_recorders


def pytest_configure():
    """Hear Ctrl-C, as the programs that tests start shall: a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Declaring a step in a repository loads it in a thread otherwise, which a test would meet.
    importlib.import_module("git")
    # What decides whether a change lands draws the same examples each time, other runs new ones.
    same = "DASKPERIMENT_TEST_SAME_EXAMPLES" in os.environ
    # How long an example takes says nothing on a machine that has other work.
    settings.register_profile("daskperiment", deadline=None, derandomize=same)
    settings.load_profile("daskperiment")


@pytest.fixture(autouse=True)
def _state_elsewhere(tmp_path_factory):
    """Let nothing of the tests wait among the files of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture(autouse=True)
def _fresh_process_state(_state_elsewhere, tmp_path_factory):
    """Leave no recorder, thread, experiment or setting of one test to the next."""
    # No test makes the key of whoever runs it, or files among theirs.
    cache = str(tmp_path_factory.getbasetemp() / "cache")
    own = {"daskperiment.secret-key": "the key of the tests", "daskperiment.cache": cache}
    with dask.config.set(own):
        yield
    # Clients that are not closed in the order of their making leave theirs behind.
    for setting in ("scheduler", "shuffle"):
        dask.config.config.pop(setting, None)
    close_recorders()
    experiment._EXPERIMENTS.clear()
    left = [thread for thread in threading.enumerate() if thread.name.startswith("daskperiment")]
    for thread in left:
        thread.join(60)  # what was waited for may not have left its last line
    running = [thread.name for thread in left if thread.is_alive()]
    assert not running, f"threads left behind: {running}"


@pytest.fixture
def ex(tmp_path):
    """Make an experiment in a fresh folder."""
    return daskperiment.Experiment("demo", backend=tmp_path / "store")


@pytest.fixture
def again(ex, tmp_path):
    """Open the fixture's experiment as a later process would: with nothing in memory."""

    def reopen():
        close_recorders()
        experiment._EXPERIMENTS.clear()
        return daskperiment.Experiment("demo", backend=tmp_path / "store")

    return reopen
