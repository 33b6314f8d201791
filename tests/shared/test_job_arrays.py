"""Plain processes on one store, as a job array starts them, share the steps that all have."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

import daskperiment
from daskperiment.recording.claims import claimed
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


def test_claims_leave_nothing_behind(tmp_path):
    """Who waits goes on when the block has ended, and then there is no file."""
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with claimed(tmp_path, "a"):
            entered.set()
            leave.wait(30)

    def follow() -> None:
        with claimed(tmp_path, "a"):
            done.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=follow)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    with claimed(tmp_path, "b"):  # another name waits for nobody
        assert not done.wait(0.05)
    leave.set()
    assert done.wait(30)
    for thread in threads:
        thread.join()
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_claim_that_is_no_file_stops_nobody(tmp_path):
    """Where the claims' folder is a file, as after a mishap, each makes the output itself."""
    (tmp_path / "claims").touch()
    with claimed(tmp_path, "a"), claimed(tmp_path, "a"):
        pass


def test_what_raises_lets_go(tmp_path):
    """A step that fails ends its claim."""
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, "a"):
        raise ZeroDivisionError
    assert list((tmp_path / "claims").iterdir()) == []
