"""In a notebook with ``%autoreload``, the source that is recorded is that of the running code."""

from __future__ import annotations

import os
import sys
import time

import pytest

from daskperiment.capture.code import CodeCapture
from daskperiment.capture.code_changes import source_text

pytest.importorskip("IPython")
interactive = pytest.importorskip("IPython.core.interactiveshell")

FILE = """
import dataclasses
RATE = 1
def helper(x):
    return x + 1
class Plain:
    rate = 1
    def go(self):
        return 1
    @property
    def value(self):
        return helper(1)
    @staticmethod
    def twice(x):
        return 2 * x
    @classmethod
    def made(cls):
        return cls()
@dataclasses.dataclass
class Config:
    x: int = 1
    def go(self):
        return self.x
"""

EDITS = {
    "function": ("return x + 1", "return x + 2"),
    "method": ("        return 1\n", "        return 22\n"),
    "property": ("return helper(1)", "return helper(3)"),
    "static method": ("2 * x", "3 * x"),
    "class method": ("return cls()", "return cls"),
    "attribute": ("    rate = 1", "    rate = 5"),
    "variable": ("RATE = 1", "RATE = 7"),
    "default of a field": ("x: int = 1", "x: int = 9"),
    "method of a dataclass": ("return self.x", "return self.x + 4"),
    "nothing": ("class Config", "class Config"),
}


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Give IPython's shell, which reloads what was edited before each cell."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    shell = interactive.InteractiveShell.instance()
    shell.run_line_magic("load_ext", "autoreload")
    shell.run_line_magic("autoreload", "2")
    yield shell
    shell.run_line_magic("autoreload", "0")
    interactive.InteractiveShell.clear_instance()
    sys.modules.pop("reloaded", None)


@pytest.mark.filterwarnings("ignore")
def test_edits_of_a_reloaded_module(shell, tmp_path):
    """After a reload, code and source are those of a fresh import; a cosmetic edit is none."""
    text, capture = FILE, CodeCapture()
    path = tmp_path / "reloaded.py"
    path.write_text(text)
    shell.run_cell("from reloaded import helper, Plain, Config, RATE\nimport reloaded")
    shell.run_cell("def step(x):\n    return helper(x), Plain, Config, reloaded.RATE")
    step = shell.user_ns["step"]
    before = capture.capture({"step": step})
    for number, (name, (old, new)) in enumerate(EDITS.items()):
        assert text.count(old) == 1, name
        text = text.replace(old, new)
        path.write_text(text)
        later = time.time() + 5 * (number + 1)  # a file's time may have no finer grain
        os.utime(path, (later, later))
        shell.run_cell("1")
        code = capture.capture({"step": step})
        changed = code.steps["step"].fingerprint != before.steps["step"].fingerprint
        assert changed == (old != new), name
        before = code
        told = source_text(code)
        assert "no source" not in told, (name, told)
        assert new.strip() in told or name == "variable", (name, told)
