"""The background thread of a process: one for all, and only while any has something to do."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import daskperiment
from daskperiment.errors import StoreError
from daskperiment.recording import heartbeat
from daskperiment.recording.heartbeat import Heartbeat
from daskperiment.recording.registry import close_recorders
from tests.helpers.folders import opened_below


class Driven:
    """Counts its ticks, in which it may have to wait for somebody."""

    def __init__(self) -> None:
        self.busy = True
        self.ticks = self.rests = 0
        self.threads: set[threading.Thread] = set()
        self.ticked = threading.Event()
        self.rested = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def tick(self) -> None:
        self.ticks += 1
        self.threads.add(threading.current_thread())
        if self.ticks >= 2:
            self.ticked.set()
        self.go_on.wait(60)

    def rest(self) -> None:
        self.rests += 1
        self.rested.set()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the background thread hurry, and take no turn for slow, however busy the machine is."""
    monkeypatch.setattr(heartbeat, "TICK", 0.005)
    monkeypatch.setattr(heartbeat, "_SLOW", 1e9)


def recorder_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("daskperiment")]


def all_ended() -> bool:
    """Whether no thread is left within a minute: who stops a heartbeat waits a few seconds only."""
    for thread in recorder_threads():
        thread.join(60)
    return not recorder_threads()


@pytest.mark.usefixtures("fast")
def test_one_thread_for_all() -> None:
    """Any number of heartbeats share a thread, which ends with the last of them."""
    every = [Driven() for _ in range(20)]
    beats = [Heartbeat(each) for each in every]
    for beat in beats:
        beat.start()
    assert all(each.ticked.wait(60) for each in every)
    assert len(set.union(*(each.threads for each in every))) == 1
    for beat in beats:
        beat.stop()
    assert all_ended()


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [StoreError("no descriptors"), ValueError("a fault")])
@pytest.mark.parametrize("where", ["tick", "rest"])
def test_who_fails_stops_nobody(
    error: Exception, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in one turn is told unless it is the store's, and the other heartbeats go on."""
    told: list[object] = []
    failed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))

    def fail() -> None:
        failed.set()
        raise error

    failing, other = Driven(), Driven()
    failing.busy = where == "tick"
    setattr(failing, where, fail)
    beats = [Heartbeat(failing), Heartbeat(other)]
    for beat in beats:
        beat.start()
    assert failed.wait(60)
    other.ticks = 0
    other.ticked.clear()
    assert other.ticked.wait(60)
    for beat in beats:
        beat.stop()
    assert set(told) == ({error} if isinstance(error, ValueError) else set())
    assert all_ended()


@pytest.mark.usefixtures("fast")
def test_whoever_is_slow_has_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer keeps no other experiment from its signs of life."""
    monkeypatch.setattr(heartbeat, "_SLOW", -1.0)
    slow, other = Driven(), Driven()
    beats = [Heartbeat(slow), Heartbeat(other)]
    beats[0].start()
    assert slow.ticked.wait(60)
    slow.go_on.clear()
    beats[1].start()
    assert other.ticked.wait(60)
    slow.go_on.set()
    for beat in beats:
        beat.stop()


@pytest.mark.usefixtures("fast")
def test_rest_and_waking() -> None:
    """Who has nothing to do for a while rests, and beats again when it is started anew."""
    driven = Driven()
    driven.busy = False
    beat = Heartbeat(driven)
    beat.start()
    assert driven.rested.wait(60)
    assert not beat.runs
    ticks = driven.ticks
    driven.ticked.clear()
    beat.start()
    assert driven.ticked.wait(60)
    assert driven.ticks > ticks
    beat.stop()


def test_crowd_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that have nothing to do only the last stay awake; who has something stays too."""
    monkeypatch.setattr(heartbeat, "TICK", 3600.0)  # nobody rests for having been idle
    busy, *idle = every = [Driven() for _ in range(30)]
    for each in idle:
        each.busy = False
    beats = [Heartbeat(each) for each in every]
    for beat in beats:
        beat.start()
    awake = [each for each, beat in zip(every, beats, strict=True) if beat.runs]
    assert busy in awake
    assert len(awake) <= heartbeat._AWAKE + 1
    assert sum(each.rests for each in every) == len(every) - len(awake)
    for beat in beats:
        beat.stop()


def test_idle_experiments_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty experiments cost no more descriptors than a few; idle they hold none, and go on."""
    monkeypatch.setattr(heartbeat, "TICK", 0.02)
    monkeypatch.setattr(heartbeat, "_SLOW", 1e9)
    results, most = [], []
    for number in range(40):
        ex = daskperiment.Experiment(f"e{number}", backend=tmp_path)
        n = ex.parameter("n", default=number)

        @ex.result
        def twice(n: int) -> int:
            return 2 * n

        results.append(twice(n))
        results[-1].compute(scheduler="synchronous")
        most.append(len(opened_below(tmp_path)))
        assert len(recorder_threads()) <= 1
    assert 0 < max(most) < 40
    assert all_ended()
    assert opened_below(tmp_path) == []
    for number in (0, 39):
        assert results[number].compute(scheduler="synchronous") == 2 * number
        ex = daskperiment.Experiment(f"e{number}", backend=tmp_path)
        assert ex.get_history()["Result"].tolist() == [2 * number] * 2


def test_journal_goes_on_after_a_rest(tmp_path: Path) -> None:
    """A journal that rested writes on in its file, and in another one if that was deleted."""
    folder = tmp_path / "demo" / "journal"
    ex = daskperiment.Experiment("demo", backend=tmp_path)
    n = ex.parameter("n", default=1)

    @ex.result
    def same(n: int) -> int:
        ex.save_metric("loss", 0, n)
        return n

    result = same(n)
    result.compute(scheduler="synchronous")
    (file,) = os.listdir(folder)
    recorder = heartbeat_of(ex)
    recorder.rest()
    result.compute(scheduler="synchronous")
    assert os.listdir(folder) == [file]
    recorder.rest()
    (folder / file).unlink()
    result.compute(scheduler="synchronous")
    assert len(os.listdir(folder)) == 1
    assert os.listdir(folder) != [file]
    assert ex.load_metric("loss", [1, 2, 3]).shape == (1, 3)
    close_recorders()
    assert os.listdir(folder) == []


def heartbeat_of(ex: daskperiment.Experiment) -> heartbeat.Ticking:
    """Return what drives an experiment's journal and store."""
    from daskperiment.recording.registry import recorder_for

    return recorder_for(ex._store)
