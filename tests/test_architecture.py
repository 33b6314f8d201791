"""The package is built as docs/architecture.rst says: rooms, imports that point down, no circle."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from daskperiment.store.protocol import Store

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daskperiment"
PICTURE = ROOT / "docs" / "_static" / "architecture.svg"
# What the picture shows as one box: words that all rooms share.
VOCABULARY = {"errors": "records", "references": "records", "display": "records"}
# `Result.main` makes a script its own command line.
UPWARD = {("result", "cli")}


class Import(NamedTuple):
    """One module of the package imports another."""

    source: str
    target: str
    late: bool
    """Whether it is imported inside a function."""

    @property
    def rooms(self) -> tuple[str, str]:
        return room(self.source), room(self.target)


def modules() -> dict[str, Path]:
    """Give the package's modules."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """Give the room of a module, as the picture names it."""
    name = [*module.split("."), "__init__"][1]
    return VOCABULARY.get(name, name)


def imported(node: ast.AST) -> Iterator[str]:
    """Give the full names that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Give all statements that run, and whether they stand in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child, late
        yield from statements(
            child, late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        )


@functools.cache
def imports() -> frozenset[Import]:
    """Find all imports within the package."""
    known, found = modules(), set()
    for source, path in known.items():
        for node, late in statements(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported(node):
                if name.startswith("daskperiment"):
                    target = name if name in known else name.rpartition(".")[0]
                    found.add(Import(source, target, late))
    return frozenset(found)


def arrows(kind: str) -> set[tuple[str, str]]:
    """Read the arrows of one kind from the picture."""
    text = PICTURE.read_text(encoding="utf-8")
    return set(re.findall(rf'class="{kind}" data-from="(\w+)" data-to="(\w+)"', text))


def reached(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Give all pairs that are joined by a path."""
    paths = set(edges)
    while True:
        more = {(a, d) for a, b in paths for c, d in edges if b == c} - paths
        if not more:
            return paths
        paths |= more


def between_rooms(late: bool) -> set[tuple[str, str]]:
    """Give the pairs of rooms of which one imports the other."""
    pairs = {each.rooms for each in imports() if each.late == late}
    return {(a, b) for a, b in pairs if a != b and a != "__init__"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """The modules can be put into an order in which each imports only earlier ones."""
    graph: dict[str, set[str]] = {}
    for each in imports():
        if not each.late and each.source != each.target:
            graph.setdefault(each.source, set()).add(each.target)
    assert len(graph) > 100
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("daskperiment.records") < order.index("daskperiment.experiment")


def test_arrows_of_the_picture_are_the_imports() -> None:
    """The solid arrows are the imports between rooms, but for those that others imply."""
    real = between_rooms(late=False)
    paths = reached(real)
    implied = {(a, c) for a, c in real if any((a, b) in real and (b, c) in paths
                                              for b in {y for _, y in real} - {c})}  # fmt: skip
    assert arrows("imports") == real - implied


def test_dashed_arrows_are_imports_at_first_use() -> None:
    """What is imported inside a function lies below, too; the dashed arrows show where."""
    late = between_rooms(late=True)
    assert arrows("late") <= late
    assert late - reached(arrows("imports") | arrows("late")) == UPWARD


def test_arrows_point_down() -> None:
    """With the imports at first use, no room lies above and below another."""
    paths = reached(arrows("imports") | arrows("late"))
    assert paths
    assert not {(a, b) for a, b in paths if (b, a) in paths}
    boxes = re.findall(r'<rect.*? y="(\d+)".*?/>\n  <text [^>]*>(\w+)<', PICTURE.read_text("utf-8"))
    height = {name: int(y) for y, name in boxes}
    assert {name for pair in paths for name in pair} == set(height)
    assert all(height[a] <= height[b] for a, b in paths)


def test_rooms_of_the_page_are_those_of_the_package() -> None:
    """The list of rooms in the page names every room, and nothing that is not there."""
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    listed = text.partition("\n.. code-block:: text\n\n    cli/")[2].partition("\n\n")[0]
    lines = ("    cli/" + listed).splitlines()
    named, inside = set(), ""
    for line in lines:
        name = line.split()[0]
        inside = inside if line.startswith("        ") else name
        path = PACKAGE / name if inside == name else PACKAGE / inside / name
        assert path.exists(), line
        if inside == name:
            named.add(name.rstrip("/"))
    there = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == there - {"__init__.py"}


@pytest.mark.parametrize("page", ["architecture", "stores", "writing"])
def test_methods_of_a_store_are_counted_and_named(page: str) -> None:
    """A store has the eleven methods that the documentation tells of."""
    methods = [name for name, value in vars(Store).items()
               if inspect.isfunction(value) and not name.startswith("_")]  # fmt: skip
    text = (ROOT / "docs" / f"{page}.rst").read_text(encoding="utf-8")
    assert len(methods) == 11
    assert "eleven" in text
    if page == "writing":
        assert all(f"``{name}``" in text for name in methods)
