"""Python's garbage collector rests while a large plan is made, and only then."""

from __future__ import annotations

import gc
import os
import threading

import pytest

import daskperiment
from daskperiment.planning.result_node import PAUSE, CollectorPause


@pytest.fixture(autouse=True)
def collecting():
    """Leave the collector at work, whatever a test does."""
    gc.enable()
    yield
    gc.enable()


def test_it_works_again_afterwards():
    """Also where what was put together fails."""
    with pytest.raises(ValueError, match="no"), CollectorPause():
        assert not gc.isenabled()
        raise ValueError("no")
    assert gc.isenabled()


def test_it_rests_for_as_long_as_somebody_holds_it():
    """The first of several to be ready does not set it to work under the others."""
    held, go_on, pause = threading.Event(), threading.Event(), CollectorPause()

    def hold():
        with pause:
            held.set()
            assert go_on.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    with pause:
        pass
    assert not gc.isenabled()
    go_on.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("works", [True, False])
def test_a_child_that_is_forked_meanwhile(works):
    """In a child the threads that hold it back are not there: it works if it did, and can rest."""
    held, go_on = threading.Event(), threading.Event()
    if not works:
        gc.disable()

    def hold():
        with PAUSE:
            held.set()
            assert go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    child = os.fork()
    if not child:
        try:
            fine = gc.isenabled() == works
            with PAUSE:
                fine = fine and not gc.isenabled()
            os._exit(0 if fine and gc.isenabled() == works else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_whoever_does_without_it_goes_on_without_it():
    """It is not set to work where it did not work before."""
    gc.disable()
    with CollectorPause():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("steps", [10, 1000])
def test_a_large_plan_is_made_without_it(tmp_path, steps, monkeypatch):
    """It does not look at what becomes of it all the time; a small plan leaves it alone."""
    ex = daskperiment.Experiment("large", backend=tmp_path, seed=1)

    @ex.persist(reuse=True)
    def add(a: int, b: int) -> int:
        return a + b

    @ex.result
    def total(values: list[int]) -> int:
        return sum(values)

    a = ex.parameter("a", default=0)
    node = total([add(a, number) for number in range(steps)])
    assert node.definition.template.graph.nodes  # compiled before
    planning = []
    planner = type(node.definition.planner)
    decide = planner._request

    def noted(*arguments):
        planning.append(gc.isenabled())
        return decide(*arguments)

    monkeypatch.setattr(planner, "_request", noted)
    node.definition.plan()
    assert planning == [steps < 500]
    assert gc.isenabled()
