"""A trial decides nothing anew that the one before it decided, and never takes what is wrong."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

import daskperiment
from daskperiment.capture.files import variable_digest
from daskperiment.codec import decode, encode
from daskperiment.planning import reuse_planner
from daskperiment.records import (
    CacheEntry,
    FileState,
    StepRun,
    cache_entry_id,
    cache_key_of,
    impure_key_id,
)
from daskperiment.seeds import step_seed
from daskperiment.store.protocol import Record
from tests.helpers.garbage import collect
from tests.reuse.work import ran, write


class Work(NamedTuple):
    """An experiment whose trials take a kept array, computed three times."""

    ex: Any
    node: Any
    log: str
    decided: list[int]
    """How many plans were decided so far."""

    def compute(self, **asked: Any) -> Any:
        asked = {"scheduler": "synchronous", "reuse": True, **asked}
        return self.node.compute(**asked)

    def known(self) -> tuple[str, CacheEntry]:
        """The cache key of the kept array, and what is known under it."""
        store = self.ex._store
        runs = [decode(one.body, StepRun) for one in store.read("steps", [1])]
        (key,) = [run.cache_key for run in runs if run.step == "make"]
        assert key is not None
        (found,) = store.find([cache_entry_id(key)])
        return key, decode(found.body, CacheEntry)

    def append(self, id: str, entry: CacheEntry | None = None) -> None:
        body = b"{}" if entry is None else encode(entry)
        self.ex._store.append([Record("outputs", 0, id, body)])


@pytest.fixture
def work(tmp_path: Path, log: str, monkeypatch: pytest.MonkeyPatch) -> Work:
    decided: list[int] = []
    decide = reuse_planner.decide_reuse

    def noted(*args: Any) -> Any:
        decided.append(1)
        return decide(*args)

    monkeypatch.setattr(reuse_planner, "decide_reuse", noted)
    ex = daskperiment.Experiment("kept", backend=tmp_path / "store")

    @ex.persist
    def make(n: int) -> Any:
        write(log, "make")
        return np.arange(n)

    @ex.result
    def last(x: Any) -> int:
        return int(x[-1])

    work = Work(ex, last(make(ex.parameter("n", default=10))), log, decided)
    for _ in range(3):
        assert work.compute() == 9
    assert ran(log) == {"make": 1}
    return work


class Held(np.ndarray):  # type: ignore[type-arg]
    """An array that may be referred to weakly."""


def nothing(work: Work) -> None:
    pass


def gone(work: Work) -> None:
    _, entry = work.known()
    digest = entry.kept["value"]["digest"]
    work.ex._store.discard([digest])


def impure(work: Work) -> None:
    key, _ = work.known()
    work.append(impure_key_id(key))


def other_bytes(work: Work) -> None:
    _, entry = work.known()
    digest = entry.kept["value"]["digest"]
    body = bytes(work.ex._store.get(digest))
    work.ex._store.discard([digest])
    work.ex._store.put(digest, [body[:-1] + b"?"])


def another_value(work: Work) -> None:
    work.ex.set_parameters(n=11)
    work.compute()
    work.ex.set_parameters(n=10)


def deleted_trial(work: Work) -> None:
    work.ex.delete_trials(1, force=True)


@pytest.mark.parametrize(
    ("event", "runs", "decides"),
    [
        (nothing, False, False), (gone, True, True), (impure, True, True),
        (other_bytes, True, False), (another_value, False, False),
        (deleted_trial, True, True),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_what_changed_is_seen(
    work: Work, event: Callable[[Work], None], runs: bool, decides: bool
) -> None:
    """A plan holds while what the store knows is as it was, and what cannot be loaded is made."""
    event(work)
    before, _ = len(work.decided), ran(work.log)
    assert work.compute() == 9
    assert (ran(work.log) == {"make": 1}) is runs
    assert (len(work.decided) > before) is decides
    if not runs:
        reused = work.ex.get_steps(work.ex.trial_id)["Reused From"]
        assert reused.to_list()[0] == 1


def test_a_newer_output_is_taken(work: Work) -> None:
    """One that took the place of another is what later trials take."""
    key, entry = work.known()
    work.append(cache_entry_id(key, 1), msgspec.structs.replace(entry, trial=2))
    work.compute()
    assert work.ex.get_steps(4)["Reused From"].to_list()[0] == 2


def test_what_was_outdated_is_taken_once_it_is_not(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan holds for one state of the files and variables that any known output rests on."""
    key, entry = work.known()
    read = FileState("DRAWN", variable_digest("as it was"), kind="variable")
    work.append(cache_entry_id(key, 1), msgspec.structs.replace(entry, trial=2, reads=(read,)))
    for text, source in [("other", 1), ("other", 1), ("as it was", 2), ("other", 1)]:
        monkeypatch.setenv("DRAWN", text)
        work.compute()
        assert work.ex.get_steps(work.ex.trial_id)["Reused From"].to_list()[0] == source


def test_what_is_drawn_beside_hits_has_names_of_its_seed(tmp_path: Path) -> None:
    """A plan by which something is written down under a name with seeds is of one seed."""
    ex = daskperiment.Experiment("named", backend=tmp_path)

    @ex.persist(reuse=False)
    def draw() -> Any:
        drawn = int(ex.rng.integers(1 << 40))
        return (n for n in [drawn]) if drawn % 2 else drawn  # of what is odd nothing is kept

    drawn = draw()
    ignoring = ex.persist(ignore=("x",))(lambda x: 1)(drawn)
    node = ex.result(lambda a, b: type(b).__name__)(ignoring, drawn)

    def compute(seed: int) -> str:
        return str(node.compute(seed=seed, reuse=True, scheduler="synchronous"))

    numbers = [
        np.random.default_rng(step_seed(seed, "draw")).integers(1 << 40) for seed in range(9)
    ]
    odd, even = (next(n for n in range(9) if numbers[n] % 2 == rest) for rest in (1, 0))
    assert {compute(odd) for _ in range(4)} == {"generator"}
    assert compute(even) == "int"
    trials: dict[str, set[bool]] = {}
    for one in ex._store.read("outputs"):
        if one.id.startswith("r-"):
            entry = decode(one.body, CacheEntry)
            if entry.step == "draw":
                trials.setdefault(cache_key_of(one.id), set()).add(entry.trial <= 4)
    assert sorted(map(len, trials.values())) == [1, 1, 1]  # without seeds, and with either


def test_steps_that_draw_take_what_has_their_seed(tmp_path: Path, log: str) -> None:
    """What an output was drawn with is no other trial's, whatever was decided before."""
    ex = daskperiment.Experiment("drawn", backend=tmp_path)

    @ex.persist
    def draw() -> float:
        write(log, "draw")
        return float(np.random.default_rng(ex.rng.integers(1000)).random())

    node = ex.result(lambda x: x)(draw())
    found = [
        node.compute(seed=seed, reuse=True, scheduler="synchronous") for seed in [1, 1, 1, 2, 2, 1]
    ]
    assert found[0] == found[1] == found[2] == found[5] != found[3] == found[4]
    assert ran(log) == {"draw": 2}


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_results_that_are_kept_end_their_trials(tmp_path: Path, log: str, scheduler: str) -> None:
    """A trial of which the last step is a hit ends, with its result, in every way to take it."""
    ex = daskperiment.Experiment("ends", backend=tmp_path)

    @ex.result(persist=True)
    def last(n: int) -> list[int]:
        write(log, "last")
        return [n] * 3

    node = last(ex.parameter("n", default=1))
    for _ in range(5):
        assert node.compute(reuse=True, scheduler=scheduler) == [1, 1, 1]
    assert ran(log) == {"last": 1}
    history = ex.get_history()
    assert history["Result"].map(list).to_list() == [[1, 1, 1]] * 5
    assert history["Success"].all()
    assert len(history) == 5


def test_threads_take_each_what_is_theirs(work: Work) -> None:
    """Trials of two threads that take different outputs by turns have their own."""
    other = work.node.bind(n=20)
    other.compute(reuse=True, scheduler="synchronous")
    found: dict[int, set[Any]] = {10: set(), 20: set()}

    def several(node: Any, n: int) -> None:
        for _ in range(20):
            found[n].add(node.compute(reuse=True, scheduler="synchronous"))

    threads = [
        threading.Thread(target=several, args=each) for each in ((work.node, 10), (other, 20))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {10: {9}, 20: {19}}
    assert ran(work.log) == {"make": 1}  # the other one


@pytest.mark.parametrize("where", ["in a step", "in a step that is taken", "in a container"])
def test_values_of_graphs_go_with_them(tmp_path: Path, where: str) -> None:
    """A plan that is kept holds nothing of what the graph holds that it was made for."""
    ex = daskperiment.Experiment("held", backend=tmp_path)
    make = ex.persist(lambda n: [n])
    last = ex.result(persist=where == "in a step that is taken")(lambda x, array: 1)
    found = []
    for _ in range(4):
        array = np.ones(100).view(Held)
        found.append(weakref.ref(array))
        given = [array] if where == "in a container" else array
        last(make(1), given).compute(reuse=True, scheduler="synchronous")
        del array, given
    collect()
    assert [each() for each in found] == [None] * 4
