"""The code that a trial recorded, and functions and classes built from its sources.

A source is compiled under a file name of its own that Python's line cache knows, so that
tracebacks show it, and so that what is built is captured with its source like any other code.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from daskperiment.capture.code import fingerprint_constant
from daskperiment.capture.code_objects import NameRead, fingerprint_tree, names_of
from daskperiment.capture.origin import module_of
from daskperiment.capture.source import methods, parse_python, register_class_source
from daskperiment.capture.walk import Walk
from daskperiment.capture.walk_findings import Constant
from daskperiment.execution.calls import UserFunction
from daskperiment.records import Code, Function

__all__ = [
    "POSTPONED",
    "NotRebuiltError",
    "RebuiltFunction",
    "RebuiltObject",
    "RecordedCode",
    "RecordedDefinition",
    "RecordedSources",
    "check_source",
]

POSTPONED: Final = __future__.annotations.compiler_flag
"""``from __future__ import annotations``, as a flag of compiled code and of the compiler."""

_KEEP = "__daskperiment_keep__"
_MAKE = "__daskperiment_make__"
_NUMBER = re.compile(r"#\d+$")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class NotRebuiltError(Exception):
    """A recorded function cannot be built; the text says why."""


class RecordedCode:
    """The functions, classes and constants of a trial's code, by name."""

    def __init__(self, code: Code) -> None:
        self._functions: defaultdict[str, list[Function]] = defaultdict(list)
        self._constants: defaultdict[str, set[str | None]] = defaultdict(set)
        self.unknown: dict[str, None] = {}
        """Constants that were taken as they are today, for want of a fingerprint."""
        for function in code.functions.values():
            self._functions[function.name].append(function)
        for step in code.steps.values():
            for name, fingerprint in step.constants.items():
                self._constants[_NUMBER.sub("", name)].add(fingerprint)

    def functions(self, name: str) -> list[Function]:
        """Return the functions and classes of this full name."""
        return self._functions.get(_recorded_name(name), [])

    def functions_ending(self, name: str) -> list[Function]:
        """Return the functions and classes of this name in any module."""
        return [
            function
            for known, functions in self._functions.items()
            if known.rpartition(".")[2] == name and "<locals>" not in known
            for function in functions
        ]

    def has_constant(self, name: str) -> bool:
        """Return whether a value was read under this full name."""
        return _recorded_name(name) in self._constants

    def covers(self, name: str, value: Any) -> bool:
        """Return whether what is read under a full name is as recorded, with all code it uses."""
        walk = Walk(value)
        base = module_of(value) or ""
        return all(
            any(unit.fingerprint == known.fingerprint for known in self.functions(unit.name))
            for unit in walk.units
        ) and all(self._covers_constant(name, base, each) for each in walk.constants.values())

    def _covers_constant(self, name: str, base: str, constant: Constant) -> bool:
        # Without an owner it is the value itself, or part of it.
        own = constant.owner < 0
        full = _recorded_name(name + constant.name[len(base) :] if own else constant.name)
        known = self._constants.get(full, set())
        if None in known:
            self.unknown[full] = None
            return True
        return bool(known) and fingerprint_constant(constant.value)[0] in known


def _recorded_name(name: str) -> str:
    return name.removeprefix("__main__.")


def check_source(function: Function, today: Iterable[Function] = ()) -> None:
    """Hold a recorded source against its fingerprint, before any of it runs.

    NotRebuiltError if they do not fit: one of them is not what was recorded. What has no source
    cannot be run either. The fingerprint of a step says nothing of its decorators; these have to
    be plain names, or those of a function of `today`.
    """
    if function.source is None:
        return
    try:
        tree = parse_python(textwrap.dedent(function.source))
    except SyntaxError:
        return  # who would build it says so
    whole = {fingerprint_tree(node) for node in _nodes(tree)}
    bare = {fingerprint_tree(node, decorators=False) for node in _nodes(tree)}
    if function.fingerprint not in whole | bare:
        raise NotRebuiltError(
            f"the source of {function.name} is not the one that was recorded: its fingerprint is "
            "another"
        )
    if function.fingerprint not in whole:
        known = {text for each in today for text in _decorators(each.source)}
        strange = [text for text in _decorators(function.source) if text not in known]
        if strange:
            raise NotRebuiltError(
                f"the source of {function.name} is not the one that was recorded, or its "
                f"decorators are others today: @{strange[0]}"
            )


def _nodes(tree: ast.Module) -> list[ast.AST]:
    """Return what a source may be: a file, a definition, or a lambda."""
    first = tree.body[0] if len(tree.body) == 1 else tree
    return [tree, first, getattr(first, "value", tree)]


def _decorators(source: str | None) -> Iterator[str]:
    """Yield those of a definition's decorators that run more than what they name."""
    with suppress(SyntaxError):
        for node in parse_python(textwrap.dedent(source or "")).body[:1]:
            for decorator in getattr(node, "decorator_list", ()):
                if not _only_names(decorator):
                    yield ast.unparse(decorator)


def _only_names(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # Those of an experiment, which are left out when a step is built.
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        plain = all(_is_constant(each) for each in given)
        return node.func.attr in ("persist", "result") and plain and _only_names(node.func)
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Attribute) and _only_names(node.value)
    )


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Tuple) and all(map(_is_constant, node.elts))
    )


# One definition ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedDefinition:
    """The source of one recorded function or class, known to be one definition."""

    name: str
    """In full, with its module."""
    source: str
    file: str
    postponed: bool = False
    """Whether annotations are not evaluated, as far as is known."""

    @classmethod
    def of(cls, function: Function, postponed: bool = False) -> RecordedDefinition:
        """Return a function's definition; NotRebuiltError if there is no source that is one."""
        if function.source is None:
            raise NotRebuiltError(f"{function.name} has {function.note or 'no source'}")
        file = f"<recorded {function.name} {function.fingerprint[:12]}>"
        definition = cls(function.name, textwrap.dedent(function.source), file, postponed)
        try:
            definition.node()
        except SyntaxError as error:
            raise NotRebuiltError(
                f"the source of {function.name} is not understood by this Python: {error}"
            ) from error
        return definition

    def node(self) -> Any:
        """Return the syntax tree of the function or class statement, or of the lambda."""
        body = parse_python(self.source).body
        node = body[0] if len(body) == 1 else None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Lambda):
            return node.value
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            raise NotRebuiltError(
                f"{self.name} is a module that is imported while a step runs, and it has changed"
            )
        return node

    @property
    def own_name(self) -> str:
        """The name that the definition binds."""
        return getattr(self.node(), "name", "<lambda>")

    @property
    def is_class(self) -> bool:
        """Whether it is the definition of a class."""
        return isinstance(self.node(), ast.ClassDef)

    @property
    def uses_mangled_names(self) -> bool:
        """Whether it uses names such as ``__x``, which mean another thing outside of a class."""
        names = [getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(self.node())]
        return any(name.startswith("__") and not name.endswith("__") for name in names)

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators, outermost first."""
        return list(getattr(self.node(), "decorator_list", ()))

    def early_names(self) -> set[str]:
        """Return the names that are read while it is defined, as in decorators and defaults."""
        return set(_early_names(self.node()))

    def reads(self, dropped: Collection[int]) -> list[NameRead]:
        """Return all that it reads from outside, when it is defined and when it runs.

        Decorators at the `dropped` positions do not count.
        """
        code = self._compiled(self._tree((), dropped), self.postponed)
        return [read for read in names_of(code).globals if read.name != _KEEP]

    def build(
        self, qualname: str, variables: dict[str, Any], closure: Mapping[str, Any],
        dropped: Collection[int],
    ) -> RebuiltObject:  # fmt: skip
        """Run the definition, and return what it defines.

        `variables` are those of its module, `closure` those of the function around it. Decorators
        at the `dropped` positions are left out.
        """
        keeper = _Keeper(qualname)
        tree = self._tree(closure, dropped)
        try:
            value = _run(self._compiled(tree, self.postponed), variables, closure, keeper)
        except Exception:
            # What it is annotated with may not be there any more.
            value = _run(self._compiled(tree, True), variables, closure, keeper)
        bare = value if keeper.first is None else keeper.first
        classes = ((bare, self.file),) if isinstance(bare, type) else ()
        sources = RecordedSources({self.file: self.source}, classes)
        sources.register()
        return RebuiltObject(value, bare, sources)

    def _compiled(self, tree: ast.Module, postponed: bool) -> CodeType:
        flags = POSTPONED if postponed else 0
        code: CodeType = compile(tree, self.file, "exec", flags, dont_inherit=True)
        return code

    def _tree(self, closure: Collection[str], dropped: Collection[int]) -> ast.Module:
        """Return a module that binds a name to the definition, or to a function that makes it."""
        node, body = self.node(), []
        made: ast.expr = ast.Call(_name(_KEEP), [node], [])
        if not isinstance(node, ast.Lambda):
            _decorate(node, dropped)
            body, made = [node], _name(node.name)
        if closure:
            body = [_function(_MAKE, [*closure, _KEEP], [*body, ast.Return(made)])]
        else:
            body = [*body, ast.Assign([ast.Name(_MAKE, ast.Store())], made)]
        return ast.fix_missing_locations(ast.Module(body, []))


class _Keeper:
    """The innermost decorator of a definition: keeps what it decorates, under its full name."""

    def __init__(self, qualname: str) -> None:
        self._qualname = qualname
        self.first: Any = None

    def __call__(self, value: Any) -> Any:
        if self.first is None:
            self.first = value
            value.__qualname__ = self._qualname
            if isinstance(value, type):
                for method in methods(value):
                    _rename(method, f"{self._qualname}.{method.__name__}")
            else:
                _rename(value, self._qualname)
        return value


def _rename(function: FunctionType, qualname: str) -> None:
    if not function.__code__.co_filename.startswith("<recorded "):
        return  # inherited by assignment, or generated
    function.__code__ = function.__code__.replace(co_qualname=qualname)


def _run(
    code: CodeType, variables: dict[str, Any], closure: Mapping[str, Any], keeper: _Keeper
) -> Any:
    names: dict[str, Any] = {_KEEP: keeper}
    exec(code, variables, names)
    made = names[_MAKE]
    return made(**closure, **{_KEEP: keeper}) if closure else made


def _decorate(node: Any, dropped: Collection[int]) -> None:
    """Put the keeper in the place of dropped decorators, and below all others."""
    old = node.decorator_list
    # At the same lines: where a definition begins is where its source is looked for.
    new = [_name(_KEEP, d) if n in dropped else d for n, d in enumerate(old)]
    node.decorator_list = [*new, _name(_KEEP, old[-1] if old else node)]


def _name(name: str, place: ast.AST | None = None) -> ast.Name:
    node = ast.Name(name, ast.Load())
    return node if place is None else ast.copy_location(node, place)


def _function(name: str, arguments: list[str], body: list[Any]) -> ast.FunctionDef:
    node = parse_python(f"def {name}({', '.join(arguments)}): pass").body[0]
    assert isinstance(node, ast.FunctionDef)
    node.body = body
    return node


def _early_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        # Its arguments have only defaults and annotations, both read at once; its body waits.
        children: Iterable[ast.AST] = [*getattr(node, "decorator_list", ()), node.args]
        returns = getattr(node, "returns", None)
        children = children if returns is None else [*children, returns]
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from _early_names(child)


# What is built -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedSources:
    """The sources of what was built, which stand in no file."""

    texts: Mapping[str, str]
    """Name that stands for a file -> text."""
    classes: tuple[tuple[type, str], ...]
    """Classes, each with the name that stands for its file."""

    def register(self) -> None:
        """Make the sources known to Python and to the capture of code in this process."""
        for file, text in self.texts.items():
            # Without a time, Python never looks for the file.
            lines = text.splitlines(keepends=True)
            linecache.cache[file] = (len(text), None, lines, file)
        for cls, file in self.classes:
            register_class_source(cls, self.texts[file], file)


class RebuiltObject(NamedTuple):
    """A function or class built from its recorded source."""

    value: Any
    """With its decorators."""
    bare: Any
    """The function or class itself."""
    sources: RecordedSources


class RebuiltFunction(UserFunction):
    """A step's function that takes the sources of recorded code along to other processes.

    The fingerprint of an object counts the source of its class, which a worker cannot read from a
    file.
    """

    __slots__ = ("_sources",)

    def __init__(self, function: Callable[..., Any], sources: RecordedSources) -> None:
        super().__init__(function)
        self._sources = sources

    def __reduce__(self) -> Any:
        return _unpickled, (UserFunction(self.__wrapped__), self._sources)


def _unpickled(function: UserFunction, sources: RecordedSources) -> RebuiltFunction:
    sources.register()
    return RebuiltFunction(function.__wrapped__, sources)
