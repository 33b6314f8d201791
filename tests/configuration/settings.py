"""Configuration classes as repositories have them."""

from __future__ import annotations

import enum
from argparse import Namespace
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import msgspec


class Kind(enum.Enum):
    ADAM = "adam"
    SGD = "sgd"


@dataclass(frozen=True)
class Opt:
    lr: float = 0.1
    kind: Kind = Kind.ADAM


@dataclass
class Config:
    opt: Opt = field(default_factory=Opt)
    epochs: int = 2
    layers: list[int] = field(default_factory=lambda: [8, 4])
    extra: dict[str, int] = field(default_factory=dict)
    total: int = field(init=False)

    def __post_init__(self):
        if self.epochs < 0:
            raise ValueError("epochs has to be positive")
        self.total = self.epochs * len(self.layers)


@dataclass
class Required:
    path: Path
    opt: Opt


@dataclass
class Secretive:
    scale: InitVar[int]


class StructOpt(msgspec.Struct):
    lr: float = 0.1


class StructConfig(msgspec.Struct):
    opt: StructOpt = msgspec.field(default_factory=StructOpt)
    epochs: int = 2


@dataclass
class ResNet:
    depth: int = 18
    width: float = 1.0


@dataclass
class ViT:
    depth: int = 12
    patch: int = 16


TREES = {
    "dict": {"opt": {"lr": 0.1}, "epochs": 2},
    "dataclass": Config(),
    "class": Config,
    "struct": StructConfig(),
    "namespace": Namespace(opt={"lr": 0.1}, epochs=2),
    "simple namespace": SimpleNamespace(opt=SimpleNamespace(lr=0.1), epochs=2),
}
