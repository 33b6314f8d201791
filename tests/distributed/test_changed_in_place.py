"""Steps on a cluster that change in place what others take from the same worker."""

from __future__ import annotations

import warnings

import dask
import pytest

from daskperiment.errors import ImpureStepWarning


@pytest.fixture
def chain(ex):
    """Make a result of steps of which one changes what another reads, directly or handed on."""

    @ex
    def made():
        return [0]

    @ex
    def hand(model):
        return model

    @ex
    def changer(model):
        model.append(1)
        return 1

    @ex
    def reader(model, done):
        return len(model)

    @ex.result
    def both(*values):
        return list(values)

    def make(handed, address):
        with dask.annotate(workers=[address], allow_other_workers=False):
            model = made()
            done = changer(hand(model) if handed else model)
            return both(done, reader(model, done))

    return make


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
@pytest.mark.parametrize("handed", [False, True], ids=["taken by two", "handed on"])
@pytest.mark.parametrize("way", ["compute", "client.compute"])
def test_the_step_that_changed_it_is_named(ex, chain, client, handed, way):
    """The client warns of the step, wherever it ran, and compare names it."""
    address = sorted(client.scheduler_info()["workers"])[0]
    result = chain(handed, address)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = result.compute() if way == "compute" else client.compute(result).result()
        ex.flush()
    told = [str(each.message) for each in caught if each.category is ImpureStepWarning]
    assert value == [1, 2]
    assert len(told) == 2
    assert told[0].startswith("Step 'changer' changed in place what it was given as model.")
    assert told[1].startswith("Step 'reader' got as model what step 'changer' had changed in place")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImpureStepWarning)
        assert result.compute(scheduler="processes") == [1, 1]
    (step,) = [step for step in ex.compare(1, 2).steps if step.key == "reader"]
    assert [(cause.kind, cause.name) for cause in step.causes] == [("in place", "changer")]


@pytest.mark.filterwarnings("ignore::daskperiment.errors.ImpureStepWarning")
@pytest.mark.parametrize("placed", ["together", "apart"])
def test_what_was_made_of_it_is_not_reused(ex, client, placed):
    """Whether its taker ran on the same worker or elsewhere, and so does what follows."""
    first, second = sorted(client.scheduler_info()["workers"])[:2]

    @ex.persist(reuse=True)
    def made():
        return [0]

    @ex
    def changer(model, on):
        if on:
            model.append(1)

    @ex.persist(reuse=True, ignore=("done",))
    def reader(model, done):
        return len(model)

    @ex.persist(reuse=True)
    def behind(count):
        return count * 10

    @ex.result
    def last(value, done):
        return value

    on = ex.parameter("on", default=True)
    with dask.annotate(workers=[first], allow_other_workers=False):
        model = made()
        done = changer(model, on)
    with dask.annotate(workers=[first if placed == "together" else second],
                       allow_other_workers=False):  # fmt: skip
        result = last(behind(reader(model, done)), done)
    assert result.compute() in (10, 20)  # elsewhere it comes with the change, or without
    assert result.bind(on=False).compute() == 10
    assert result.bind(on=False).compute() == 10
    ex.flush()
    steps = ex.get_steps(3)
    assert set(steps[steps["Reused From"].isna()]["Step"]) <= {"changer", "last"}
