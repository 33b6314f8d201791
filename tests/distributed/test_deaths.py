"""Workers, clients and futures that come to an end before their trials do."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client, KilledWorker, wait, worker_client
from distributed.client import FutureCancelledError

import daskperiment
from daskperiment.client import tracker as following
from daskperiment.recording.registry import recorder_for
from tests.distributed.clusters import wait_until


def status(ex):
    return ex.get_history(verbose=True, running=True)["Status"].tolist()


@pytest.fixture
def slow(ex, tmp_path):
    """Make a result of two steps, of which the second waits until a file is there."""
    ex.parameter("inside", str(tmp_path / "inside"))
    ex.parameter("gate", str(tmp_path / "gate"))

    @ex
    def first(inside):
        return inside

    @ex
    def wait(inside, gate):
        for epoch in range(3):
            ex.save_metric("loss", epoch, 1.0)
        Path(inside).write_text(str(os.getpid()))
        while not Path(gate).exists():
            time.sleep(0.02)
        return 1

    @ex.result
    def last(x):
        return x

    nodes = ex._nodes
    return last(wait(first(nodes["inside"]), nodes["gate"]))


def test_worker_killed_during_a_step(ex, slow, cluster, tmp_path):
    """The step runs elsewhere, the trial ends once, and nothing is recorded twice."""
    names = [cluster.add(), cluster.add()]
    with Client(cluster.address) as client:
        future = client.compute(slow)
        inside = tmp_path / "inside"
        pid = int(wait_until(lambda: inside.exists() and inside.read_text()))
        name = next(name for name in names if cluster.workers[name] == pid)
        cluster.kill(name)
        (tmp_path / "gate").touch()
        assert future.result(timeout=60) == 1
    assert status(ex) == ["succeeded"]
    steps = ex.get_steps(1)
    waits = steps[(steps["Step"] == "wait") & (steps["Status"] == "succeeded")]
    assert len(waits) == 1
    assert (waits["PID"] != pid).all()
    assert ex.load_metric("loss", 1)[1].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_step_that_ends_its_worker(ex, cluster, tmp_path, error):
    """An exception that takes the worker down is as if it were killed: one trial, and one end."""
    cluster.add()
    cluster.add()
    attempts = tmp_path / "attempts"
    attempts.mkdir()

    @ex.result
    def leave(times, folder):
        (Path(folder) / str(os.getpid())).touch()
        if len(os.listdir(folder)) <= times:
            raise error("over")
        return times

    times, folder = ex.parameter("times", 1), ex.parameter("folder", str(attempts))
    with Client(cluster.address) as client:
        assert client.compute(leave(times, folder)).result(timeout=60) == 1
        assert status(ex) == ["succeeded"]
        client.run_on_scheduler(_allow_no_failure)
        with pytest.raises(KilledWorker):
            client.compute(leave(times, folder).bind(times=9)).result(timeout=60)
        history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded", "failed"]
    assert history["Description"][2].startswith("KilledWorker(")
    assert ex.get_steps(1)["Status"].tolist()[1:] == ["succeeded"]


def test_retired_worker(ex, slow, cluster, tmp_path):
    """A worker that is retired during a step: the step runs on another, and the trial ends once."""
    cluster.add()
    cluster.add()
    with Client(cluster.address) as client:
        future = client.compute(slow)
        inside = tmp_path / "inside"
        pid = int(wait_until(lambda: inside.exists() and inside.read_text()))
        name = next(name for name, found in cluster.workers.items() if found == pid)
        (tmp_path / "gate").touch()
        client.retire_workers(names=[name])
        assert future.result(timeout=60) == 1
    assert status(ex) == ["succeeded"]
    done = ex.get_steps(1)
    # Dask may have begun it on the other worker before this one was through.
    assert done.loc[done["Status"] == "succeeded", "Key"].unique().tolist() == [
        "first", "wait", "last",
    ]  # fmt: skip
    assert ex.load_metric("loss", 1)[1].tolist() == [1.0, 1.0, 1.0]


def test_restarted_cluster(ex, slow, cluster, tmp_path):
    """A restart of the cluster cancels its trials: they are interrupted, and the next one runs."""
    cluster.add()
    with Client(cluster.address) as client:
        future = client.compute(slow)
        wait_until((tmp_path / "inside").exists)
        client.restart(wait_for_workers=False)
        assert future.status == "cancelled"
        assert status(ex) == ["interrupted"]
        cluster.kill()
        (tmp_path / "gate").touch()
        cluster.add()
        assert client.compute(slow).result(timeout=60) == 1
    assert status(ex) == ["interrupted", "succeeded"]


def test_all_workers_killed(ex, slow, cluster, tmp_path):
    """A trial whose step takes every worker down is failed, for that reason."""
    cluster.add()
    with Client(cluster.address) as client:
        client.run_on_scheduler(_allow_no_failure)
        future = client.compute(slow)
        wait_until((tmp_path / "inside").exists)
        cluster.kill()
        with pytest.raises(KilledWorker):
            future.result(timeout=60)
        history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["failed"]
    assert history["Description"][1].startswith("KilledWorker(")


def _allow_no_failure(dask_scheduler):
    dask_scheduler.allowed_failures = 0


def test_no_worker_left(ex, slow, cluster, tmp_path):
    """A trial that waits for workers in vain is failed; if some come back, it can still succeed."""
    cluster.add()
    with (
        dask.config.set({"daskperiment.heartbeat-timeout": 0.5}),
        Client(cluster.address) as client,
    ):
        future = client.compute(slow)
        wait_until((tmp_path / "inside").exists)
        cluster.kill()
        wait_until(lambda: status(ex) == ["failed"])
        assert "all workers of the cluster are gone" in ex.get_history()["Description"][1]
        (tmp_path / "gate").touch()
        cluster.add()
        assert future.result(timeout=60) == 1
        assert status(ex) == ["succeeded"]


@pytest.mark.parametrize("how", ["cancel", "drop", "close"])
def test_future_given_up(ex, slow, cluster, tmp_path, how):
    """A future that is cancelled or dropped, or whose client is closed: interrupted."""
    cluster.add()
    with Client(cluster.address) as client:
        future = client.compute(slow)
        wait_until((tmp_path / "inside").exists)
        assert status(ex) == ["running"]
        if how == "cancel":
            future.cancel()
        elif how == "close":
            client.close()
        del future
        wait_until(lambda: status(ex) == ["interrupted"])
    cluster.kill()


@contextmanager
def interrupted_when(condition):
    """Send Ctrl-C to this thread as soon as something is the case."""

    def interrupt():
        wait_until(condition)
        signal.pthread_kill(here, signal.SIGINT)

    here = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.parametrize(("end", "act"), [("cancelled", "save_metric"), ("Ctrl-C", "rng")])
def test_step_stops_on_its_worker_when_its_trial_was_interrupted(ex, cluster, tmp_path, act, end):
    """The worker learns of it by its heartbeat: the step draws and saves no more, and ends."""
    inside, said = tmp_path / "inside", tmp_path / "said"

    @ex
    def endless(inside, said, act):
        # So that it beats with each tick.
        dask.config.set({"daskperiment.heartbeat-timeout": 0.1})
        for epoch in range(3):
            ex.save_metric("loss", epoch, 1.0)
        Path(inside).touch()
        try:
            while True:
                ex.rng.random() if act == "rng" else ex.save_metric("loss", 3, 1.0)
                time.sleep(0.02)
        except BaseException as error:
            Path(said).write_text(f"{type(error).__name__}: {error}")
            raise

    @ex.result
    def last(value):
        return value

    cluster.add()
    with Client(cluster.address) as client:
        result = last(endless(str(inside), str(said), act))
        if end == "cancelled":
            future = client.compute(result)
            wait_until(inside.exists)
            future.cancel()
        else:
            with interrupted_when(inside.exists), pytest.raises(KeyboardInterrupt):
                result.compute()
        wait_until(lambda: status(ex) == ["interrupted"])
        text = wait_until(lambda: said.exists() and said.read_text())
        assert text.startswith("StepEndedError: Step 'endless' of trial 1 can")
        assert "its trial was interrupted" in text
        wait_until(lambda: ex.get_steps(1)["Status"].tolist() == ["interrupted"])
        points = len(ex.load_metric("loss", 1))
        assert status(ex) == ["interrupted"]
        assert client.submit(sum, [1, 2]).result() == 3  # the worker is free again
        assert len(ex.load_metric("loss", 1)) == points


def test_cancelled_before_it_begins(ex, slow, cluster):
    """A trial that never began leaves no row, and is followed until its cluster forgot it."""
    with Client(cluster.address) as client:
        future = client.compute(slow)
        tracker = following.tracker_of(recorder_for(ex._store))
        assert tracker
        future.cancel()
        assert status(ex) == []
        wait_until(lambda: status(ex) == [] and not tracker)


def test_hundreds_cancelled_at_any_moment(ex, cluster):
    """Of trials that are cancelled while they begin, run and end none stays running."""
    cluster.add()
    cluster.add()

    @ex
    def work(a):
        return a

    @ex.result
    def last(x):
        return x

    result = last(work(ex.parameter("a")))
    with Client(cluster.address) as client:
        for start in range(0, 300, 30):
            futures = client.compute([result.bind(a=start + i) for i in range(30)])
            wait(futures[start // 30 :: 7][:1])
            client.cancel(futures)
            del futures
        tracker = following.tracker_of(recorder_for(ex._store))
        wait_until(lambda: "running" not in status(ex) and not tracker)
        assert set(status(ex)) <= {"succeeded", "interrupted"}
        assert ex.get_history(verbose=True, running=True)["a"].is_unique


def test_scheduler_gone(ex, slow, cluster, tmp_path):
    """A trial whose scheduler is gone is interrupted, and says that contact was lost."""
    cluster.add()
    with Client(cluster.address) as client:
        client._timeout = 0.5  # for finding it again, and not for finding it
        future = client.compute(slow)
        wait_until((tmp_path / "inside").exists)
        cluster.kill()
        cluster.kill_program(cluster.scheduler)
        with pytest.raises(FutureCancelledError):
            future.result(timeout=60)
        history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["interrupted"]
    assert "lost the connection to the scheduler" in history["Description"][1]


def test_client_that_dies(cluster, tmp_path):
    """A trial whose client is killed is lost."""
    cluster.add()
    marker = tmp_path / "marker"
    pid = cluster.start("client", cluster.address, str(tmp_path / "store"), str(marker))
    wait_until(marker.exists)
    ex = daskperiment.Experiment("clients", backend=tmp_path / "store")
    assert status(ex) == ["running"]
    cluster.kill_program(pid)
    assert status(ex) == ["lost"]


def test_error_of_a_shared_step(ex, client):
    """An error of a task that trials share is what each of them fails with."""

    @dask.delayed(pure=True)
    def load():
        raise FileNotFoundError("no data")

    @ex.result
    def use(data, a):
        return a

    result = use(load(), ex.parameter("a"))
    futures = client.compute([result.bind(a=i) for i in range(3)])
    for future in futures:
        assert isinstance(future.exception(timeout=60), FileNotFoundError)
    wait_until(lambda: set(status(ex)) <= {"failed"})
    history = ex.get_history()
    assert set(history["Description"]) <= {"FileNotFoundError(no data)"}


def test_trial_within_a_task(ex, client, tmp_path):
    """A task of the cluster can be a client of it, whose trials are recorded as well."""

    def run(backend):
        inner = daskperiment.Experiment("demo", backend=backend)

        @inner.result
        def double(a):
            return 2 * a

        with worker_client() as here:
            return here.compute(double(inner.parameter("a", 4))).result()

    assert client.submit(run, tmp_path / "store").result(timeout=60) == 8
    assert status(ex) == ["succeeded"]


def test_kept_while_in_flight(ex, slow, cluster, tmp_path):
    """What is to be kept for a trial lives until the trial has ended, and no longer."""
    cluster.add()
    dropped = threading.Event()

    class Thing:
        def __del__(self):
            dropped.set()

    recorder = recorder_for(ex._store)
    with Client(cluster.address) as client:
        future = client.compute(slow)
        token = str(future.key).rpartition("-")[2]
        following.tracker_of(recorder).drop(token)
        assert following.follow(recorder, token, future.key, frozenset([Thing()]))
        wait_until((tmp_path / "inside").exists)
        assert not dropped.is_set()
        (tmp_path / "gate").touch()
        assert future.result(timeout=60) == 1
        assert dropped.wait(60)


def test_computed_again_after_a_loss(ex, cluster):
    """What a cluster computes again is the same trial, however it was submitted; all else is not.

    The only worker is killed while results are held: so all of them are computed again.
    """
    a = ex.parameter("a", default=0)

    @ex
    def double(a):
        return 2 * a

    @ex.result
    def total(x):
        return x

    results = [total(double(a)).bind(a=number) for number in range(12)]
    cluster.add()
    with Client(cluster.address) as client:
        nested = dask.delayed(sum)(results[6:8])
        held = [
            client.compute(results[0]),
            *client.compute(results[1:3]),
            client.persist(results[3]),
            *dask.persist(*results[4:6]),
            client.compute(nested),
            client.submit(abs, client.compute(results[8])),
            client.compute(results[9], retries=2),
        ]
        assert results[10].compute() == 20
        wait(held)
        cluster.kill()
        cluster.add()
        wait(held)
        assert client.gather(client.compute(held)) == [0, 2, 4, 6, 8, 10, 26, 16, 18]
        history = ex.get_history(verbose=True, running=True)
        assert sorted(history["a"]) == list(range(11))
        assert set(history["Status"]) == {"succeeded"}
        assert ex.get_steps()["Trial ID"].value_counts().max() > 2  # it did compute them again
        # A new computation of the same graph is a trial of its own.
        del held
        wait_until(lambda: not client.futures)
        assert nested.compute() == 26
        assert len(ex.get_history()) == 13
