"""Cache keys cover what a call gives a step, however it is written; reasons name what changed."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

import daskperiment
from daskperiment.codec import decode
from daskperiment.errors import ImpureStepWarning, TrialIDNotFoundError
from daskperiment.records import StepRun
from tests.reuse.work import ran, write


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("arguments", backend=tmp_path / "store", seed=1)


@pytest.fixture
def fit(ex, log):
    """Make a result of a call of a reusable step."""

    @ex.persist(reuse=True)
    def step(a, b=2, *rest, c=(3, 4), **named):
        write(log, "step")
        return [a, b, list(rest), c, list(named.items())]

    @ex.result
    def out(value):
        return value

    return lambda *args, **kwargs: out(step(*args, **kwargs))


def runs_of(ex, trial):
    return [decode(one.body, StepRun) for one in ex._store.read("steps", [trial])]


def reason(ex, result):
    return ex.explain(result)["step"].reason


EQUAL = [
    ((1,), {}), ((), {"a": 1}), ((1, 2), {}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1}),
    ((1,), {"c": (3, 4)}), ((), {"c": (3, 4), "a": 1, "b": 2}),
]  # fmt: skip


@pytest.mark.parametrize("first", EQUAL)
def test_equal_calls_are_one(ex, fit, log, first):
    """A call by position, by name or with a default written out is the same call."""
    fit(*first[0], **first[1]).compute()
    for args, kwargs in EQUAL:
        fit(*args, **kwargs).compute()
    assert ran(log) == {"step": 1}
    assert not ex.compare(1, len(EQUAL)).differs


def _between(order):
    """Return what Dask's own node of a function that collects by name gives."""
    return dask.delayed(lambda **named: list(named))(**dict.fromkeys(order))


ORDERED = {
    "literals": lambda step, order: step(1, **dict.fromkeys(order, 0)),
    "beside a declared one": lambda step, order: step(1, **dict.fromkeys(order, 0), c=5),
    "nodes": lambda step, order: step(1, **{name: dask.delayed(abs)(-1) for name in order}),
    "a function between": lambda step, order: step(_between(order)),
    "a class between": lambda step, order: step(dask.delayed(dict)(**dict.fromkeys(order, 1))),
}  # fmt: skip


@pytest.mark.parametrize("call", ORDERED.values(), ids=ORDERED.keys())
def test_the_order_of_what_is_collected_by_name(ex, fit, log, recwarn, call):
    """Collected in another order, arguments are other ones: it runs, and none is called impure."""
    for order in ("xy", "yx", "xy", "yx"):
        got = call(fit, order).compute()
        assert got == call(fit, order).compute(reuse=False)
    assert ran(log) == {"step": 6}
    assert not [each for each in recwarn if each.category is ImpureStepWarning]


def test_another_order_behind_an_early_cutoff(ex, log):
    """A step whose inputs turn out as before in another order is no hit; in the same it is."""
    which = ex.parameter("which", default=1)

    @ex.persist(reuse=True)
    def first(which):
        return 0

    @ex.persist(reuse=True)
    def step(**named):
        write(log, "step")
        return list(named)

    @ex.result
    def out(value):
        return value

    assert out(step(x=first(which), y=1)).compute() == ["x", "y"]
    assert out(step(y=1, x=first(which))).bind(which=2).compute() == ["y", "x"]
    assert out(step(y=1, x=first(which))).bind(which=3).compute() == ["y", "x"]
    assert out(step(x=first(which), y=1)).bind(which=4).compute() == ["x", "y"]
    assert ran(log) == {"step": 2}


def test_a_parameter_of_the_same_value(ex, fit, log):
    """An argument that a parameter gives is the same as a value that stands in the call."""
    b = ex.parameter("b", default=2)
    fit(1).compute()
    fit(1, b).compute()
    assert ran(log) == {"step": 1}
    fit(1, b).bind(b=3).compute()
    assert ran(log) == {"step": 1}


OTHER = {
    "number": ((5,), {}, "argument a 1 → 5"),
    "type": ((1.0,), {}, "argument a 1 → 1.0"),
    "default": ((1, 3), {}, "argument b 2 → 3"),
    "text": (("x" * 500,), {}, "argument a"),
    "list": (([1, 2],), {}, "argument a 1 → [1, 2]"),
    "frame": ((pd.DataFrame({"x": [1]}),), {}, "argument a: other data"),
    "array": ((np.arange(4),), {}, "argument a: other data"),
    "dask array": ((da.from_array(np.arange(4), chunks=2),), {}, "argument a: other data"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_another_argument_is_named(ex, fit, kind, again):
    """Explain and compare name the argument whose value is another, before and after the run."""
    args, kwargs, expected = OTHER[kind]
    fit(1).compute()
    result = fit(*args, **kwargs)
    assert expected in reason(ex, result)
    result.compute()
    assert expected in ex.explain(2)["step"].reason
    told = ex.compare(1, 2).explanation
    assert expected.replace("→", "->") in told
    assert "outside" not in told
    assert "step 'step'" in told


def test_a_default_that_is_written_out_is_no_cause(ex):
    """Nor has what `*args` and `**kwargs` take a default: it is given or not."""

    @ex.result(persist=True, reuse=True)
    def step(a, *rest, b=2, **more):
        return a

    step(1, b=2).compute()
    reasons = {
        (1, 5): "argument rest[0] not given → 5",
        (3,): "argument a 1 → 3",
    }
    for arguments, expected in reasons.items():
        assert reason(ex, step(*arguments)) == expected
    assert reason(ex, step(1, b=3)) == "argument b 2 → 3"
    assert reason(ex, step(1, z=4)) == "argument z not given → 4"
    assert ex.explain(step(1))["step"].verdict == "hit"


DATA = [
    lambda n: [0, n], lambda n: {"x": n}, lambda n: pd.DataFrame({"x": [n]}),
    lambda n: np.full(5000, n), lambda n: da.full(4, n, chunks=2),
    lambda n: da.from_array(np.full(4, n), chunks=2), lambda n: dask.delayed(abs)(n),
]  # fmt: skip


@pytest.mark.parametrize("make", DATA)
def test_other_data_are_named(ex, fit, make):
    """Between two values of a kind the argument is named, too; equal ones are reused."""
    fit(make(1)).compute()
    if ex.explain(fit(make(1)))["step"].verdict == "miss":
        pytest.skip("lazy collections of this kind have no fingerprint")
    result = fit(make(2))
    assert reason(ex, result).startswith("argument a")
    result.compute()
    assert "argument a" in ex.compare(1, 2).explanation


def test_an_argument_that_changed_in_place(ex, fit, log):
    """A value that the user changes between two trials of one result is another argument."""
    values = [1, 2]
    result = fit(values)
    result.compute()
    values.append(3)
    assert reason(ex, result) == "argument a [1, 2] → [1, 2, 3]"
    assert result.compute()[0] == [1, 2, 3]
    assert ran(log) == {"step": 2}
    assert "argument a [1, 2] -> [1, 2, 3]" in ex.compare(1, 2).explanation


def test_the_argument_of_a_step_before(ex):
    """A changed argument of a step before is said to be of that step."""

    @ex.persist(reuse=True)
    def load(rows):
        return list(range(rows))

    @ex.persist(reuse=True)
    def step(values):
        return sum(values)

    out = ex.result(lambda value: value)
    out(step(load(3))).compute()
    explained = ex.explain(out(step(load(4))))
    assert explained["load"].reason == "argument rows 3 → 4"
    assert explained["step"].reason.startswith("argument rows of step load 3 → 4")


def test_nothing_is_asserted_of_what_is_not_known(ex, fit, log):
    """A step that ran under another name of its place is not said never to have run."""
    fit(1).compute()
    failing = ex.persist(reuse=True)(lambda value: 1 / value)
    failing.name = "failing"
    out = ex.result(lambda value: value)
    with pytest.raises(ZeroDivisionError):
        out(failing(0)).compute()
    told = ex.explain(out(failing(0)))["failing"].reason
    assert told != "never run"
    assert ex.explain(out(ex.persist(reuse=True)(abs)(3)))["abs"].reason == "never run"


def test_arguments_are_recorded(ex, fit):
    """Each step run has its arguments on record, defaults included, in short and as a digest."""
    from daskperiment.codec import decode
    from daskperiment.records import StepRun

    fit(0.25, x=np.arange(3)).compute()
    ex.flush()
    runs = [decode(each.body, StepRun) for each in ex._store.read("steps", [1])]
    found = next(run.arguments for run in runs if run.step == "step")
    assert {name: argument.text for name, argument in found.items()} == {
        "a": "0.25", "b": "2", "c": "", "x": "",
    }  # fmt: skip
    assert len({argument.fingerprint for argument in found.values()}) == 4


# Arguments that are left out ----------------------------------------------------------------------


@pytest.fixture
def train(ex, log):
    """A step that ignores two of its arguments."""

    @ex
    def jobs(n):
        write(log, "jobs")
        return 2 * n

    @ex.persist(reuse=True, ignore=("n_jobs", "verbose"))
    def train(x, n_jobs, verbose=False):
        write(log, "train")
        return x

    out = ex.result(lambda value: value)
    return jobs, lambda *args, **kwargs: out(train(*args, **kwargs))


def test_ignored_arguments(ex, train, log):
    """Whatever is given for an ignored argument, by whatever way, the output is reused."""
    jobs, make = train
    n_jobs = ex.parameter("n_jobs", default=1)
    make(3, n_jobs).compute()
    ways = [
        make(3, n_jobs).bind(n_jobs=8), make(3, 4), make(3, n_jobs=jobs(n_jobs)),
        make(3, None, verbose=True), make(3, open), make(3, n_jobs).bind(n_jobs=lambda: 1),
    ]  # fmt: skip
    for result in ways:
        assert ex.explain(result)["train"].reason == "output of trial 1; n_jobs, verbose ignored"
        assert result.compute() == 3
    assert ran(log) == {"train": 1}
    assert "n_jobs, verbose ignored" in ex.explain(2)["train"].reason
    assert ex.explain(make(4, n_jobs).bind(n_jobs=9))["train"].reason == (
        "argument x 3 → 4; n_jobs, verbose ignored"
    )


def test_ignored_arguments_of_trials_at_once(ex, train, log):
    """Trials in one computation that differ only in what is ignored have equal results."""
    _, make = train
    n_jobs = ex.parameter("n_jobs", default=1)
    results = [make(5, n_jobs).bind(n_jobs=number) for number in (1, 1, 2)]
    assert dask.compute(*results, scheduler="threads") == (5, 5, 5)
    assert ran(log)["train"] <= 2


def test_ignored_arguments_do_not_explain(ex, log):
    """What a step ignores is no cause of a difference of its output."""
    n_jobs = ex.parameter("n_jobs", default=1)
    state = iter(range(9))

    @ex.persist(ignore="n_jobs")
    def train(n_jobs):
        return next(state)

    result = ex.result(lambda value: value)(train(n_jobs))
    result.compute()
    with pytest.warns(ImpureStepWarning):
        result.bind(n_jobs=2).compute()
    told = ex.compare(1, 2).first_difference
    assert told.key == "train"
    assert "parameter" not in {cause.kind for cause in told.causes}


def test_names_that_cannot_be_ignored(ex):
    """A name that is no argument is refused, with the nearest one; so is what is no name."""
    with pytest.raises(ValueError, match="did you mean 'n_jobs'"):
        ex.persist(ignore=("n_job",))(lambda n_jobs: 1)
    with pytest.raises(TypeError, match="expected names"):
        ex.persist(ignore=(1,))(lambda n_jobs: 1)
    ex.persist(ignore=("anything",))(lambda **named: 1)
    with pytest.raises(TrialIDNotFoundError):
        ex.explain(99)


@pytest.mark.parametrize("way", ["here", "in threads", "by Dask"])
@pytest.mark.filterwarnings("ignore::daskperiment.errors.StoreWarning")
def test_what_is_ignored_may_have_no_cache_key(ex, log, way):
    """A hit needs nothing that it ignores; where it cannot be loaded all before it runs again."""
    opened = []  # which code changes, so that nobody knows what the step returns next

    @ex.persist(reuse=True)
    def read(n):
        write(log, "read")
        return "r" * 5000

    @ex
    def connect(text):
        opened.append(text)
        write(log, "connect")
        return 0

    @ex.persist(reuse=True, ignore=("connection",))
    def load(n, connection):
        write(log, "load")
        return "l" * (5000 + n)

    n = ex.parameter("n", default=1)
    node = ex.result(lambda value, n: len(value))(load(n, connect(read(n))), n)

    def compute():
        with dask.config.set(scheduler="threads" if way == "in threads" else "sync"):
            if way == "by Dask":
                (found,) = dask.compute(node)
            else:
                found = node.compute()
        assert found == 5001
        return ran(log)

    def lose(*steps):
        kept = {run.step: run.kept for run in runs_of(ex, 1) if run.kept is not None}
        for step in steps:
            digest = kept[step]["value"]["digest"]
            ex._store.discard([digest])
            ex._store.put(digest, [b"damaged"])  # which is noticed once it is loaded

    assert compute() == {"read": 1, "connect": 1, "load": 1}
    for _ in range(3):
        assert ex.explain(node)["load"].verdict == "hit"
        assert compute() == {}
    lose("load")
    assert compute() == {"connect": 1, "load": 1}
    lose("load", "read")
    assert compute() == {"read": 1, "connect": 1, "load": 1}
    assert ex.get_history()["Success"].all()
