"""Trials that have steps in common run them once."""

from __future__ import annotations

import subprocess
import sys
import time

import dask
import pytest

import daskperiment
from tests.reuse.arrivals import wait_for_arrival
from tests.reuse.work import ONCE, VALUES, fits, ran

SCHEDULERS = ["synchronous", "threads", "processes"]


def make(tmp_path, **options):
    return daskperiment.Experiment("fits", backend=tmp_path / "store", reuse=True, **options)


def wait_for(file):
    """Keep a worker busy until a file is there."""
    while not file.exists():
        time.sleep(0.01)


def check_records(ex):
    """Each trial has a row, and a run of each step that it needed."""
    history = ex.get_history()
    assert history["Result"].tolist() == (history["size"] * history["rate"] * 15.0).tolist()
    steps = ex.get_steps()
    own = steps[steps["Reused From"].isna()]
    assert own["Step"].value_counts().to_dict() == {**ONCE, "score": len(history)}


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_compute(tmp_path, log, scheduler, seed, kept):
    """Six trials in one `dask.compute` load once, make features twice and fit six times."""
    ex = make(tmp_path, seed=seed)
    assert list(dask.compute(*fits(ex, log, kept), scheduler=scheduler)) == VALUES
    assert ran(log) == ONCE
    assert list(dask.compute(*fits(ex, log, kept), scheduler=scheduler)) == VALUES
    assert ran(log) == {}
    check_records(ex)


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_by_one(tmp_path, log, scheduler, seed):
    """Six trials one after the other do as little as in one go."""
    ex = make(tmp_path, seed=seed)
    assert [result.compute(scheduler=scheduler) for result in fits(ex, log)] == VALUES
    assert ran(log) == ONCE
    check_records(ex)


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("kept", [True, False])
def test_cluster(tmp_path, log, client, seed, kept):
    """Six trials submitted to a cluster one by one, all in flight, share what they can."""
    ex = make(tmp_path, seed=seed)
    threads = sum(client.nthreads().values())
    busy = [client.submit(wait_for, tmp_path / "go", pure=False) for _ in range(threads)]
    futures = [client.compute(result) for result in fits(ex, log, kept)]
    wait_for_arrival(client, futures)
    (tmp_path / "go").touch()
    client.gather(busy)
    assert client.gather(futures) == VALUES
    assert ran(log) == ONCE
    check_records(ex)
    assert client.gather([client.compute(result) for result in fits(ex, log, kept)]) == VALUES
    assert ran(log) == {}


@pytest.mark.parametrize("kind", ["folder", "redis", "mongo"])
def test_another_process(make_place, log, kind):
    """What another process computed is not computed again, on each kind of store."""
    backend = make_place(kind).backend
    order = [sys.executable, "-W", "error", "-m", "tests.reuse.work", str(backend), log]
    subprocess.run(order, check=True, cwd=__file__.partition("tests")[0])
    assert ran(log) == ONCE
    ex = daskperiment.Experiment("fits", backend=backend, reuse=True)
    results = fits(ex, log)
    assert [result.compute() for result in results] == VALUES
    assert list(dask.compute(*results)) == VALUES
    assert ran(log) == {}
    other = daskperiment.Experiment("others", backend=backend, reuse=True)
    assert fits(other, log)[0].compute() == VALUES[0]
    assert ran(log) == {"load": 1, "features": 1, "fit": 1}
