"""A server that goes away in the middle of a trial."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import dask
import msgspec
import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import StoreUnavailableError, StoreWarning
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import open_store
from tests.helpers.awake import AwakeTime
from tests.shared.conftest import open_again
from tests.shared.outage import POINTS, compute_through
from tests.store.mongo_server import MongoServer
from tests.store.redis_server import RedisServer, server_of_wheel

PROGRAM = Path(__file__).with_name("outage.py")


@pytest.fixture(params=["redis", "mongo"])
def server(request, tmp_path):
    """Run a server that keeps over SIGKILL what it acknowledged; it has an address as `place`.

    While it is away nobody waits long for it: before and after that it may take its time.
    """
    folder = tmp_path / "server"
    if request.param == "redis":
        options = ("--appendonly", "yes", "--appendfsync", "always")
        server = RedisServer(server_of_wheel(), folder, *options)
        server.place = server.url
    else:
        server = MongoServer(folder, replica_set="rs" if request.param == "mongo-set" else "")
        server.place = server.url("test")
    start, kill = server.start, server.kill

    def be_away():
        kill()
        dask.config.set({"daskperiment.timeout": 2})

    def be_there():
        start()
        dask.config.set({"daskperiment.timeout": 60})

    server.start, server.kill = be_there, be_away
    try:
        with dask.config.set({"daskperiment.timeout": 60}):
            server.start()
            yield server
            daskperiment.recording.registry.close_recorders()
    finally:
        kill()


def check_complete(ex, backend):
    """Every record is there once: those from before, during and after the outage."""
    history = ex.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"]
    assert history["Result"].tolist() == [499_500]
    assert ex.load_metric("loss", 1)[1].tolist() == [epoch / 2 for epoch in range(POINTS)]
    assert sorted(ex.get_steps(1)["Step"]) == ["total", "train"]
    assert np.array_equal(ex.get_persisted("train", 1), np.arange(1000))
    store = open_store(backend, ex.id)
    ids = {name: [one.id for one in store.read(name)] for name in ("trials", "steps", "outputs")}
    assert len(ids["trials"]) == len(ids["steps"]) == 2
    assert all(len(set(each)) == len(each) > 0 for each in ids.values())
    assert sum(one.body.count(b'["loss"') for one in store.read("points")) == POINTS
    store.close()


def wait_for_delivery(ex):
    """Wait until the background thread delivered everything."""
    deadline = time.monotonic() + 60
    while "waiting" in repr(ex):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("server", ["redis", "mongo", "mongo-set"], indirect=True)
def test_server_comes_back(server):
    """The trial runs on, one warning is given, `repr` tells what waits, `flush` delivers it."""
    ex = daskperiment.Experiment("outage", backend=server.place)
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert compute_through(ex, server.kill) == 499_500
        assert "records for the store; ex.flush()" in repr(ex)
        with pytest.raises(StoreUnavailableError):
            ex.flush(timeout=1)
    (warning,) = caught
    assert issubclass(warning.category, StoreWarning)
    server.start()
    ex.flush(timeout=60)
    assert "waiting" not in repr(ex)
    check_complete(ex, server.place)


def test_delivered_without_being_asked(server):
    """When the server is back, this process delivers what waits by itself."""
    ex = daskperiment.Experiment("outage", backend=server.place)
    with pytest.warns(StoreWarning):
        assert compute_through(ex, server.kill) == 499_500
    server.start()
    wait_for_delivery(ex)
    check_complete(ex, server.place)


def run_program(server):
    """Compute through the outage in a process of its own, to its end.

    Who waits for each of the points that are left as long as for the first does not end in time.
    """
    pid = server.pid if isinstance(server, RedisServer) else server._process.pid
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), server.place, str(pid)],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    server.kill()
    return done


def test_delivered_by_another_process(server, journal_root):
    """A server that stays away: the process ends soon and in quiet, and another one delivers."""
    done = run_program(server)
    assert (done.returncode, done.stdout) == (0, "499500\n")
    told = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert len(told) <= 2, "\n".join(told)
    assert "Traceback" not in done.stderr
    assert list(journal_root.rglob("*.journal"))
    server.start()
    check_complete(daskperiment.Experiment("outage", backend=server.place), server.place)
    assert not list(journal_root.rglob("*.journal"))
    assert not list(journal_root.rglob("*.object"))


def test_later_process_delivers_unasked(server, tmp_path):
    """A later process of the experiment, busy with trials of its own, delivers what it finds."""
    run_program(server)
    server.start()
    ex = daskperiment.Experiment("outage", backend=server.place)
    assert "waiting" in repr(ex)

    @ex.result
    def one():
        return 1

    one().compute()
    wait_for_delivery(ex)
    with dask.config.set({"daskperiment.journal": str(tmp_path / "of another machine")}):
        ex = open_again("outage", server.place)
        assert ex.get_history()["Result"].tolist() == [499_500, 1]
        assert np.array_equal(ex.get_persisted("train", 1), np.arange(1000))


def test_trial_without_server(server):
    """A trial cannot begin without its store; that is told soon, and nothing is run."""
    ex = daskperiment.Experiment("outage", backend=server.place)
    runs = []

    @ex.result
    def count():
        return runs.append(1)

    result = count()
    result.compute()
    server.kill()
    fresh = open_again("outage", server.place).result(count.__wrapped__)()
    for attempt in (result, fresh):
        with (
            AwakeTime() as taken,
            pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:.*cannot be reached"),
        ):
            attempt.compute()
        # The limit is two seconds: several attempts in a row would take several times as long.
        assert taken.seconds < 4
    assert runs == [1]


@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_outage_on_another_machine(server, monkeypatch, fails):
    """A trial that ends on another machine than it began on reads the store's clock: if it can."""
    ex = daskperiment.Experiment("outage", backend=server.place)
    elsewhere = msgspec.structs.replace(current_origin(), host="elsewhere")

    @ex.result
    def travel():
        monkeypatch.setattr("daskperiment.execution.lifecycle.current_origin", lambda: elsewhere)
        server.kill()
        return 1 // (not fails)

    if fails:
        with pytest.raises(ZeroDivisionError):
            travel().compute(scheduler="synchronous")
    else:
        assert travel().compute(scheduler="synchronous") == 1
    server.start()
    ex.flush(timeout=60)
    history = ex.get_history()
    assert history["Success"].tolist() == [not fails]
    assert pd.Timedelta(0) <= history.loc[1, "Process Time"] < pd.Timedelta(seconds=60)
