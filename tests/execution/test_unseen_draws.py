"""Draws after which the state is put back: the step counts as drawing all the same."""

from __future__ import annotations

import random
import threading
from functools import partial

import numpy as np
import pytest

from tests.helpers.draws import reusable


def python():
    state = random.getstate()
    number = random.random()
    random.setstate(state)
    return number


def numpy():
    state = np.random.get_state()
    number = float(np.random.rand())
    np.random.set_state(state)
    return number


def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(python()))
    thread.start()
    thread.join()
    return found


@pytest.fixture
def result(ex):
    """Return a way to make a result of a reusable step that calls something."""
    return partial(reusable, ex)


@pytest.mark.parametrize("draw", [python, numpy, in_thread])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_draw_without_a_trace(ex, result, draw, scheduler):
    """Three seeds give three draws, and the first one again; no step is called impure."""
    made = result(draw)
    found = [made.compute(seed=seed, scheduler=scheduler) for seed in (1, 2, 3, 1)]
    assert len(set(map(str, found[:3]))) == 3
    assert found[3] == found[0]
    assert ex.get_steps().query("Step == 'step'")["Stochastic"].all()


def test_draw_without_a_trace_in_another_process(ex, result):
    """Where a pool of processes computes, too."""
    made = result(numpy)
    how = {"scheduler": "processes", "num_workers": 1}
    assert made.compute(seed=1, **how) != made.compute(seed=2, **how)


def test_state_that_the_user_sets(ex, result):
    """Outside of steps states are read and set as ever, and a step that sets none draws nothing."""
    made = result(lambda: 1)
    state = random.getstate(), np.random.get_state()
    expected = random.random(), np.random.rand()
    made.compute(scheduler="synchronous")
    random.setstate(state[0])
    np.random.set_state(state[1])
    assert (random.random(), np.random.rand()) == expected
    assert not ex.get_steps()["Stochastic"].any()
