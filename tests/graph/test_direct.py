"""A local scheduler that gets a trial's tasks as they are does what Dask does with its graph."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode, List, Task, TaskRef
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.order import order

import daskperiment
from daskperiment import Experiment
from daskperiment.execution import tasks
from daskperiment.execution.trial import ReturnedBuffers
from daskperiment.graph import local_tasks
from daskperiment.graph.local_tasks import LocalTasks

Build = Callable[[Experiment], Any]


def chain(ex: Experiment) -> Any:
    """A step that takes what another returns."""

    @ex
    def add(a: int, b: int) -> int:
        return a + b

    @ex.result
    def double(x: int) -> int:
        ex.save_metric("x", 0, x)
        return 2 * x

    return double(add(ex.parameter("a", default=1), 2))


def reused(ex: Experiment) -> Any:
    """A step whose output is taken from the trial before."""

    @ex.persist(reuse=True)
    def prepare(a: int) -> list[int]:
        return [a] * 3

    @ex.result
    def total(values: list[int]) -> int:
        return sum(values)

    return total(prepare(ex.parameter("a", default=1)))


def blocks(ex: Experiment) -> Any:
    """Steps that take an array of Dask, of which most is not needed, and a parameter inside one."""
    data = da.arange(40, chunks=4)

    @ex.result
    def total(some: Any, more: Any) -> int:
        return int(some.sum() + more.sum())

    return total(data[:8], data[30:] + 1)


def computed(ex: Experiment) -> Any:
    """A parameter that is computed from another one, and a plain function between steps."""
    a = ex.parameter("a", default=3)

    @ex.parameter
    def squared(a: int) -> int:
        return a * a

    @ex.result
    def total(x: int, y: int) -> int:
        return x + y

    return total(dask.delayed(abs)(squared), a)


def failing(ex: Experiment) -> Any:
    """A step that raises."""

    @ex
    def fail(a: int) -> int:
        raise ZeroDivisionError(f"of {a}")

    @ex.result
    def give(x: int) -> int:
        return x

    return give(fail(ex.parameter("a", default=1)))


class Watching(Callback):
    """Asks for Dask's ordinary way, and notes the tasks that it sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        super().__init__(pretask=lambda key, dsk, state: self.seen.append(key))


def outcome(result: Any, **keywords: Any) -> Any:
    """What a computation gives, or the exception and its frames outside of Dask."""
    try:
        return result.compute(**keywords)
    except ZeroDivisionError as error:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            frames.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        return str(error), frames[-1]


def recorded(ex: Experiment) -> Any:
    """What two trials recorded, but for times and ids."""
    steps = ex.get_steps()
    rows = [
        tuple(row)
        for row in steps[
            ["Trial ID", "Key", "Status", "Output Fingerprint", "Reused From"]
        ].to_numpy()
    ]
    history = ex.get_history(verbose=True)
    history = history.drop(columns=["Started", "Finished", "Process Time"])
    return sorted(map(repr, rows)), history.astype(str).to_dict("list")


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("build", [chain, reused, blocks, computed, failing])
def test_both_ways_record_the_same(tmp_path, build, scheduler):
    """Result or exception, step runs and history are those of the graph that Dask prepares."""
    found = []
    for name in ("direct", "ordinary"):
        ex = Experiment("same", backend=tmp_path / name, seed=1)
        result = build(ex)
        watching = Watching()
        values = []
        for _ in range(2):
            if name == "ordinary":
                with watching:
                    values.append(outcome(result, scheduler=scheduler))
            else:
                values.append(outcome(result, scheduler=scheduler))
        assert bool(watching.seen) == (name == "ordinary")
        found.append((values, recorded(ex)))
    assert found[0] == found[1]


@pytest.fixture
def ordinary(monkeypatch):
    """Notes the collections that Dask computes in its own way."""
    seen: list[Any] = []
    compute = Delayed.compute

    def noted(self: Any, **keywords: Any) -> Any:
        seen.append(keywords)
        return compute(self, **keywords)

    monkeypatch.setattr(Delayed, "compute", noted)
    return seen


def test_a_local_scheduler_gets_the_tasks(tmp_path, ordinary):
    """Whether it is named, configured or Dask's own choice, and whatever it is told of workers."""
    result = chain(Experiment("same", backend=tmp_path))
    with dask.config.set(scheduler="synchronous"):
        assert result.compute() == 6
    assert [result.compute(), result.compute(scheduler="threads", num_workers=1)] == [6, 6]
    assert ordinary == []


@pytest.mark.parametrize(
    "config",
    [
        {"delayed_optimize": lambda dsk, keys, **_: dsk}, {"scheduler": "processes"},
        {"cache": {}}, {"rerun_exceptions_locally": True},
    ],
)  # fmt: skip
def test_what_users_configure_is_asked(tmp_path, ordinary, config):
    """An optimisation, a cache or a scheduler of one's own is Dask's affair."""
    result = chain(Experiment("same", backend=tmp_path))
    with dask.config.set(config):
        assert result.compute() == 6
    assert len(ordinary) == 1


def test_a_scheduler_of_ones_own(tmp_path, ordinary):
    """A function that is given as the scheduler gets the graph from Dask."""
    asked = []

    def get(dsk, keys, **keywords):
        asked.append(keywords)
        return dask.local.get_sync(dsk, keys)

    result = chain(Experiment("same", backend=tmp_path))
    assert result.compute(scheduler=get, note=1) == 6
    assert asked == [{"note": 1}]
    assert len(ordinary) == 1


class Held:
    """Something that tells whether anybody still has it."""

    count = 0


def line(length: int, gone: list[Any]) -> dict[Any, Task]:
    """Tasks of which each takes the one before, and tells how many others are still there."""

    def make(*before: Any) -> Any:
        held = Held()
        held.count = sum(ref() is not None for ref in gone)
        gone.append(weakref.ref(held))
        return held

    first = {"t0": Task("t0", make)}
    return first | {f"t{i}": Task(f"t{i}", make, TaskRef(f"t{i - 1}")) for i in range(1, length)}


class WithParameter:
    """What there is to know of a trial here."""

    values: Mapping[str, Any] = MappingProxyType({"a": 1})
    secrets = None
    returned = ReturnedBuffers()


def run_here(tasks: dict[Any, Any], key: Any, get: Any, **keywords: Any) -> Any:
    """Run tasks as those of a trial are run in this process."""
    return LocalTasks(key, tasks).run(get, WithParameter, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 2, 3000])
def test_a_line_of_tasks_runs_here(length):
    """As by Dask's scheduler, each value is let go of as soon as nobody takes it any more."""
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dask.local, "order", lambda dsk: seen.append(len(dsk)) or order(dsk))
        ours = run_here(line(length, []), f"t{length - 1}", dask.local.get_sync)
        assert seen == []
        dasks = dask.local.get_sync(line(length, []), f"t{length - 1}")
        assert seen == [length]
    assert ours.count == dasks.count == min(length - 1, 1)


def grown(seed: int, ran: list[Any]) -> dict[Any, Task]:
    """Tasks that take some of those before them and of what is given; each notes what is there."""
    draws, alive = random.Random(seed), []

    def make(name: str, *before: Any) -> Any:
        ran.append((name, sum(ref() is not None for ref in alive)))
        held = Held()
        alive.append(weakref.ref(held))
        return held

    tasks: dict[Any, Task] = {}
    for number in range(draws.randint(2, 40)):
        before = draws.sample(sorted(tasks), min(len(tasks), draws.randint(0, 3)))
        given = [TaskRef("given")] if draws.random() < 0.5 else []
        refs = [*map(TaskRef, before), *given]
        # Some take what they take in a list, as what a user puts into one.
        nested = [List(*refs)] if refs and draws.random() < 0.3 else refs
        name = f"t{draws.randint(0, 9)}-{number}"
        tasks[name] = Task(name, make, name, *nested)
    taken = {ref for task in tasks.values() for ref in task.dependencies}
    ends = [TaskRef(name) for name in tasks if name not in taken]
    return tasks | {"last": Task("last", make, "last", *ends)}


@pytest.mark.parametrize("seed", range(60))
def test_tasks_run_in_the_order_of_the_scheduler(seed):
    """Whoever fails first, and what is held meanwhile, is the same with and without it."""
    ours: list[Any] = []
    tasks = LocalTasks("last", grown(seed, ours), {}, {"given": "a"})
    assert isinstance(tasks.run(dask.local.get_sync, WithParameter), Held)  # type: ignore[arg-type]
    dasks: list[Any] = []
    dask.local.get_sync(grown(seed, dasks) | {"given": DataNode("given", 1)}, "last")
    assert ours == dasks
    assert ours[-1][0] == "last"


def test_the_order_is_worked_out_once(tmp_path, monkeypatch):
    """For all trials of one result."""
    ex = Experiment("same", backend=tmp_path)
    asked: list[Any] = []
    monkeypatch.setattr(local_tasks, "order", lambda dsk: asked.append(len(dsk)) or order(dsk))

    @ex
    def add(a: int, b: int) -> int:
        return a + b

    @ex.result
    def total(*values: int) -> int:
        return sum(values)

    a = ex.parameter("a", default=1)
    result = total(*(add(a, number) for number in range(5)))
    found = [result.bind(a=value).compute(scheduler="synchronous") for value in (1, 2, 1)]
    assert found == [15, 20, 15]
    assert asked == [6]


def test_tasks_of_one_trial_run_as_they_stand():
    """Each value is let go of with the last task that takes it, and each task when it has run."""
    for seed in range(20):
        ran: list[Any] = []
        graph = {"given": DataNode("given", 1), **grown(seed, ran)}
        names = list(graph)
        until = {each: place for place, name in enumerate(names)
                 for each in graph[name].dependencies}  # fmt: skip
        tasks = LocalTasks("last", dict(graph))
        assert isinstance(tasks.run(dask.local.get_sync, WithParameter), Held)  # type: ignore[arg-type]
        expected = [
            (name, sum(until[each] >= place for each in names[:place] if each != "given"))
            for place, name in enumerate(names) if name != "given"
        ]  # fmt: skip
        assert ran == expected
        assert not tasks.tasks


def test_a_reusing_trial_needs_no_order_of_dask(tmp_path, monkeypatch):
    """What each step takes is made just before it, and nothing is worked out for a graph."""
    monkeypatch.delattr(local_tasks, "order")
    ran: list[str] = []
    ex = Experiment("depth", backend=tmp_path)
    seen = tasks.StepRunner.run

    def noted(runner: Any, values: Any) -> None:
        ran.append(runner.call.key)
        seen(runner, values)

    monkeypatch.setattr(tasks.StepRunner, "run", noted)

    @ex.persist(reuse=True)
    def first(a: int, b: int) -> int:
        return a + b

    @ex.persist(reuse=True)
    def second(a: int) -> int:
        return 2 * a

    @ex.result
    def total(values: list[int], more: int) -> int:
        return sum(values) + more

    a = ex.parameter("a", default=1)
    firsts = [first(a, number) for number in range(3)]
    result = total([second(each) for each in reversed(firsts)], firsts[0])
    assert result.compute(scheduler="synchronous") == 13
    assert ran == ["first", "second", "first#2", "second#2", "first#3", "second#3", "total"]
    for values in ({}, {"a": 2}):
        found = {result.bind(values).compute(scheduler=each) for each in ("threads", "sync")}
        assert found == {13 + 7 * len(values)}


def test_threads_and_callbacks_are_for_dask():
    """Only where the caller's thread runs the tasks and nobody looks on they run without it."""
    asked = []

    def get(tasks: Any, key: Any, **keywords: Any) -> str:
        asked.append((len(tasks), keywords))
        return "from the scheduler"

    assert run_here(line(2, []), "t1", get, num_workers=3) == "from the scheduler"
    assert asked == [(3, {"cache": {}, "num_workers": 3})]
    with Watching() as watching:
        run_here(line(3, []), "t2", dask.local.get_sync)
    assert len(watching.seen) == 3


def test_unoptimised(tmp_path, ordinary):
    """Who asks for another graph than the usual one gets it from Dask."""
    result = chain(Experiment("same", backend=tmp_path))
    assert result.compute(optimize_graph=False, scheduler="synchronous") == 6
    assert len(ordinary) == 1


def test_unknown_keywords(tmp_path):
    """They are refused in both ways."""
    result = chain(Experiment("same", backend=tmp_path))
    with pytest.raises(TypeError, match="num_workers"):
        result.compute(num_worker=1)
    assert daskperiment.Experiment("same", backend=tmp_path).get_history().empty


@pytest.fixture
def digested_types(monkeypatch):
    """Return a way to note, from then on, the types of the arguments that are digested."""

    def start() -> list[type]:
        found: list[type] = []
        digest = tasks.exact_fingerprint

        def noted(value: Any, *rest: Any) -> str:
            found.append(type(value))
            return digest(value, *rest)

        monkeypatch.setattr(tasks, "exact_fingerprint", noted)
        return found

    return start


def test_an_array_that_was_loaded_for_one_step_is_digested_once(tmp_path, digested_types):
    """Its fingerprint is on record; an array that several steps take is looked at by each."""
    ex = Experiment("same", backend=tmp_path, seed=1)

    @ex.persist(reuse=True)
    def make(k: int) -> Any:
        return np.full(1000, float(k))

    @ex
    def first(values: Any) -> float:
        return float(values[0])

    @ex.result
    def alone(values: Any) -> float:
        return float(values[-1])

    @ex.result
    def both(x: float, values: Any) -> float:
        return x + float(values[-1])

    made = make(ex.parameter("k", default=1))
    one, several = alone(made), both(first(made), made)
    assert one.compute(scheduler="synchronous") == 1
    digested = digested_types()
    assert one.compute(scheduler="synchronous") == 1
    assert np.ndarray not in digested
    runs = ex.get_steps().set_index(["Trial ID", "Key"])["Input Fingerprint"]
    assert runs[1, "alone"] == runs[2, "alone"]
    assert several.compute(scheduler="synchronous") == 2
    assert digested.count(np.ndarray) >= 2


def test_an_array_that_its_step_may_have_kept_is_looked_at(tmp_path, digested_types):
    """A step that runs hands on what others may hold: the step that takes it digests it."""
    ex = Experiment("same", backend=tmp_path, seed=1)
    held = np.zeros(1000)

    @ex.persist(reuse=True)
    def hand() -> Any:
        return held

    @ex.result
    def last(values: Any) -> float:
        return float(values[-1])

    digested = digested_types()
    assert last(hand()).compute(scheduler="synchronous") == 0
    assert digested.count(np.ndarray) == 1
