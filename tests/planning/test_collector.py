"""Python's garbage collector rests while a large plan is made, and only then."""

from __future__ import annotations

import gc
import threading

import pytest

import daskperiment
from daskperiment.planning.result_node import CollectorPause


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
