"""Values that a trial keeps, one for each kind, and a result whose steps keep them all."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch

from daskperiment.recording.registry import recorder_for

__all__ = ["KEPT", "define", "state", "table"]


class Kept(NamedTuple):
    """A value that a step saves, and what becomes of it."""

    make: Callable[[], Any]
    format: str
    """In which it is kept."""
    fits: Callable[[Any], bool]
    """Whether what is loaded is what was saved, or shows it."""
    asked: str | None = None


def figure() -> Any:
    import matplotlib.figure

    found = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
    found.subplots().plot([1, 3, 2])
    return found


def image() -> Any:
    from PIL import Image

    return Image.new("RGB", (4, 3), "red")


def chart() -> Any:
    import plotly.graph_objects

    return plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=[1, 2], name="curve"))


def written(name: str) -> Path:
    path = Path(f"{name}.txt" if name == "file" else name)
    if name == "folder":
        path.mkdir(exist_ok=True)
        (path / "inner.txt").write_text("inner")
    else:
        path.write_text("content")
    return path


def table() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2], "b": ["x", None]})


def state() -> dict[str, Any]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


class Model:
    def __init__(self, weight: int) -> None:
        self.weight = weight


KEPT: dict[str, Kept] = {
    "figure of matplotlib": Kept(figure, "png", lambda back: min(back.size) > 20),
    "drawing of matplotlib": Kept(figure, "svg", lambda back: "<svg" in back, "svg"),
    "image of PIL": Kept(image, "png", lambda back: back.getpixel((0, 0)) == (255, 0, 0)),
    "image array": Kept(lambda: np.full((3, 4, 3), 7, "u1"), "png",
                        lambda back: back.size == (4, 3), "png"),
    "chart of plotly": Kept(chart, "html", lambda back: "curve" in back),
    "table of pandas": Kept(table, "parquet", lambda back: back.equals(table())),
    "table of Polars": Kept(lambda: pl.DataFrame({"a": [1, None]}), "polars",
                            lambda back: back.rows() == [(1,), (None,)]),
    "table of Arrow": Kept(lambda: pa.table({"a": [1, 2]}), "arrow",
                           lambda back: back.to_pydict() == {"a": [1, 2]}),
    "state of torch": Kept(state, "safetensors", lambda back: torch.equal(
        back["weight"], state()["weight"]) and list(back) == ["weight", "bias"]),
    "array": Kept(lambda: np.arange(6.0), "npy", lambda back: back.tolist() == [0, 1, 2, 3, 4, 5]),
    "arrays": Kept(lambda: {"x": np.ones(2), "y": np.zeros(1)}, "npz",
                   lambda back: back["x"].tolist() == [1, 1]),
    "array of zarr": Kept(lambda: np.arange(4), "zarr", lambda back: back.tolist() == [0, 1, 2, 3],
                          "zarr"),
    "array of Dask": Kept(lambda: dask.array.ones((4, 4), chunks=2), "zarr",
                          lambda back: back.sum() == 16),
    "file": Kept(lambda: written("file"), "file", lambda back: back.read_text() == "content"),
    "folder": Kept(lambda: written("folder"), "folder",
                   lambda back: (back / "inner.txt").read_text() == "inner"),
    "text": Kept(lambda: "naïve", "text", lambda back: back == "naïve"),
    "plain data": Kept(lambda: {"f1": (1, None)}, "json", lambda back: back == {"f1": (1, None)}),
    "model": Kept(lambda: Model(3), "pickle", lambda back: back.weight == 3),
    "large array": Kept(lambda: np.arange(50_000), "npy", lambda back: back[-1] == 49_999),
}  # fmt: skip


def define(ex: Any, folder: Path) -> Any:
    """Make a result whose steps keep all that trials keep."""

    @ex.persist
    def fit(a: int) -> Any:
        return state()

    @ex.persist(format="parquet")
    def predict(weights: Any) -> Any:
        print("predicting")
        return table()

    @ex.result
    def report(predictions: Any, a: int) -> int:
        os.chdir(folder)
        for name, kept in KEPT.items():
            ex.save(name, kept.make(), format=kept.asked)
        logging.getLogger("training").warning("logged %s", a)
        warnings.warn("warned", UserWarning, stacklevel=1)
        recorder = recorder_for(ex._store)
        start = time.time()
        for passed in range(12):  # seconds, by the clock by which use of the machine is looked at
            recorder.system._clock = lambda now=start + passed: now
            recorder.tick()
        recorder.system._clock = time.time
        return len(KEPT)

    a = ex.parameter("a", default=1)
    return report(predict(fit(a)), a)
