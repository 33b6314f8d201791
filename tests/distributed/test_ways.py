"""Whatever way a result takes to a cluster, it is a trial, recorded where its steps run."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, as_completed

import daskperiment
from daskperiment.client.tracker import tracker_of
from daskperiment.errors import ImpureStepWarning, RandomStateWarning
from daskperiment.recording.registry import recorder_for


@pytest.fixture
def squares(ex):
    """Make a result that squares a parameter, and saves a metric on the way."""
    a = ex.parameter("a", default=3)

    @ex.persist
    def square(a):
        ex.save_metric("loss", 0, float(a))
        return np.array([a * a])

    @ex.result
    def total(x):
        return int(x.sum())

    return total(square(a))


def submit(way, client, result):
    """Compute a result in one of the ways there are."""
    if way == "compute":
        return result.compute()
    if way == "dask.compute":
        return dask.compute(result)[0]
    if way == "client.compute":
        return client.compute(result).result()
    return client.persist(result).compute()


@pytest.mark.parametrize("way", ["compute", "dask.compute", "client.compute", "client.persist"])
def test_every_way(ex, squares, client, steady, way):
    """Steps, metrics and persisted values come from the workers, which the record names."""
    assert submit(way, client, squares) == 9
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"]
    assert history["Result"].tolist() == [9]
    steps = ex.get_steps(1)
    assert steps["Status"].tolist() == ["succeeded", "succeeded"]
    assert set(steps["Worker Name"]) <= set(steady.workers)
    assert steps["Worker"].str.startswith("tcp://127.0.0.1:").all()
    assert set(steps["PID"]) <= set(steady.workers.values())
    assert ex.get_persisted("square", 1).tolist() == [9]
    assert ex.load_metric("loss", 1)[1].tolist() == [3.0]


@pytest.mark.parametrize("way", ["dask.compute", "client.compute"])
def test_hundred_at_once(ex, squares, client, way):
    """A hundred bound results at once are a hundred trials, each with its own parameters."""
    results = [squares.bind(a=i) for i in range(100)]
    if way == "dask.compute":
        values = dask.compute(*results)
    else:
        values = client.gather(client.compute(results))
    assert list(values) == [i * i for i in range(100)]
    history = ex.get_history(verbose=True, running=True)
    assert list(history.index) == list(range(1, 101))
    assert (history["Status"] == "succeeded").all()
    assert not tracker_of(recorder_for(ex._store))  # nobody is followed any more
    assert (history["Result"] == history["a"] ** 2).all()
    assert sorted(history["a"]) == list(range(100))


def test_inside_another_delayed(ex, squares, client):
    """Results among the arguments of another Delayed are trials when that one is computed."""
    total = dask.delayed(sum)([squares.bind(a=i) for i in range(3)])
    assert client.compute(total + squares).result() == 14
    assert dask.delayed({"x": squares.bind(a=4)}).compute() == {"x": 16}
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"] * 5
    assert sorted(history["a"]) == [0, 1, 2, 3, 4]
    assert ex.get_steps()["Worker"].notna().all()


def test_computed_by_a_task(ex, squares, client):
    """A result that is sent to a task has the values of that moment, and records there."""
    ex.set_parameters(a=5)
    future = client.submit(lambda result: result.compute(scheduler="synchronous"), squares)
    ex.set_parameters(a=6)
    assert future.result() == 25
    values = client.map(lambda a, result: result.bind(a=a).compute(), [7, 8], result=squares)
    assert client.gather(values) == [49, 64]
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"] * 3
    assert sorted(history["a"]) == [5, 7, 8]
    assert ex.get_steps()["Worker"].notna().all()


def test_trial_within_a_step(ex, client, tmp_path):
    """A step may compute a result of another experiment: both trials are recorded."""
    other = daskperiment.Experiment("inner", backend=tmp_path / "store")
    double = other.result(lambda b: 2 * b)(other.parameter("b"))

    @ex.result
    def outer(a):
        return double.bind(b=a).compute(scheduler="synchronous") + 1

    assert outer(ex.parameter("a", 4)).compute() == 9
    assert ex.get_history()["Result"].tolist() == [9]
    assert other.get_history()["Result"].tolist() == [8]


def test_published(ex, squares, client, steady):
    """Another client computes what was published: the trial's result, or a trial anew."""
    client.publish_dataset(done=client.persist(squares), todo=squares.bind(a=4))
    try:
        with Client(steady.address, set_as_default=False) as other:
            assert other.compute(other.get_dataset("done")).result() == 9
            assert other.compute(other.get_dataset("todo")).result() == 16
    finally:
        client.unpublish_dataset("done")
        client.unpublish_dataset("todo")
    assert ex.get_history(verbose=True, running=True)["a"].tolist() == [3, 4]


def test_two_clients(ex, squares, client, steady):
    """One result that two clients compute at once is two trials."""
    with Client(steady.address, set_as_default=False) as other:
        futures = [client.compute(squares), other.compute(squares)]
        assert [future.result() for future in as_completed(futures[:1])] == [9]
        assert futures[1].result() == 9
    assert ex.get_history(verbose=True, running=True)["Status"].tolist() == ["succeeded"] * 2


def test_many_threads(ex, squares, client):
    """Threads that compute one result at once each run a trial, with their own values."""
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: squares.bind(a=i).compute(), range(8)))
        same = list(pool.map(lambda _: squares.compute(), range(8)))
    assert values == [i * i for i in range(8)]
    assert same == [9] * 8
    assert (ex.get_history(verbose=True, running=True)["Status"] == "succeeded").all()
    assert len(ex.get_history()) == 16


def test_array_as_input(ex, client):
    """A Dask array and a future are inputs as they are elsewhere: the step gets their values."""

    @ex.result
    def total(x, y, a):
        return float(x.sum() + y.sum()) * a

    array = da.ones((20, 20), chunks=(10, 10))
    future = client.submit(np.arange, 5)
    result = total(client.persist(array), future, ex.parameter("a", 2))
    assert result.compute() == 820
    assert total(array, client.scatter(np.ones(3)), 2).compute() == 806
    assert ex.get_history()["Result"].tolist() == [820.0, 806.0]


_BARRIER = threading.Barrier(2)


def meet():
    """Wait for the other thread; pickled by name, as a barrier cannot be."""
    _BARRIER.wait(30)


def test_threads_of_a_worker_and_the_global_state(ex):
    """Steps in threads of one worker that draw from the global state are marked as unreliable."""

    @ex
    def draw(own):
        meet()
        drawn = [np.random.RandomState(ex.rng.integers(2**31)).rand() if own else np.random.rand()]
        meet()
        return drawn

    @ex.result
    def both(x, y):
        return x + y

    with Client(processes=False, n_workers=1, threads_per_worker=4, dashboard_address=":0"):
        first = both(draw(True), draw(True)).compute(seed=1)
        assert both(draw(True), draw(True)).compute(seed=1) == first
        assert ex.get_steps()["Checkable"].all()
        with pytest.warns(RandomStateWarning, match="used the global random state"):
            both(draw(False), draw(False)).compute(seed=1)
    assert ex.get_steps(3)["Checkable"].tolist().count(False) >= 1


def test_threads_of_this_process(ex, squares):
    """A cluster within this process records too, and names the worker."""
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        assert squares.compute() == 9
        assert dask.compute(squares.bind(a=4), squares.bind(a=5)) == (16, 25)
    assert (ex.get_history(verbose=True)["Status"] == "succeeded").all()
    assert ex.get_steps()["Worker"].notna().all()


def test_awaited(ex, squares, steady):
    """An asynchronous client computes trials that are awaited, and those that fail."""

    @ex.result
    def fail():
        raise ZeroDivisionError("nothing")

    async def main():
        async with Client(steady.address, asynchronous=True) as client:
            assert await client.compute(squares) == 9
            assert await client.gather(client.compute([squares.bind(a=i) for i in (4, 5)])) == [
                16,
                25,
            ]
            with pytest.raises(ZeroDivisionError):
                await client.compute(fail())

    asyncio.run(main())
    status = ex.get_history(verbose=True, running=True)["Status"].tolist()
    assert status == ["succeeded"] * 3 + ["failed"]


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_local_while_a_client_is_there(ex, squares, client):
    """A local scheduler that is asked for is used, and no worker is named."""
    assert squares.compute(scheduler="synchronous") == 9
    assert dask.compute(squares, scheduler="threads") == (9,)
    assert ex.get_steps()["Worker"].isna().all()
    assert ex.get_history(verbose=True)["Status"].tolist() == ["succeeded"] * 2


def test_failure_on_a_worker(ex, client):
    """What a step raised on a worker reaches the user, and the trial says which step it was."""

    @ex
    def divide(a):
        return 1 / a

    @ex.result
    def use(x):
        return x

    future = client.compute(use(divide(ex.parameter("a", 0))))
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        future.result()
    history = ex.get_history(verbose=True)
    assert history["Status"].tolist() == ["failed"]
    assert history["Description"].tolist() == ["ZeroDivisionError(division by zero)"]
    assert ex.get_steps()["Status"].tolist() == ["failed"]


def test_impure_step_on_a_worker(ex, client, tmp_path):
    """The process of the user is warned of an impure step that ran on a worker."""
    path = tmp_path / "content"

    @ex.result
    def read(path):
        return open(path).read()

    result = read(ex.parameter("path", str(path)))
    path.write_text("one")
    assert client.compute(result).result() == "one"
    path.write_text("two")
    assert client.compute(result).result() == "two"
    with pytest.warns(ImpureStepWarning, match="another output in trial 2 than in trial 1"):
        ex.get_history()
    path.write_text("three")
    with pytest.warns(ImpureStepWarning, match="in trial 3"):
        assert result.compute() == "three"
