"""Two hundred values of everyday work with data and models, each with a name."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import fractions
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import networkx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse
import sklearn.ensemble
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
import torch
import xgboost
from PIL import Image

Make = Callable[[], Any]
R = np.random.default_rng(0)
X, Y = R.normal(size=(40, 4)), R.integers(0, 3, 40)
WHEN = datetime.datetime(2026, 3, 1, 12, 30, 5, 17)


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    layers: tuple[int, ...] = (64, 32)


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )


def checkpoint() -> dict[str, Any]:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(5, 4)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "loss": 0.25, "model": model.state_dict(), "optimizer":
            optimizer.state_dict()}  # fmt: skip


PLAIN: dict[str, Make] = {
    "loss": lambda: 0.123,
    "count": lambda: 12_345,
    "large integer": lambda: 2**100,
    "nan": lambda: float("inf"),
    "flag": lambda: True,
    "nothing": lambda: None,
    "complex number": lambda: 1 + 2j,
    "text": lambda: "a summary of some length " * 100,
    "text of many alphabets": lambda: "naïve 数据 🎉\n" * 300,
    "bytes": lambda: bytes(range(256)) * 20,
    "list of losses": lambda: [0.1 * n for n in range(500)],
    "list of texts": lambda: [f"sample {n}" for n in range(500)],
    "vocabulary": lambda: {f"word{n}": n for n in range(1000)},
    "counts by number": lambda: {n: n * n for n in range(500)},
    "dict of scores": lambda: {"accuracy": 0.9, "f1": {"micro": 0.8, "macro": 0.7}},
    "dict of tuples": lambda: {"shape": (2, 3), "lr": (0.1, 0.01)},
    "dict by pairs": lambda: {(n, n + 1): n / 3 for n in range(200)},
    "set of labels": lambda: {"cat", "dog", "bird"},
    "frozen set": lambda: frozenset(range(300)),
    "tuple of splits": lambda: ([1, 2, 3], [4], [5]),
    "nested lists": lambda: [[n, [n, [str(n)]]] for n in range(100)],
    "records": lambda: [{"id": n, "text": "x" * 10, "score": n / 7} for n in range(200)],
    "range": lambda: range(0, 100, 5),
    "path": lambda: pathlib.PurePosixPath("models/best.pt"),
    "date": lambda: datetime.date(2026, 3, 1),
    "moment": lambda: WHEN,
    "moment with a zone": lambda: WHEN.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    "duration": lambda: datetime.timedelta(hours=3, microseconds=5),
    "decimal": lambda: decimal.Decimal("12.340"),
    "fraction": lambda: fractions.Fraction(22, 7),
    "uuid": lambda: uuid.UUID(int=7),
    "configuration": lambda: {"model": {"layers": [64, 32], "act": "relu"}, "lr": 1e-3, "seed": 1},
    "classification report": lambda: {
        str(c): {"precision": 0.5, "recall": 0.25, "support": 10} for c in range(10)
    },
    "history of a training": lambda: {
        "loss": [1 / (n + 1) for n in range(100)],
        "val_loss": [2 / (n + 1) for n in range(100)],
    },
    "best parameters": lambda: {"max_depth": 5, "criterion": "gini", "seed": None},
    "search space": lambda: {"lr": [0.1, 0.01], "layers": [(64,), (64, 32)], "on": {True, False}},
    "file digests": lambda: {pathlib.PurePosixPath(f"data/{n}.csv"): f"{n:032x}" for n in range(9)},
    "curve": lambda: [(n / 100, (n / 100) ** 2) for n in range(101)],
    "cross-validation": lambda: {"test_score": np.array([0.5, 0.75]), "fit_time": np.ones(2)},
    "label encoding": lambda: {label: n for n, label in enumerate("abcdefgh")},
    "confusion as counts": lambda: {("cat", "dog"): 3, ("cat", "cat"): 10},
    "tokens": lambda: [list(range(n, n + 20)) for n in range(100)],
    "NumPy float": lambda: np.float32(0.1),
    "NumPy integer": lambda: np.int64(3),
    "NumPy truth": lambda: np.bool_(True),
    "NumPy moment": lambda: np.datetime64("2026-03-01", "ns"),
    "timestamp": lambda: pd.Timestamp("2026-03-01 12:00", tz="UTC"),
    "scores as NumPy floats": lambda: {f"fold {n}": np.float64(n / 7) for n in range(5)},
}

_DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "c16", "c8", ">f8",
           ">i4", "M8[ns]", "M8[D]", "m8[s]")  # fmt: skip
ARRAYS: dict[str, Make] = {
    **{f"array of {name}": lambda name=name: np.arange(60).reshape(5, 12).astype(name)
       for name in _DTYPES},
    "array of truths": lambda: R.random((5, 4)) > 0.5,
    "array of texts": lambda: np.array(["cat", "dog", "bird"] * 10),
    "array of byte strings": lambda: np.array([b"cat", b"dog"]),
    "array of 0 dimensions": lambda: np.array(3.5),
    "empty array": lambda: np.empty((0, 5), "f4"),
    "array in the order of Fortran": lambda: np.asfortranarray(X),
    "transposed view": lambda: X.T,
    "strided view": lambda: X[::2, ::-1],
    "structured array": lambda: np.array([(1, 2.5)] * 9, dtype=[("a", "i4"), ("b", "f8")]),
    "array with nan": lambda: np.array([1.0, np.nan, -np.inf]),
    "images": lambda: R.integers(0, 255, (4, 16, 16, 3), dtype="u1"),
    "embedding": lambda: R.normal(size=(300, 64)).astype("f4"),
    "confusion matrix": lambda: R.integers(0, 50, (10, 10)),
    "probabilities": lambda: R.dirichlet(np.ones(5), 200),
}  # fmt: skip
CONTAINERS: dict[str, Make] = {
    "pair of arrays": lambda: (X, Y),
    "four arrays of a split": lambda: (X[:30], X[30:], Y[:30], Y[30:]),
    "list of arrays": lambda: [X + n for n in range(4)],
    "dict of arrays": lambda: {"train": X.copy(), "test": Y.copy()},
    "dict of arrays by number": lambda: {n: X + n for n in range(3)},
    "nested dict of arrays": lambda: {"fold": {"train": X + 1, "test": X + 2}, "k": 5},
    "array with names": lambda: {"data": X.copy(), "names": ["a", "b", "c", "d"], "classes": 3},
    "ordered dict of arrays": lambda: collections.OrderedDict(w=X.copy(), b=Y.copy()),
    "array and scores": lambda: (Y.copy(), {"accuracy": 0.9}),
    "weights of layers": lambda: [(X + n, Y + n) for n in range(3)],
    "dict of arrays of many types": lambda: {t: np.ones(3, t) for t in ("f4", "i8", "?", "u1")},
    "tuple with nothing": lambda: (X.copy(), None, "seed 1"),
    "dict with a strided view": lambda: {"view": X[::2]},
    "grid": lambda: dict(zip("xy", np.meshgrid(np.arange(5.0), np.arange(4.0)), strict=True)),
    **{f"sparse {kind} matrix": lambda kind=kind: getattr(scipy.sparse, f"{kind}_matrix")(
        (X > 1) * X) for kind in ("csr", "csc", "coo", "bsr", "dia")},
    "sparse array": lambda: scipy.sparse.csr_array((X > 1) * X),
    "sparse array in coordinates": lambda: scipy.sparse.coo_array((X > 1) * X),
    "dict of sparse matrices": lambda: {"tf": scipy.sparse.csr_matrix((X > 1) * X), "n": 3},
}  # fmt: skip


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 2.5], "c": ["x", "y", "z"], **columns})


def with_attrs() -> pd.DataFrame:
    found = frame()
    found.attrs["source"] = {"file": "a.csv", "rows": 3}
    return found


PANDAS: dict[str, Make] = {
    "frame": frame,
    "frame of floats": lambda: pd.DataFrame(X, columns=list("abcd")),
    "frame with numbered columns": lambda: pd.DataFrame(X),
    "empty frame": lambda: pd.DataFrame({"a": pd.Series([], dtype="f4")}),
    "frame without rows and columns": lambda: frame().iloc[:0],
    "frame with truths": lambda: frame(d=[True, False, True]),
    "frame with small numbers": lambda: frame(d=np.array([1, 2, 3], "i1")),
    "frame with missing integers": lambda: frame(d=pd.array([1, None, 3], "Int64")),
    "frame with missing truths": lambda: frame(d=pd.array([True, None, False], "boolean")),
    "frame with missing texts": lambda: frame(d=pd.array(["a", None, "c"], "string")),
    "frame with moments": lambda: frame(d=pd.date_range("2026", periods=3)),
    "frame with moments and zone": lambda: frame(
        d=pd.date_range("2026", periods=3, tz="Europe/Paris")
    ),
    "frame with durations": lambda: frame(d=pd.to_timedelta([1, 2, 3], "h")),
    "frame with categories": lambda: frame(
        d=pd.Categorical(["lo", "hi", "lo"], ["lo", "mid", "hi"])
    ),
    "frame with ordered categories": lambda: frame(
        d=pd.Categorical(["lo", "hi", "lo"], ["lo", "mid", "hi"], ordered=True)
    ),
    "frame with periods": lambda: frame(d=pd.period_range("2026-01", periods=3, freq="M")),
    "frame with an index": lambda: frame().set_index("c"),
    "frame by dates": lambda: frame().set_index(pd.date_range("2026", periods=3, freq="D")),
    "frame with two index levels": lambda: frame().set_index(["c", "a"]),
    "frame with a step index": lambda: frame().set_index(pd.RangeIndex(10, 40, 10)),
    "frame with a named index": lambda: frame().rename_axis("row"),
    "frame with attrs": with_attrs,
    "frame with two column levels": lambda: frame().groupby("c").agg({"a": ["min", "max"]}),
    "description": lambda: pd.DataFrame(X).describe(),
    "correlations": lambda: pd.DataFrame(X, columns=list("abcd")).corr(),
    "pivot": lambda: frame().pivot_table(index="a", columns="c", values="b"),
    "frame of Arrow types": lambda: frame().convert_dtypes(dtype_backend="pyarrow"),
    "predictions": lambda: pd.DataFrame({"y": Y, "p": X[:, 0], "id": [f"s{n}" for n in range(40)]}),
    "series": lambda: pd.Series([1.0, 2.0], name="loss"),
    "series without name": lambda: pd.Series([1, 2, 3]),
    "series by label": lambda: pd.Series({"age": 0.5, "height": 0.25}),
    "series of texts": lambda: pd.Series(["a", "b"], name="label"),
    "series by dates": lambda: pd.Series(
        [1.0, 2.0, 3.0], pd.date_range("2026", periods=3, freq="h")
    ),
    "counts": lambda: pd.Series(list("abca")).value_counts(),
    "index": lambda: pd.Index(["a", "b"], name="key"),
    "index of dates": lambda: pd.date_range("2026", periods=4, freq="D"),
    "index of two levels": lambda: pd.MultiIndex.from_product(
        [[1, 2], ["a", "b"]], names=["n", "k"]
    ),
}  # fmt: skip

TABLE = {"a": [1, 2, None], "b": ["x", None, "z"], "c": [0.5, 1.5, 2.5]}
TABLES: dict[str, Make] = {
    "Polars frame": lambda: pl.DataFrame(TABLE),
    "Polars frame of floats": lambda: pl.DataFrame(X),
    "Polars frame with moments": lambda: pl.DataFrame({"t": [WHEN, None], "d": [WHEN.date()] * 2}),
    "Polars frame with zones": lambda: pl.DataFrame({"t": [WHEN]}).with_columns(
        pl.col("t").dt.replace_time_zone("Europe/Paris")
    ),
    "Polars frame with durations": lambda: pl.DataFrame({"t": [datetime.timedelta(seconds=3)]}),
    "Polars frame with lists": lambda: pl.DataFrame({"l": [[1, 2], [], None]}),
    "Polars frame with structs": lambda: pl.DataFrame({"s": [{"x": 1, "y": "a"}]}),
    "Polars frame with small numbers": lambda: pl.DataFrame(TABLE, schema_overrides={"a": pl.Int8}),
    "Polars frame with categories": lambda: pl.DataFrame({"c": ["a", "b"]}).cast(pl.Categorical),
    "Polars frame with an enum": lambda: pl.DataFrame({"c": ["a", "b"]}).cast(pl.Enum(["a", "b"])),
    "empty Polars frame": lambda: pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}),
    "Polars series": lambda: pl.Series("loss", [0.5, None]),
    "Polars series of texts": lambda: pl.Series("label", ["a", "b"]),
    "Arrow table": lambda: pa.table(TABLE),
    "Arrow table with metadata": lambda: pa.table(TABLE).replace_schema_metadata({"k": "v"}),
    "Arrow table with lists": lambda: pa.table({"l": [[1], [2, 3], None]}),
    "Arrow table with dictionaries": lambda: pa.table(
        {"d": pa.array(list("aba")).dictionary_encode()}
    ),
    "Arrow table in chunks": lambda: pa.concat_tables([pa.table(TABLE)] * 3),
    "Arrow batch": lambda: pa.RecordBatch.from_pydict(TABLE),
    "Arrow array": lambda: pa.array([1, None, 3]),
    "Arrow chunks": lambda: pa.chunked_array([[1, 2], [3]]),
    "Arrow decimals": lambda: pa.array([decimal.Decimal("1.20")]),
}  # fmt: skip

_TENSORS = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
TENSORS: dict[str, Make] = {
    **{f"tensor of {name}": lambda name=name: torch.arange(12).reshape(3, 4).to(
        getattr(torch, name)) for name in _TENSORS},
    "tensor of 0 dimensions": lambda: torch.tensor(0.5),
    "empty tensor": lambda: torch.empty(0, 3),
    "pair of tensors": lambda: (torch.ones(3, 4), torch.zeros(3)),
    "dict of tensors": lambda: {"w": torch.ones(3, 4), "b": torch.zeros(3)},
    "list of tensors": lambda: [torch.full((2,), float(n)) for n in range(4)],
    "batch": lambda: {"ids": torch.arange(8).reshape(2, 4), "mask": torch.ones(2, 4), "n": 2},
    "state of a network": lambda: net().state_dict(),
    "state of an LSTM": lambda: torch.nn.LSTM(3, 4).state_dict(),
    "checkpoint": checkpoint,
    "tensors and arrays": lambda: {"t": torch.ones(3), "a": np.ones(3)},
    "JAX array": lambda: jnp.arange(6.0).reshape(2, 3),
    "JAX array of integers": lambda: jnp.arange(6),
    "JAX array of bfloat16": lambda: jnp.ones((2, 2), jnp.bfloat16),
    "parameters of JAX": lambda: {"dense": {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}},
    "list of JAX arrays": lambda: [jnp.ones(2), jnp.zeros(3)],
}  # fmt: skip

IMAGES: dict[str, Make] = {
    **{f"image in {mode}": lambda mode=mode: Image.new(mode, (8, 6))
       for mode in ("RGB", "RGBA", "L", "LA", "1")},
    "image of an array": lambda: Image.fromarray(R.integers(0, 255, (16, 16, 3), dtype="u1")),
}  # fmt: skip

OBJECTS: dict[str, Make] = {
    "linear model": lambda: sklearn.linear_model.LogisticRegression().fit(X, Y),
    "forest": lambda: sklearn.ensemble.RandomForestClassifier(3, random_state=0).fit(X, Y),
    "pipeline": lambda: sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.StandardScaler(), sklearn.linear_model.Ridge()
    ).fit(X, Y),
    "boosted trees": lambda: xgboost.XGBClassifier(n_estimators=2).fit(X, Y),
    "network": net,
    "dataclass": Settings,
    "graph": lambda: networkx.path_graph(5),
    "array of objects": lambda: np.array([{"a": 1}, None], dtype=object),
    "frame of objects": lambda: pd.DataFrame({"o": [{"a": 1}, [2], None]}),
}

GROUPS = {
    "plain values": PLAIN, "arrays of NumPy": ARRAYS, "containers of arrays": CONTAINERS,
    "pandas": PANDAS, "Polars and Arrow": TABLES, "tensors": TENSORS, "images": IMAGES,
    "models and objects": OBJECTS,
}  # fmt: skip


def values() -> Iterator[tuple[str, str, Make]]:
    """Yield the group, the name and a maker of each value."""
    for group, made in GROUPS.items():
        for name, make in made.items():
            yield group, name, make
