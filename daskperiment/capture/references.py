"""The names that a function's code reads, found in its bytecode.

Bytecode is there with and without source, and says for each name whether it is a global, a closure
variable or a local one.
"""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

from daskperiment.capture.memo import Memo

__all__ = ["Import", "Names", "Read", "Store", "imports_of_tree", "names_of", "stores_of_tree"]

_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CELLS = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


@dataclass(frozen=True, slots=True)
class Read:
    """A name, and the attributes read from it: ``helpers.f``."""

    name: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """An assignment to an item (``attribute`` is ``None``) or an attribute of something."""

    of: Read
    attribute: str | None


@dataclass(frozen=True, slots=True)
class Import:
    """An import inside a function: ``from ..module import names``."""

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """All that a code object reads from outside, nested functions included."""

    globals: tuple[Read, ...]
    cells: tuple[Read, ...]
    imports: tuple[Import, ...]
    rebound: frozenset[str]
    """Globals and closure variables that the code binds anew."""


_names: Memo[CodeType, Names] = Memo()


def names_of(code: CodeType) -> Names:
    """List the names that a code object reads, in the order of its instructions."""
    return _names.get(code, _find_names)


def _find_names(code: CodeType) -> Names:
    found: list[dict[object, None]] = [{}, {}, {}]
    for inner in _codes(code):
        _scan(inner, found)
    reads, cells, imports = (tuple(part) for part in found)
    rebound = frozenset(name for inner in _codes(code) for name in _rebound(inner, code))
    return Names(reads, cells, imports, rebound)  # type: ignore[arg-type]  # one kind of key each


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _codes(value)


def _rebound(code: CodeType, outer: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            instruction.opname == "STORE_DEREF" and instruction.argval in outer.co_freevars
        ):
            yield instruction.argval


def _scan(code: CodeType, found: list[dict[object, None]]) -> None:
    chain: list[str] = []
    into = found[0]
    constants: list[object] = [0, None]
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if chain and name in _ATTRIBUTES:
            chain.append(value)
            continue
        if chain:
            into[Read(chain[0], tuple(chain[1:]))] = None
            chain = []
        if name in _GLOBALS or name in _CELLS:
            chain, into = [value], found[name in _CELLS]
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants = [constants[1], value]
        elif name == "IMPORT_NAME":
            level, names = constants
            found[2][_import(value, level, names)] = None


def _import(module: str, level: object, names: object) -> Import:
    return Import(
        module,
        level if isinstance(level, int) else 0,
        tuple(names) if isinstance(names, tuple) else (),
    )


def stores_of_tree(tree: ast.AST) -> tuple[Store, ...]:
    """List what is assigned to in place: ``a[0] = 1``, ``a.b += 1``, ``del a.b[0]``."""
    found: dict[Store, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(
            node.ctx, (ast.Store, ast.Del)
        ):
            path = _path(node.value)
            attribute = node.attr if isinstance(node, ast.Attribute) else None
            if path:
                found[Store(Read(path[0], path[1:]), attribute)] = None
    return tuple(found)


def _path(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        base = _path(node.value)
        return (*base, node.attr) if base else ()
    return _path(node.value) if isinstance(node, ast.Subscript) else ()


def imports_of_tree(tree: ast.AST) -> list[Import]:
    """List the imports anywhere in a module's syntax tree."""
    found: dict[Import, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({Import(alias.name): None for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found[Import(node.module or "", node.level, names)] = None
    return list(found)
