"""A part of an OmegaConf configuration counts by itself, with what it takes from elsewhere."""

from __future__ import annotations

import dataclasses

import pytest

import daskperiment
from daskperiment.capture.fingerprint import fingerprint

omegaconf = pytest.importorskip("omegaconf")
make = omegaconf.OmegaConf.create
TREE = {"data": {"n": 3, "names": ["a", "b"]}, "model": {"lr": 0.1}}


@dataclasses.dataclass
class Model:
    lr: float = 0.1


@dataclasses.dataclass
class Other:
    lr: float = 0.1


def part(tree, *path):
    """Give a part of a configuration."""
    found = make(tree)
    for key in path:
        found = found[key]
    return found


SAME = {
    "section": (part(TREE, "data"), part({**TREE, "model": {"lr": 0.2}}, "data")),
    "list": (part(TREE, "data", "names"), part({"other": 1, **TREE}, "data", "names")),
    "whole": (make(TREE), make(TREE)),
    "by itself": (part(TREE, "data"), make(TREE["data"])),
}
OTHERS = {
    "value": (part(TREE, "data"), make({"n": 4, "names": ["a", "b"]})),
    "reference": (
        part({"a": {"n": "${b}"}, "b": 1}, "a"), part({"a": {"n": "${b}"}, "b": 2}, "a"),
    ),
    "deep reference": (
        part({"a": [{"n": "${b.c}"}], "b": {"c": 1}}, "a"),
        part({"a": [{"n": "${b.c}"}], "b": {"c": 2}}, "a"),
    ),
    "missing": (make({"n": "???"}), make({"n": None})),
    "kind": (make([1]), make({"0": 1})),
    "type": (omegaconf.OmegaConf.structured(Model), omegaconf.OmegaConf.structured(Other)),
    "type within": (make({"m": Model()}), make({"m": Other()})),
    "structure": (omegaconf.OmegaConf.structured(Model), make({"lr": 0.1})),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_equal(name):
    """What stands elsewhere in the tree makes no difference."""
    first, second = SAME[name]
    assert fingerprint(first) == fingerprint(second)


@pytest.mark.parametrize("name", OTHERS)
def test_others(name):
    """Values, references, types and what is missing do."""
    first, second = OTHERS[name]
    assert fingerprint(first) != fingerprint(second)


def test_flags():
    """A configuration that may not be changed does something else."""
    readonly = make(TREE)
    omegaconf.OmegaConf.set_readonly(readonly, True)
    assert fingerprint(readonly) != fingerprint(make(TREE))


@pytest.mark.parametrize("take", [lambda cfg: cfg.data, lambda cfg: cfg["data"]])
def test_a_step_depends_on_the_part_that_it_takes(tmp_path, take):
    """Another value elsewhere runs nothing, another one in the part does."""
    ex = daskperiment.Experiment("trees", backend=tmp_path, seed=1)

    @ex.persist(reuse=True)
    def load(data):
        return data.n

    @ex.result
    def total(n):
        return n

    result = total(load(take(ex.parameter("cfg", default=make(TREE)))))
    result.compute(scheduler="synchronous")
    other = result.bind(cfg=make({**TREE, "model": {"lr": 0.2}}))
    assert ex.explain(other)["load"].verdict == "hit"
    assert other.compute(scheduler="synchronous") == 3
    assert ex.get_steps(2)["Reused From"].tolist()[0] == 1
    changed = result.bind(cfg=make({**TREE, "data": {"n": 4, "names": []}}))
    assert changed.compute(scheduler="synchronous") == 4
