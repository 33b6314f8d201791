"""What code says of itself: a fingerprint, the names that it reads, the state that it changes.

Fingerprints of code leave out what does not change its behaviour: comments, docstrings, line
numbers and layout; names, operators and constants count. The names that code reads come from its
bytecode, which is there with and without source, and says for each name whether it is a global, a
closure variable or a local one.
"""

from __future__ import annotations

import ast
import collections
import dis
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from daskperiment.capture.encoding import combine, new_hash
from daskperiment.capture.origin import is_own

__all__ = [
    "MISSING",
    "Assignment",
    "ChangedState",
    "CodeNames",
    "IdentityCache",
    "ImportStatement",
    "NameRead",
    "assignments_of_tree",
    "cell_value",
    "cells_of",
    "code_digest",
    "defaults_in",
    "fingerprint_code",
    "fingerprint_tree",
    "imports_of_tree",
    "name_of_function",
    "names_of",
]

MISSING: Any = object()
"""Stands for a name that is not bound."""

K = TypeVar("K")
V = TypeVar("V")


class IdentityCache(Generic[K, V]):
    """Remembers what was worked out for an object, by the object's identity.

    Not by equality: code objects of two files may be equal. The object is held, so that its
    identity is not given out again. When full, it starts anew, so that memory stays bounded in a
    session that makes functions in a loop.
    """

    def __init__(self, limit: int = 2048) -> None:
        self._items: dict[int, tuple[K, V]] = {}
        self._limit = limit

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """Return what belongs to the object, making it at first."""
        item = self._items.get(id(key))
        if item is not None and item[0] is key:
            return item[1]
        value = make(key)
        if len(self._items) >= self._limit:
            self._items.clear()
        self._items[id(key)] = (key, value)
        return value


# Fingerprints.

_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
# Says nothing about behaviour: load or store, the u before a text, comments that are types.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})

_NEW_LOCALS = 0x2  # inspect.CO_NEWLOCALS
_HAS_DOCSTRING = 0x4000000  # inspect.CO_HAS_DOCSTRING, since Python 3.14


def fingerprint_tree(node: ast.AST, decorators: bool = True) -> str:
    """Return the fingerprint of a syntax tree.

    The decorators of the node itself may be left out; those further down always count.
    """
    # Own text instead of ast.dump, whose form differs between versions of Python.
    return combine("tree", repr(_normal(node, () if decorators else ("decorator_list",))))


def _normal(node: Any, skip: tuple[str, ...] = ()) -> Any:
    if isinstance(node, ast.Constant):
        return ("Constant", type(node.value).__name__, _constant(node.value))
    if isinstance(node, ast.AST):
        fields = ((name, _content(node, name, value)) for name, value in ast.iter_fields(node))
        return (
            type(node).__name__,
            *((name, _normal(value)) for name, value in fields if _says(name, value, skip)),
        )
    if isinstance(node, list):
        return tuple(_normal(item) for item in node)
    return node


def _content(node: ast.AST, name: str, value: Any) -> Any:
    if name == "body" and isinstance(node, _BODIES) and ast.get_docstring(node, False) is not None:
        return value[1:]
    return value


def _says(name: str, value: Any, skip: tuple[str, ...]) -> bool:
    # Empty fields are left out: newer versions of Python add such.
    return name not in _IGNORED and name not in skip and value is not None and value != []


def fingerprint_code(code: CodeType) -> str:
    """Return the fingerprint of a code object, for want of source; it holds in one Python only."""
    return combine("code", code_digest(code).hex())


def code_digest(code: CodeType) -> bytes:
    """Return the digest of what a code object does, without its file, lines and docstring."""
    parts = (
        *(code.co_name, code.co_code, code.co_names),
        *(code.co_varnames, code.co_freevars, code.co_cellvars),
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_flags & ~_HAS_DOCSTRING,
        code.co_exceptiontable,
        tuple(_constants(code)),
    )
    return new_hash(repr(parts).encode("utf-8", "surrogatepass")).digest()


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


# The names that code reads.

_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CELLS = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_NOTHING = frozenset({"CACHE", "EXTENDED_ARG", "PRECALL", "PUSH_NULL", "NOP", "RESUME"})


class NameRead(NamedTuple):
    """A name, and the attributes read from it: ``helpers.f``."""

    name: str
    attributes: tuple[str, ...] = ()


class Assignment(NamedTuple):
    """An assignment to an item or an attribute of something: ``a[0] = 1``, ``a.b = 1``."""

    of: NameRead
    attribute: str | None
    """``None`` for an item."""


class ImportStatement(NamedTuple):
    """An import: ``from ..module import names``."""

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


class CodeNames(NamedTuple):
    """All that a code object reads from outside, nested functions included."""

    globals: tuple[NameRead, ...]
    cells: tuple[NameRead, ...]
    imports: tuple[ImportStatement, ...]
    attributes: frozenset[str]
    """Names of all attributes that it reads, of whatever it may be."""
    rebound: frozenset[str]
    """Globals and closure variables that the code binds anew."""
    texts: tuple[str, ...]
    """Names in its texts, where it finds something by a name that is text, as `eval` does."""


_names: IdentityCache[CodeType, CodeNames] = IdentityCache()


def names_of(code: CodeType) -> CodeNames:
    """Return the names that a code object reads, in the order of its instructions."""
    return _names.get(code, _find_names)


def _find_names(code: CodeType) -> CodeNames:
    found: list[dict[object, None]] = [{}, {}, {}]
    for inner in _codes(code):
        _scan(inner, found)
    reads, cells, imports = (tuple(part) for part in found)
    rebound = frozenset(name for inner in _codes(code) for name in _rebound(inner, code))
    attributes = frozenset(name for inner in _codes(code) for name in _attributes_read(inner))
    texts = tuple(dict.fromkeys(name for inner in _codes(code) for name in _named_by_text(inner)))
    return CodeNames(reads, cells, imports, attributes, rebound, texts)  # type: ignore[arg-type]  # one kind of key each


_BY_TEXT = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "modules", "import_module", "__import__"}
)
"""Names by which code finds something that it names by a text."""


def _named_by_text(code: CodeType) -> Iterator[str]:
    """Yield the names in the texts of code that looks for something by them."""
    if _BY_TEXT.isdisjoint(code.co_names):
        return
    for text in _texts(code.co_consts):
        if all(map(str.isidentifier, text.split("."))):
            yield text
        elif {"eval", "exec"} & set(code.co_names):
            with suppress(Exception):
                yield from (node.id for node in ast.walk(ast.parse(text))
                            if isinstance(node, ast.Name))  # fmt: skip


def _texts(constants: Iterable[object]) -> Iterator[str]:
    for value in constants:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (tuple, frozenset)):
            yield from _texts(sorted(value, key=repr) if isinstance(value, frozenset) else value)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _codes(value)


def _attributes_read(code: CodeType) -> Iterator[str]:
    named = _texts(code.co_consts) if "getattr" in code.co_names else ()
    yield from (text for text in named if text.isidentifier())
    yield from (each.argval for each in dis.get_instructions(code) if each.opname in _ATTRIBUTES)


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
    last: list[str] = []
    read = [*_reading(code)]
    for place, instruction in enumerate(read):
        name, value = instruction.opname, instruction.argval
        if chain and (name in _ATTRIBUTES or (last == ["getattr"] and _is_name(read[place:]))):
            chain.append(value)
            continue
        if chain:
            into[NameRead(chain[0], tuple(chain[1:]))] = None
        last, chain = chain, []
        if name in _GLOBALS or name in _CELLS:
            chain, into = [value], found[name in _CELLS]
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants = [constants[1], value]
        elif name == "IMPORT_NAME":
            # Pushed just before: the level and the names, or None for no names.
            level, names = constants
            known = names if isinstance(names, tuple) else ()
            found[2][ImportStatement(value, level if isinstance(level, int) else 0, known)] = None


def _is_name(rest: list[dis.Instruction]) -> bool:
    """Whether the next instruction loads a text that is the whole name for ``getattr``."""
    if rest[0].opname != "LOAD_CONST" or not isinstance(rest[0].argval, str):
        return False
    # A default may come between the name and the call; a part of a name is put together first.
    kinds = [each.opname[:4] for each in rest[1:3]]
    return kinds[:1] == ["CALL"] or kinds == ["LOAD", "CALL"]


def _reading(code: CodeType) -> Iterator[dis.Instruction]:
    """Yield the instructions, without names that are read for no value of their own.

    The body of a class notes the module that it is in, and reads variables that it set itself; a
    logger is named after the module. Whether that is run as a script or imported says nothing.
    """
    instructions = [each for each in dis.get_instructions(code) if each.opname not in _NOTHING]
    following = [each.argval for each in instructions[1:]]
    own: set[object] = set()
    logger = False
    for instruction, after in zip(instructions, [*following, None], strict=True):
        name, value = instruction.opname, instruction.argval
        if name == "STORE_NAME":
            own.add(value)
        named = value == "__name__" and name in _GLOBALS and (after == "__module__" or logger)
        logger = value in ("getLogger", "get_logger") and name in (*_ATTRIBUTES, *_GLOBALS)
        if not named and not (name == "LOAD_NAME" and value in own):
            yield instruction


def assignments_of_tree(tree: ast.AST) -> tuple[Assignment, ...]:
    """Return what is assigned to in place: ``a[0] = 1``, ``a.b += 1``, ``del a.b[0]``."""
    found: dict[Assignment, None] = {}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Subscript, ast.Attribute)) or isinstance(node.ctx, ast.Load):
            continue
        if path := _path(node.value):
            attribute = node.attr if isinstance(node, ast.Attribute) else None
            found[Assignment(NameRead(path[0], path[1:]), attribute)] = None
    return tuple(found)


def _path(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        base = _path(node.value)
        return (*base, node.attr) if base else ()
    return _path(node.value) if isinstance(node, ast.Subscript) else ()


def imports_of_tree(tree: ast.AST) -> list[ImportStatement]:
    """Return the imports anywhere in a module's syntax tree."""
    found: dict[ImportStatement, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {ImportStatement(alias.name): None for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found[ImportStatement(node.module or "", node.level, names)] = None
    return list(found)


# What code changes.

_CONTAINERS = (list, dict, set, bytearray, collections.deque)
_UNCHANGED = (type(None), bool, int, float, complex, str, bytes, tuple, FunctionType)
_MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop"}
    | {"popitem", "popleft", "remove", "reverse", "setdefault", "sort", "update"}
)


def name_of_function(function: FunctionType) -> str:
    """Return the full name under which a function was written."""
    # Not __module__ and __qualname__, which a decorator copies from the function that it wraps.
    return f"{function.__globals__.get('__name__', '?')}.{function.__code__.co_qualname}"


def defaults_in(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the defaults of a function's arguments."""
    code = function.__code__
    values = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[len(names) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def cells_of(function: FunctionType) -> dict[str, Any]:
    """Return the cells of a closure by the names of its variables."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))


def cell_value(cell: Any) -> Any:
    """Return what a closure's cell holds; `MISSING` if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class ChangedState:
    """What code changes outside of itself: a counter, a memory, a model that is made once.

    Such a value is state, not a constant. Its content says what happened before, and must not
    count as a change of the code; and a step that keeps state cannot be known by its inputs alone.
    """

    def __init__(self) -> None:
        self.bindings: set[str] = set()
        """Names of variables that are bound anew, as people should see them."""
        self.objects: dict[int, Any] = {}
        """Objects that are changed in place, by their id."""

    def __len__(self) -> int:
        return len(self.bindings) + len(self.objects)

    def covers(self, name: str, value: Any) -> bool:
        """Whether a value that is read under a name is state."""
        return name in self.bindings or id(value) in self.objects

    def add(self, function: FunctionType, assigned: Iterable[Assignment], names: CodeNames) -> None:
        """Note what a function changes; the assignments may be those of the class around it."""
        variables, cells = function.__globals__, cells_of(function)
        home, module = name_of_function(function), variables.get("__name__", "?")
        for name in names.rebound:
            self.bindings.add(f"{home if name in cells else module}.{name}")
        # The variables that it reads from outside; a local one is in none of these.
        known = {read.name: variables.get(read.name, MISSING) for read in names.globals}
        known |= {name: cell_value(cell) for name, cell in cells.items()}
        for each in assigned:
            self._add_assignment(known.get(each.of.name, MISSING), each)
        for read in (*names.globals, *names.cells):
            self._add_call(known.get(read.name, MISSING), read.attributes)

    def _add_assignment(self, value: Any, assignment: Assignment) -> None:
        value, rest = _follow(value, assignment.of.attributes)
        if isinstance(value, (type, ModuleType, FunctionType)):
            changed = rest[0] if rest else assignment.attribute
            self.bindings.add(f"{_full_name(value)}.{changed}")
        elif value is not MISSING and not isinstance(value, _UNCHANGED):
            self.objects[id(value)] = value

    def _add_call(self, value: Any, attributes: tuple[str, ...]) -> None:
        value, rest = _follow(value, attributes)
        if rest and rest[0] in _MUTATORS and isinstance(value, _CONTAINERS):
            self.objects[id(value)] = value


def _full_name(value: type | ModuleType | FunctionType) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType):
        return name_of_function(value)
    return f"{value.__module__}.{value.__qualname__}"


def _follow(value: Any, attributes: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return what attributes lead to through the user's modules, and the rest of them."""
    rest = attributes
    while rest and isinstance(value, ModuleType) and is_own(value.__name__):
        value, rest = vars(value).get(rest[0], MISSING), rest[1:]
    return value, rest
