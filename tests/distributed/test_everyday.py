"""Everyday clusters: they grow and shrink, are shared by experiments, and are told to stop."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from urllib.parse import quote

import pymongo
import pytest
from distributed import Client, LocalCluster

import daskperiment
from daskperiment.recording.registry import close_recorders
from tests.distributed.clusters import wait_until
from tests.store.mongo_server import running as mongo_server
from tests.store.redis_server import redis_server, server_of_wheel

PASSWORD = "Zq9-hunter of:passwords"


def test_a_cluster_that_grows_and_shrinks(ex):
    """A sweep on an adaptive cluster without workers makes it grow; then it is empty again."""

    @ex.result
    def double(a):
        ex.save_metric("a", 0, a)
        time.sleep(0.02)
        return 2 * a

    s = double(ex.parameter("a"))
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2)
        assert not cluster.workers
        frame = s.sweep({"a": list(range(8))}, progress=False)
        grown = set(ex.get_steps()["Worker Name"])
        wait_until(lambda: not cluster.workers)
        again = s.sweep({"a": [8]}, progress=False)
    assert frame["Result"].tolist() == [2 * a for a in frame["a"]]
    assert again["Result"].tolist() == [16]
    assert 1 <= len(grown) <= 2
    assert list(ex.get_history()["Result"]) == [2 * a for a in ex.get_history()["a"]]
    assert len(ex.get_history()) == 9


def test_a_worker_that_is_told_to_stop(ex, cluster, tmp_path):
    """SIGTERM to a worker in a step: another one runs it, in the same trial, which succeeds."""
    inside, gate = tmp_path / "inside", tmp_path / "gate"

    @ex
    def wait(inside, gate):
        state, done = ex.restore(default=(0, 0))
        for epoch in range(done + 1, 4):
            state += epoch
            ex.save_metric("state", epoch, state)
            ex.checkpoint(state, epoch)
            if epoch == 2 and not Path(gate).exists():
                Path(inside).write_text(str(os.getpid()))
                while not Path(gate).exists():
                    time.sleep(0.02)
        return state

    @ex.result
    def last(x):
        return x

    names = [cluster.add(), cluster.add()]
    places = ex.parameter("inside", str(inside)), ex.parameter("gate", str(gate))
    with Client(cluster.address) as client:
        future = client.compute(last(wait(*places)))
        pid = int(wait_until(lambda: inside.exists() and inside.read_text()))
        name = next(name for name in names if cluster.workers[name] == pid)
        os.kill(cluster.workers.pop(name), signal.SIGTERM)
        cluster.wait()
        gate.touch()
        assert future.result(timeout=60) == 6
    assert ex.get_history(verbose=True, running=True)["Status"].tolist() == ["succeeded"]
    assert ex.load_metric("state", 1)[1].tolist() == [1, 3, 6]
    done = ex.get_steps(1).query("Step == 'wait' and Status == 'succeeded'")
    assert done["PID"].iloc[-1] != pid


def test_two_experiments_at_once(client, tmp_path):
    """Two experiments share a cluster: each has its own trials, points and outputs."""
    made = []
    for number in (1, 2):
        ex = daskperiment.Experiment("shared", backend=tmp_path / f"store{number}", reuse=True)

        @ex.persist
        def rows(count, ex=ex, number=number):
            return [number] * count

        @ex.result
        def total(rows, a, ex=ex):
            ex.save_metric("a", 0, a)
            return sum(rows) * a

        made.append((ex, total(rows(ex.parameter("count", 3)), ex.parameter("a", 1))))
    futures = [client.compute(s.bind(a=a)) for a in range(10) for _, s in made]
    found = client.gather(futures)
    assert found == [3 * number * a for a in range(10) for number in (1, 2)]
    for number, (ex, _) in enumerate(made, 1):
        history = ex.get_history()
        assert sorted(history["a"]) == list(range(10))
        assert (history["Result"] == 3 * number * history["a"]).all()
        points = ex.load_metric("a", list(history.index)).loc[0]
        assert points.tolist() == history["a"].tolist()
        assert ex.get_persisted("rows", int(history.index[-1])) == [number] * 3


@pytest.fixture(params=["redis", "mongo"])
def url(request, tmp_path, monkeypatch):
    """Give the URL of a server that asks for a password."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path / "journals"))
    right = quote(PASSWORD, safe="")
    if request.param == "redis":
        with redis_server(server_of_wheel(), tmp_path / "server", "--requirepass", PASSWORD) as s:
            yield f"redis://:{right}@127.0.0.1:{s.port}/0"
            close_recorders()  # before the server ends: something may wait for it
    else:
        with mongo_server(tmp_path / "server", auth=True) as server:
            with pymongo.MongoClient(server.host) as client:
                client.admin.command("createUser", "tester", pwd=PASSWORD, roles=["root"])
            yield f"mongodb://tester:{right}@{server.host}/test?authSource=admin"
            close_recorders()


def told_by_scheduler(dask_scheduler):
    """Return what a scheduler shows of its tasks: keys, texts, events and where they went."""
    tasks = list(dask_scheduler.tasks.values())
    texts = [(str(t.key), repr(t), t.group_key, t.exception_text) for t in tasks]
    moves = [str(each) for each in dask_scheduler.transition_log]
    events = [str(dask_scheduler.get_events(topic)) for topic in dask_scheduler._broker._topics]
    return str((texts, moves, events))


def test_the_password_of_a_store(client, url, caplog):
    """A store with a password is reached by workers, and the password is shown nowhere."""
    ex = daskperiment.Experiment("kept", backend=url)

    @ex.persist
    def rows(a):
        return list(range(a))

    @ex.result
    def total(rows, a):
        if a < 0:
            raise ValueError("negative")
        print("total", a)
        return sum(rows)

    a = ex.parameter("a", 4)
    s = total(rows(a), a)
    futures = [client.compute(each) for each in (s, s.bind(a=5), s.bind(a=-1))]
    assert client.gather(futures[:2]) == [6, 10]
    assert isinstance(futures[2].exception(), ValueError)
    shown = [
        client.run_on_scheduler(told_by_scheduler), client.get_scheduler_logs(),
        client.get_worker_logs(), client.cluster, futures, [each.key for each in futures], ex, s,
        ex._repr_html_(), list(s.dask), ex.get_history(verbose=True), ex.get_log(1), caplog.text,
        [(each.exception(), each.traceback()) for each in futures[2:]],
    ]  # fmt: skip
    text = "".join(f"{each}{each!r}" for each in shown)
    assert "total" in text
    assert len(text) > 5_000
    for form in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD)):
        assert form not in text
