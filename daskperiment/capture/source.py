"""The source of functions and classes: in files, in notebooks, or nowhere.

The text of a file is trusted only where it compiles to the very code that runs: a file that was
edited and not reloaded must not be recorded as if it had run. Where an import hook rewrites the
code (as pytest does with assertions), the name and the line have to agree.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import linecache
import operator
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from daskperiment.capture.code_objects import (
    Assignment,
    IdentityCache,
    ImportStatement,
    assignments_of_tree,
    code_digest,
    fingerprint_code,
    fingerprint_tree,
    imports_of_tree,
)

__all__ = [
    "NO_SOURCE",
    "SourceInfo",
    "SourceMark",
    "belongs",
    "file_literals",
    "file_source",
    "imports_of_file",
    "methods",
    "parse_python",
    "names_bound",
    "class_source",
    "function_source",
    "package_of",
    "register_class_source",
    "register_travelled",
    "resolve_import",
    "source_mark",
]

_ATTEMPTS = 100
_PAUSE = 0.001
"""Seconds."""

NO_SOURCE = "no source: defined in a terminal or by exec"
_RELOADED = "__autoreload_class__."
"""What IPython's autoreload writes a method in, to put its code into the loaded class."""
_CHANGED = "no source: the file was changed after it was loaded"


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a function's, class's or file's own code, without what it uses."""

    fingerprint: str
    bare: str
    """Fingerprint without its own decorators."""
    source: str | None = None
    file: str | None = None
    note: str | None = None
    assigned: tuple[Assignment, ...] = ()
    """What it assigns to in place, as far as the source tells."""


class SourceText:
    """One source text: its syntax tree, and the code that it compiles to."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        source = "".join(lines)
        self.tree = _quietly(parse_python, source)
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
                self._classes.setdefault(f"{prefix}{node.name}", []).append(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
                inner = f"{prefix}{name}.<locals>."
                self._nodes.setdefault((name, _first_line(node)), []).append(node)
            self._index_nodes(node, inner)

    def _index_codes(self, code: CodeType) -> None:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                self._codes.setdefault(inner.co_qualname, []).append(inner)
                self._index_codes(inner)

    def find_exact(self, code: CodeType) -> ast.AST | None:
        """Return the node that compiles to this code, wherever it was moved to."""
        same = self._codes.get(code.co_qualname, [])
        if code.co_qualname.startswith(_RELOADED):
            end = code.co_qualname.removeprefix(_RELOADED[:-1])
            same = [
                each for name in self._codes if name.endswith(end) for each in self._codes[name]
            ]
        # Of several with the same name, the one at the same line is looked at first.
        for candidate in sorted(same, key=lambda c: c.co_firstlineno != code.co_firstlineno):
            if code_digest(candidate) == code_digest(code):
                return self.find_at_line(candidate)
        return None

    def find_at_line(self, code: CodeType) -> ast.AST | None:
        """Return the node with the name and the line of this code."""
        nodes = self._nodes.get((code.co_name, code.co_firstlineno), [])
        if len(nodes) < 2:
            return nodes[0] if nodes else None
        # Lambdas that share a line: the smallest one that all instructions lie in.
        places = {(a, c) for a, _, c, d in code.co_positions() if a and c is not None and d}
        around = [node for node in nodes if all(_contains(node, place) for place in places)]
        return min(around, key=_extent, default=None)

    def find_class(self, name: str, lines: set[int]) -> ast.ClassDef | None:
        """Return the class of this qualified name, if possible the one around these lines."""
        found = self._classes.get(name, [])
        around = [n for n in found if lines & set(range(_first_line(n), (n.end_lineno or 0) + 1))]
        return next(reversed(around or found), None)

    def segment(self, node: Any) -> str:
        """Return the node's text, decorators included."""
        if isinstance(node, ast.Lambda):
            return ast.get_source_segment("".join(self.lines), node) or ""
        return textwrap.dedent("".join(self.lines[_first_line(node) - 1 : node.end_lineno]))


def parse_python(source: str | bytes, filename: str = "<unknown>", mode: str = "exec") -> Any:
    """Return a syntax tree, as ``ast.parse`` does, whatever other threads parse meanwhile.

    Up to Python 3.12 all threads count the depth of their trees in one place: one that is
    interrupted by another may find a wrong depth at its end, and gets a SystemError for that.
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(source, filename, mode)
        except SystemError:
            time.sleep(_PAUSE)
    return ast.parse(source, filename, mode)


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


class _ReadClass(NamedTuple):
    """A class as it was when its source was read."""

    codes: tuple[CodeType, ...]
    """Of its methods."""
    literals: dict[str, str]
    """Attributes that stand in its source as they are, in Python's notation."""
    info: SourceInfo | None

    def is_still(self, cls: type) -> bool:
        """Whether nothing was put into the class since, as a reload does."""
        codes = [function.__code__ for function in methods(cls)]
        return (
            len(codes) == len(self.codes)
            and all(map(operator.is_, codes, self.codes))
            and all(repr(vars(cls).get(name)) == text for name, text in self.literals.items())
        )


_texts: IdentityCache[list[str], SourceText] = IdentityCache(128)
_functions: IdentityCache[CodeType, SourceInfo] = IdentityCache()
_classes: IdentityCache[type, list[_ReadClass]] = IdentityCache()


def _read_file(path: str) -> SourceText:
    linecache.checkcache(path)
    return _texts.get(linecache.getlines(path), SourceText)


def function_source(function: FunctionType) -> SourceInfo:
    """Return what is known of a function's own code."""
    return _functions.get(function.__code__, lambda code: _read_function(code, function))


def _read_function(code: CodeType, function: FunctionType) -> SourceInfo:
    text = _text_of(code)
    loader = function.__globals__.get("__loader__")
    node = None if text is None else _node_of(text, code, loader)
    if text is not None and node is not None:
        info = _info(text, node, code.co_filename)
        if function.__module__ in _BY_VALUE:
            # It may come back from another process, without its file.
            register_travelled({_mark_of_code(code): info})
        return info
    travelled = _travelled.get(_mark_of_code(code))
    if travelled is not None:
        return travelled
    fingerprint = fingerprint_code(code)
    note = NO_SOURCE if text is None else _CHANGED
    return SourceInfo(fingerprint, fingerprint, None, _shown(code.co_filename), note)


def _text_of(code: CodeType) -> SourceText | None:
    file = code.co_filename
    try:
        if os.path.exists(file):
            # As `findsource` does, which looks at all modules for the one that the file is of.
            linecache.checkcache(file)
            lines = linecache.getlines(file)
            return _texts.get(lines, SourceText) if lines else None
        lines, _ = inspect.findsource(code)
    except (OSError, TypeError, IndexError, SyntaxError):
        return None
    return _texts.get(lines, SourceText)


def _node_of(text: SourceText, code: CodeType, loader: object) -> ast.AST | None:
    node = text.find_exact(code)
    # Only Python's own loader is known to run the text as it is.
    if node is None and type(loader) is not SourceFileLoader:
        return text.find_at_line(code)
    return node


def _info(text: SourceText, node: ast.AST, file: str) -> SourceInfo:
    try:
        full, bare = fingerprint_tree(node), fingerprint_tree(node, decorators=False)
    except RecursionError:
        full = bare = fingerprint_tree(ast.Constant(text.segment(node)))
    assigned = assignments_of_tree(node)
    return SourceInfo(full, bare, text.segment(node), _shown(file), assigned=assigned)


def _shown(file: str) -> str | None:
    """The name of a file as seen from the working folder; cells and terminals have none."""
    if not os.path.exists(file):
        return None
    return os.path.relpath(file) if file.startswith(os.path.join(os.getcwd(), "")) else file


def class_source(cls: type) -> SourceInfo | None:
    """Return what is known of a class's own code; ``None`` if there is no source."""
    known = _classes.get(cls, lambda _: [_read_class(cls)])
    if not known[0].is_still(cls):
        known[0] = _read_class(cls)
    return known[0].info


def register_class_source(cls: type, source: str, file: str) -> None:
    """Record the text that a class was made of as its source: it is in no file."""
    text = SourceText(source.splitlines(keepends=True))
    node = text.find_class(cls.__name__, set())
    if node is not None:
        _classes.get(cls, lambda _: [_as_read(cls, node, _info(text, node, file))])


def _read_class(cls: type) -> _ReadClass:
    own = [f for f in methods(cls) if belongs(f, cls)]
    module = sys.modules.get(cls.__module__)
    for file, codes in _files_of(cls.__qualname__, own, module):
        text = _text_of(codes[0]) if codes else _read_file(file)
        if text is None:
            continue
        nodes = [_node_of(text, code, getattr(module, "__loader__", None)) for code in codes]
        node = text.find_class(cls.__qualname__, {_first_line(n) for n in nodes if n is not None})
        if node is not None and None not in nodes:
            info = _info(text, node, file)
            if cls.__module__ in _BY_VALUE and own:
                register_travelled({_mark_of_class(cls): info})
            return _as_read(cls, node, info)
    return _as_read(cls, None, _travelled.get(_mark_of_class(cls)))


def _as_read(cls: type, node: ast.ClassDef | None, info: SourceInfo | None) -> _ReadClass:
    codes = tuple(function.__code__ for function in methods(cls))
    literals = {}
    for name, value in (pair for each in (node.body if node else ()) for pair in _bound(each)):
        if value is not _UNKNOWN and value is not ... and repr(vars(cls).get(name)) == repr(value):
            literals[name] = repr(value)
    return _ReadClass(codes, literals, info)


def _files_of(
    name: str, own: list[FunctionType], module: object
) -> Iterator[tuple[str, list[CodeType]]]:
    files: dict[str, list[CodeType]] = {}
    for function in own:
        # What dataclasses and the like generate is no source of the class.
        if _text_of(function.__code__) is not None:
            files.setdefault(function.__code__.co_filename, []).append(function.__code__)
    yield from files.items()
    file = getattr(module, "__file__", None)
    # A class that came from another process by value is not of the script that runs here.
    if not files and isinstance(file, str) and hasattr(module, name.partition(".")[0]):
        yield file, []


# Sources that travel: pickle takes functions and classes along by value, but not their source.

SourceMark = tuple[str, ...]
"""What a function or class is known by in another process."""

_BY_VALUE = ("__main__", "__mp_main__")
"""Modules whose functions and classes pickle takes along by value."""
_travelled: dict[SourceMark, SourceInfo] = {}
_TRAVELLED = 10_000


def _mark_of_code(code: CodeType) -> SourceMark:
    return (code.co_qualname, str(code.co_firstlineno), code_digest(code).hex())


def _mark_of_class(cls: type) -> SourceMark:
    own = sorted(code_digest(f.__code__).hex() for f in methods(cls) if belongs(f, cls))
    return (cls.__module__, cls.__qualname__, *own)


def source_mark(value: FunctionType | type) -> SourceMark:
    """Return what a function or class is known by in another process."""
    return _mark_of_class(value) if isinstance(value, type) else _mark_of_code(value.__code__)


def register_travelled(sources: Mapping[SourceMark, SourceInfo]) -> None:
    """Remember sources that came with functions and classes from another process."""
    for mark, info in sources.items():
        _travelled.pop(mark, None)  # the latest is the last to be forgotten
        _travelled[mark] = info
    for mark in list(_travelled)[: max(0, len(_travelled) - _TRAVELLED)]:
        _travelled.pop(mark, None)


def methods(cls: type) -> list[FunctionType]:
    """Return the functions in a class's body: methods, and those behind properties and the like."""
    found = []
    for value in vars(cls).values():
        inner = [value]
        if isinstance(value, (staticmethod, classmethod)):
            inner = [value.__func__]
        elif isinstance(value, property):
            inner = [value.fget, value.fset, value.fdel]
        elif hasattr(value, "func") and type(value).__name__ == "cached_property":
            inner = [value.func]
        found += [item for item in map(_innermost, inner) if isinstance(item, FunctionType)]
    return found


def belongs(function: FunctionType, cls: type) -> bool:
    """Whether a function was written in the body of a class."""
    # Not __qualname__, which a decorator copies to a function that was written elsewhere.
    name, within = function.__code__.co_name, function.__code__.co_qualname
    return within in (f"{cls.__qualname__}.{name}", f"{_RELOADED}{name}")


def _innermost(value: Any) -> Any:
    for _ in range(20):
        if not callable(value) or not hasattr(value, "__wrapped__"):
            break
        value = value.__wrapped__
    return value


# Modules that a function imports while it runs.
# Such a module may not be loaded yet, and loading it early could be slow or fail. Its whole file
# counts instead, with those of the user's modules that it imports in turn. This is the same before
# and after the module was loaded.


def file_source(file: str) -> SourceInfo | None:
    """Return what is known of a module's whole file; ``None`` if it is no Python source."""
    text = _read_file(file)
    if not file.endswith((".py", ".pyw")) or text.tree is None:
        return None
    fingerprint = fingerprint_tree(text.tree)
    return SourceInfo(fingerprint, fingerprint, "".join(text.lines), _shown(file))


def imports_of_file(file: str) -> list[ImportStatement]:
    """Return what a module's file imports."""
    tree = _read_file(file).tree
    return [] if tree is None else imports_of_tree(tree)


def package_of(module: str, file: str) -> str:
    """The name of the package that relative imports in a module's file start from."""
    name = os.path.basename(file)
    return module if name.startswith("__init__.") else module.rpartition(".")[0]


_UNKNOWN = object()


def file_literals(file: str) -> dict[str, Any]:
    """Return the variables that a module's file sets once, to what stands there literally.

    A loaded module may have been given other values since. Functions, whose code stands there
    just as well, are there with ``...``; what the module's own functions set is left out.
    """
    tree = _read_file(file).tree or ast.Module([], [])
    again = {n for node in ast.walk(tree) if isinstance(node, ast.Global) for n in node.names}
    found: dict[str, Any] = {}
    for name, value in (pair for node in tree.body for pair in _bound(node)):
        found[name] = _UNKNOWN if name in found else value
    return {k: v for k, v in found.items() if k not in again and v is not _UNKNOWN}


def names_bound(file: str) -> frozenset[str]:
    """Return the names that a module's file binds for the module, also those that it imports."""
    found: set[str] = set()
    waiting: list[ast.AST] = [_read_file(file).tree or ast.Module([], [])]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _SCOPES):
            # What is bound inside is its own, unless it says otherwise.
            found.update([getattr(node, "name", ""), *_declared_global(node)])
            continue
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _declared_global(node: ast.AST) -> list[str]:
    return [name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names]


def _bound(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name, _UNKNOWN if node.decorator_list else ...
        return
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((each.id, _value(node.value)) for each in targets if isinstance(each, ast.Name))
        return
    yield from ((each.id, _UNKNOWN) for each in ast.walk(node) if isinstance(each, ast.Name))


def _value(node: Any) -> Any:
    try:
        # An annotation without a value has None here, which is malformed as well.
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _UNKNOWN


def resolve_import(item: ImportStatement, package: str | None) -> list[str]:
    """Return the names of the modules that an import statement may mean, in absolute terms."""
    name = item.module
    if item.level:
        try:
            name = importlib.util.resolve_name("." * item.level + name, package or "")
        except ImportError:
            return []
    parents = itertools.accumulate(name.split("."), "{}.{}".format)
    # The names may be submodules: those that have a file are.
    return [*parents, *(f"{name}.{inner}" for inner in item.names if inner != "*")]
