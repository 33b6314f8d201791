"""Results that are one number in an array, a tensor or a scalar of a library: numbers in tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daskperiment
from daskperiment.codec.held_numbers import number_in_array


class DeviceArray:
    """An array as libraries for devices have it: a shape, ``item``, and nothing of NumPy's."""

    def __init__(self, *values: float) -> None:
        self.values = values
        self.shape = () if len(values) == 1 else (len(values),)

    def item(self) -> float:
        (value,) = self.values
        return value


def library(name: str) -> Any:
    return pytest.importorskip(name)


NUMBERS: dict[str, Callable[[], Any]] = {
    "float": lambda: 0.5,
    "float32": lambda: np.float32(0.5),
    "without dimensions": lambda: np.array(0.5),
    "one element": lambda: np.array([[0.5]]),
    "float16": lambda: np.array(0.5, dtype="float16"),
    "decimal": lambda: Decimal("0.5"),
    "fraction": lambda: Fraction(1, 2),
    "of a device": lambda: DeviceArray(0.5),
    "torch": lambda: library("torch").tensor(0.5),
    "torch, one element": lambda: library("torch").tensor([[0.5]]),
    "torch, with a gradient": lambda: library("torch").tensor(1.0, requires_grad=True) / 2,
    "torch, bfloat16": lambda: library("torch").tensor(0.5, dtype=library("torch").bfloat16),
    "torch, a parameter": lambda: library("torch").nn.Parameter(library("torch").tensor(0.5)),
    "polars": lambda: library("polars").Series([0.5]),
    "arrow": lambda: library("pyarrow").scalar(0.5),
    "xarray": lambda: library("xarray").DataArray(0.5),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_results_are_numbers(name: str, tmp_path: Path) -> None:
    """Alone and in a dict they are filtered, sorted and expanded as the number they hold."""
    made = NUMBERS[name]()
    ex = daskperiment.Experiment("numbers", backend=tmp_path)

    @ex.result
    def alone(scale: float) -> Any:
        ex.save_metric("seen", made, made)
        return made if scale == 1 else scale

    @ex.result
    def within(scale: float) -> Any:
        return {"f1": made if scale == 1 else scale, "kind": "rbf"}

    for scale in (0.25, 1, 0.75):
        alone(scale).compute()
        within(scale).compute()
    results = ex.get_history(where="Step == 'alone'")["Result"]
    assert list(map(float, results)) == [0.25, 0.5, 0.75]
    assert ex.best("Result", where="Result < 0.7") == 3
    assert ex.best("Result.f1", where="Result.f1 < 0.7") == 4
    assert ex.get_history(where="Result.f1 >= 0.5", sort="-Result.f1").index.to_list() == [6, 4]
    assert ex.get_history(sort="-Result", where="Step == 'alone'").index.to_list() == [5, 3, 1]
    expanded = ex.get_history(expand=True, where="Step == 'within'")
    assert list(map(float, expanded["Result.f1"])) == [0.25, 0.5, 0.75]
    assert float(ex.load_metric("seen", 3)[3].iloc[0]) == 0.5
    assert float(ex.load_metric("seen", 3).index[0]) == 0.5


def test_jax_in_a_table() -> None:
    """An array of JAX holds a number, too; one of several elements does not."""
    jax = library("jax")
    assert number_in_array(jax.numpy.array(0.5)) == 0.5
    assert number_in_array(jax.numpy.array([0.5])) == 0.5
    assert number_in_array(jax.numpy.ones(2)) is None


NONE: dict[str, Callable[[], Any]] = {
    "two elements": lambda: np.array([0.5, 1.0]),
    "no element": lambda: np.array([]),
    "a time": lambda: np.array("2026-01-01", dtype="datetime64[D]"),
    "a duration": lambda: np.array(3, dtype="timedelta64[s]"),
    "a text": lambda: np.array("0.5"),
    "an object": lambda: np.array(None, dtype=object),
    "complex": lambda: np.array(1j),
    "masked": lambda: np.ma.array([0.5], mask=[True]),
    "lazy": lambda: library("dask.array").ones(1, chunks=1),
    "without data": lambda: library("torch").empty((), device="meta"),
    "a class": lambda: DeviceArray,
    "two of a device": lambda: DeviceArray(1.0, 2.0),
    "a text of Arrow": lambda: library("pyarrow").scalar("0.5"),
    "a plain number": lambda: 0.5,
    "a list": lambda: [0.5],
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_number(name: str) -> None:
    """What holds several numbers, none, a time or what is not computed is no number."""
    assert number_in_array(NONE[name]()) is None


def test_what_no_float_of_json_is(tmp_path: Path) -> None:
    """In an array nan and infinity are what they are, and nan is never the best."""
    ex = daskperiment.Experiment("odd", backend=tmp_path)

    @ex.result
    def give(value: float) -> Any:
        return np.array(value)

    for value in (math.nan, -math.inf, 2.0):
        give(value).compute()
    results = list(map(float, ex.get_history()["Result"]))
    assert math.isnan(results[0])
    assert results[1:] == [-math.inf, 2.0]
    assert ex.best("Result", mode="min") == 2


def test_the_value_itself_is_kept(tmp_path: Path) -> None:
    """The table shows the number; what the step returned is loaded as the array that it was."""
    ex = daskperiment.Experiment("kept", backend=tmp_path)

    @ex.result(persist=True)
    def give() -> Any:
        return np.array([0.5], dtype="float32")

    give().compute()
    assert ex.get_history()["Result"].to_list() == [0.5]
    loaded = ex.get_persisted("give", 1)
    assert isinstance(loaded, np.ndarray)
    assert (loaded.dtype, loaded.shape) == (np.dtype("float32"), (1,))
