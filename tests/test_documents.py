"""The examples in the documentation and in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import daskperiment

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
MODULES = [module.name for module in pkgutil.walk_packages(daskperiment.__path__, "daskperiment.")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each example keep its trials in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_true_output(path: Path) -> None:
    """Every prompt in README.rst and docs/ gives the output that stands below it."""
    assert doctest.testfile(str(path), module_relative=False, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("name", ["daskperiment", *MODULES])
def test_docstrings_show_true_output(name: str) -> None:
    """Every prompt in a docstring gives the output that stands below it."""
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


def test_the_documents_hold_examples() -> None:
    """README.rst and the quickstart contain prompts, so that the test above tests something."""
    for path in (ROOT / "README.rst", ROOT / "docs" / "quickstart.rst"):
        text = path.read_text(encoding="utf-8")
        assert len(doctest.DocTestParser().get_examples(text)) > 5, path
