"""One seed gives the same outputs, whatever computes the trial."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

DIGITS = Path(__file__).parents[2] / "examples" / "digits.py"
LOCAL = {"synchronous": 1, "threads": 2, "processes": 1}
"""How many tasks at once; each process has to import all anew."""


@pytest.fixture(scope="module", params=[1, 4], ids="{} workers".format)
def local_cluster(request):
    """Make a cluster as most people do."""
    with LocalCluster(request.param, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def wide(ex):
    """Make a result of fifty steps that draw numbers, in layers of seven."""
    a = ex.parameter("a", 0.5)

    @ex
    def draw(a, *before):
        return a * ex.rng.normal(size=(8, 8)) + sum(before)

    @ex.result
    def total(*parts):
        return sum(parts)

    layer = [draw(a) for _ in range(7)]
    for _ in range(6):
        layer = [draw(a, x, y) for x, y in zip(layer, [*layer[1:], layer[0]], strict=True)]
    return ex, total(*layer)


@pytest.fixture
def digits(tmp_path):
    """Load the example of the digits, as a script that nobody else can import."""
    spec = importlib.util.spec_from_file_location("digits_example", DIGITS)
    module = importlib.util.module_from_spec(spec)
    with dask.config.set({"daskperiment.backend": tmp_path / "digits"}):
        spec.loader.exec_module(module)
    reduced = module.reduce(module.split(module.load()), module.components)
    model = module.train(reduced, module.rate, module.epochs)
    return module.ex, module.score(model, reduced)


def outputs(made, **keywords):
    """Compute a trial, and give the outputs of its steps."""
    ex, result = made
    result.compute(seed=7, **keywords)
    steps = ex.get_steps(ex.trial_id)
    assert steps["Output Fingerprint"].notna().all()
    return steps.set_index("Key")["Output Fingerprint"].to_dict()


@pytest.mark.parametrize(("name", "steps"), [("wide", 50), ("digits", 5)])
def test_on_one_machine(request, name, steps):
    """The schedulers of one machine give the same outputs."""
    made = request.getfixturevalue(name)
    found = [outputs(made, scheduler=name, num_workers=count) for name, count in LOCAL.items()]
    assert len(found[0]) == steps
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["wide", "digits"])
def test_on_a_cluster(request, name, local_cluster):
    """A cluster of one or four workers gives what this process alone gives."""
    made = request.getfixturevalue(name)
    with Client(local_cluster):
        found = outputs(made)
    assert found == outputs(made, scheduler="synchronous")
    assert made[0].get_steps(1)["Worker"].notna().all()
