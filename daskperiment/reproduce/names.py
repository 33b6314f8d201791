"""What things of the user's are called, and what decorates and surrounds them."""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final

from daskperiment.capture.found import MISSING, cell_value
from daskperiment.capture.origin import home
from daskperiment.capture.source import methods

__all__ = [
    "POSTPONED",
    "cells_of",
    "fill_cells",
    "full_name",
    "has_private",
    "innermost",
    "is_ours",
    "is_postponed",
    "module_name",
    "qualname_of",
]

POSTPONED: Final = __future__.annotations.compiler_flag
"""``from __future__ import annotations``, as a flag of compiled code and of the compiler."""


def module_name(function: FunctionType) -> str:
    """Name the module in which a function was written."""
    return str(function.__globals__.get("__name__", "__main__"))


def full_name(value: Any) -> str:
    """Give the name under which a function or class is recorded."""
    if isinstance(value, FunctionType):
        name = f"{module_name(value)}.{value.__code__.co_qualname}"
    else:
        name = f"{value.__module__}.{value.__qualname__}"
    return name.removeprefix("__main__.")


def qualname_of(today: Any, default: str) -> str:
    """Give the name within its module that something of today has; else a default."""
    if isinstance(today, FunctionType):
        return today.__code__.co_qualname
    return today.__qualname__ if isinstance(today, type) else default


def has_private(node: ast.AST) -> bool:
    """Tell whether code uses names that mean another thing outside of their class."""
    names = [getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(node)]
    return any(name.startswith("__") and not name.endswith("__") for name in names)


def is_postponed(today: Any) -> bool:
    """Tell whether annotations are not evaluated where something was written."""
    functions = methods(today) if isinstance(today, type) else [today]
    codes = [getattr(function, "__code__", None) for function in functions]
    return any(code is not None and code.co_flags & POSTPONED for code in codes)


def cells_of(today: Any) -> dict[str, Any]:
    """Give the variables around a function."""
    if not isinstance(today, FunctionType):
        return {}
    cells = zip(today.__code__.co_freevars, today.__closure__ or (), strict=False)
    return {name: cell_value(cell) for name, cell in cells}


def fill_cells(made: Any, inside: Mapping[str, Any]) -> None:
    """Give the variables around a function their values."""
    if isinstance(made, FunctionType):
        cells = zip(made.__code__.co_freevars, made.__closure__ or (), strict=False)
        for name, cell in cells:
            if inside.get(name, MISSING) is not MISSING:
                cell.cell_contents = inside[name]


def is_ours(decorator: ast.expr, names: Mapping[str, Any]) -> bool:
    """Tell whether a decorator is one of an experiment, such as ``@lab.ex.persist(reuse=True)``."""
    path: list[str] = []
    node: Any = decorator.func if isinstance(decorator, ast.Call) else decorator
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    value = names.get(node.id, MISSING) if isinstance(node, ast.Name) else None
    if value is MISSING and isinstance(node, ast.Name):
        return not hasattr(builtins, node.id)
    while value is not None:
        if home(type(value).__module__) == "daskperiment":
            return True
        value = getattr(value, path.pop(), None) if path else None
    return False


def innermost(value: Any) -> Any:
    """Give what is left of something without its decorators."""
    try:
        return inspect.unwrap(value)
    except Exception:  # a user's attribute may fail, or lead in a circle
        return value
