"""The package is built as docs/architecture.rst says: rooms on floors, imports that point down."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from daskperiment.store.protocol import Store

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daskperiment"
PAGE = ROOT / "docs" / "architecture.rst"
PICTURE = ROOT / "docs" / "_static" / "architecture.svg"
# From the ground up; rooms of one floor may import one another, but not in a circle.
FLOORS = [
    {"errors"},
    {
        "cluster",
        "seeds",
        "records",
        "secret_values",
        "no_value",
        "formatting",
        "locked_files",
        "spreading",
        "warn",
    },
    {"codec", "configuration"},
    {"capture", "store"},
    {"formats", "vouching"},
    {"recording"},
    {"reuse"},
    {"execution"},
    {"client"},
    {"graph"},
    {"parameters"},
    {"planning", "history"},
    {"compare", "pruning", "copying", "curation", "removal", "testing"},
    {"explain"},
    {"sweep", "reproduce", "dashboard", "reports", "integrations"},
    {"result"},
    {"experiment"},
    {"cli"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# `Result.main` makes a script its own command line.
ASKED_FOR = {("result", "cli")}
# What the picture shows as one box.
WORDS = FLOORS[0] | FLOORS[1]
# Rooms that have the same things for another kind of store.
PARALLEL = ("store/file/", "store/mongo/", "store/redis/")
# Methods of named tuples that are public, for all their underscore.
PUBLIC = {"_replace", "_asdict", "_fields", "_make"}
SMALL = 60


class Import(NamedTuple):
    """One module of the package imports another."""

    source: str
    target: str
    late: bool
    """Whether it is imported inside a function."""

    @property
    def rooms(self) -> tuple[str, str]:
        return room(self.source), room(self.target)


@functools.cache
def modules() -> dict[str, Path]:
    """The package's modules by name, but for what ``python -m`` runs: nobody imports it."""
    found = {}
    for path in sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__main__.py"}):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The syntax trees of the package's modules."""
    return {name: ast.parse(path.read_text("utf-8")) for name, path in modules().items()}


def room(module: str) -> str:
    """Return the room of a module; that of the package itself is empty."""
    return [*module.split("."), ""][1]


def imported(node: ast.AST) -> Iterator[str]:
    """Yield the full names that a statement, or a call of import_module, imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import: {ast.unparse(node)}"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
        if called == "import_module" or getattr(called, "id", "") == "import_module":
            yield str(node.args[0].value)


def nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Yield all nodes, and whether they stand in a function."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    waiting = [(tree, False)]
    while waiting:
        node, late = waiting.pop()
        yield node, late
        late = late or isinstance(node, functions)
        waiting += [(child, late) for child in ast.iter_child_nodes(node)]


def imports_of(source: str, tree: ast.Module) -> Iterator[Import]:
    """Yield what a module imports of the package, in functions and for types alone too."""
    for node, late in nodes(tree):
        for name in imported(node):
            if name.partition(".")[0] == "daskperiment":
                target = name if name in modules() else name.rpartition(".")[0]
                yield Import(source, target, late)


@functools.cache
def imports() -> frozenset[Import]:
    """All imports within the package."""
    return frozenset(each for name, tree in trees().items() for each in imports_of(name, tree))


def between_rooms(late: bool) -> set[tuple[str, str]]:
    """Return the pairs of rooms of which one imports the other; words are one room."""
    pairs = {each.rooms for each in imports() if each.late == late}
    named = {tuple("records" if name in WORDS else name for name in pair) for pair in pairs}
    return {(a, b) for a, b in named if a != b and a and b}


def reached(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return all pairs that are joined by a path."""
    paths = set(edges)
    while True:
        more = {(a, d) for a, b in paths for c, d in edges if b == c} - paths
        if not more:
            return paths
        paths |= more


# The rule of imports ------------------------------------------------------------------------------


def test_every_room_has_a_floor() -> None:
    """The floors name the rooms of the package: all, and each once."""
    assert {room(name) for name in modules()} - {""} == set(HEIGHT)
    assert sum(map(len, FLOORS)) == len(HEIGHT)


def test_imports_point_down() -> None:
    """No room imports one of a higher floor, but for what a public name asks for."""
    between = [each for each in imports() if all(each.rooms)]
    assert len(between) > 300
    up = {each for each in between if HEIGHT[each.rooms[0]] < HEIGHT[each.rooms[1]]}
    assert {each.rooms for each in up} == ASKED_FOR, up


def test_rooms_make_no_circle() -> None:
    """The rooms of one floor do not import one another in a circle either."""
    paths = reached({each.rooms for each in imports()} - ASKED_FOR)
    assert not {(a, b) for a, b in paths if a != b and (b, a) in paths}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """The modules can be put into an order in which each imports only earlier ones."""
    graph: dict[str, set[str]] = {}
    for each in imports():
        if each.rooms not in ASKED_FOR and each.source != each.target:
            graph.setdefault(each.source, set()).add(each.target)
    assert len(graph) > 100
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("daskperiment.records") < order.index("daskperiment.experiment")


@pytest.mark.parametrize(
    ("code", "target", "late"),
    [
        ("from daskperiment.cli import main", "daskperiment.cli", False),
        ("from daskperiment import result", "daskperiment.result", False),
        ("import daskperiment.result", "daskperiment.result", False),
        ("if TYPE_CHECKING:\n    from daskperiment.result import Result", "daskperiment.result",
         False),
        ("def f():\n    from daskperiment.result import Result", "daskperiment.result", True),
        ('f = lambda: importlib.import_module("daskperiment.cli.board")', "daskperiment.cli.board",
         True),
    ],
)  # fmt: skip
def test_all_ways_to_import_count(code: str, target: str, late: bool) -> None:
    """Imports for types, inside functions, and of a module's name as text are seen."""
    found = list(imports_of("daskperiment.codec", ast.parse(code)))
    assert found == [Import("daskperiment.codec", target, late)]


def test_one_module_knows_the_private_part_of_dask() -> None:
    """Dask's task specification is imported in one place, so that a change is mended there."""
    users = {
        name for name, tree in trees().items() for node in ast.walk(tree)
        if any("_task_spec" in each for each in imported(node))
    }  # fmt: skip
    assert users == {"daskperiment.graph.dask_tasks"}


def own_names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, as functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def private_reads(tree: ast.Module) -> list[str]:
    """Return the private names of other modules that a module reads."""
    own = own_names(tree) | PUBLIC
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("daskperiment"):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
        elif isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not of_itself and node.attr not in own:
                found.append(ast.unparse(node))
    return found


def test_private_names_stay_at_home() -> None:
    """No module reads a name with an underscore that another one defines."""
    assert private_reads(ast.parse("from daskperiment.codec import _x\nprint(a.b._c)")) == [
        "_x", "a.b._c",
    ]  # fmt: skip
    found = {name: reads for name, tree in trees().items() if (reads := private_reads(tree))}
    assert not found


def test_names_are_unique() -> None:
    """A class or module name means one thing, but where parallel rooms have the same thing."""
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, path in modules().items():
        place = path.relative_to(PACKAGE).as_posix()
        if path.name != "__init__.py":
            where["module", path.stem].append(place)
        for node in ast.walk(trees()[name]):
            if isinstance(node, ast.ClassDef):
                where["class", node.name.lstrip("_")].append(place)
    assert len(where) > 300
    twice = {name: places for name, places in where.items() if len(places) > 1}
    wrong = {name: places for name, places in twice.items()
             if not all(place.startswith(PARALLEL) for place in places)}  # fmt: skip
    assert not wrong
    assert {name for _, name in twice} <= {"store", "client", "objects"}


def test_no_small_module_serves_one_other() -> None:
    """What has less than 60 lines and one user stands in that one."""
    users: dict[str, set[str]] = defaultdict(set)
    for each in imports():
        users[each.target].add(each.source)
    small = {name for name, path in modules().items() if path.name != "__init__.py"
             and len(path.read_text("utf-8").splitlines()) < SMALL}  # fmt: skip
    assert small
    assert not {name: users[name] for name in small if len(users[name]) == 1}


# The picture --------------------------------------------------------------------------------------


def arrows(kind: str) -> set[tuple[str, str]]:
    """Read the arrows of one kind from the picture."""
    text = PICTURE.read_text(encoding="utf-8")
    return set(re.findall(rf'class="{kind}" data-from="(\w+)" data-to="(\w+)"', text))


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
    assert late - reached(arrows("imports") | arrows("late")) == ASKED_FOR
    assert arrows("up") == ASKED_FOR


def test_arrows_point_down() -> None:
    """With the imports at first use, no room lies above and below another."""
    paths = reached(arrows("imports") | arrows("late"))
    assert paths
    assert not {(a, b) for a, b in paths if (b, a) in paths}
    boxes = re.findall(r'<rect.*? y="(\d+)".*?/>\n  <text [^>]*>(\w+)<', PICTURE.read_text("utf-8"))
    height = {name: int(y) for y, name in boxes}
    assert {name for pair in paths for name in pair} == set(height)
    assert all(height[a] <= height[b] for a, b in paths)


# The page -----------------------------------------------------------------------------------------


def page_part(start: str, end: str) -> str:
    """Return the text of the page between two others, of which each stands there once."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(start) == 1
    return text.partition(start)[2].partition(end)[0]


def test_rooms_of_the_page_are_those_of_the_package() -> None:
    """The list of rooms in the page names every room, and nothing that is not there."""
    listed = page_part("\n.. code-block:: text\n\n    cli/", "\n\n")
    lines = ("    cli/" + listed).splitlines()
    named: set[str] = set()
    inside = ""
    modules_of: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        name = line.split()[0]
        if line.startswith("        "):
            modules_of[inside].add(name)
            assert (PACKAGE / inside / name).is_file(), line
        else:
            inside = name
            named.add(name.rstrip("/"))
            assert (PACKAGE / name).exists(), line
    there = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == there - {"__init__.py", "__main__.py"}
    assert len(modules_of) > 5
    for name, files in modules_of.items():
        assert files == {path.name for path in (PACKAGE / name).glob("[!_]*.py")}, name


def test_floors_of_the_page_are_those_of_the_rule() -> None:
    """The floors stand in the page from top to bottom."""
    listed = page_part("it in turn::\n\n", "\n\n").splitlines()
    assert [set(line.split()) for line in listed] == FLOORS[::-1]


def test_callers_of_the_page_are_those_who_import() -> None:
    """For each room the page names those that call it."""
    listed = page_part("of the others it need not think.\n\n", "``records`` and")
    found = dict(re.findall(r"^``(\w+)``\n((?:    .+\n)+)", listed, re.MULTILINE))
    assert set(found) == set(HEIGHT) - WORDS
    for name, text in found.items():
        assert "In: " in text, name
        assert "Out: " in text, name
        real = {a for a, b in (each.rooms for each in imports()) if b == name and a not in ("", b)}
        named = set(re.findall(r"``(\w+)``", text.partition("Called by:")[2]))
        if "every room" in text:
            assert len(real) > 10
        else:
            assert named == real, name


@pytest.mark.parametrize("page", ["architecture", "stores", "writing"])
def test_methods_of_a_store_are_counted_and_named(page: str) -> None:
    """A store has the twelve methods that the documentation tells of."""
    methods = [name for name, value in vars(Store).items()
               if inspect.isfunction(value) and not name.startswith("_")]  # fmt: skip
    text = (ROOT / "docs" / f"{page}.rst").read_text(encoding="utf-8")
    assert len(methods) == 12
    assert "twelve" in text
    if page == "writing":
        assert all(f"``{name}``" in text for name in methods)
