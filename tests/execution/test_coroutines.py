"""Asynchronous functions as steps: they run to their end."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
def result(ex):
    """Give a result of two asynchronous steps."""

    @ex.persist(reuse=True)
    async def fetch(a):
        first, second = await asyncio.gather(asyncio.sleep(0, a), asyncio.sleep(0, 2))
        ex.save_metric("sum", 0, first + second)
        return first + second

    @ex.result
    async def last(value):
        await asyncio.sleep(0)
        ex.save_metric("draw", 0, float(ex.rng.random()))
        return value

    return last(fetch(ex.parameter("a", default=1)))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_steps(ex, result, scheduler):
    """A trial of asynchronous steps is as others: outputs, points, draws and reuse."""
    assert result.compute(scheduler=scheduler, seed=1) == 3
    assert result.compute(scheduler=scheduler, seed=1) == 3
    assert ex.load_metric("sum", 1)[1].tolist() == [3]
    draws = ex.load_metric("draw", [1, 2])
    assert draws[1].tolist() == draws[2].tolist()
    assert ex.get_steps(2)["Reused From"].tolist()[0] == 1


def test_within_a_loop(ex, result):
    """In a thread that has a running loop, as a notebook's, a trial is computed all the same."""

    async def cell():
        return result.compute(scheduler="synchronous")

    assert asyncio.run(cell()) == 3
    assert len(ex.load_metric("draw", 1)) == 1


def test_failures(ex):
    """What a coroutine raises is recorded and raised."""

    @ex.result
    async def fail():
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        fail().compute(scheduler="synchronous")
    assert "late" in ex.get_history()["Description"].iloc[0]


def test_generators_are_refused(ex):
    """An asynchronous generator has no one output, and is refused with what to do."""

    async def several():
        yield 1

    with pytest.raises(TypeError, match="Collect it"):
        ex(several)
