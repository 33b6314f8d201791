"""A step that takes a part of a parameter depends on that part alone."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

import daskperiment
from tests.reuse.work import ran, write


@dataclass
class Data:
    n: int = 4


@dataclass
class Config:
    data: Data = field(default_factory=Data)
    lr: float = 0.1


Pair = namedtuple("Pair", ["data", "lr"])

ITEM, ATTRIBUTE = (lambda cfg: cfg["data"], lambda cfg: cfg.data)
CASES = {
    "dict": (ITEM, {"data": {"n": 4}, "lr": 0.1}, {"data": {"n": 4}, "lr": 0.2}),
    "order of a dict": (ITEM, {"data": {"n": 4}, "lr": 0.1}, {"lr": 0.2, "data": {"n": 4}}),
    "item of an item": (
        lambda cfg: cfg["data"]["n"],
        {"data": {"n": 4, "m": 1}}, {"data": {"n": 4, "m": 2}},
    ),
    "list": (lambda cfg: cfg[0], [[4], 0.1], [[4], 0.2]),
    "end of a list": (lambda cfg: cfg[-1], [0.1, [4]], [0.2, 0.3, [4]]),
    "tuple": (lambda cfg: cfg[0], ([4], 0.1), ([4], 0.2)),
    "dataclass": (ATTRIBUTE, Config(), Config(lr=0.2)),
    "attribute of an attribute": (lambda cfg: cfg.data.n, Config(), Config(lr=0.2)),
    "named tuple": (ATTRIBUTE, Pair([4], 0.1), Pair([4], 0.2)),
    "namespace": (
        ATTRIBUTE, SimpleNamespace(data=[4], lr=0.1), SimpleNamespace(data=[4], lr=0.2),
    ),
    "attribute of an item": (lambda cfg: cfg["all"].data, {"all": Config()}, {"all": Config(lr=2)}),
}  # fmt: skip


def make(folder, log, take):
    """Make a result of a step that takes a part, and one that takes all."""
    ex = daskperiment.Experiment("parts", backend=folder, seed=1)
    cfg = ex.parameter("cfg")

    @ex.persist(reuse=True)
    def load(data):
        write(log, "load")
        return str(data)

    @ex.result
    def fit(loaded, cfg):
        write(log, "fit")
        return f"{loaded} {cfg}"

    return ex, fit(load(take(cfg)), cfg)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize("case", CASES)
def test_other_parts(tmp_path, log, case, scheduler):
    """A change of the rest of a parameter re-runs only what takes the whole."""
    take, first, second = CASES[case]
    ex, result = make(tmp_path, log, take)
    result.bind(cfg=first).compute(scheduler=scheduler)
    assert ran(log) == {"load": 1, "fit": 1}
    value = result.bind(cfg=second).compute(scheduler=scheduler)
    assert value == f"{take(first)} {second}"
    assert ran(log) == {"fit": 1}
    assert ex.explain(2)["load"].verdict == "hit"


def test_the_part_itself(tmp_path, log):
    """A change of the part makes the step run, and the part is named."""
    ex, result = make(tmp_path, log, lambda cfg: cfg["data"]["n"])
    result.bind(cfg={"data": {"n": 4}, "lr": 1}).compute()
    ran(log)
    other = result.bind(cfg={"data": {"n": 5}, "lr": 2})
    assert ex.explain(other)["load"].reason == "parameter cfg['data']['n'] 4 → 5"
    assert other.compute().startswith("5 ")
    assert ran(log) == {"load": 1, "fit": 1}
    assert ex.explain(2)["load"].reason == "parameter cfg['data']['n'] 4 → 5"


def test_equal_parts_of_other_kind(tmp_path, log):
    """Parts that are equal and yet of another type are other inputs."""
    _, result = make(tmp_path, log, lambda cfg: cfg["n"])
    assert result.bind(cfg={"n": 1}).compute().startswith("1 ")
    assert result.bind(cfg={"n": True}).compute().startswith("True ")
    assert result.bind(cfg={"n": 1.0}).compute().startswith("1.0 ")


def test_missing_part(tmp_path, log):
    """A part that is not there fails the trial as it would without reuse."""
    ex, result = make(tmp_path, log, lambda cfg: cfg["nothing"])
    assert ex.explain(result.bind(cfg={}))["load"].verdict == "miss"
    with pytest.raises(KeyError, match="nothing"):
        result.bind(cfg={}).compute()


def test_cluster(tmp_path, log, client):
    """The same holds on a cluster, for trials that are computed at once."""
    _, result = make(tmp_path, log, lambda cfg: cfg["n"])
    results = [result.bind(cfg={"n": 1, "lr": lr}) for lr in range(3)]
    assert [each.result()[:2] for each in client.compute(results)] == ["1 "] * 3
    assert ran(log) == {"load": 1, "fit": 3}
