"""What steps return and read in everyday work, from the libraries that people use weekly."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import ipaddress
import logging
import operator
import os
import pathlib
import re
import sqlite3
import string
import typing
import zoneinfo

import attrs
import jax
import jax.numpy as jnp
import lightgbm
import matplotlib.colors
import matplotlib.figure
import networkx
import numpy as np
import omegaconf
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import scipy.interpolate
import scipy.optimize
import scipy.sparse
import scipy.spatial
import scipy.stats
import sklearn.ensemble
import sklearn.feature_extraction.text
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.pipeline
import sklearn.preprocessing
import toolz
import torch
import xarray
import xgboost
from PIL import Image

X = np.random.default_rng(0).normal(size=(30, 3))
Y = (X[:, 0] > 0).astype(int)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(1, 1)
        self.memory = torch.nn.LSTM(1, 1)

    def forward(self, x):
        return self.inner(x)


class Model(pydantic.BaseModel):
    x: int = 1
    names: list[str] = pydantic.Field(default_factory=list)


class Frozen(pydantic.BaseModel, frozen=True):
    x: int = 1


@attrs.define
class Defined:
    x: int = 1


@attrs.frozen
class DefinedFrozen:
    x: int = 1


@dataclasses.dataclass
class Data:
    x: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int = 1


class WithState:
    def __init__(self):
        self.x, self.cache = 1, {}

    def __getstate__(self):
        return {"x": self.x}

    def __setstate__(self, state):
        self.__dict__.update(state, cache={})


class WithReduce:
    def __init__(self, x=1):
        self.x = x

    def __reduce__(self):
        return WithReduce, (self.x,)


class Node:
    def __init__(self, parent=None):
        self.parent, self.children = parent, []
        if parent is not None:
            parent.children.append(self)


class Colour(enum.Enum):
    RED = 1


class Flags(enum.Flag):
    ONE = 1
    TWO = 2


class Text(enum.StrEnum):
    A = "a"


class Pair(typing.NamedTuple):
    a: int = 1
    b: int = 2


def plus(x, y=1):
    return x + y


def tree():
    root = Node()
    Node(root)
    Node(root)
    return root


def seeded(kind, *args):
    torch.manual_seed(0)
    return kind(*args)


def trained_optimizer():
    net = seeded(Net)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    return optimizer


def figure():
    made = matplotlib.figure.Figure()
    made.subplots().plot([1, 2, 3], label="x")
    return made


def classifier():
    return sklearn.linear_model.LogisticRegression().fit(X, Y)


def forest():
    return sklearn.ensemble.RandomForestClassifier(3, random_state=0).fit(X, Y)


def boosted():
    return xgboost.XGBClassifier(n_estimators=2).fit(X, Y)


def light():
    return lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, Y)


def search():
    grid = sklearn.model_selection.GridSearchCV(classifier(), {"C": [1, 2]}, cv=2)
    return grid.fit(X, Y)


BOTH = {
    "tensor": lambda: torch.arange(3),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "compressed tensor": lambda: torch.eye(2).to_sparse_csr(),
    "nn.Linear": lambda: seeded(torch.nn.Linear, 1, 1),
    "nn.LSTM": lambda: seeded(torch.nn.LSTM, 1, 1),
    "own module": lambda: seeded(Net),
    "state_dict": lambda: seeded(Net).state_dict(),
    "optimizer": trained_optimizer,
    "DataLoader": lambda: torch.utils.data.DataLoader([1]),
    "TensorDataset": lambda: torch.utils.data.TensorDataset(torch.arange(3)),
    "torch.Size": lambda: torch.Size([1, 2]),
    "torch.Generator": lambda: torch.Generator().manual_seed(1),
    "jax array": lambda: jnp.arange(3),
    "jax key": lambda: jax.random.key(0),
    "polars frame": lambda: pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [[1], [2, 3]]}),
    "polars series": lambda: pl.Series("a", [datetime.date(2020, 1, 1), None]),
    "arrow table": lambda: pa.table({"a": [1, None], "b": ["x", None]}),
    "xgboost": boosted,
    "lightgbm": light,
    "logistic regression": classifier,
    "forest": forest,
    "grid search": search,
    "pydantic": Model,
    "pydantic frozen": Frozen,
    "attrs": Defined,
    "attrs frozen": DefinedFrozen,
    "dataclass": Data,
    "slotted dataclass": Slotted,
    "own __getstate__": WithState,
    "own __reduce__": WithReduce,
    "own tree": tree,
    "OmegaConf": lambda: omegaconf.OmegaConf.create({"a": 1, "b": [1, {"c": "${a}"}]}),
    "networkx": lambda: networkx.path_graph(3),
    "xarray": lambda: xarray.DataArray([1]),
    "PIL": lambda: Image.new("L", (3, 3)),
    "frozen distribution": lambda: scipy.stats.norm(0, 1),
    "CubicSpline": lambda: scipy.interpolate.CubicSpline([0, 1, 2], [0, 1, 4]),
    "interp1d": lambda: scipy.interpolate.interp1d([0, 1], [0, 1]),
    "cKDTree": lambda: scipy.spatial.cKDTree(X),
    "KDTree": lambda: scipy.spatial.KDTree(X),
    "sparse matrix": lambda: scipy.sparse.eye(3).tocsr(),
    "gaussian_kde": lambda: scipy.stats.gaussian_kde([0, 1, 2.5]),
    "enum": lambda: Colour.RED,
    "named tuple": Pair,
    "deque": lambda: collections.deque([1]),
    "ChainMap": lambda: collections.ChainMap({"a": 1}),
    "ZoneInfo": lambda: zoneinfo.ZoneInfo("Europe/Berlin"),
    "masked array": lambda: np.ma.array([1, 2], mask=[0, 1]),
    "Polynomial": lambda: np.polynomial.Polynomial([1, 2]),
}

OUTPUTS = {
    **BOTH,
    "Figure": figure,
    "BytesIO": lambda: io.BytesIO(b"a"),
    "Styler": lambda: pd.DataFrame({"a": [1]}).style,
    "GroupBy": lambda: pd.DataFrame({"a": [1]}).groupby("a"),
    "OptimizeResult": lambda: scipy.optimize.minimize(lambda v: (v**2).sum(), [1.0]),
    "t-test": lambda: scipy.stats.ttest_ind([0, 1, 2], [0, 1, 3]),
    "CountVectorizer": lambda: sklearn.feature_extraction.text.CountVectorizer().fit(["aa bb"]),
    "partial": lambda: functools.partial(plus, 1),
    "database connection": lambda: sqlite3.connect(":memory:"),
}

CONSTANTS = {
    **BOTH,
    "torch.float32": lambda: torch.float32,
    "torch.device": lambda: torch.device("cpu"),
    "torch.strided": lambda: torch.strided,
    "torch.finfo": lambda: torch.finfo(torch.float32),
    "loss": lambda: torch.nn.CrossEntropyLoss(weight=torch.ones(2)),
    "jnp.float32": lambda: jnp.float32,
    "jit": lambda: jax.jit(plus),
    "pl.col": lambda: pl.col,
    "polars expression": lambda: pl.col("a") + 1,
    "polars type": lambda: pl.List(pl.Int64),
    "polars schema": lambda: pl.Schema({"a": pl.Int64}),
    "arrow schema": lambda: pa.schema([("a", pa.int64())]),
    "scipy.stats.norm": lambda: scipy.stats.norm,
    "colour map": lambda: matplotlib.colormaps["viridis"],
    "Normalize": lambda: matplotlib.colors.Normalize(0, 1),
    "PIL.Resampling": lambda: Image.Resampling.BILINEAR,
    "pipeline": lambda: sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler()),
    "KFold": lambda: sklearn.model_selection.KFold(),
    "scorer": lambda: sklearn.metrics.get_scorer("accuracy"),
    "flags": lambda: Flags.ONE | Flags.TWO,
    "StrEnum": lambda: Text.A,
    "typing": lambda: [int | str, list[int], typing.Literal["a"], typing.Annotated[int, 3]],
    "logger": lambda: logging.getLogger("a"),
    "environ": lambda: os.environ,
    "pattern": lambda: re.compile("a"),
    "template": lambda: string.Template("$a"),
    "context": lambda: decimal.Context(prec=3),
    "address": lambda: ipaddress.ip_network("1.2.3.0/24"),
    "itemgetter": lambda: operator.itemgetter(1),
    "vectorize": lambda: np.vectorize(plus),
    "date offset": lambda: pd.DateOffset(months=1),
    "CategoricalDtype": lambda: pd.CategoricalDtype(["a"]),
    "curry": lambda: toolz.curry(plus),
    "compose": lambda: toolz.compose(plus, plus),
    "path": lambda: pathlib.PurePosixPath("a"),
    "Figure": figure,
    "text stream": lambda: io.TextIOWrapper(io.BytesIO()),
}
