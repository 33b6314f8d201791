"""A step that may be reused and never can be is told of once, with reason and cure."""

from __future__ import annotations

import threading
import warnings

import dask
import pytest

import daskperiment
from daskperiment.errors import NeverReusedWarning
from daskperiment.execution import kept_files


class Smoke:
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("made of smoke")


HELD = Smoke()
COUNT = 0
MADE = "make it in the step, or say what counts of its class with"


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """As if nothing had been told in this process."""
    kept_files._warn_once.cache_clear()


@pytest.fixture
def ex(tmp_path):
    ex = daskperiment.Experiment("never", backend=tmp_path / "store", seed=0)
    ex.parameter("value", default=1)
    return ex


def constant(value):
    return HELD is None


def state(value):
    global COUNT
    COUNT += 1
    return 1


def default(value, held=HELD):
    return held is None


def plain(value):
    return 1


def unkept(value):
    return threading.Lock()


KINDS = {
    "constant": (constant, 1, f"HELD, which its code reads, has no fingerprint; {MADE}"),
    "state": (state, 1, "COUNT, which its code reads, is changed by the code; make it an argument"),
    "default": (default, 1, f"(held), which its code reads, has no fingerprint; {MADE}"),
    "argument": (plain, HELD, "an argument has no fingerprint: .*made of smoke"),
    "argument within": (plain, [1, HELD], "an argument has no fingerprint: .*made of smoke"),
    "output": (unkept, 1, "output not kept: .*cannot pickle .*; return something that can be"),
}


def made(ex, kind):
    function, argument, _ = KINDS[kind]

    @ex.result
    def last(value):
        return 1

    return last(ex.persist(reuse=True)(function)(argument))


@pytest.mark.parametrize("kind", KINDS)
def test_told_once(ex, kind):
    """The first trial tells it, and no other."""
    result, why = made(ex, kind), KINDS[kind][2].replace("(held)", r"\(held\)")
    with pytest.warns(NeverReusedWarning, match=f"never reused, but always run: .*{why}") as told:
        result.compute()
    assert len(told) == 1
    with warnings.catch_warnings(action="error"):
        result.compute()


@pytest.mark.parametrize("kind", KINDS)
def test_explained(ex, kind):
    """What explains a result says it before the first run, but for what only a run can tell."""
    result, (function, _, why) = made(ex, kind), KINDS[kind]
    if kind == "output":
        with pytest.warns(NeverReusedWarning):
            result.compute()
    with warnings.catch_warnings(action="error"):
        reason = ex.explain(result)[function.__name__].reason
    assert reason.startswith("never reused: ")
    assert why.partition(": .*")[0] in reason
    assert "; make it" in reason or "; return something" in reason


def test_parameter(ex):
    """The value of a parameter counts as an argument does; what follows the step is not told of."""
    after = ex.persist(reuse=True)(lambda value: value)
    step, last = ex.persist(reuse=True)(plain), ex.result(unkept)
    result = last(after(step(ex.parameter("held", default=HELD))))
    with pytest.warns(NeverReusedWarning, match="'plain' .*parameter 'held' has no finger") as told:
        result.compute()
    assert len(told) == 1
    assert ex.explain(result)["plain"].reason.startswith("never reused: ")
    assert not ex.explain(result)["<lambda>"].reason.startswith("never reused: ")


def test_not_told(ex):
    """Nothing is said of steps that are not to be reused, or of what another trial may reuse."""
    with warnings.catch_warnings(action="error"):
        result = ex.result(lambda value: 1)(ex.persist(constant)(1))
        assert (result.compute(), result.compute()) == (1, 1)
        assert ex.result(persist=True, reuse=True)(plain)(1).compute() == 1


def test_another_process(tmp_path, ex):
    """What an earlier process found out of the output is told where it is planned again."""
    result = made(ex, "output")
    with pytest.warns(NeverReusedWarning):
        result.compute()
    kept_files._warn_once.cache_clear()
    with pytest.warns(NeverReusedWarning, match="output not kept") as told:
        result.compute()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [("constant", "threads"), ("constant", "processes"), ("constant", "cluster"),
     ("state", "cluster"), ("default", "cluster")],
)  # fmt: skip
def test_wherever_it_runs(request, ex, kind, scheduler):
    """The process that computes tells it, once, whichever process runs the step."""
    if scheduler == "cluster":
        request.getfixturevalue("client")
    options = {} if scheduler == "cluster" else {"scheduler": scheduler, "num_workers": 1}
    result = made(ex, kind)
    with pytest.warns(NeverReusedWarning, match="never reused, but always run: ") as told:
        assert [result.compute(**options) for _ in range(2)] == [1, 1]
    assert len(told) == 1
    assert ex.get_steps()["Reused From"].isna().all()


def test_output_on_a_cluster(client, ex):
    """What a worker found out of an output is told where it is planned again."""
    result = made(ex, "output")
    with dask.annotate(workers=[next(iter(client.scheduler_info()["workers"]))]):
        result.compute()
        with pytest.warns(NeverReusedWarning, match="output not kept: .*; return some") as told:
            result.compute()
    assert len(told) == 1
