"""A trial that is run again with today's code."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import dask
import msgspec
import pytest
from distributed import Client

from daskperiment import Experiment
from daskperiment.codec import decode, encode
from daskperiment.compare import ABSENT, Comparison, Pair
from daskperiment.errors import (
    ImpureStepWarning,
    ParameterUndefinedError,
    ReproductionError,
    TrialIDNotFoundError,
    UntrustedObjectError,
)
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.records import Environment, StepRun
from daskperiment.reproduce import reproduce
from daskperiment.store.file import FileStore
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record
from tests.reproduce.project import Project


def run_anew(result: Any, trial: int = 1, code: str = "current", **keywords: Any) -> Comparison:
    return reproduce(result, trial, code, {"scheduler": "synchronous", **keywords})


def drawing(ex: Experiment) -> Any:
    """Make a result of two steps that draw random numbers."""
    a = ex.parameter("a", default=3)

    @ex
    def draw(a: int) -> list[float]:
        return [float(ex.rng.random()) for _ in range(a)]

    @ex.result
    def mean(values: list[float]) -> float:
        return sum(values) / len(values) + float(ex.rng.random())

    return mean(draw(a))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_same_output_on_another_scheduler(ex: Experiment, scheduler: str) -> None:
    """A trial that ran on one scheduler comes out identical on another, with its own seed."""
    result = drawing(ex)
    result.compute(scheduler="threads")
    comparison = run_anew(result, scheduler=scheduler, num_workers=1)
    assert comparison.identical
    assert comparison.unverified == ()
    assert comparison.seeds.first == comparison.seeds.second
    assert not comparison.differs


def test_parameters_of_the_trial(ex: Experiment) -> None:
    """The trial's values are taken, neither today's nor those that the result is bound to."""
    result = drawing(ex)
    result.bind(a=5).compute()
    ex.set_parameters(a=2)
    comparison = run_anew(result.bind(a=7))
    assert comparison.identical
    assert comparison.same_parameters == {"a": 5}
    assert ex.get_parameters() == {"a": 2}


def test_link(ex: Experiment) -> None:
    """The new trial says which one it reproduces, and so does every comparison of the two."""
    result = drawing(ex)
    result.compute()
    run_anew(result)
    assert trial_or_raise(ex._store, 2).begun.source == 1
    text = "Trial 2 reproduces trial 1. No difference between"
    assert ex.compare(1, 2).explanation.startswith(text)
    assert ex.compare(2, 1).explanation.startswith("Trial 2 reproduces trial 1.")
    run_anew(result, 2)
    assert "reproduces" not in ex.compare(1, 3).explanation
    assert ex.compare(2, 3).sources == Pair(1, 2)


def test_computed_parameter(ex: Experiment) -> None:
    """The value that a parameter took is given again, not computed again."""
    count = itertools.count(1)

    @ex.parameter
    def number() -> int:
        return next(count)

    @ex.result
    def twice(number: int) -> int:
        return number * 2

    result = twice(number)
    result.compute()
    comparison = run_anew(result)
    assert comparison.identical
    assert comparison.same_parameters == {"number": 1}
    assert next(count) == 2


def fitted(ex: Experiment, value: Any = ABSENT) -> Any:
    """Run a trial whose parameter is an object."""
    data = ex.parameter("data")

    @ex.result
    def describe(data: Any) -> str:
        return repr(data)

    result = describe(data)
    result.bind(data=slice(1, 9) if value is ABSENT else value).compute()
    return result


def test_object_as_parameter(ex: Experiment) -> None:
    """A parameter that is not plain data is loaded for the new run."""
    comparison = run_anew(fitted(ex))
    assert comparison.identical
    assert comparison.results.second == "slice(1, 9, None)"


def test_object_that_is_lost(ex: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a parameter's object nothing runs; the remedy is told, and it works."""
    result = fitted(ex)
    digest = trial_or_raise(ex._store, 1).parameters["data"]["digest"]
    get = FileStore.get

    def lost(store: FileStore, asked: str) -> Any:
        if asked == digest:
            raise KeyError(asked)
        return get(store, asked)

    monkeypatch.setattr(FileStore, "get", lost)
    with pytest.raises(ReproductionError, match=r"'data' in trial 1 .*bind\(data=\.\.\.\)"):
        run_anew(result)
    assert ex.trial_id == 1
    comparison = run_anew(result.bind(data=slice(1, 9)))
    assert comparison.identical
    assert "'data' cannot be loaded: the one that the result is bound to" in str(
        comparison
    ).replace("\n ", "")


def test_object_that_was_not_kept(ex: Experiment) -> None:
    """A parameter that could not be pickled is named, with the reason."""
    result = fitted(ex, threading.Lock())
    with pytest.raises(ReproductionError, match=r"'data' in trial 1 cannot be loaded.*not kept"):
        run_anew(result)
    assert ex.trial_id == 1


def test_object_without_signature(ex: Experiment) -> None:
    """With a signing key, an object that is not signed is not loaded."""
    result = fitted(ex)
    with (
        dask.config.set({"daskperiment.signing-key": "secret"}),
        pytest.raises(UntrustedObjectError),
    ):
        run_anew(result)
    assert ex.trial_id == 1


def test_parameter_that_is_new(ex: Experiment) -> None:
    """A parameter without a recorded value has today's, and that is said."""
    a, b = ex.parameter("a", default=1), ex.parameter("b", default=2)

    @ex.result
    def total(a: int, b: int = 2) -> int:
        return a + b

    total(a).compute()
    ex._parameters._defaults.pop("b")
    total(a).compute()
    b = ex.parameter("b", default=2)
    comparison = run_anew(total(a, b), 2)
    assert comparison.parameters == {"b": Pair(ABSENT, 2)}
    assert comparison.notes == ("parameter 'b' has no recorded value: today's is used",)
    assert comparison.same_result


def test_parameter_that_is_no_longer_declared(ex: Experiment) -> None:
    """A value that no parameter of today takes is left out, and that is said."""
    a, _ = ex.parameter("a", default=1), ex.parameter("b", default=2)

    @ex.result
    def double(a: int) -> int:
        return a * 2

    double(a).compute()
    ex._parameters._defaults.pop("b")
    comparison = run_anew(double(a))
    assert comparison.identical
    assert comparison.parameters == {"b": Pair(2, ABSENT)}
    assert "parameter 'b' is not declared any more: its value is not used" in str(comparison)


def test_parameter_without_any_value(ex: Experiment) -> None:
    """A parameter that has a value neither in the trial nor today is an error before the run."""
    a = ex.parameter("a", default=1)

    @ex.result
    def total(a: int, b: int = 2) -> int:
        return a + b

    total(a).compute()
    result = total(a, ex.parameter("b"))
    with pytest.raises(ParameterUndefinedError, match="'b'"):
        run_anew(result)
    assert ex.trial_id == 1


def test_changed_helper(project: Project) -> None:
    """The first step that differs is the one that the edited helper reaches, with the diff."""
    steps = f"""
import daskperiment
import reproduced_helpers

ex = daskperiment.Experiment("project", backend={str(project.folder / "store")!r})
a = ex.parameter("a", default=3)

@ex
def load(a):
    return list(range(a))

@ex
def clean(values):
    return reproduced_helpers.scale(values)

@ex.result
def total(values):
    return sum(values)

result = total(clean(load(a)))
"""
    project.write("def scale(v):\n    return [x * 2 for x in v]\n", steps).result.compute()
    edited = project.edit("x * 2", "x * 3")
    comparison = run_anew(edited.result)
    assert not comparison.identical
    assert [step.verdict for step in comparison.steps] == ["same", "differs", "differs"]
    assert comparison.first_difference is not None
    assert comparison.first_difference.key == "clean"
    (cause,) = comparison.first_difference.causes
    assert (cause.kind, cause.name) == ("code", "reproduced_helpers.scale")
    assert "-    return [x * 2 for x in v]\n+    return [x * 3" in comparison.functions[cause.name]
    assert run_anew(edited.result, code="recorded").identical


def failing(ex: Experiment, errors: list[BaseException | None]) -> Any:
    """Make a result whose second step ends in another way at each run."""
    left = iter(errors)

    @ex
    def load() -> int:
        return 1

    @ex.result
    def divide(x: int) -> int:
        error = next(left)
        if error is not None:
            raise error
        return x

    return divide(load())


def test_failed_trial_fails_again(ex: Experiment) -> None:
    """The exception of the new run is part of the comparison and does not hide it."""
    result = failing(ex, [ZeroDivisionError("no"), ZeroDivisionError("no")])
    with pytest.raises(ZeroDivisionError):
        result.compute(scheduler="synchronous")
    comparison = run_anew(result)
    assert comparison.failures == ("ZeroDivisionError(no)", "ZeroDivisionError(no)")
    assert [step.verdict for step in comparison.steps] == ["same", "same"]
    assert not comparison.differs
    assert not comparison.identical
    assert comparison.unverified == (
        "step 'divide': it failed alike in both trials",
        "the result: not both trials have one",
    )


def test_lost_trial(ex: Experiment) -> None:
    """A trial whose process was gone is run again: what it had done comes out the same."""
    result = drawing(ex)
    result.compute(scheduler="synchronous", seed=4)
    begun = trial_or_raise(ex._store, 1).begun
    gone = msgspec.structs.replace(
        begun, token="gone", origin=msgspec.structs.replace(current_origin(), pid=2**30)
    )
    ex._store.allocate("gone", encode(gone))
    first = next(r for r in ex._store.read("steps", [1]) if r.id.startswith("draw"))
    body = encode(decode(first.body, StepRun), 2)  # a record says of which trial it is
    ex._store.append([Record("steps", 2, first.id, body)])
    assert trial_or_raise(ex._store, 2).status == "lost"
    comparison = run_anew(result, 2)
    assert comparison.statuses == ("lost", "succeeded")
    assert comparison.steps[0].verdict == "same"
    assert not comparison.identical
    assert comparison.seeds == Pair(4, 4)


def test_interrupted_trial(ex: Experiment) -> None:
    """A trial that was interrupted can be run again, to its end."""
    result = failing(ex, [KeyboardInterrupt(), None])
    with pytest.raises(KeyboardInterrupt):
        result.compute(scheduler="synchronous")
    comparison = run_anew(result)
    assert comparison.statuses == ("interrupted", "succeeded")
    assert comparison.steps[0].verdict == "same"
    assert not comparison.identical


def test_on_a_cluster(ex: Experiment) -> None:
    """A trial of this process comes out identical on a cluster, and the other way round."""
    result = drawing(ex)
    result.compute(scheduler="synchronous")
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        assert reproduce(result, 1).identical
    assert ex.get_steps(2)["Worker"].notna().all()
    assert run_anew(result, 2).identical


def test_another_environment(ex: Experiment) -> None:
    """A trial of a machine with other packages is run, and the comparison tells what differs."""
    result = drawing(ex)
    today = ex._planner.environment().categories
    packages = {**today["requirements"], "numpy": "0.1"}
    machine = {**today["platform"], "machine": "vax"}
    there = Environment({**today, "requirements": packages, "platform": machine})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ex._planner._environment._capture, "capture", lambda: there)
        result.compute(scheduler="synchronous")
    comparison = run_anew(result)
    assert comparison.identical
    assert comparison.packages == {"numpy": Pair("0.1", today["requirements"]["numpy"])}
    assert any("vax" in line for line in comparison.environment)


def test_new_run_fails(ex: Experiment) -> None:
    """A failure of the new run alone is a difference in its step."""
    result = failing(ex, [None, ValueError("bad")])
    result.compute(scheduler="synchronous")
    comparison = run_anew(result)
    assert comparison.statuses == ("succeeded", "failed")
    assert comparison.first_difference is not None
    assert comparison.first_difference.failures == (None, "ValueError(bad)")
    assert "computing trial 2 raised ValueError" in comparison.notes


def test_interrupt_passes(ex: Experiment) -> None:
    """Ctrl-C during the new run reaches the user, and the trial is on record as interrupted."""
    result = failing(ex, [None, KeyboardInterrupt()])
    result.compute(scheduler="synchronous")
    with pytest.raises(KeyboardInterrupt):
        run_anew(result)
    assert trial_or_raise(ex._store, 2).status == "interrupted"


def test_impure_step(ex: Experiment) -> None:
    """A step that depends on more than is recorded is told apart from a change."""
    count = itertools.count()

    @ex.result
    def tick(a: int) -> int:
        return a + next(count)

    result = tick(ex.parameter("a", default=1))
    result.compute(scheduler="synchronous")
    with pytest.warns(ImpureStepWarning):
        comparison = run_anew(result)
    assert not comparison.identical
    assert comparison.first_difference is not None
    assert [cause.kind for cause in comparison.first_difference.causes] == ["impure"]


def test_output_without_a_fingerprint(ex: Experiment) -> None:
    """What cannot be checked is not called identical, and is named."""

    @ex
    def lazy() -> Any:
        return (number for number in range(3))

    @ex.result
    def one(lazy: Any) -> int:
        return 1

    result = one(lazy())
    result.compute(scheduler="synchronous")
    comparison = run_anew(result)
    assert comparison.same_result
    assert not comparison.differs
    assert not comparison.identical
    assert [line.partition(":")[0] for line in comparison.unverified] == ["step 'lazy'"]


def test_unknown_trial(ex: Experiment) -> None:
    """A trial that is not there is an error that says which there are."""
    result = drawing(ex)
    result.compute()
    with pytest.raises(TrialIDNotFoundError, match="only trial 1"):
        run_anew(result, 9)


def test_trial_of_another_result(ex: Experiment) -> None:
    """A trial of another result is refused, and that result is named."""
    result = drawing(ex)
    result.compute()

    @ex.result
    def other() -> int:
        return 1

    with pytest.raises(ReproductionError, match=r"computed the result 'mean', and this is 'other'"):
        run_anew(other())


def test_running_trial(ex: Experiment) -> None:
    """A trial that has not ended is refused."""
    result = drawing(ex)
    result.compute()
    begun = trial_or_raise(ex._store, 1).begun
    running = msgspec.structs.replace(
        begun, token="other", origin=current_origin(), started=time.time()
    )
    ex._store.allocate("other", encode(running))
    with pytest.raises(ReproductionError, match="Trial 2 is still running"):
        run_anew(result, 2)


@pytest.mark.parametrize("code", ["now", None, 3])
def test_unknown_code(ex: Experiment, code: Any) -> None:
    """Another word for the code is refused with the two that there are."""
    with pytest.raises(ValueError, match=r"'current' .* 'recorded'"):
        run_anew(drawing(ex), code=code)


@pytest.mark.parametrize("name", ["seed", "reuse"])
def test_what_the_trial_decides(ex: Experiment, name: str) -> None:
    """What is taken from the trial cannot be given."""
    result = drawing(ex)
    result.compute()
    with pytest.raises(TypeError, match=f"takes no {name!r}"):
        run_anew(result, **{name: 1})
    assert ex.trial_id == 1


def test_every_step_is_computed(ex: Experiment) -> None:
    """Nothing is reused, and a trial that reused an output is identical to one that did not."""

    @ex
    def load(a: int) -> list[int]:
        return list(range(a))

    @ex.persist(reuse=True)
    def fit(values: list[int]) -> int:
        return sum(values)

    @ex.result
    def score(fitted: int) -> int:
        return fitted * 2

    result = score(fit(load(ex.parameter("a", default=3))))
    for _ in range(2):
        result.compute(scheduler="synchronous")
    comparison = run_anew(result, 2)
    assert comparison.identical
    assert [step.verdict for step in comparison.steps] == ["not needed", "same", "same"]
    assert comparison.steps[1].reused == (1, None)
    assert ex.get_steps(3)["Key"].tolist() == ["load", "fit", "score"]
