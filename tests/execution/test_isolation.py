"""Libraries' own draws do not disturb those of steps."""

from __future__ import annotations

import random
import subprocess
import sys
import types

import pytest

from daskperiment.execution.random_state import IsolatedLibraries


@pytest.fixture
def library(monkeypatch):
    """Import a module of a driver that draws from the module random, in two ways."""
    module = types.ModuleType("pymongo.made_up")
    module.random, module.randint, module.other = random, random.randint, len
    monkeypatch.setitem(sys.modules, "pymongo.made_up", module)
    return module


def test_library_draws_from_a_generator_of_its_own(library):
    """Once looked at, a library's draws leave the shared generator as it is."""
    IsolatedLibraries().update()
    state = random.getstate()
    assert 0 <= library.random.random() < 1
    assert library.randint(3, 3) == 3
    assert random.getstate() == state
    assert library.random.Random(1).random() == random.Random(1).random()
    assert library.other is len


def test_users_modules_are_left_alone(monkeypatch):
    """A module of the user's draws from the shared generator as before."""
    module = types.ModuleType("mine")
    module.random = random
    monkeypatch.setitem(sys.modules, "mine", module)
    IsolatedLibraries().update()
    assert module.random is random


PROGRAM = """
import random, threading
import daskperiment
import distributed.protocol.compression as compression, distributed.utils_comm as utils
import pymongo.message as message
from tempfile import TemporaryDirectory

with TemporaryDirectory() as folder:
    from pathlib import Path
    ex = daskperiment.Experiment("apart", backend=Path(folder) / "store", seed=1)

    @ex.result
    def draw(busy):
        if busy:
            compression.randint(0, 5), utils.random.random(), message._randint()
        return random.random()

    busy = ex.parameter("busy")
    result = draw(busy)
    print(result.bind(busy=False).compute() == result.bind(busy=True).compute())
"""


def test_real_libraries():
    """What Dask and the driver of MongoDB draw meanwhile does not change what a step draws."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
