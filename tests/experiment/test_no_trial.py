"""daskperiment.testing.no_trial: plain functions of steps in unit tests."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import numpy as np
import pytest

import daskperiment
from daskperiment.errors import TrialIDNotFoundError
from daskperiment.testing import no_trial


@pytest.fixture
def train(ex):
    """Give the function of a step, as a module has it."""

    @ex.result
    def train(epochs):
        for epoch in range(epochs):
            ex.save_metric("loss", epoch, 1.0)
            ex.save_metrics({"accuracy": 0.5}, epoch)
        return int(ex.rng.integers(2**40)), random.random(), float(np.random.random())

    return train


def test_plain_functions_run(ex, train):
    """What a step saves is dropped, it is told the trial id 0, and nothing is recorded."""
    with no_trial():
        train.__wrapped__(2)
        assert (ex.current_trial_id, ex.trial_id) == (0, 0)
    assert ex.trial_id == 0
    assert ex.get_metrics() == []


def test_artifacts_are_dropped(ex, train):
    """Nothing is saved, also to a trial that is named, as ex.trial_id is 0 in the block."""
    train(1).compute(scheduler="synchronous")
    with no_trial():
        ex.save("model", [1, 2])
        ex.save("model", [1, 2], trial_id=ex.trial_id)
        ex.save("model", [1, 2], trial_id=1)
        with pytest.raises(ValueError, match="format"):
            ex.save("model", [1, 2], format="no such format")
    assert ex.get_artifacts(1).empty


def test_draws_are_seeded(ex, train):
    """The same seed gives the same draws, and what the test itself drew from comes back."""
    state = random.getstate()
    drawn = []
    for seed in (1, 1, 2):
        with no_trial(seed=seed):
            drawn.append(train.__wrapped__(0))
    assert drawn[0] == drawn[1]
    assert all(first != other for first, other in zip(drawn[0], drawn[2], strict=True))
    assert random.getstate() == state


def test_threads_take_part(ex):
    """Threads that the block starts may save points, too."""
    failed = []

    def save():
        try:
            ex.save_metric("loss", 0, 1.0)
        except Exception as error:
            failed.append(error)

    with no_trial():
        thread = threading.Thread(target=save)
        thread.start()
        thread.join()
    assert failed == []


def test_wrong_calls_are_told(ex):
    """A unit test finds the call that would end the training."""
    with no_trial(), pytest.raises(TypeError, match="expected one number"):
        ex.save_metric("loss", 0, "high")


def test_outside_the_block(ex, train):
    """The error outside of a step names the remedy, before the block and after it."""
    for _ in range(2):
        with pytest.raises(TrialIDNotFoundError, match=r"with daskperiment\.testing\.no_trial\(\)"):
            train.__wrapped__(1)
        with no_trial():
            pass


def test_steps_are_their_functions(ex, train):
    """In the block a step is called as a function, and needs no unwrapping."""
    with no_trial(seed=1):
        called = train(2)
    with no_trial(seed=1):
        assert train.__wrapped__(2) == called
    assert ex.trial_id == 0


def test_trials_within(ex, train):
    """A result that is computed within the block is a trial as ever."""
    result = train(2)
    with no_trial():
        result.compute(scheduler="synchronous")
        result.compute(scheduler="threads")
    assert ex.trial_id == 2
    assert len(ex.load_metric("loss", 2)) == 2


@pytest.mark.parametrize("seed", [-1, "a", 1.5])
def test_seeds(seed):
    """A seed is checked as everywhere."""
    with pytest.raises(ValueError, match="seed is"), no_trial(seed=seed):
        pass


def test_needs_no_pytest():
    """no_trial is there without pytest, and as an attribute of the package."""
    code = (
        "import sys; sys.modules['pytest'] = None; import daskperiment\n"
        "with daskperiment.testing.no_trial(): print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fine\n"
    assert "testing" in dir(daskperiment)
