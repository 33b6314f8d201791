"""Plain processes on one store, as a job array starts them, share the steps that all have."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

import daskperiment
from daskperiment.recording.claims import Claims
from daskperiment.recording.registry import recorder_for
from tests.survival.processes import nursery


@pytest.fixture
def processes(make_place, journal_root):
    """Start processes quickly; they end before what they write to is removed."""
    with nursery() as place:
        yield place


def wait_for(folder: Path, pattern: str, count: int) -> None:
    """Wait until so many files are there."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, pattern
        time.sleep(0.01)


@pytest.mark.parametrize(("kind", "count"), [("folder", 20), ("redis", 5), ("mongo", 5)])
def test_jobs_of_an_array_run_a_common_step_once(kind, count, make_place, processes, tmp_path):
    """Of many processes at once one runs the step; what draws is drawn by each of them."""
    backend = make_place(kind).backend
    jobs = [processes.start("job", backend, str(tmp_path), n, "gate") for n in range(count)]
    wait_for(tmp_path, "ready-*", count)
    wait_for(tmp_path, "data-*", 1)
    (tmp_path / "gate").touch()
    assert [processes.join(pid) for pid in jobs] == [0] * count
    ex = daskperiment.Experiment("array", backend=backend)
    assert len(list(tmp_path.glob("data-*"))) == 1
    assert len(list(tmp_path.glob("noise-*"))) == count
    history = ex.get_history()
    assert (history["Result"] // 6).tolist() == history["n"].tolist()
    assert (history["Result"] % 6).nunique() == count
    ran = [
        ex.get_steps(trial).query("Step == 'data'")["Reused From"].tolist()[0]
        for trial in range(1, count + 1)
    ]
    assert sum(not isinstance(each, int) for each in ran) == 1


def test_one_of_those_that_wait_takes_over_from_the_dead(processes, tmp_path):
    """If the process that runs the step is killed, one other runs it, and no more."""
    jobs = [processes.start("job", tmp_path / "store", str(tmp_path), n, "gate") for n in range(5)]
    wait_for(tmp_path, "ready-*", 5)
    wait_for(tmp_path, "data-*", 1)
    (first,) = tmp_path.glob("data-*")
    dead = int(first.name.partition("-")[2])
    processes.kill(dead)
    wait_for(tmp_path, "data-*", 2)
    (tmp_path / "gate").touch()
    assert [processes.join(pid) for pid in jobs if pid != dead] == [0] * 4
    assert len(list(tmp_path.glob("data-*"))) == 2
    history = daskperiment.Experiment("array", backend=tmp_path / "store").get_history()
    assert sorted(history["Success"]) == [False, *[True] * 4]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_trials_within_steps_wait_for_nobody(tmp_path, monkeypatch, scheduler):
    """Two steps that compute each other's step meanwhile come to their ends."""
    within = ModuleType("within")
    monkeypatch.setitem(sys.modules, "within", within)
    both_run, values, made = threading.Barrier(2, timeout=30), {}, {}

    def compute(mine: str, other: str) -> None:
        ex = daskperiment.Experiment("across", backend=tmp_path / "store")
        inner = ex.parameter("inner", default=False)

        @ex.persist(reuse=True, ignore=("inner",))
        def step(name, inner):
            if not inner:
                sys.modules["within"].run(name)
            return name

        @ex.result
        def result(value):
            return value

        made[mine] = result(step(other, inner)).bind(inner=True)
        values[mine] = result(step(mine, inner)).compute(scheduler=scheduler)

    def run(name: str) -> None:
        both_run.wait()
        made[name].compute(scheduler=scheduler)

    within.run = run
    threads = [threading.Thread(target=compute, args=pair, daemon=True) for pair in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert values == {"a": "a", "b": "b"}


def no_settling() -> None:
    """There is nothing to deliver."""


def test_who_waits_for_a_claim_goes_on_without_it(tmp_path):
    """Who waits delivers what others may wait for, and goes on when the claim is given back."""
    claims, settled, done = Claims(tmp_path), threading.Event(), []
    first = claims.take("a", no_settling)
    thread = threading.Thread(target=lambda: done.append(claims.take("a", settled.set)))
    thread.start()
    assert settled.wait(30)
    other = claims.take("b", no_settling)  # another name waits for nobody
    claims.give_back(first)
    thread.join(30)
    assert done == [None]  # what was made may be there
    again = claims.take("a", no_settling)
    assert not first.waited
    assert not again.waited
    claims.rest()  # without effect while something is claimed
    claims.give_back(other, again)
    claims.rest()
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["locks"]


def test_a_claim_lasts_until_its_output_is_delivered(tmp_path):
    """What was made is held until a delivery that began afterwards has ended."""
    claims = Claims(tmp_path)
    made = [claims.take(name, no_settling) for name in "abc"]
    assert claims.keep(made[0]), "the first is delivered at once"
    ready = claims.ready()
    claims.keep(made[1])  # while that is delivered
    claims.delivered(ready)
    assert claims.made == [made[1]]
    assert claims.take("a", no_settling) is not None
    waiting = threading.Thread(target=claims.take, args=("b", lambda: None), daemon=True)
    waiting.start()
    claims.delivered(claims.ready())
    waiting.join(30)
    assert not waiting.is_alive()
    assert claims.made == []


def test_what_is_made_during_a_delivery_waits_for_the_next(tmp_path, monkeypatch):
    """It may have come too late for that one; then it is delivered, and its claim ends."""
    ex = daskperiment.Experiment("array", backend=tmp_path)
    recorder = recorder_for(ex._store)
    claims, flush = recorder.delivery.claims, recorder.delivery.journal.flush
    claim = claims.take("data", pytest.fail)

    def make_meanwhile(*arguments):
        claims.keep(claim)
        return flush(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recorder.delivery.journal, "flush", make_meanwhile)
        recorder.settle()
    assert claims.made == [claim]
    recorder.settle()
    assert claims.made == []
    again = claims.take("data", pytest.fail)
    assert not again.waited
    claims.give_back(again)


def test_who_is_alone_with_its_claims_knows_it(tmp_path, processes):
    """Another process that comes is seen from then on; one that left is forgotten by a new look."""
    claims = Claims(tmp_path)
    assert not claims.is_alone(None)
    alone = claims.arrival()
    assert alone is not None
    assert claims.is_alone(alone)
    gate = tmp_path / "gate"
    pid = processes.start("claimant", str(tmp_path), str(gate))
    wait_for(tmp_path, "claimed", 1)
    assert not claims.is_alone(alone)
    assert claims.arrival() is None
    gate.touch()
    assert processes.join(pid) == 0
    assert not claims.is_alone(alone)
    assert claims.is_alone(claims.arrival())


def test_a_closed_recorder_ends_no_claim_of_the_next(tmp_path, processes):
    """The file is closed with its recorder: later that would end the locks of one made since."""
    closed = Claims(tmp_path)
    closed.give_back(closed.take("a", no_settling))
    closed.close()
    claims = Claims(tmp_path)
    claims.take("a", no_settling)
    del closed
    gate = tmp_path / "gate"
    gate.touch()
    pid = processes.start("claimant", str(tmp_path), str(gate))
    wait_for(tmp_path, "comes", 1)
    assert not (tmp_path / "claimed").exists()
    claims.close()
    assert processes.join(pid) == 0
    assert (tmp_path / "claimed").exists()


def test_a_deleted_file_of_claims_is_made_anew(tmp_path):
    """Who had nothing claimed when the folder was deleted is seen by those who come afterwards."""
    claims = Claims(tmp_path)
    claims.give_back(claims.take("a", no_settling))
    (tmp_path / "claims" / "locks").unlink()
    claims.give_back(claims.take("a", no_settling))
    assert (tmp_path / "claims" / "locks").exists()


def test_a_claim_that_is_no_file_stops_nobody(tmp_path):
    """Where the claims' folder is a file, as after a mishap, each makes the output itself."""
    (tmp_path / "claims").touch()
    claims = Claims(tmp_path)
    assert claims.take("a", no_settling) is claims.take("a", no_settling) is None
    assert claims.arrival() is None


def test_what_raises_lets_go(tmp_path):
    """A step that fails ends its claim, and so does one whose store is away when it ends."""
    ex = daskperiment.Experiment("claims", backend=tmp_path)
    x = ex.parameter("x", default=0)

    @ex.persist(reuse=True)
    def step(x):
        return 1 / x

    @ex.result
    def result(value):
        return value

    node = result(step(x))
    with pytest.raises(ZeroDivisionError):
        node.compute(scheduler="synchronous")
    claims = recorder_for(ex._store).delivery.claims
    assert claims._held == set()
    node.bind(x=1).compute(scheduler="synchronous")
    assert claims._held == set()
    assert claims.made == []
    recorder_for(ex._store).delivery.away = True
    try:
        node.bind(x=2).compute(scheduler="synchronous")
        assert claims._held == set()
        assert claims.made == []
    finally:
        recorder_for(ex._store).delivery.away = False
