"""A user's modules, written and edited while a test runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import daskperiment

HEAD = "import daskperiment\nimport {helpers} as helpers\nfrom {helpers} import *\n"
NAMES = ("reproduced_helpers", "reproduced_steps")


class Project:
    """Two modules: helpers, and steps that use them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.ex = daskperiment.Experiment("project", backend=folder / "store")
        self._texts: dict[str, str] = dict.fromkeys(NAMES, "")
        monkeypatch.syspath_prepend(str(folder))
        # Edits within one second and of one length must not be taken for the compiled file.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(self, helpers: str | None = None, steps: str | None = None) -> Any:
        """Write one module or both, load both anew and return the module with the steps."""
        for name, text in zip(NAMES, (helpers, steps), strict=True):
            if text is not None:
                self._texts[name] = text
            (self.folder / f"{name}.py").write_text(self._texts[name], encoding="utf-8")
        self.forget()
        modules = [importlib.import_module(name) for name in NAMES]
        return modules[-1]

    def edit(self, old: str, new: str) -> ModuleType:
        """Replace a text in both modules, load them anew and return the one with the steps."""
        assert any(old in text for text in self._texts.values())
        helpers, steps = (self._texts[name].replace(old, new) for name in NAMES)
        module: ModuleType = self.write(helpers, steps)
        return module

    def forget(self) -> None:
        """Let the next import load the modules anew."""
        importlib.invalidate_caches()
        for name in NAMES:
            sys.modules.pop(name, None)
