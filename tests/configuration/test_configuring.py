"""ex.config: nodes of sections and leaves, values by dotted names, and what is run again."""

from __future__ import annotations

import argparse
import copy
import pickle

import pandas as pd
import pytest

import daskperiment
from daskperiment.errors import (
    ConfigurationError,
    ParameterUndeclaredError,
    ParameterUndefinedError,
)
from tests.configuration.settings import Config, Kind, Opt, Required, ResNet, ViT

SCHEDULERS = ["synchronous", "threads", "processes"]


def train(lr, opt, config):
    return lr, opt, config


def leaf_of(lr):
    return lr


def section_of(opt):
    return opt


def all_of(config):
    return config


@pytest.fixture
def cfg(ex):
    """Give a configuration of nested dataclasses."""
    return ex.config(Config())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_leaves_sections_and_all(ex, cfg, scheduler):
    """A leaf is its value, a section its object, and the whole the object of all."""
    result = ex.result(train)(cfg.opt.lr, cfg["opt"], cfg)
    bound = result.bind({"opt.lr": 1, "opt.kind": "sgd"}, epochs=3)
    expected = (1.0, Opt(1.0, Kind.SGD), Config(Opt(1.0, Kind.SGD), 3))
    assert bound.compute(scheduler=scheduler) == expected
    assert result.compute(scheduler=scheduler) == (0.1, Opt(), Config())


def test_names(ex, cfg):
    """Both ways to a leaf give the parameter with the dotted name, a column of the history."""
    assert cfg.opt.lr is cfg["opt"]["lr"]
    assert (cfg.opt.lr.name, cfg.opt.lr.key) == ("opt.lr", cfg["opt"].lr.key)
    ex.result(train)(cfg.opt.lr, cfg.opt, cfg).compute()
    names = ["opt.lr", "opt.kind", "epochs", "layers", "extra"]
    assert list(ex.get_history().columns[:5]) == names
    assert ex.get_history().loc[1, "opt.lr"] == 0.1
    assert list(ex.get_parameters()) == names
    assert list(cfg) == list(cfg.keys()) == ["opt", "epochs", "layers", "extra"]
    assert ("opt" in cfg, "lr" in cfg, len(cfg.opt)) == (True, False, 2)


def test_spread_into_a_call(ex, cfg):
    """A section's leaves are given to a step by ** as a dict's are."""

    @ex.result
    def fit(lr, kind):
        return lr, kind

    assert fit(**cfg.opt).compute() == (0.1, Kind.ADAM)


def test_shown(ex, cfg):
    """A configuration shows its leaves and the values of this moment."""
    ex.set_parameters({"opt.lr": 0.5})
    assert repr(cfg.opt) == "Configuration('opt')\n  opt.lr: 0.5\n  opt.kind: Kind.ADAM"
    assert "opt.lr" in cfg._repr_html_()
    assert "opt" in dir(cfg)


@pytest.mark.parametrize("take", [lambda cfg: cfg.opt.rate, lambda cfg: cfg["opt"]["rl"]])
def test_unknown_names(cfg, take):
    """A name that the tree lacks is refused with the nearest."""
    with pytest.raises(
        (AttributeError, KeyError), match=r"at 'opt'; (did you mean 'lr'|there are)"
    ):
        take(cfg)


def test_copies(ex, cfg):
    """A copy of a node, as in a pickle, stands for the same."""
    for again in (copy.copy(cfg.opt), pickle.loads(pickle.dumps(cfg.opt))):
        assert again.compute() == Opt()
        assert again.lr.key == cfg.opt.lr.key


def test_a_step_depends_on_what_it_takes(ex, cfg):
    """A step does not run again for a leaf that it does not take."""
    leaf, section, every = (ex.persist(reuse=True)(each) for each in (leaf_of, section_of, all_of))
    result = ex.result(train)(leaf(cfg.opt.lr), section(cfg.opt), every(cfg))

    def ran(values):
        result.bind(values).compute(scheduler="synchronous")
        steps = ex.get_steps(ex.trial_id).set_index("Step")["Reused From"]
        return [name for name in ("leaf_of", "section_of", "all_of") if pd.isna(steps[name])]

    assert ran({}) == ["leaf_of", "section_of", "all_of"]
    assert ran({}) == []
    assert ran({"epochs": 5}) == ["all_of"]
    assert ran({"opt.kind": "sgd"}) == ["section_of", "all_of"]
    assert ran({"opt.lr": 1}) == ["leaf_of", "section_of", "all_of"]
    assert ran({"opt.lr": 1.0}) == []


WRONG = [
    ({"opt.lr": "high"}, r"opt\.lr is 'high' \(str\); expected float"),
    ({"epochs": 1.5}, r"epochs is 1\.5 \(float\); expected int"),
    ({"opt.kind": "adamw"}, r"expected a member of Kind \(ADAM, SGD\)"),
    ({"epochs": -1}, "epochs has to be positive"),
    ({"opt": {"lr": "high"}}, r"opt\.lr is 'high'"),
]


@pytest.mark.parametrize(("values", "told"), WRONG)
def test_wrong_values(ex, cfg, values, told):
    """A value that does not fit is refused before anything runs, wherever it is given."""
    result = ex.result(train)(cfg.opt.lr, cfg.opt, cfg)
    for give in (result.bind, ex.set_parameters):
        with pytest.raises(ConfigurationError, match=told):
            give(values)
    assert ex.trial_id == 0
    assert ex.get_parameters()["opt.lr"] == 0.1


def test_wrong_names(ex, cfg):
    """A leaf that is not there is refused with the nearest, and a name of both ways is no value."""
    result = ex.result(train)(cfg.opt.lr, cfg.opt, cfg)
    with pytest.raises(ParameterUndeclaredError, match=r"did you mean 'opt\.lr'"):
        result.bind({"opt.lrr": 1})
    with pytest.raises(ParameterUndeclaredError, match=r"did you mean 'opt\.lr'"):
        ex.set_parameters(lr=1)
    with pytest.raises(TypeError, match="'epochs' twice"):
        result.bind({"epochs": 1}, epochs=2)
    with pytest.raises(TypeError, match="expected a mapping"):
        result.bind([("epochs", 1)])
    with pytest.raises(TypeError, match="name is text"):
        ex.set_parameters({1: 2})
    with pytest.raises(TypeError, match="node"):
        result.bind({"epochs": cfg.opt.lr})


def test_combinations_are_checked(ex, cfg):
    """What fits by itself but not beside what was bound before is refused, too."""

    class Both(dict):
        pass

    pydantic = pytest.importorskip("pydantic")

    class Span(pydantic.BaseModel):
        low: int = 0
        high: int = 9

        @pydantic.model_validator(mode="after")
        def ordered(self):
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    span = ex.config({"span": Span()})
    result = ex.result(lambda span: span)(span.span)
    assert result.bind({"span.low": 5}).compute(scheduler="synchronous").low == 5
    with pytest.raises(ConfigurationError, match="low is above high"):
        result.bind({"span.low": 5}).bind({"span.high": 4})


def test_sweeps(ex, cfg):
    """A sweep takes dotted names; its values are those of the leaves' types, checked before."""
    result = ex.result(train)(cfg.opt.lr, cfg.opt, cfg)
    frame = result.sweep({"opt.lr": [1, 2], "epochs": [1, 2]}, progress=False)
    assert frame["opt.lr"].tolist() == [1.0, 1.0, 2.0, 2.0]
    before = ex.trial_id
    with pytest.raises(ConfigurationError, match=r"opt\.lr is 'high'"):
        result.sweep({"opt.lr": [1, "high"]}, progress=False)
    with pytest.raises(ParameterUndeclaredError, match=r"opt\.lr"):
        result.sweep({"opt.lrr": [1]}, progress=False)
    assert ex.trial_id == before


def test_reproduce(ex, cfg):
    """A trial of a configuration is reproduced with its leaves."""
    result = ex.result(train)(cfg.opt.lr, cfg.opt, cfg)
    result.bind({"opt.lr": 0.5, "opt.kind": "sgd"}).compute(scheduler="synchronous")
    assert result.reproduce(1, scheduler="synchronous").identical


def test_leaves_without_a_value(ex):
    """A leaf without a default is found missing before anything runs, and can be given one."""
    cfg = ex.config(Required)
    result = ex.result(lambda config: config)(cfg)
    with pytest.raises(ParameterUndefinedError, match="path"):
        result.compute()
    assert result.bind(path="data").compute(scheduler="synchronous").path.name == "data"


def test_variants(ex):
    """The name of a variant chooses a section, with its own defaults."""
    cfg = ex.config({"lr": 0.1}, variants={"model": {"resnet": ResNet, "vit": ViT}})
    result = ex.result(train)(cfg.model.depth, cfg.model, cfg)

    def computed(**values):
        return result.bind(values).compute(scheduler="synchronous")

    assert computed() == (18, ResNet(), {"lr": 0.1, "model": ResNet()})
    assert computed(model="vit")[:2] == (12, ViT())
    assert computed(**{"model": "vit", "model.patch": 4})[1] == ViT(12, 4)
    frame = result.sweep({"model": ["resnet", "vit"], "model.depth": [1, 2]}, progress=False)
    assert frame["model"].tolist() == ["resnet", "resnet", "vit", "vit"]
    assert frame["model.depth"].tolist() == [1, 2, 1, 2]
    assert ex.get_history().loc[1, ["model", "model.depth", "lr"]].tolist() == ["resnet", 18, 0.1]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": "cnn"}, "expected one of 'resnet', 'vit'"),
        ({"model.patch": 4}, "model is 'resnet', which has no such leaf; 'vit' has"),
    ],
)
def test_wrong_variants(ex, values, told):
    """A variant that is none, and a leaf of another variant, are refused; in a sweep, too."""
    cfg = ex.config({}, variants={"model": {"resnet": ResNet, "vit": ViT}})
    result = ex.result(lambda model: model)(cfg.model)
    with pytest.raises(ConfigurationError, match=told):
        result.bind(values)
    with pytest.raises(ConfigurationError, match=told):
        result.sweep({name: [value] for name, value in values.items()}, progress=False)
    assert ex.trial_id == 0


def test_variants_that_a_step_does_not_take(ex):
    """A step that takes a leaf which two variants have alike does not run again for the other."""
    cfg = ex.config({}, variants={"model": {"a": {"n": 1, "x": 2}, "b": {"n": 1, "y": 3}}})
    step = ex.persist(lambda n: n, reuse=True)
    result = ex.result(lambda n, model: (n, model))(step(cfg.model.n), cfg.model)
    assert result.compute(scheduler="synchronous") == (1, {"n": 1, "x": 2})
    assert result.bind(model="b").compute(scheduler="synchronous") == (1, {"n": 1, "y": 3})
    assert ex.get_steps(2)["Reused From"].tolist()[0] == 1


def test_declared_again(ex):
    """A cell that is run again gives the new defaults, and keeps what was set."""
    ex.config({"a": 1, "b": 1})
    ex.set_parameters(a=5)
    cfg = ex.config({"a": 2, "b": 2})
    assert ex.get_parameters() == {"a": 5, "b": 2}
    assert cfg.compute() == {"a": 5, "b": 2}
    ex.parameter("a", default="text")  # no leaf any more
    ex.set_parameters(a="other")


def test_lists_are_leaves(ex):
    """A list in a tree is one value, with whatever stands in it."""
    cfg = ex.config({"layers": [{"n": 1}, {"n": 2}], "empty": {}})
    assert list(ex.get_parameters()) == ["layers", "empty"]
    assert cfg.compute() == {"layers": [{"n": 1}, {"n": 2}], "empty": {}}


def test_parameters_from_a_command_line(ex):
    """The values of argparse are parameters, and a step gets a namespace of the trial's values."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--names", nargs="*", default=["a"])
    args = ex.parameters_from(parser.parse_args(["--lr", "0.5"]))
    result = ex.result(lambda args, lr: (args, lr))(args, args.lr)
    found = result.bind(names=["b"]).compute(scheduler="synchronous")
    assert found == (argparse.Namespace(lr=0.5, names=["b"]), 0.5)
    assert ex.get_parameters(1) == {"lr": 0.5, "names": ["b"]}
    for wrong in ("args.yaml", 3, None):
        with pytest.raises(TypeError, match="expected"):
            ex.parameters_from(wrong)


def test_on_a_cluster(ex, cfg):
    """Workers make the object of a configuration, whose classes they import."""
    distributed = pytest.importorskip("distributed")
    result = ex.result(train)(cfg.opt.lr, cfg.opt, cfg)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        assert result.bind({"opt.lr": 2}).compute()[1] == Opt(2.0)
    assert daskperiment.Experiment("demo", backend=ex._store).trial_id == 1
