"""Modules and processes as users have them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap

import pytest

from daskperiment.capture.code import CodeCapture


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of the user's, and import it (again)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    # Two versions of a file may be written within one tick of its time stamp.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def make(name, text, load=True):
        path = tmp_path.joinpath(*name.split("."))
        if text is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        if not load:
            return None
        module = sys.modules.get(name)
        return importlib.reload(module) if module else importlib.import_module(name)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def code_of():
    """Capture one function as a step, by a capture that remembers nothing."""

    def capture(function):
        return CodeCapture().capture({"step": function})

    return capture


@pytest.fixture
def step_of(code_of):
    """Give what one function's behaviour depends on."""
    return lambda function: code_of(function).steps["step"]


@pytest.fixture
def run_python(tmp_path):
    """Run a script in another process, with another order of sets."""

    def run(text, seed, name="other_process.py"):
        script = tmp_path / name
        script.write_text(textwrap.dedent(text))
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
