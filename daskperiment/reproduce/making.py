"""Functions and classes made anew of the text of their recorded source.

The text is compiled under a file name of its own that Python's line cache knows, so that
tracebacks show it, and so that what is made is captured with its source like any other code.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from daskperiment.capture.references import Read, names_of
from daskperiment.capture.source import methods
from daskperiment.records import Function
from daskperiment.reproduce.names import POSTPONED
from daskperiment.reproduce.travel import Sources

__all__ = ["Definition", "Made", "NotMadeError"]

_KEEP = "__daskperiment_keep__"
_MAKE = "__daskperiment_make__"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class NotMadeError(Exception):
    """A recorded function cannot be made anew; the text says why."""


@dataclass(frozen=True)
class Definition:
    """The source of one recorded function or class, known to be one definition."""

    name: str
    """In full, with its module."""
    source: str
    file: str
    postponed: bool = False
    """Whether annotations are not evaluated, as far as is known."""

    @classmethod
    def of(cls, function: Function, postponed: bool = False) -> Definition:
        """Take what is recorded of a function.

        Raises
        ------
        NotMadeError
            If there is no source, or none that is a definition.
        """
        if function.source is None:
            raise NotMadeError(f"{function.name} has {function.note or 'no source'}")
        file = f"<recorded {function.name} {function.fingerprint[:12]}>"
        definition = cls(function.name, textwrap.dedent(function.source), file, postponed)
        try:
            definition.node()
        except SyntaxError as error:
            raise NotMadeError(
                f"the source of {function.name} is not understood by this Python: {error}"
            ) from error
        return definition

    def node(self) -> Any:
        """Parse the source: the statement of a function or class, or a lambda expression."""
        body = ast.parse(self.source).body
        node = body[0] if len(body) == 1 else None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Lambda):
            return node.value
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            raise NotMadeError(
                f"{self.name} is a module that is imported while a step runs, and it has changed"
            )
        return node

    @property
    def own_name(self) -> str:
        """The name that the definition gives."""
        return getattr(self.node(), "name", "<lambda>")

    @property
    def is_class(self) -> bool:
        """Whether it is the definition of a class."""
        return isinstance(self.node(), ast.ClassDef)

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators, outermost first."""
        return list(getattr(self.node(), "decorator_list", ()))

    def early(self) -> set[str]:
        """Names that are read while it is defined, as those in decorators and defaults."""
        return set(_early(self.node()))

    def reads(self, dropped: Collection[int]) -> list[Read]:
        """List all that it reads from outside, when it is defined and when it runs.

        Parameters
        ----------
        dropped : collection of int
            Places of decorators that do not count.
        """
        code = self._compiled(self._tree((), dropped), self.postponed)
        return [read for read in names_of(code).globals if read.name != _KEEP]

    def make(
        self, qualname: str, variables: dict[str, Any], cells: Mapping[str, Any],
        dropped: Collection[int],
    ) -> Made:  # fmt: skip
        """Run the definition.

        Parameters
        ----------
        qualname : str
            The name within the module.
        variables : dict
            The module's variables.
        cells : mapping
            The variables of the function around it.
        dropped : collection of int
            Places of decorators that are left out.
        """
        keeper = _Keeper(qualname)
        tree = self._tree(cells, dropped)
        try:
            value = _run(self._compiled(tree, self.postponed), variables, cells, keeper)
        except Exception:
            # What it is annotated with may not be there any more.
            value = _run(self._compiled(tree, True), variables, cells, keeper)
        bare = value if keeper.first is None else keeper.first
        classes = ((bare, self.file),) if isinstance(bare, type) else ()
        sources = Sources({self.file: self.source}, classes)
        sources.unpack()
        return Made(value, bare, sources)

    def _compiled(self, tree: ast.Module, postponed: bool) -> CodeType:
        flags = POSTPONED if postponed else 0
        code: CodeType = compile(tree, self.file, "exec", flags, dont_inherit=True)
        return code

    def _tree(self, cells: Collection[str], dropped: Collection[int]) -> ast.Module:
        """Build a module that binds a name to the definition, or to a function that makes it."""
        node, body = self.node(), []
        made: ast.expr = ast.Call(_name(_KEEP), [node], [])
        if not isinstance(node, ast.Lambda):
            _decorate(node, dropped)
            body, made = [node], _name(node.name)
        if cells:
            body = [_function(_MAKE, [*cells, _KEEP], [*body, ast.Return(made)])]
        else:
            body = [*body, ast.Assign([ast.Name(_MAKE, ast.Store())], made)]
        return ast.fix_missing_locations(ast.Module(body, []))


class Made(NamedTuple):
    """What a definition made."""

    value: Any
    """With its decorators."""
    bare: Any
    """The function or class itself."""
    sources: Sources


class _Keeper:
    """The innermost decorator of what is made: keeps it, and gives it its full name."""

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
    code: CodeType, variables: dict[str, Any], cells: Mapping[str, Any], keeper: _Keeper
) -> Any:
    places: dict[str, Any] = {_KEEP: keeper}
    exec(code, variables, places)
    made = places[_MAKE]
    return made(**cells, **{_KEEP: keeper}) if cells else made


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
    node = ast.parse(f"def {name}({', '.join(arguments)}): pass").body[0]
    assert isinstance(node, ast.FunctionDef)
    node.body = body
    return node


def _early(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        # All of its arguments is defaults and annotations.
        children: Iterable[ast.AST] = [*getattr(node, "decorator_list", ()), node.args]
        returns = getattr(node, "returns", None)
        children = children if returns is None else [*children, returns]
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from _early(child)
