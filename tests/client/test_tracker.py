"""Trials that this process gave to a cluster, with a client that does as it is told."""

from __future__ import annotations

import dataclasses
import math

import dask
import pytest

from daskperiment import cluster
from daskperiment.client import submitted
from daskperiment.client import tracker as following
from daskperiment.client.shipping import LocalRequest
from daskperiment.client.tracker import Tracker
from daskperiment.cluster import Submission
from daskperiment.codec import encode
from daskperiment.errors import StoreUnavailableError
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Begun, Ended, Failure, Origin, StepRun
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record

ELSEWHERE = Origin("another host", "boot", 1, 0.0, "somebody")


class State:
    """A task's state that the test sets."""

    status = "pending"
    exception = None
    traceback = None

    async def wait(self):
        raise AssertionError("nobody runs this client's event loop")


class FakeClient:
    """A client that knows some tasks, and whose event loop never runs."""

    def __init__(self, workers=1):
        self.futures = {}
        self.status = "running"
        self.loop = self
        self._scheduler_identity = {"n_workers": workers}
        self.scheduler = self
        self.states, self.stacks = {}, {}

    async def get_task_status(self, keys):
        return {key: self.states.get(key) for key in keys}

    async def call_stack(self, keys):
        return self.stacks

    def add_callback(self, function):
        self.called = function


@pytest.fixture
def recorder(ex):
    """Make a recorder whose background thread does nothing by itself."""
    made = recorder_for(ex._store)
    made.wake = lambda: None
    return made


@pytest.fixture
def tracker(recorder):
    made = Tracker(recorder)
    recorder.listeners.append(made)
    return made


def submit(tracker, token, client=None):
    state = State()
    tracker.add(token, Submission(client or FakeClient(), state, f"last-{token}"))
    return state


def begin(recorder, token, origin=ELSEWHERE):
    """Begin a trial as a worker does."""
    body = Begun(token, "last", 1000.0, 0, {}, "", "", "", origin)
    return recorder.store.allocate(token, encode(body)).trial


def status(ex):
    return ex.get_history(verbose=True, running=True)["Status"].to_dict()


def test_a_trial_that_waits_in_a_queue_is_kept_alive(ex, recorder, tracker):
    """The process that submitted a trial gives signs of life for it, wherever it began."""
    begin(recorder, "before")
    submit(tracker, "mine")
    trial = begin(recorder, "mine")
    begin(recorder, "foreign")
    with dask.config.set({"daskperiment.heartbeat-timeout": 0.001}):
        recorder.tick()
    beats = {record.trial for record in recorder.store.read("beats")}
    assert beats == {trial}
    assert status(ex)[trial] == "running"


def test_no_sign_of_life_after_the_end(recorder, tracker):
    """A trial that a worker ended is not kept alive."""
    submit(tracker, "mine")
    trial = begin(recorder, "mine")
    assert {owner.trial for owner in tracker.trials_alive()} == {trial}
    ended = encode(Ended("succeeded", 1001.0, 1.0))
    recorder.store.append([Record("trials", trial, "ended-succeeded", ended)])
    assert tracker.trials_alive() == set()


def test_error_that_no_worker_wrote_down(ex, recorder, tracker):
    """The client's error is the reason, with the step that raised it where a worker knew."""
    state = submit(tracker, "mine")
    trial = begin(recorder, "mine")
    failure = Failure("OSError", "OSError(gone)", "the worker's traceback", "load")
    run = StepRun("load", "load", "failed", 1000.0, 1.0, 1.0, 1, "h", 1, "t", "", failure=failure)
    recorder.store.append([Record("steps", trial, "load", encode(run))])
    state.status, state.exception = "error", OSError("gone")
    assert status(ex) == {trial: "failed"}
    assert ex.get_history()["Description"][trial] == "OSError(gone)"
    stored = [bytes(r.body) for r in recorder.store.read("trials", [trial])]
    assert b"the worker's traceback" in stored[-1]
    assert not tracker


def test_a_worker_had_the_last_word(recorder, tracker):
    """A trial whose end is on record gets no second one, however its future went."""
    state = submit(tracker, "mine")
    trial = begin(recorder, "mine")
    ended = encode(Ended("succeeded", 1001.0, 1.0))
    recorder.store.append([Record("trials", trial, "ended-succeeded", ended)])
    state.status = "cancelled"
    recorder.flush()
    assert [r.id for r in recorder.store.read("trials", [trial])] == ["begun", "ended-succeeded"]
    assert not tracker


def answer(client, recorder):
    """Let a client's event loop bring the cluster's answer."""
    recorder.flush()
    with pytest.raises(StopIteration):
        client.called().send(None)
    recorder.flush()


def test_begun_after_it_was_cancelled(ex, recorder, tracker):
    """A worker that was beginning a trial when it was cancelled leaves nothing running."""
    state = submit(tracker, "mine")
    state.status = "cancelled"
    recorder.flush()
    trial = begin(recorder, "mine", current_origin())
    assert status(ex) == {trial: "interrupted"}
    assert not tracker


def test_cancelled_until_the_cluster_says_so(ex, recorder, tracker, monkeypatch):
    """A trial that was cancelled is followed until its cluster has nothing of it, twice."""
    client = FakeClient()
    submit(tracker, "mine", client).status = "cancelled"
    monkeypatch.setattr(submitted, "SETTLED", math.inf)  # however long the answers take here
    for client.states, client.stacks in [
        ({"last-mine": "waiting"}, {}),
        ({}, {"tcp://worker": {"begin-mine": ()}}),
        ({"last-mine": None}, {"tcp://worker": {"begin-other": ()}}),
        (None, {}),  # which fails, as a broken connection does
        ({}, {}),
    ]:
        answer(client, recorder)
        assert tracker
    monkeypatch.setattr(submitted, "SETTLED", 0.0)
    answer(client, recorder)
    assert not tracker
    # Whoever was that late anyway is ended with the next question, here or in another trial.
    late = begin(recorder, "mine", current_origin())
    assert status(ex) == {late: "interrupted"}


def test_late_though_another_trial_is_followed(ex, recorder, tracker):
    """What was given up is not lost from sight when another trial is submitted."""
    closed = FakeClient()
    closed.status = "closed"
    submit(tracker, "mine", closed).status = "cancelled"
    recorder.flush()
    recorder.flush()
    assert not tracker
    late = begin(recorder, "mine", current_origin())
    submit(tracker, "other")
    assert status(ex) == {late: "interrupted"}


def test_the_loop_notes_what_is_released_at_once(ex, recorder, tracker):
    """An error is not forgotten when the future is dropped before anybody has looked."""
    client = FakeClient()
    state = submit(tracker, "mine", client)
    trial = begin(recorder, "mine")

    async def nothing():
        return None

    state.wait = nothing
    state.status, state.exception = "error", OSError("gone")
    with pytest.raises(StopIteration):
        client.called().send(None)
    state.status, state.exception = "cancelled", None
    assert status(ex) == {trial: "failed"}


def test_a_process_that_ends(ex, recorder, tracker):
    """When the process ends, what it waited for is interrupted."""
    submit(tracker, "mine")
    trial = begin(recorder, "mine", current_origin())
    recorder.close()
    assert status(ex) == {trial: "interrupted"}


def test_cancelled_without_workers(ex, recorder, tracker):
    """A trial that is given up when all workers are gone failed because of that."""
    state = submit(tracker, "mine", FakeClient(workers=0))
    trial = begin(recorder, "mine")
    recorder.flush()
    state.status = "cancelled"
    assert status(ex) == {trial: "failed"}


def test_thousand_trials_cost_one_reading(recorder, tracker, monkeypatch):
    """However many trials end at once, their records are read once."""
    states = [submit(tracker, f"token{i}") for i in range(1000)]
    for i in range(1000):
        begin(recorder, f"token{i}")
    reads = []
    read = recorder.store.read
    monkeypatch.setattr(
        type(recorder.store),
        "read",
        lambda self, stream, *a, **k: reads.append(stream) or read(stream, *a, **k),
    )
    for state in states:
        state.status = "finished"
    tracker.on_flush()
    assert reads == ["trials", "notes"]
    assert not tracker


def test_deleted_meanwhile(ex, recorder, tracker):
    """After an experiment is deleted, nothing of its trials is followed or written."""
    state = submit(tracker, "mine")
    begin(recorder, "mine")
    ex.delete()
    state.status = "cancelled"
    assert status(ex) == {}
    assert not tracker


def test_small_on_the_way(ex, monkeypatch):
    """What is large is in the store before a trial leaves, and the trial only names it."""
    client = FakeClient()
    monkeypatch.setattr(cluster, "clients", lambda: [client])

    @ex.result
    def one():
        return 1

    definition = one().definition
    plan = ex._planner.plan(definition.template, definition.options)
    request = plan.source.request()
    client.futures[f"one-{plan.token}"] = State()
    source = LocalRequest(lambda: request, frozenset(["key"]))
    sent = source.travelling()
    assert sent.followed
    assert sent.setup.blobs == ()
    named = sent.setup.code, sent.setup.environment, sent.setup.graph
    assert [blob.parts for blob in named] == [[], [], []]
    for blob in request.setup.blobs:
        assert bytes(ex._store.get(blob.digest)) == b"".join(map(bytes, blob.parts))
    assert following.tracker_of(recorder_for(ex._store)).in_flight() == {"key"}
    other = dataclasses.replace(request, token="other")
    assert not LocalRequest(lambda: other).travelling().followed


def test_store_away_at_submission(ex, monkeypatch):
    """Whoever submits a trial while the store is away is told at once."""
    monkeypatch.setattr("daskperiment.planning.planner.clients", lambda: [FakeClient()])

    @ex.result
    def one():
        return 1

    def put(self, digest, parts):
        raise StoreUnavailableError("not there")

    monkeypatch.setattr(type(ex._store), "put", put)
    with pytest.raises(StoreUnavailableError, match="not there"):
        dask.compute(one(), scheduler="synchronous")
    with pytest.raises(StoreUnavailableError, match="not there"):
        one().compute(scheduler="synchronous")
