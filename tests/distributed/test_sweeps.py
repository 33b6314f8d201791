"""Sweeps on clusters of separate processes, whose client or workers do not last."""

from __future__ import annotations

import os
import pathlib
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client

import daskperiment
from daskperiment.sweep import cluster_jobs
from daskperiment.sweep.cluster_jobs import ClusterJobs
from daskperiment.sweep.sweep_plan import known_sweeps
from tests.distributed.clusters import wait_until
from tests.distributed.programs import noted, runs


@pytest.mark.filterwarnings(
    "ignore::daskperiment.errors.CodeChangedWarning",
    "ignore::daskperiment.errors.EnvironmentChangedWarning",
)
def test_killed_client(cluster, tmp_path, place):
    """A sweep whose client was killed goes on in another: what had succeeded is not run again."""
    cluster.add()
    cluster.add()
    pid = cluster.start("sweep", cluster.address, str(tmp_path / "store"), str(place))
    ex = daskperiment.Experiment("swept", backend=tmp_path / "store")

    def succeeded():
        history = ex.get_history()
        return history.loc[history["Success"], "a"].tolist() if len(history) else []

    wait_until(lambda: len(succeeded()) == 3 and len(runs(place)) > 3)
    cluster.kill_program(pid)
    cluster.kill()
    before, kept = runs(place), set(succeeded())
    history = ex.get_history(verbose=True, running=True)
    lost = (history["Status"] == "lost").sum()
    assert lost == len(history) - 3 > 0
    (place / "gate").touch()
    cluster.add()

    @ex.result
    def double(a, folder):
        return noted(a, folder)

    result = double(ex.parameter("a"), ex.parameter("folder", str(place)))
    with Client(cluster.address):
        (id,) = known_sweeps(ex._store)
        frame = result.sweep(resume=id, progress=False)
    assert runs(place) == {a: before[a] + (a not in kept) for a in range(6)}
    done = frame[frame["Success"]]
    assert sorted(done["a"]) == list(range(6))
    assert (done["Result"] == 2 * done["a"]).all()
    assert len(frame) == 6 + lost
    # A point that was run again had the seed of its first run.
    seeds = ex.get_history(verbose=True).groupby("a")["Seed"].nunique()
    assert (seeds == 1).all()


def test_killed_worker(ex, cluster, place):
    """A worker that is killed during a sweep costs no trial, and none is recorded twice."""
    cluster.add()
    cluster.add()

    @ex.result
    def double(a, folder):
        return noted(a, folder)

    def kill_one():
        files = wait_until(lambda: len(found := list(place.glob("*-*"))) > 3 and found)
        last = max(files, key=lambda path: int(path.name.rpartition("-")[2])).name
        number, pid, _ = map(int, last.split("-"))
        cluster.kill(next(name for name, known in cluster.workers.items() if known == pid))
        (place / "gate").touch()
        return number

    result = double(ex.parameter("a"), ex.parameter("folder", str(place)))
    with Client(cluster.address), ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_one)
        frame = result.sweep({"a": list(range(6))}, progress=False)
        number = killed.result()
    assert frame["Success"].all()
    assert sorted(frame["a"]) == list(range(6))
    assert runs(place)[number] == 2
    assert len(ex.get_history(verbose=True, running=True)) == 6


def test_a_worker_dies_in_a_batch(ex, cluster, place, monkeypatch):
    """Short trials whose task a cluster runs again are none of their own, failed ones neither."""
    cluster.add()
    cluster.add()
    monkeypatch.setattr(cluster_jobs.TrialPace, "take", lambda self, threads: 0.001)
    monkeypatch.setattr(cluster_jobs.TrialPace, "is_unknown", False)

    @ex.result
    def double(a, folder):
        if a == 4:
            raise ZeroDivisionError("four")
        path = pathlib.Path(folder) / "killed"
        if a == 6 and not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * a

    result = double(ex.parameter("a"), ex.parameter("folder", str(place)))
    with Client(cluster.address):
        frame = result.sweep({"a": list(range(32))}, progress=False)
    assert (place / "killed").exists()
    assert sorted(frame["a"]) == list(range(32))
    assert frame.loc[~frame["Success"], "a"].tolist() == [4]
    assert sorted(ex.get_history(verbose=True, running=True).index) == list(range(1, 33))


def test_lost_results(ex, cluster, place, monkeypatch):
    """Results that die with their worker before the sweep sees them are computed once more.

    They are no trials of their own: the table has one row for each point.
    """
    cluster.add()

    @ex.result
    def double(a, folder):
        return noted(a, folder)

    ended = ClusterJobs._ended

    def after_death(self):
        monkeypatch.setattr(ClusterJobs, "_ended", ended)
        futures = [one.future for one in self._submitted]
        wait_until(lambda: all(future.status == "finished" for future in futures))
        cluster.kill()
        wait_until(lambda: all(future.status == "lost" for future in futures))
        cluster.add()
        return ended(self)

    monkeypatch.setattr(ClusterJobs, "_ended", after_death)
    (place / "gate").touch()
    result = double(ex.parameter("a"), ex.parameter("folder", str(place)))
    with Client(cluster.address):
        frame = result.sweep({"a": list(range(6))}, progress=False, on_error="raise")
    assert sorted(frame["a"]) == list(range(6))
    assert frame["Success"].all()
    assert set(runs(place).values()) == {2}
    assert len(ex.get_history(verbose=True, running=True)) == 6
