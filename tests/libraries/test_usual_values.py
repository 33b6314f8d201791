"""Values of everyday work come back equal from open formats, and most of them unasked."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import re
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _library in ("jax", "networkx", "polars", "pyarrow", "torch", "xgboost", "PIL", "sklearn"):
    pytest.importorskip(_library)
torch = pytest.importorskip("torch")

from daskperiment.capture.fingerprint import exact_fingerprint  # noqa: E402
from daskperiment.formats import (  # noqa: E402
    as_object,
    format_named,
    table_formats,
    written_as,
    written_for_artifact,
    written_for_output,
)
from daskperiment.formats.format import Written, joined  # noqa: E402
from tests.libraries.usual_values import GROUPS, values  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "values.rst"


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("something was unpickled")


def read_back(file: Written) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("loads", "load", "Unpickler"):
            patch.setattr(pickle, name, refuse)
        return file.format.read(joined(file.parts))


def is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and exact_fingerprint(one) == exact_fingerprint(other)


def test_nearly_all_come_back_without_unpickling() -> None:
    """Of 200 values 95 of 100 come back equal and of the same type, as docs/values.rst counts."""
    counts: dict[str, list[Any]] = {group: [0, 0, set()] for group in GROUPS}
    for group, name, make in values():
        value = make()
        file = written_for_artifact(value)
        counts[group][0] += 1
        counts[group][1] += file is None
        counts[group][2].add("pickle" if file is None else file.format.name)
        assert file is None or is_same(read_back(file), value), name
    rows = {group: (str(n), str(left), ", ".join(sorted(names)))
            for group, (n, left, names) in counts.items()}  # fmt: skip
    assert sum(n for n, _, _ in counts.values()) == 200
    assert sum(left for _, left, _ in counts.values()) <= 10
    text = PAGE.read_text(encoding="utf-8").partition("values                 number")[2]
    found = re.findall(r"^(\S[\w ]+?)  +(\d+) +(\d+)  (.+)$", text, re.MULTILINE)
    assert {group: (n, left, names.strip()) for group, n, left, names in found} == rows


def test_outputs_come_back_from_swift_formats() -> None:
    """What is kept unasked as a step's output is the value itself, and says what it shows."""
    swift: dict[str, set[str]] = defaultdict(set)
    for group, name, make in values():
        value = make()
        file = written_for_output(value)
        if file is not None:
            assert is_same(read_back(file), value), name
            assert file.format.suits_outputs(value)
            swift[group].add(file.format.name)
            form, blob = as_object(value, None)
            assert form["format"] == file.format.name
            assert blob is not None
            assert (form["digest"], form["size"]) == (blob.digest, blob.size)
            assert "preview" in form or file.format.name == "bytes", name
    assert set.union(*swift.values()) == {
        "json", "text", "bytes", "npy", "safetensors", "arrow", "polars", "parquet",
    }  # fmt: skip


def test_tables_of_pandas_are_files_unless_they_are_large_and_odd() -> None:
    """A step's table is a Parquet file; of more than 32 MB if its types are known to come back."""
    import pandas as pd

    small = pd.DataFrame({"a": np.arange(1000), "b": ["x"] * 1000})
    for value in (small, small["a"], small.set_index("b").index, small.set_index(["a", "b"])):
        file = written_for_output(value)
        assert file is not None
        assert file.format.name == "parquet"
    large = pd.DataFrame({"a": np.zeros(5 << 20)})
    assert written_for_output(large) is not None
    large.attrs["source"] = "a.csv"
    assert written_for_output(large) is None
    assert written_for_output(large.head(1000)) is not None
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert written_for_output(pd.DataFrame([[1, 2]], columns=["a", 1])) is None
    assert caught == []


@pytest.mark.parametrize("place", ["values", "index", "levels", "categories", "columns"])
def test_tables_that_a_file_would_change_are_pickled(place: str) -> None:
    """Flags, and texts that are stored otherwise than in tables that are read, are not lost."""
    import pandas as pd

    other = "python" if pd.StringDtype().storage == "pyarrow" else "pyarrow"
    texts = pd.array(["a", "b"], dtype=pd.StringDtype(other))
    frame = {
        "values": lambda: pd.DataFrame({"x": texts}),
        "index": lambda: pd.DataFrame({"x": [1, 2]}, index=pd.Index(texts)),
        "levels": lambda: pd.Series([1, 2], pd.MultiIndex.from_arrays([texts, [1, 2]])),
        "categories": lambda: pd.DataFrame({"x": pd.Categorical(texts)}),
        "columns": lambda: pd.DataFrame([[1, 2]], columns=pd.Index(texts)),
    }[place]()
    assert written_for_output(frame) is None
    assert written_for_artifact(frame) is None
    flagged = pd.DataFrame({"x": [1]}).set_flags(allows_duplicate_labels=False)
    assert written_for_artifact(flagged) is None


def test_files_are_those_of_the_libraries() -> None:
    """Others read what is written here: NumPy, safetensors, pyarrow, Polars, pandas, Pillow."""
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    import safetensors.torch
    from PIL import Image

    def file(name: str, value: Any) -> bytes:
        return joined(written_as(name, value).parts)

    array = np.arange(6.0).reshape(2, 3).T
    assert np.array_equal(np.load(io.BytesIO(file("npy", array)), allow_pickle=False), array)
    archive = np.load(io.BytesIO(file("npz", {"x": array, "y": np.ones(2)})), allow_pickle=False)
    assert np.array_equal(archive["x"], array)
    state = {"b": torch.arange(3), "a": torch.ones(2, 2, dtype=torch.bfloat16)}
    loaded = safetensors.torch.load(file("safetensors", state))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    table = pa.table({"a": [1, 2]})
    assert pa.ipc.open_file(file("arrow", table)).read_all().equals(table)
    assert pl.read_ipc(file("polars", pl.DataFrame({"a": [1]}))).rows() == [(1,)]
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(file("parquet", frame))), frame)
    assert Image.open(io.BytesIO(file("png", np.zeros((4, 6, 3), "u1")))).size == (6, 4)


def test_files_of_the_libraries_are_read() -> None:
    """What these libraries wrote themselves is read by the formats."""
    import polars as pl
    import pyarrow as pa
    import safetensors.torch

    tensors = format_named("safetensors").read(safetensors.torch.save({"w": torch.ones(2)}))
    assert torch.equal(tensors["w"], torch.ones(2))
    target = io.BytesIO()
    np.save(target, np.arange(3))
    assert format_named("npy").read(target.getvalue()).tolist() == [0, 1, 2]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])) as writer:
        writer.write_table(pa.table({"a": [1]}))
    assert format_named("arrow").read(sink.getvalue()).to_pydict() == {"a": [1]}
    assert format_named("polars").read(bytes(sink.getvalue())).equals(pl.DataFrame({"a": [1]}))


def tied() -> Any:
    weight = torch.ones(2, 2)
    return {"encoder": weight, "decoder": weight.view(4)}


def shared_array() -> Any:
    array = np.ones(3)
    return [array, array]


def named_array() -> Any:
    class Named(np.ndarray):
        pass

    return np.ones(3).view(Named)


@pytest.mark.parametrize(
    "make",
    [
        tied,
        shared_array,
        named_array,
        lambda: torch.ones(3, requires_grad=True),
        lambda: torch.nn.Parameter(torch.ones(3)),
        lambda: torch.ones(3, 4).T,
        lambda: torch.eye(3).to_sparse(),
        lambda: np.array([1, "a"], dtype=object),
        lambda: np.ma.array([1, 2], mask=[True, False]),
        lambda: {"f": print},
    ],
)
def test_what_would_not_come_back_is_left_to_pickle(make: Any) -> None:
    """Tied weights, subclasses, gradients and objects are in no format that would lose them."""
    assert written_for_output(make()) is None
    assert written_for_artifact(make()) is None


def test_pictures_of_figures_and_charts() -> None:
    """Figures of matplotlib and charts of plotly and altair are kept as what they show."""
    import altair
    import matplotlib.figure
    import pandas as pd
    import plotly.graph_objects

    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 3, 2])
    frame = pd.DataFrame({"a": [1, 2]})
    chart = altair.Chart(frame).mark_line().encode(x="a:Q")
    plot = plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=[1, 2]))
    for value, name, beginning in (
        (figure, "png", b"\x89PNG"),
        (figure.axes[0], "png", b"\x89PNG"),
        (plot, "html", b"<!doctype html"),
        (chart, "html", b"<!DOCTYPE html"),
    ):
        file = written_for_artifact(value)
        assert file is not None
        assert (file.format.name, joined(file.parts).lstrip()[: len(beginning)]) == (
            name,
            beginning,
        )
        assert written_for_output(value) is None, "it does not come back"
    assert joined(written_as("svg", figure).parts).startswith(b"<?xml")
    assert b"<table" in joined(written_as("html", frame).parts)
    small = format_named("png").thumbnail(figure)
    assert small is not None
    assert max(format_named("png").read(small).size) == 240


def test_arrays_in_chunks() -> None:
    """Arrays of NumPy and Dask are zarr files if that is asked for, and tables of Dask Parquet."""
    pytest.importorskip("zarr")
    import dask.array
    import dask.dataframe
    import pandas as pd

    array = np.arange(24.0).reshape(4, 6)
    for value in (array, dask.array.from_array(array, chunks=(2, 3))):
        assert np.array_equal(read_back(written_as("zarr", value)), array)
    lazy = written_for_artifact(dask.array.from_array(array, chunks=(2, 3)))
    assert lazy is not None
    assert lazy.format.name == "zarr"
    frame = pd.DataFrame({"a": range(6)})
    table = written_for_artifact(dask.dataframe.from_pandas(frame, npartitions=2))
    assert table is not None
    assert table.format.name == "parquet"
    pd.testing.assert_frame_equal(read_back(table), frame)


def frames_of_dask() -> dict[str, Any]:
    """Give tables and columns of Dask by what is special of them."""
    import pandas as pd

    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": np.arange(90), "b": ["x", None, "zz"] * 30})
    dated = frame.set_index(pd.date_range("2026", periods=90, freq="D", name="day"))
    mixed = pd.DataFrame({"b": [None] * 45 + ["x"] * 45})
    return {
        "table": dd.from_pandas(frame, npartitions=3),
        "column": dd.from_pandas(frame["a"], npartitions=3),
        "dated": dd.from_pandas(dated, npartitions=4),
        "one partition": dd.from_pandas(frame, npartitions=1),
        "types that differ": dd.from_pandas(mixed, npartitions=2),
        "an empty partition": dd.from_pandas(frame, npartitions=3).query("a > 50"),
    }


@pytest.mark.parametrize(
    "name",
    ["table", "column", "dated", "one partition", "types that differ", "an empty partition"],
)
def test_tables_of_dask_are_written_by_partitions(name: str, monkeypatch: Any) -> None:
    """One partition at a time is in memory, and what is read is what all of them make."""
    import pandas as pd

    value = frames_of_dask()[name]
    whole = value.compute()
    largest = []
    as_table = table_formats._as_table
    monkeypatch.setattr(
        table_formats, "_as_table",
        lambda part, *more, **named: (largest.append(len(part)), as_table(part, *more, **named))[1],
    )  # fmt: skip
    file = written_as("parquet", value)
    back = file.format.read(joined(file.parts))
    check = pd.testing.assert_series_equal if whole.ndim == 1 else pd.testing.assert_frame_equal
    check(back, whole, check_freq=False, check_index_type=False)
    if name in ("table", "column", "dated"):
        assert max(largest) < len(whole)


def test_arrays_of_dask_are_no_copy_in_memory(tmp_path: Any, monkeypatch: Any) -> None:
    """The file of an array in chunks is mapped, and its folder is gone."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = pytest.importorskip("dask.array").ones((2000, 1000), chunks=(500, 1000))
    file = written_as("zarr", array)
    assert isinstance(file.parts[0], mmap.mmap)
    assert os.listdir(tmp_path) == []
    assert np.array_equal(file.format.read(joined(file.parts)), np.ones((2000, 1000)))
