"""Configurations of attrs, pydantic, OmegaConf and Hydra, given to ex.config."""

from __future__ import annotations

import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any

import pytest

from daskperiment.configuration import ConfigTree, build
from daskperiment.errors import ConfigurationError, ParameterUndefinedError
from daskperiment.no_value import NO_VALUE

attrs = pytest.importorskip("attrs")
pydantic = pytest.importorskip("pydantic")
omegaconf = pytest.importorskip("omegaconf")
create = omegaconf.OmegaConf.create


@attrs.frozen
class AttrsOpt:
    _lr: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))


@attrs.define
class AttrsConfig:
    opt: AttrsOpt = attrs.field(factory=AttrsOpt)
    epochs: int = 2


class Opt(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    lr: float = pydantic.Field(0.1, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)


class Config(pydantic.BaseModel):
    opt: Opt = Opt()
    epochs: int = pydantic.Field(2, alias="n_epochs")
    name: str


@dataclass
class Model:
    depth: int = 3
    width: int = "${depth}"
    kind: Any = field(default_factory=list)


def test_attrs():
    """An attrs class is made again, also of private fields, and its validators have their say."""
    tree = ConfigTree(AttrsConfig(AttrsOpt(0.5)))
    values = {name: leaf.default for name, leaf in tree.leaves.items()}
    assert values == {"opt._lr": 0.5, "epochs": 2}
    assert build(tree.section, values) == AttrsConfig(AttrsOpt(0.5))
    with pytest.raises(ConfigurationError, match="must be > 0"):
        tree.check({**values, "opt._lr": -1.0}, {"opt._lr": -1.0})


def test_pydantic(ex):
    """A model is made again and validated; what it refuses is refused with the path."""
    cfg = ex.config(Config(name="a"))
    result = ex.result(lambda config, lr: (config, lr))(cfg, cfg.opt.lr)
    found = result.bind({"opt.lr": 1, "opt.betas": [0.5, 0.5]}, epochs=3).compute()
    assert found == (Config(opt=Opt(lr=1, betas=(0.5, 0.5)), n_epochs=3, name="a"), 1.0)
    with pytest.raises(ConfigurationError, match=r"opt\.lr.* greater than 0"):
        result.bind({"opt.lr": -1.0})
    with pytest.raises(ConfigurationError, match=r"epochs is 'many' \(str\); expected int"):
        result.bind(epochs="many")


def test_pydantic_class(ex):
    """Of a class, fields without a default are leaves without a value."""
    cfg = ex.config(Config)
    result = ex.result(lambda config: config)(cfg)
    with pytest.raises(ParameterUndefinedError, match="name"):
        result.compute()
    assert result.bind(name="a").compute() == Config(name="a")


class Given(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    lr: float = pydantic.Field(1.0, validation_alias=pydantic.AliasChoices("rate", "l"), ge=0)
    twice: float = pydantic.Field(default_factory=lambda given: 2 * given["lr"])

    @pydantic.model_validator(mode="after")
    def small(self):
        assert self.lr + self.twice < 99, "too much"
        return self


def test_pydantic_in_full(ex):
    """Any alias, fields beside those declared, and defaults that follow from others are kept."""
    given = Given(rate=3.0, more="x")
    result = ex.result(lambda config: config)(ex.config({"deep": given}))
    assert result.compute() == {"deep": given}
    assert result.bind({"deep.more": "y"}).compute()["deep"] == Given(rate=3.0, more="y")
    assert ConfigTree(Given).leaves["twice"].default is NO_VALUE
    with pytest.raises(ConfigurationError, match=r": deep\.rate is -1\.0: .*greater"):
        result.bind({"deep.lr": -1})
    with pytest.raises(ConfigurationError, match=r": deep: .*too much"):
        result.bind({"deep.lr": 99})


class Database(pydantic.BaseModel):
    password: pydantic.SecretStr = pydantic.SecretStr("Zq9 hunter of words")

    @pydantic.field_validator("password")
    @classmethod
    def long(cls, value):
        assert len(value.get_secret_value()) > 9, f"too short: {value.get_secret_value()}"
        return value


@dataclass
class Login:
    password: pydantic.SecretStr | None = None


@pytest.mark.parametrize("kind", [Database, Login])
def test_secrets_of_a_configuration(ex, tmp_path, kind):
    """What is declared as a SecretStr is a secret parameter, and stands nowhere."""
    cfg = ex.config({"db": kind(), "n": 1})
    result = ex.result(lambda config: len(config["db"].password.get_secret_value()))(cfg)
    assert result.bind({"db.password": "Yw8 gatherer of words", "n": 2}).compute() == 21
    result.bind({"db.password": pydantic.SecretStr("Yw8 gatherer of words")}).compute()
    shown = f"{cfg!r}{ex.get_parameters(1)}{ex.get_history(verbose=True).to_dict()}{result!r}"
    if kind is Database:
        assert result.compute() == 19
        with pytest.raises(ConfigurationError, match=r"db\.password.*too short: <secret>") as told:
            result.bind({"db.password": " ".join(["Xv7", "words"])})
        shown += "".join(traceback.format_exception(told.value))
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in ("hunter of", "gatherer of", "Xv7 words"):
        assert text not in shown
        assert text.encode() not in kept


TREE = {"opt": {"lr": 0.1, "half": "${opt.lr}"}, "names": ["a", "${opt.lr}"], "all": "${opt}"}


def test_omegaconf(ex):
    """A configuration comes as one, and what refers to a leaf follows it."""
    cfg = ex.config(create(TREE))
    result = ex.result(lambda config, half: (config, half))(cfg, cfg.opt.half)
    for lr in (0.1, 0.5):
        config, half = result.bind({"opt.lr": lr}).compute(scheduler="synchronous")
        assert isinstance(config, omegaconf.DictConfig)
        opt = {"lr": lr, "half": lr}
        assert config == create({"opt": opt, "names": ["a", lr], "all": opt})
        assert half == config.opt.half == lr
    assert result.bind({"opt.half": 3}).compute(scheduler="synchronous")[1] == 3
    assert ex.get_history()["opt.half"].tolist() == [0.1, 0.5, 3]


def test_omegaconf_missing_and_readonly(ex):
    """A value that is missing has to be given; a tree that may not be changed is not changed."""
    tree = create({"a": "???", "b": 1, "c": "${b}"})
    omegaconf.OmegaConf.set_readonly(tree, True)
    omegaconf.OmegaConf.set_struct(tree, True)
    cfg = ex.config(tree)
    result = ex.result(lambda config: config)(cfg)
    with pytest.raises(ParameterUndefinedError, match="'a'"):
        result.compute()
    assert result.bind(a=5, b=2).compute(scheduler="synchronous") == {"a": 5, "b": 2, "c": 2}
    assert tree.b == 1


def test_omegaconf_of_a_dataclass():
    """A structured configuration is read by its values."""
    tree = ConfigTree(omegaconf.OmegaConf.structured(Model))
    assert {name: leaf.default for name, leaf in tree.leaves.items()} == {
        "depth": 3, "width": 3, "kind": [],
    }  # fmt: skip
    assert build(tree.section, {"depth": 4, "width": 4, "kind": [1]}).depth == 4
    assert tree.dependent({"depth": 9}) == {"width": 9}


HYDRA = """
import sys, pathlib, daskperiment
from hydra import compose, initialize_config_dir
folder = pathlib.Path(sys.argv[1])
(folder / "model").mkdir()
(folder / "config.yaml").write_text("defaults: [_self_, {model: small}]\\nlr: 0.1\\nrate: ${lr}\\n")
(folder / "model" / "small.yaml").write_text("n: 1\\n")
(folder / "model" / "large.yaml").write_text("n: 9\\n")
with initialize_config_dir(str(folder), version_base=None):
    composed = compose("config", overrides=["model=large", "lr=0.5"])
ex = daskperiment.Experiment("hydra", backend=folder / "store")
cfg = ex.config(composed)
show = ex.result(lambda n, config: (n, dict(config)))
print(show(cfg.model.n, cfg).bind({"lr": 2.0}).compute(scheduler="synchronous"))
print(ex.get_history()[["model.n", "lr", "rate"]].iloc[0].tolist())
"""


def test_hydra(tmp_path):
    """What Hydra composed is a configuration as others, with its references."""
    pytest.importorskip("hydra")
    done = subprocess.run(
        [sys.executable, "-c", HYDRA, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "(9, {'lr': 2.0, 'rate': 2.0, 'model': {'n': 9}})", "[9.0, 2.0, 2.0]",
    ], done.stderr  # fmt: skip
