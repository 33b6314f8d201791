"""The notebooks run from start to end, as a new user runs them, and show what they promise."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.store.redis_server import redis_server, server_of_wheel

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run(name: str, folder: Path, **variables: str) -> list[Any]:
    """Run a notebook in a folder, and return its code cells."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, **variables})
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells: list[Any]) -> str:
    """Give all that cells printed."""
    return "".join(o.text for cell in cells for o in cell.outputs if o.get("name") == "stdout")


def warned(cells: list[Any]) -> str:
    """Give all that cells wrote besides, but for a cluster that ends late on a slow machine."""
    texts = [o.text for cell in cells for o in cell.outputs if o.get("name") == "stderr"]
    lines = "".join(texts).splitlines(keepends=True)
    return "".join(line for line in lines if "Worker process still alive after" not in line)


def values(cells: list[Any]) -> list[str]:
    """Give what cells evaluated to, as text."""
    return [
        o.data["text/plain"]
        for cell in cells
        for o in cell.outputs
        if "text/plain" in o.get("data", {})
    ]


def tables(cells: list[Any]) -> str:
    """Give what cells evaluated to, as HTML."""
    return "".join(
        o.data.get("text/html", "") for cell in cells for o in cell.outputs if "data" in o
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    """No output, number or machine's name is in a notebook, and each says first what it is for."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_readme_of_the_examples_names_each() -> None:
    """The list of examples is complete."""
    text = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    for path in (*NOTEBOOKS, *EXAMPLES.glob("*.py")):
        assert f"``{path.name}``" in text, path.name


COMES_ALONG = {
    "daskperiment", "dask", "distributed", "numpy", "pandas", "scipy", "sklearn", "joblib",
}  # fmt: skip
"""What the package and the extra ``examples`` install."""


def needed(path: Path) -> set[str]:
    """Return the libraries that a script imports and the extra ``examples`` does not install."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for name in node.names}  # fmt: skip
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in found}
    own = {each.stem for each in (EXAMPLES / "repository").iterdir()}
    return tops - COMES_ALONG - own - sys.stdlib_module_names


def test_readme_of_the_examples_names_what_they_need() -> None:
    """Of each script it says what has to be installed besides the extra ``examples``."""
    text = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    entries = dict(re.findall(r"^``([\w.]+/?)``\n((?: {4}.+\n)+)", text, re.MULTILINE))
    spoken = {name: entry.lower().replace("-", "_") for name, entry in entries.items()}
    scripts = {path: path.name for path in EXAMPLES.glob("*.py")}
    scripts |= dict.fromkeys((EXAMPLES / "repository").rglob("*.py"), "repository/")
    for path, name in scripts.items():
        for library in needed(path):
            assert library in spoken[name], (path, library)
    assert "matplotlib" in needed(EXAMPLES / "figures_and_notes.py")
    assert "pytest" in spoken["repository/"]


def test_quickstart(tmp_path: Path) -> None:
    """Every cell runs, twice in one folder, and the last shows a comparison as tables."""
    for _ in range(2):
        cells = run("quickstart", tmp_path)
        assert "Comparison of trials" in values(cells)[-1]
        assert "<table" in tables(cells[-1:])
        assert warned(cells) == ""


def test_reuse(tmp_path: Path) -> None:
    """A step runs for each change that reaches it, and not at all when the notebook runs again."""
    cells = run("reuse", tmp_path)
    assert printed(cells).count("measuring") == 1
    assert printed(cells).count("preparing") == 2
    assert "parameter size 2000 → 3000" in tables(cells)
    assert "helper scaled() changed" in tables(cells)
    again = printed(run("reuse", tmp_path))
    assert "fitting" in again
    assert "measuring" not in again
    assert "preparing" not in again


def test_reproduce(tmp_path: Path) -> None:
    """A trial comes out the same, otherwise after an edit, and the same with the recorded code."""
    cells = run("reproduce", tmp_path)
    assert values(cells).count("True") == 2
    assert "its code changed (trimmed)" in printed(cells)


def test_sweep(tmp_path: Path) -> None:
    """On a cluster, what trials have in common runs once, and nothing is said on the side."""
    cells = run("sweep", tmp_path)
    shown = next(text for text in values(cells) if "reused" in text).split()
    counts = {word: shown[i + 1 : i + 3] for i, word in enumerate(shown) if word.isidentifier()}
    assert counts["error"] == ["20", "0"]
    assert counts["features"] == ["4", "16"]
    assert counts["sample"] == ["1", "19"]
    assert warned(cells) == ""


@pytest.mark.parametrize("place", ["folder", "redis"])
def test_sharing(place: str, tmp_path: Path) -> None:
    """A colleague's trials are there, and their output is reused, in a folder and on a server."""
    if place == "folder":
        cells = run("sharing", tmp_path)
        assert values(cells)[0].startswith("'file://")
    else:
        with redis_server(server_of_wheel(), tmp_path / "server") as server:
            cells = run(
                "sharing", tmp_path, DASK_DASKPERIMENT__BACKEND=server.url,
                DASK_DASKPERIMENT__JOURNAL=str(tmp_path / "journals"),
            )  # fmt: skip
        assert values(cells)[0].startswith("'redis://")
    assert "output of trial 1" in tables(cells)
    assert "3" in values(cells)
    assert warned(cells) == ""
