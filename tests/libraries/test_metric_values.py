"""Numbers as libraries for training and for tables have them, saved as points."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib.util import find_spec

import pytest

from daskperiment.execution.metric_points import point_of


def value_of(value):
    return point_of("loss", (0, value), {}).value


def test_torch():
    """Tensors of one element on any device are numbers; more of them, or none, are refused."""
    torch = pytest.importorskip("torch")
    assert value_of(torch.tensor(1.5)) == value_of(torch.tensor([[1.5]])) == 1.5
    assert value_of(torch.tensor(1.0, requires_grad=True) * 2) == 2.0
    assert value_of(torch.tensor(1.5, dtype=torch.bfloat16)) == 1.5
    assert (value_of(torch.tensor(3)), value_of(torch.tensor(True))) == (3, True)
    assert value_of(torch.nn.Parameter(torch.ones(1))) == 1.0
    assert math.isinf(float(value_of(torch.tensor(math.inf))["v"]))
    assert point_of("loss", (torch.tensor(3), 1.0), {}).epoch == 3
    for wrong in (torch.ones(2), torch.tensor(1j), torch.empty((), device="meta"), torch.ones(0)):
        with pytest.raises(TypeError, match="expected one number"):
            value_of(wrong)
    with pytest.raises(TypeError, match="the epoch stands before the value"):
        point_of("loss", (torch.tensor(0.25), 17), {})


JAX = """
import jax, pytest
from daskperiment.execution.metric_points import point_of

def value_of(value):
    return point_of("loss", (0, value), {}).value

assert value_of(jax.numpy.float32(1.5)) == value_of(jax.numpy.array([1.5])) == 1.5
assert value_of(jax.numpy.array(1.5, dtype=jax.numpy.bfloat16)) == 1.5
with pytest.raises(TypeError, match="expected one number"):
    jax.jit(lambda x: value_of(x) or x)(1.5)
print("fine")
"""


def test_jax():
    """JAX's arrays of one element are numbers; a value within a traced function is refused."""
    if find_spec("jax") is None:
        pytest.skip("needs JAX")
    # In a process of its own: once JAX is imported, forking warns.
    done = subprocess.run([sys.executable, "-c", JAX], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_polars_and_arrow():
    """A column of one element and a scalar of Arrow are numbers."""
    polars = pytest.importorskip("polars")
    assert value_of(polars.Series([1.5])) == 1.5
    with pytest.raises(TypeError, match="2 elements"):
        value_of(polars.Series([1, 2]))
    arrow = pytest.importorskip("pyarrow")
    assert value_of(arrow.scalar(1.5)) == 1.5
    with pytest.raises(TypeError, match="expected one number"):
        value_of(arrow.scalar("1.5"))
