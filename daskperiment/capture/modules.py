"""Modules that a function imports while it runs.

Such a module may not be loaded yet, and loading it early could be slow or fail. Its whole file
counts instead, with those of the user's modules that it imports in turn. This is the same before
and after the module was loaded.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from daskperiment.capture.normal import fingerprint_tree
from daskperiment.capture.references import Import, imports_of_tree
from daskperiment.capture.source import Written, read_file, shown

__all__ = ["file_of", "imports_of_file", "literals", "package_of", "resolve", "written"]


def resolve(item: Import, package: str | None) -> list[str]:
    """Name the modules that an import statement may mean, in absolute terms."""
    name = item.module
    if item.level:
        try:
            name = importlib.util.resolve_name("." * item.level + name, package or "")
        except ImportError:
            return []
    parts = name.split(".")
    parents = [".".join(parts[: end + 1]) for end in range(len(parts))]
    # The names may be submodules; file_of tells.
    return [*parents, *(f"{name}.{inner}" for inner in item.names if inner != "*")]


def file_of(name: str) -> str | None:
    """Find the file of a module without importing it or its parents."""
    loaded = sys.modules.get(name)
    if isinstance(loaded, ModuleType):
        file = getattr(loaded, "__file__", None)
        return file if isinstance(file, str) else None
    spec = _find(name)
    return spec.origin if spec is not None and spec.has_location else None


def _find(name: str) -> Any:
    folders, spec, path = None, None, ""
    for part in name.split("."):
        path = f"{path}.{part}" if path else part
        try:
            spec = PathFinder.find_spec(path, folders)
        except Exception:
            return None
        folders = getattr(spec, "submodule_search_locations", None)
        if spec is None or (folders is None and path != name):
            return None
    return spec


def written(file: str) -> Written | None:
    """Describe a module's whole file; ``None`` if it is no Python source."""
    text = read_file(file)
    if not file.endswith((".py", ".pyw")) or text.tree is None:
        return None
    fingerprint = fingerprint_tree(text.tree)
    return Written(fingerprint, fingerprint, "".join(text.lines), shown(file))


def imports_of_file(file: str) -> list[Import]:
    """List what a module's file imports."""
    tree = read_file(file).tree
    return [] if tree is None else imports_of_tree(tree)


def package_of(module: str, file: str) -> str:
    """Name the package that relative imports in a module's file start from."""
    name = os.path.basename(file)
    return module if name.startswith("__init__.") else module.rpartition(".")[0]


def literals(file: str) -> dict[str, Any]:
    """List the variables that a module's file sets once, to what stands there literally.

    A loaded module may have been given other values since. Functions, whose code stands there
    just as well, are listed with ``...``; what the module's own functions set is left out.
    """
    tree = read_file(file).tree
    found: dict[str, Any] = {}
    again = {name for node in ast.walk(tree) for name in _rebound(node)} if tree else set()
    for node in getattr(tree, "body", ()):
        for name, value in _bound(node):
            if name in found:
                again.add(name)
            found[name] = value
    return {k: v for k, v in found.items() if k not in again and v is not _UNKNOWN}


_UNKNOWN = object()


def _rebound(node: ast.AST) -> list[str]:
    return node.names if isinstance(node, ast.Global) else []


def _bound(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name, _UNKNOWN if node.decorator_list else ...
        return
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    simple = isinstance(node, (ast.Assign, ast.AnnAssign))
    for inner in targets if simple else ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id, _value(node.value) if simple else _UNKNOWN  # type: ignore[attr-defined]


def _value(node: ast.expr | None) -> Any:
    if node is None:
        return _UNKNOWN
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _UNKNOWN
