"""What a trial costs in round trips to a server."""

from __future__ import annotations

import sqlite3
import tracemalloc

import pymongo
import pymongo.monitoring
import pytest

import daskperiment
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record
from tests.store.redis_server import CountingProxy


class Commands(pymongo.monitoring.CommandListener):
    """Counts what a client of MongoDB sends."""

    def __init__(self):
        self.names = []

    def started(self, event):
        self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture(params=["redis", "mongo", "mongo-set"])
def counted(request, make_place):
    """Give a backend, and a function that tells how many round trips there were so far."""
    place = make_place(request.param)
    if request.param == "redis":
        with CountingProxy(place.server.port) as proxy:
            number = place.backend.rpartition("/")[2]
            yield f"redis://127.0.0.1:{proxy.port}/{number}", lambda: proxy.round_trips
            daskperiment.recording.registry.close_recorders()
    else:
        commands = Commands()
        with pymongo.MongoClient(place.backend, event_listeners=[commands]) as client:
            yield client[place.name], lambda: len(commands.names)
            daskperiment.recording.registry.close_recorders()


@pytest.mark.parametrize("metrics", [0, 5])
def test_round_trips_of_a_trial(counted, metrics, monkeypatch):
    """A trial costs at most three round trips; the first one keeps code and makes indexes too."""
    # Signs of life go apart, from a background thread and far less often than trials.
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    backend, count = counted
    ex = daskperiment.Experiment("counted", backend=backend)
    a = ex.parameter("a")

    @ex
    def double(a):
        for epoch in range(metrics):
            ex.save_metric("loss", epoch, a)
        return 2 * a

    @ex.result
    def increase(x):
        return x + 1

    result = increase(double(a))
    used = []
    for value in range(6):
        before = count()
        assert result.bind(a=value).compute() == 2 * value + 1
        used.append(count() - before)
    assert used[0] <= 30
    # Points are a stream of their own.
    assert max(used[1:]) <= 3 + bool(metrics)


TRIPS = {"ordinary": (2, 3), "persisted": (2, 3), "reusable": (3, 9)}
"""Kind of the steps -> round trips of a trial that repeats the one before, and of a new one.

On a slow machine a step's claims and its output go apart from those of others: 9 are of that.
"""


@pytest.mark.parametrize("kind", TRIPS)
def test_round_trips_of_steps(counted, kind, monkeypatch):
    """A trial takes as many round trips, however many steps it has, kept or not, hit or not."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    backend, count = counted
    used = []
    for size in (2, 8):
        ex = daskperiment.Experiment(f"steps{size}", backend=backend, seed=0)
        make = {"ordinary": ex, "persisted": ex.persist, "reusable": ex.persist(reuse=True)}
        step, start = make[kind](shift), ex.parameter("start")
        result = ex.result(_total)([step(start, number) for number in range(size)])
        found = []
        for value in (0, 1, 2, 3, 4, 5, 5, 5):  # the first bring scripts, indexes and code
            before = count()
            result.bind(start=value).compute(scheduler="synchronous")
            found.append(count() - before)
        # MongoDB may ask for a second try.
        used.append((min(found[6:]), min(found[2:6])))
    for few, many in zip(*used, strict=True):
        assert many <= few + 3  # of six more steps, whatever the machine's speed
    assert all(taken <= most for taken, most in zip(used[0], TRIPS[kind], strict=True)), used


def _total(values):
    return sum(values)


def test_round_trips_of_reuse(counted):
    """Hundreds of outputs are found, and hundreds of objects are measured, in one round trip."""
    backend, count = counted
    store = open_store(backend, "counted")
    ids = [f"r-{number}" for number in range(300)]
    store.append([Record("outputs", 0, id, b"{}") for id in ids])
    for number in range(300):
        store.put(f"{number:04x}", [b"x"])
    digests = [f"{number:04x}" for number in range(300)]
    used = []
    for ask in (lambda: store.find(ids), lambda: store.sizes(digests)):
        assert len(ask()) == 300  # the first time a server learns scripts
        before = count()
        assert len(ask()) == 300
        used.append(count() - before)
    assert used == [1, 1]
    store.close()


def _round_trips_of_plans(backend, count, size):
    ex = daskperiment.Experiment(f"plans{size}", backend=backend, seed=0)
    start = ex.parameter("start", default=0)
    shifted = ex.persist(shift, reuse=True)

    @ex.result
    def last(values):
        return len(values)

    result = last([shifted(start, number) for number in range(size)])
    changed = result.bind(start=1)
    result.compute(scheduler="synchronous")
    used = []
    for plan in (result.definition.trial_graph, changed.definition.trial_graph):
        plan()  # what is read once in a process
        before = count()
        plan()
        used.append(count() - before)
    return used


def shift(value, number):
    return value + number


def test_round_trips_of_a_plan(counted, monkeypatch):
    """The plan of four times the steps takes as many round trips, hits or not."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    small, large = (_round_trips_of_plans(*counted, size) for size in (60, 240))
    assert small == large
    assert max(small) <= 5


def test_statements_of_a_plan(tmp_path, monkeypatch):
    """In a folder it takes as many statements, whatever its size."""
    monkeypatch.setattr("daskperiment.recording.heartbeat.TICK", 3600)
    statements = []
    connect = sqlite3.connect

    def traced(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr("sqlite3.connect", traced)
    small, large = (
        _round_trips_of_plans(tmp_path, lambda: len(statements), size) for size in (300, 1200)
    )
    assert small == large
    assert 0 < min(small) <= max(small) <= 12


def test_one_question_lays_out_no_batch(place):
    """Looking for one output, or one object, takes the memory of one and not that of a batch."""
    store = open_store(place.backend, "small")
    store.put("aa", [b"x"])
    questions = [lambda: store.find(["r-x"]), lambda: store.sizes(["aa"])]
    peaks = []
    for ask in questions:
        ask()  # what is made once is there
        peaks.append(min(_peak_of(ask) for _ in range(5)))  # a driver's thread may be at work, too
    store.close()
    assert max(peaks) < 60_000, peaks


def _peak_of(ask):
    tracemalloc.start()
    try:
        ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
