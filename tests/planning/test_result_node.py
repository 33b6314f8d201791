"""A result is an ordinary Dask collection, and computing it is a trial."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from typing import NamedTuple

import dask
import dask.array as da
import pytest
from dask import delayed
from dask.delayed import Delayed

import daskperiment
from daskperiment.errors import ParameterUndeclaredError, ParameterUndefinedError


@dataclass
class Options:
    rate: object
    kind: str


class Pair(NamedTuple):
    first: object
    second: int


@pytest.fixture
def adding(ex):
    """Make a result of two steps over two parameters."""
    a = ex.parameter("a", default=1)
    b = ex.parameter("b", default=2)

    @ex
    def add(a, b):
        return a + b

    @ex.result
    def double(x):
        return 2 * x

    return double(add(a, b))


def plus_one(x):
    return x + 1


def ids(ex):
    return list(ex.get_history().index)


def test_compute_is_a_trial(ex, adding):
    """Each compute of a result records one trial with its parameters and result."""
    assert adding.compute() == 6
    ex.set_parameters(a=10)
    assert adding.compute() == 24
    history = ex.get_history()
    assert history["a"].tolist() == [1, 10]
    assert history["Result"].tolist() == [6, 24]
    assert history["Success"].tolist() == [True, True]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_local_schedulers(ex, adding, scheduler):
    """Every local scheduler records the trial and both steps."""
    assert adding.compute(scheduler=scheduler) == 6
    assert ids(ex) == [1]
    assert ex.get_steps(1)["Step"].tolist() == ["add", "double"]


def test_dask_compute(ex, adding):
    """dask.compute of bound results makes one trial of each, with its own parameters."""
    results = dask.compute(*[adding.bind(a=i) for i in range(9)])
    assert results == tuple(2 * (i + 2) for i in range(9))
    history = ex.get_history()
    assert sorted(history["a"]) == list(range(9))
    assert (history["Result"] == 2 * (history["a"] + 2)).all()


def test_same_object_twice_is_one_computation(ex, adding):
    """dask.compute(s, s) is deduplicated by Dask: one trial, returned twice."""
    assert dask.compute(adding, adding) == (6, 6)
    assert ids(ex) == [1]


def test_persist(ex, adding):
    """s.persist() is a trial; what it returns holds the value, and computing that is none."""
    kept = adding.persist()
    assert isinstance(kept, Delayed)
    assert kept.compute() == 6
    assert ids(ex) == [1]


def test_optimize(ex, adding):
    """dask.optimize(s) computes nothing; computing what it returns is a trial, each time."""
    (optimized,) = dask.optimize(adding)
    assert ids(ex) == []
    assert optimized.compute() == 6
    assert optimized.compute() == 6
    assert ids(ex) == [1, 2]


def test_inside_another_delayed(ex, adding):
    """A result inside another Delayed is a trial each time that is computed."""
    outer = delayed(plus_one)(adding)
    assert outer.compute() == 7
    ex.set_parameters(a=2)
    assert outer.compute() == 9
    assert ex.get_history()["a"].tolist() == [1, 2]


def test_together_with_another_delayed_of_it(ex, adding):
    """A result computed together with a Delayed made of it is one trial."""
    assert dask.compute(delayed(plus_one)(adding), adding) == (7, 6)
    assert ids(ex) == [1]


def test_operators(ex, adding):
    """Operators on a result work as on any Delayed."""
    assert (adding + 1).compute() == 7
    assert ids(ex) == [1]


def test_drawing_records_nothing(ex, adding):
    """Reading the graph, the key, the representations: none of it is a trial."""
    assert adding.dask
    assert adding.key
    assert dask.is_dask_collection(adding)
    assert "double" in repr(adding)
    assert "<table>" in adding._repr_html_()
    assert ids(ex) == []
    assert ex.trial_id == 0


def test_bind_leaves_the_experiment_alone(ex, adding):
    """Binding values changes neither the experiment nor the result it was made of."""
    assert adding.bind(a=5).bind(b=5).compute() == 20
    assert adding.compute() == 6
    assert ex.get_parameters() == {"a": 1, "b": 2}


def test_bind_unknown_parameter(adding):
    """Binding an undeclared name says which are declared."""
    with pytest.raises(ParameterUndeclaredError, match=r"'c'.*'a', 'b'"):
        adding.bind(c=1)


def test_values_are_those_of_the_moment_of_computing(ex, adding):
    """A key that was read before a value was set does not pin the old value."""
    assert adding.key
    ex.set_parameters(a=7)
    assert dask.compute(adding) == (18,)
    assert ex.get_history()["a"].tolist() == [7]


def test_undefined_parameter(ex):
    """A parameter without a value is an error that names it, and no trial; on every way in."""
    a = ex.parameter("a")

    @ex.result
    def identity(a):
        return a

    result = identity(a)
    assert dask.is_dask_collection(result)
    with pytest.raises(ParameterUndefinedError, match=r"parameter 'a'.*set_parameters\(a=\.\.\.\)"):
        result.compute()
    with pytest.raises(ParameterUndefinedError):
        dask.compute(result)
    with pytest.raises(ParameterUndefinedError):
        a.compute()
    assert ids(ex) == []
    assert result.bind(a=None).compute() is None


def test_threads_of_one_result(ex):
    """50 threads that bind and compute one result: each row shows its own parameters."""
    a = ex.parameter("a")

    @ex.result
    def square(a):
        return a * a

    result = square(a)
    barrier = threading.Barrier(50)
    found = {}

    def work(i):
        barrier.wait()
        found[i] = result.bind(a=i).compute(scheduler="synchronous")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: i * i for i in range(50)}
    history = ex.get_history()
    assert sorted(history.index) == list(range(1, 51))
    assert sorted(history["a"]) == list(range(50))
    assert (history["Result"] == history["a"] ** 2).all()


def test_threads_set_parameters_behind_a_lock(ex):
    """set_parameters and compute behind one lock: each row shows its own parameters."""
    a = ex.parameter("a")

    @ex.result
    def square(a):
        return a * a

    result = square(a)
    lock = threading.Lock()

    def work(i):
        with lock:
            ex.set_parameters(a=i)
            assert result.compute() == i * i

    threads = [threading.Thread(target=work, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = ex.get_history()
    assert sorted(history["a"]) == list(range(50))
    assert (history["Result"] == history["a"] ** 2).all()


def test_nested_arguments(ex):
    """Nodes are found in nested lists and dicts, by position and by keyword."""
    a = ex.parameter("a", default=1)

    @ex
    def inc(x):
        return x + 1

    @ex.result
    def collect(items, *more, options):
        return items, more, options

    result = collect([inc(a), {"k": [a, inc(inc(a))]}], a, options={"deep": (inc(a), 7)})
    assert result.compute() == ([2, {"k": [1, 3]}], (1,), {"deep": (2, 7)})


def test_other_delayed_between_steps(ex):
    """Other Delayed objects, attributes, items and operators may stand between steps."""
    a = ex.parameter("a", default=3)

    @ex
    def pair(a):
        return {"x": complex(a, 1)}

    @ex.result
    def total(x, y):
        return x + y

    node = pair(a)["x"]
    result = total(node.real + 1, delayed(plus_one)(a))
    assert result.compute() == 8
    assert ex.get_steps(1)["Step"].tolist() == ["pair", "total"]


def test_dask_array_between_steps(ex):
    """A Dask array made from a step's output reaches the next step as a NumPy array."""
    n = ex.parameter("n", default=4)

    @ex
    def ones(n):
        return da.ones(4, chunks=2).compute() * n

    @ex.result
    def total(array):
        return float(array.sum())

    array = da.from_delayed(ones(n), shape=(4,), dtype=float) + da.arange(4, chunks=2)
    assert total(array).compute() == 22.0
    assert total(array).bind(n=1).compute() == 10.0


def test_a_result_inside_a_result(ex):
    """A result that another result takes is a step of that one's trial."""
    a = ex.parameter("a", default=1)

    @ex.result
    def inner(a):
        return a + 1

    @ex.result
    def outer(x, items):
        return x * 10 + len(items)

    node = inner(a)
    assert outer(node, [node]).compute() == 21
    assert ids(ex) == [1]
    assert ex.get_steps(1)["Step"].tolist() == ["inner", "outer"]


def test_shared_data_is_computed_once(ex):
    """What no parameter reaches is computed once for all trials of one dask.compute."""
    calls = []

    def load():
        calls.append(1)
        return 5

    a = ex.parameter("a")

    @ex.result
    def add(data, a):
        return data + a

    result = add(delayed(load)(), a)
    assert dask.compute(*[result.bind(a=i) for i in range(4)]) == (5, 6, 7, 8)
    assert len(calls) == 1


def test_plain_step_records_nothing(ex):
    """Computing a step alone runs it, with current values, and records no trial."""
    a = ex.parameter("a", default=1)

    @ex
    def inc(a):
        return a + 1

    node = inc(a)
    assert node.compute() == 2
    ex.set_parameters(a=5)
    assert node.compute(scheduler="processes") == 6
    assert ids(ex) == []


def test_annotations_survive(ex):
    """dask.annotate around a call stays with that call's task in the trial's graph."""

    @ex
    def first():
        return 1

    @ex.result
    def second(x):
        return x

    with dask.annotate(retries=3, resources={"GPU": 1}):
        node = first()
    result = second(node)
    with dask.annotate(priority=9):
        graph = result.dask
    annotated = {name: layer.annotations for name, layer in graph.layers.items()}
    (found,) = [value for value in annotated.values() if value and "retries" in value]
    assert found == {"retries": 3, "resources": {"GPU": 1}}
    names = [name for name, value in annotated.items() if value]
    assert len(names) == 1
    assert names[0].startswith("first")


def test_nout(ex):
    """With nout, a step's or a result's output can be unpacked, as in Dask."""

    @ex(nout=2)
    def split():
        return 1, 2

    @ex.result(nout=2)
    def swap(x, y):
        return y, x

    first, second = split()
    one, two = swap(first, second)
    assert len(swap(first, second)) == 2
    assert dask.compute(one, two) == (2, 1)


def test_methods(ex):
    """A decorated method is a step whose first input is the object."""

    class Model:
        def __init__(self, factor):
            self.factor = factor

        @ex.result
        def scale(self, x):
            return self.factor * x

    assert Model(3).scale(2).compute() == 6
    assert Model.scale(Model(4), 2).compute() == 8


def test_deep_graph(ex):
    """A chain of steps deeper than Python's stack is no problem."""

    @ex
    def inc(x):
        return x + 1

    @ex.result
    def last(x):
        return x

    node = 0
    for _ in range(1500):
        node = inc(node)
    assert last(node).compute(scheduler="synchronous") == 1500
    assert len(ex.get_steps(1)) == 1501


def test_two_trials_share_no_key(adding):
    """Two graphs of one result have no key in common but those of shared data."""
    first, second = dict(adding.dask), None
    adding.__dask_postcompute__()
    second = dict(adding.dask)
    assert not first.keys() & second.keys()


def test_experiment_travels(ex, adding):
    """An experiment survives pickling: the same object in the same process."""
    assert pickle.loads(pickle.dumps(ex)) is ex
    assert isinstance(ex, daskperiment.Experiment)


def test_steps_inside_other_delayed_calls(ex):
    """Steps and parameters in lists that another Delayed takes belong to the trial too."""
    a = ex.parameter("a", default=3)

    @ex
    def inc(a):
        return a + 1

    @ex.result
    def use(x):
        return x

    result = use(delayed(sum)([inc(a), inc(inc(a)), a]))
    assert result.compute() == 12
    assert result.bind(a=1).compute() == 6
    assert ex.get_steps(2)["Step"].tolist() == ["inc", "inc", "inc", "use"]


def test_nodes_in_dataclasses_and_slices(ex):
    """Nodes are found in dataclasses, named tuples, sets and slices."""
    a = ex.parameter("a", default=3)

    @ex.result
    def use(options, pair, items, part):
        return options.rate, pair.first, items, list(range(9))[part]

    result = use(Options(a, "x"), Pair(a, 1), {a}, slice(0, a))
    assert result.compute() == (3, 3, {3}, [0, 1, 2])
