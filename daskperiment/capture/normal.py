"""Fingerprints of code that ignore what does not change its behaviour.

Comments, docstrings, line numbers and layout are left out; names, operators and constants count.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

from daskperiment.capture.digest import combine, digest

__all__ = ["code_digest", "fingerprint_code", "fingerprint_tree"]

_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
# Says nothing about behaviour: load or store, the u before a text, comments that are types.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})

_NEW_LOCALS = 0x2  # inspect.CO_NEWLOCALS
_HAS_DOCSTRING = 0x4000000  # inspect.CO_HAS_DOCSTRING, since Python 3.14


def fingerprint_tree(node: ast.AST, decorators: bool = True) -> str:
    """Fingerprint a syntax tree.

    Parameters
    ----------
    node : ast.AST
    decorators : bool
        Whether the decorators of the node itself count; those further down always do.
    """
    # Own text instead of ast.dump, whose form differs between versions of Python.
    return combine("tree", repr(_normal(node, () if decorators else ("decorator_list",))))


def _normal(node: Any, skip: tuple[str, ...] = ()) -> Any:
    if isinstance(node, ast.Constant):
        return ("Constant", type(node.value).__name__, _constant(node.value))
    if isinstance(node, ast.AST):
        fields = ((name, _field(node, name)) for name in node._fields)
        return (
            type(node).__name__,
            *((name, _normal(value)) for name, value in fields if _says(name, value, skip)),
        )
    if isinstance(node, list):
        return tuple(_normal(item) for item in node)
    return node


def _field(node: ast.AST, name: str) -> Any:
    value = getattr(node, name, None)
    if name == "body" and isinstance(node, _BODIES) and ast.get_docstring(node, False) is not None:
        return value[1:]  # type: ignore[index]  # a body is a list
    return value


def _says(name: str, value: Any, skip: tuple[str, ...]) -> bool:
    # Empty fields are left out: newer versions of Python add such.
    return name not in _IGNORED and name not in skip and value is not None and value != []


def fingerprint_code(code: CodeType) -> str:
    """Fingerprint a code object, for want of source. Holds within one version of Python only."""
    return combine("code", code_digest(code).hex())


def code_digest(code: CodeType) -> bytes:
    """Digest what a code object does, without its file, its lines and its docstring."""
    parts = (
        code.co_name,
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_flags & ~_HAS_DOCSTRING,
        code.co_exceptiontable,
        tuple(_constants(code)),
    )
    return digest(repr(parts).encode("utf-8", "surrogatepass"))


def _constants(code: CodeType) -> Iterator[Any]:
    documented = _has_docstring(code)
    for place, value in enumerate(code.co_consts):
        yield _constant(None if place == 0 and documented else value)


def _has_docstring(code: CodeType) -> bool:
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & _HAS_DOCSTRING)
    # A function's first constant is its docstring or None. Not so in classes and generators.
    named = not code.co_name.startswith("<") and bool(code.co_flags & _NEW_LOCALS)
    return named and bool(code.co_consts) and isinstance(code.co_consts[0], str)


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return ("code", code_digest(value))
    if isinstance(value, frozenset):
        # The order of a set differs between processes.
        return ("set", sorted(repr(_constant(item)) for item in value))
    if isinstance(value, tuple):
        return ("tuple", tuple(_constant(item) for item in value))
    if isinstance(value, int) and not isinstance(value, bool):
        return ("int", hex(value))  # repr refuses integers of many digits
    return (type(value).__name__, repr(value))
