"""Trials in flight on a cluster that share steps: each ends as it would alone."""

from __future__ import annotations

import logging
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

import daskperiment
from tests.reuse.arrivals import wait_for_arrival, wait_for_departure
from tests.reuse.work import ONCE, VALUES, fits, ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("flights", backend=tmp_path / "store", reuse=True)


@pytest.fixture
def complaints(caplog):
    """Give what the scheduler, which runs in this process, complains of."""
    with caplog.at_level(logging.WARNING, logger="distributed"):
        yield lambda: [r.message for r in caplog.records if "run_spec" in r.getMessage()]


def wait_for(file):
    """Wait for a file."""
    while not file.exists():
        time.sleep(0.01)


def chain(ex, log, started, go, fail=False):
    """Make a result of a step that waits and one of each trial's own."""
    own = ex.parameter("own", default=0)

    @ex.persist
    def shared():
        write(log, "shared")
        started.touch()
        wait_for(go)
        if fail:
            raise ZeroDivisionError("of all")
        return np.full(1000, 7)

    @ex.persist
    def after(value, own):
        write(log, "after")
        return int(value[0]) + own

    @ex.result
    def last(value):
        return value

    return last(after(shared(), own))


def test_shared_once(ex, client, log, tmp_path, complaints):
    """Two trials in flight run the step that they share once; a third finds its output."""
    started, go = tmp_path / "started", tmp_path / "go"
    result = chain(ex, log, started, go)
    futures = [client.compute(result.bind(own=own)) for own in (1, 2)]
    wait_for_arrival(client, futures)
    wait_for(started)
    futures.append(client.compute(result.bind(own=3)))
    go.touch()
    assert client.gather(futures) == [8, 9, 10]
    assert ran(log) == {"shared": 1, "after": 3}
    assert result.bind(own=2).compute() == 9
    assert ran(log) == {}
    steps = ex.get_steps()
    assert steps[steps["Step"] == "shared"]["Reused From"].isna().sum() == 1
    assert complaints() == []


def test_shared_failure(ex, client, log, tmp_path, complaints):
    """A shared step that fails ends both trials as failed, each with a record of it."""
    started, go = tmp_path / "started", tmp_path / "go"
    result = chain(ex, log, started, go, fail=True)
    futures = [client.compute(result.bind(own=own)) for own in (1, 2)]
    wait_for_arrival(client, futures)
    wait_for(started)
    go.touch()
    for future in futures:
        with pytest.raises(ZeroDivisionError, match="of all"):
            future.result()
    history = ex.get_history(verbose=True)
    assert history["Status"].tolist() == ["failed", "failed"]
    assert history["Description"].tolist() == ["ZeroDivisionError(of all)"] * 2
    assert sorted(history["own"]) == [1, 2]
    assert ran(log) == {"shared": 1}
    assert complaints() == []


@pytest.mark.parametrize("when", ["running", "queued"])
def test_first_owner_cancelled(ex, client, log, tmp_path, complaints, when):
    """A trial that shares a step goes on when the trial that brought it is cancelled."""
    started, go, free = tmp_path / "started", tmp_path / "go", tmp_path / "free"
    result = chain(ex, log, started, go)
    busy = []
    if when == "queued":
        threads = sum(client.nthreads().values())
        busy = [client.submit(wait_for, free, pure=False) for _ in range(threads)]
    first, second = (client.compute(result.bind(own=own)) for own in (1, 2))
    wait_for_arrival(client, [first, second])
    if when == "running":
        wait_for(started)
    first.cancel()
    wait_for_departure(client, first)
    free.touch()
    go.touch()
    client.gather(busy)
    assert second.result() == 9
    with pytest.raises(CancelledError):
        first.result()
    counts = ran(log)
    assert counts["after"] <= 2
    assert counts["shared"] == 1
    history = ex.get_history(verbose=True).set_index("own")
    assert history.loc[2, "Status"] == "succeeded"
    assert 1 not in history.index or history.loc[1, "Status"] == "interrupted"
    assert complaints() == []


def test_pruned_in_flight(ex, client, log, tmp_path):
    """Outputs that are dropped while a trial that is to reuse them waits are made again."""
    started, go = tmp_path / "started", tmp_path / "go"
    go.touch()
    result = chain(ex, log, started, go)
    assert client.compute(result.bind(own=1)).result() == 8
    ran(log)
    free = tmp_path / "free"
    threads = sum(client.nthreads().values())
    busy = [client.submit(wait_for, free, pure=False) for _ in range(threads)]
    future = client.compute(result.bind(own=2))
    ex.prune(max_bytes=0)
    free.touch()
    client.gather(busy)
    assert future.result() == 9
    assert ex.get_history()["Result"].tolist() == [8, 9]


def test_sweep(tmp_path, log, open_again):
    """A sweep over two settings and three rates runs what it shares once; again, nothing."""
    space = {"size": [1, 2], "rate": [1, 2, 3]}
    for expected in (ONCE, {}):
        ex = open_again("fits", tmp_path / "store", reuse=True)
        found = fits(ex, log)[0].sweep(space, progress=False)
        assert sorted(found["Result"]) == sorted(VALUES)
        assert ran(log) == expected
