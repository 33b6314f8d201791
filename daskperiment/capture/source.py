"""The source of functions and classes: in files, in notebooks, or nowhere.

The text of a file is trusted only where it compiles to the very code that runs: a file that was
edited and not reloaded must not be recorded as if it had run. Where an import hook rewrites the
code (as pytest does with assertions), the name and the line have to agree.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType
from typing import Any

from daskperiment.capture.memo import Memo
from daskperiment.capture.normal import code_digest, fingerprint_code, fingerprint_tree
from daskperiment.capture.references import Store, stores_of_tree

__all__ = [
    "Text",
    "Written",
    "belongs",
    "learn_class",
    "methods",
    "of_class",
    "of_function",
    "read_file",
    "shown",
]

NO_SOURCE = "no source: defined in a terminal or by exec"
CHANGED = "no source: the file was changed after it was loaded"
SPECIAL = (staticmethod, classmethod)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of one function or class, without what it uses."""

    fingerprint: str
    bare: str
    """Fingerprint without its own decorators."""
    source: str | None = None
    file: str | None = None
    note: str | None = None
    stores: tuple[Store, ...] = ()
    """What it assigns to in place, as far as the source tells."""


class Text:
    """One source text: its syntax tree, and the code that it compiles to."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        source = "".join(lines)
        self.tree = _quietly(ast.parse, source)
        compiled = _quietly(compile, source, "<source>", "exec", dont_inherit=True)
        self._nodes: dict[tuple[str, int], list[ast.AST]] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        self._codes: dict[str, list[CodeType]] = {}
        if self.tree is not None:
            self._index_nodes(self.tree, "")
        if compiled is not None:
            self._index_codes(compiled)

    def _index_nodes(self, parent: ast.AST, prefix: str) -> None:
        for node in ast.iter_child_nodes(parent):
            inner = prefix
            if isinstance(node, ast.ClassDef):
                inner = f"{prefix}{node.name}."
                self._classes.setdefault(inner[:-1], []).append(node)
            elif isinstance(node, _FUNCTIONS):
                name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
                inner = f"{prefix}{name}.<locals>."
                self._nodes.setdefault((name, _first_line(node)), []).append(node)
            self._index_nodes(node, inner)

    def _index_codes(self, code: CodeType) -> None:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                self._codes.setdefault(inner.co_qualname, []).append(inner)
                self._index_codes(inner)

    def exact(self, code: CodeType) -> ast.AST | None:
        """Find the node that compiles to this code, wherever it was moved to."""
        same = self._codes.get(code.co_qualname, ())
        # Of several with the same name, the one at the same line is looked at first.
        for candidate in sorted(same, key=lambda c: c.co_firstlineno != code.co_firstlineno):
            if code_digest(candidate) == code_digest(code):
                return self.at_line(candidate)
        return None

    def at_line(self, code: CodeType) -> ast.AST | None:
        """Find the node with the name and the line of this code."""
        nodes = self._nodes.get((code.co_name, code.co_firstlineno), [])
        if len(nodes) < 2:
            return nodes[0] if nodes else None
        # Lambdas that share a line: the smallest one that all instructions lie in.
        places = {(a, c) for a, _, c, d in code.co_positions() if a and c is not None and d}
        around = [node for node in nodes if all(_contains(node, place) for place in places)]
        return min(around, key=_extent, default=None)

    def class_at(self, name: str, lines: set[int]) -> ast.ClassDef | None:
        """Find the class of this qualified name, if possible the one around these lines."""
        found = self._classes.get(name, [])
        around = [n for n in found if lines & set(range(_first_line(n), (n.end_lineno or 0) + 1))]
        return next(reversed(around or found), None)

    def segment(self, node: Any) -> str:
        """Cut out the node's text, decorators included."""
        if isinstance(node, ast.Lambda):
            return ast.get_source_segment("".join(self.lines), node) or ""
        return textwrap.dedent("".join(self.lines[_first_line(node) - 1 : node.end_lineno]))


def _quietly(make: Any, *args: Any, **keywords: Any) -> Any:
    # Text that does not parse as Python, as a cell with a magic command; or nested too deeply.
    try:
        return make(*args, **keywords)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _first_line(node: Any) -> int:
    decorators = getattr(node, "decorator_list", None)
    first: int = min([node.lineno, *(d.lineno for d in decorators or ())])
    return first


def _contains(node: Any, place: tuple[int, int]) -> bool:
    first = (node.lineno, node.col_offset)
    return bool(first <= place <= (node.end_lineno, node.end_col_offset))


def _extent(node: Any) -> tuple[int, int]:
    return (node.end_lineno - node.lineno, node.end_col_offset - node.col_offset)


_texts: Memo[list[str], Text] = Memo(128)
_functions: Memo[CodeType, Written] = Memo()
_classes: Memo[type, Written] = Memo()


def read_file(path: str) -> Text:
    """Read and parse a file."""
    linecache.checkcache(path)
    return _texts.get(linecache.getlines(path), Text)


def of_function(function: FunctionType) -> Written:
    """Find what a function's own code is."""
    return _functions.get(function.__code__, lambda code: _read_function(code, function))


def _read_function(code: CodeType, function: FunctionType) -> Written:
    text = _text_of(code)
    if text is None:
        return _without_source(code, NO_SOURCE)
    node = _node_of(text, code, function.__globals__.get("__loader__"))
    if node is None:
        return _without_source(code, CHANGED)
    return _written(text, node, code.co_filename)


def _text_of(code: CodeType) -> Text | None:
    try:
        lines, _ = inspect.findsource(code)
    except (OSError, TypeError, IndexError, SyntaxError):
        return None
    return _texts.get(lines, Text)


def _node_of(text: Text, code: CodeType, loader: object) -> ast.AST | None:
    node = text.exact(code)
    # Only Python's own loader is known to run the text as it is.
    if node is None and type(loader) is not SourceFileLoader:
        return text.at_line(code)
    return node


def _written(text: Text, node: ast.AST, file: str) -> Written:
    try:
        full, bare = fingerprint_tree(node), fingerprint_tree(node, decorators=False)
    except RecursionError:
        full = bare = fingerprint_tree(ast.Constant(text.segment(node)))
    stores = stores_of_tree(node)
    return Written(full, bare, text.segment(node), shown(file), stores=stores)


def _without_source(code: CodeType, note: str) -> Written:
    fingerprint = fingerprint_code(code)
    return Written(fingerprint, fingerprint, None, shown(code.co_filename), note)


def shown(file: str) -> str | None:
    """Name a file as seen from the working folder; cells and terminals have none."""
    if not os.path.isabs(file):
        return file if os.path.exists(file) else None
    if not os.path.exists(file):
        return None
    return os.path.relpath(file) if file.startswith(os.path.join(os.getcwd(), "")) else file


def of_class(cls: type) -> Written | None:
    """Find what a class's own code is; ``None`` if there is no source."""
    written = _classes.get(cls, _read_class)
    return written if written.fingerprint else None


def learn_class(cls: type, source: str, file: str) -> None:
    """Take a text for the source of a class: it was made of that text, which is in no file."""
    text = Text(source.splitlines(keepends=True))
    node = text.class_at(cls.__name__, set())
    if node is not None:
        _classes.get(cls, lambda _: _written(text, node, file))


def _read_class(cls: type) -> Written:
    own = [f for f in methods(cls) if belongs(f, cls)]
    module = sys.modules.get(cls.__module__)
    for file, codes in _files_of(own, module):
        text = _text_of(codes[0]) if codes else read_file(file)
        if text is None:
            continue
        nodes = [_node_of(text, code, getattr(module, "__loader__", None)) for code in codes]
        node = text.class_at(cls.__qualname__, {_first_line(n) for n in nodes if n is not None})
        if node is not None and None not in nodes:
            return _written(text, node, file)
    return Written("", "")


def _files_of(own: list[FunctionType], module: object) -> Iterator[tuple[str, list[CodeType]]]:
    files: dict[str, list[CodeType]] = {}
    for function in own:
        # What dataclasses and the like generate is no source of the class.
        if _text_of(function.__code__) is not None:
            files.setdefault(function.__code__.co_filename, []).append(function.__code__)
    yield from files.items()
    file = getattr(module, "__file__", None)
    if not files and isinstance(file, str):
        yield file, []


def methods(cls: type) -> list[FunctionType]:
    """List the functions in a class's body: methods, and those behind properties and the like."""
    found = []
    for value in vars(cls).values():
        inner = [value]
        if isinstance(value, SPECIAL):
            inner = [value.__func__]
        elif isinstance(value, property):
            inner = [value.fget, value.fset, value.fdel]
        elif hasattr(value, "func") and type(value).__name__ == "cached_property":
            inner = [value.func]
        found += [item for item in map(_innermost, inner) if isinstance(item, FunctionType)]
    return found


def belongs(function: FunctionType, cls: type) -> bool:
    """Tell whether a function was written in the body of a class."""
    # Not __qualname__, which a decorator copies to a function that was written elsewhere.
    return function.__code__.co_qualname == f"{cls.__qualname__}.{function.__code__.co_name}"


def _innermost(value: Any) -> Any:
    for _ in range(20):
        if not callable(value) or not hasattr(value, "__wrapped__"):
            break
        value = value.__wrapped__
    return value
