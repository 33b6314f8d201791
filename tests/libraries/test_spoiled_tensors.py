"""Tensors and models that a step changes in place: what was made of them is not reused."""

from __future__ import annotations

import warnings

import pytest

import daskperiment
from daskperiment.errors import ImpureStepWarning

torch = pytest.importorskip("torch")


def _step(model):
    with torch.no_grad():
        model.weight += 1


KINDS = {
    "tensor": (lambda: torch.zeros(2), lambda value: value.add_(1)),
    "integers": (lambda: torch.zeros(2, dtype=torch.int64), lambda value: value.add_(1)),
    "parameter": (lambda: torch.nn.Parameter(torch.zeros(2)), lambda value: value.data.add_(1)),
    "state": (lambda: {"w": torch.zeros(2)}, lambda value: value["w"].add_(1)),
    "model": (lambda: torch.nn.Linear(1, 1), _step),
    "view": (lambda: torch.zeros(4)[::2], lambda value: value.mul_(0).add_(1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_changed(tmp_path, kind):
    """The step that took it afterwards is warned of, and runs anew where nothing is changed."""
    make, change = KINDS[kind]
    ex = daskperiment.Experiment("tensors", backend=tmp_path / "store", reuse=True, seed=1)

    @ex.persist
    def made():
        torch.manual_seed(0)
        return make()

    @ex
    def changer(value, on):
        if on:
            change(value)

    @ex.persist(ignore=("after",))
    def describe(value, after):
        return str(value.state_dict() if isinstance(value, torch.nn.Module) else value)

    @ex.result
    def last(text, changed):
        return text

    value, on = made(), ex.parameter("on", default=True)
    changed = changer(value, on)
    result = last(describe(value, changed), changed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImpureStepWarning)
        spoiled = result.compute(scheduler="synchronous")
    told = [str(one.message) for one in caught if one.category is ImpureStepWarning]
    assert [text.startswith("Step 'describe' got as value what") for text in told] == [False, True]
    clean = [result.bind(on=False).compute(scheduler="synchronous") for _ in range(2)]
    assert clean[0] == clean[1] != spoiled
    steps = ex.get_steps(3)
    assert not steps[steps["Step"] == "describe"]["Reused From"].isna().any()
