"""Names that code finds by texts: ``getattr``, ``globals()["f"]``, ``import_module``, queries.

What stands in the code, or in the texts that it reads, is followed. Where code looks at all
variables of its module without saying which, all of them count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

from daskperiment.capture.code_objects import CodeNames, cell_value, cells_of, names_of
from daskperiment.capture.members import is_users_variable
from daskperiment.capture.origin import module_of

__all__ = ["all_variables", "modules_named", "takes_all_variables", "variables_named"]

_IMPORTING = frozenset(
    {"import_module", "__import__", "locate", "resolve_name", "run_module"}
    | {"instantiate", "get_class", "get_method", "get_object", "import_string"}
)
"""Names of what finds a module, or something in it, by a text."""
_EVALUATING = frozenset({"eval", "exec"})
_READERS = frozenset({"duckdb", "numexpr", "patsy", "formulaic", "statsmodels"})
"""Libraries that look up the names in a text among the variables of who calls them."""
_NAME = re.compile(r"[^\W\d]\w*")
_DEPTH = 4


def variables_named(function: FunctionType) -> list[str]:
    """Return the variables of its module that a function finds by a text."""
    names, variables = names_of(function.__code__), function.__globals__
    found = [*names.texts]
    read = {each.name for each in names.globals}
    if read & _EVALUATING:
        for text in _texts_read(function):
            with suppress(Exception):
                tree = ast.walk(ast.parse(text))
                found += [node.id for node in tree if isinstance(node, ast.Name)]
    if "query" in names.attributes:
        found += [name for text in _texts_in(function.__code__)
                  for name in re.findall(r"@([^\W\d]\w*)", text)]  # fmt: skip
    if _reads_variables(names, variables):
        found += [name for text in _texts_in(function.__code__) for name in _NAME.findall(text)]
    return [name for name in dict.fromkeys(found) if name in variables]


def _reads_variables(names: CodeNames, variables: Mapping[str, Any]) -> bool:
    """Whether the code calls a library that looks up names among its variables."""
    for read in names.globals:
        value = variables.get(read.name)
        module = value.__name__ if isinstance(value, ModuleType) else module_of(value)
        top = (module or "").partition(".")[0]
        if top in _READERS or (top == "pandas" and "eval" in (read.name, *read.attributes)):
            return True
    return any(each.module.partition(".")[0] in _READERS for each in names.imports)


def modules_named(function: FunctionType) -> list[str]:
    """Return the dotted names by which a function may find a module when it runs."""
    code = function.__code__
    texts = list(names_of(code).texts)
    if not _IMPORTING.isdisjoint(_names_in(code)):
        texts += [*_texts_in(code), *_texts_read(function)]
    dotted = (text.replace(":", ".") for text in dict.fromkeys(texts))
    return [each for each in dotted if all(map(str.isidentifier, each.split(".")))]


def takes_all_variables(function: FunctionType) -> bool:
    """Whether a function looks at the variables of its module, and nothing says at which."""
    names = names_of(function.__code__)
    read = {each.name for each in names.globals}
    # By the name of its own module.
    within = "__name__" in read and any("modules" in each.attributes for each in names.globals)
    if "globals" in read or within:
        return not variables_named(function)
    # Of an expression that is no text in the code.
    return bool(read & _EVALUATING) and not [*_texts_in(function.__code__), *_texts_read(function)]


def all_variables(variables: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the user's own code and the plain values among a module's variables."""
    return [
        (name, value)
        for name, value in sorted(variables.items())
        if not name.startswith("__") and is_users_variable(name, value)
    ]


def _names_in(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for inner in code.co_consts:
        found |= _names_in(inner) if isinstance(inner, CodeType) else set()
    return found


def _texts_in(code: CodeType) -> Iterator[str]:
    """Yield the texts in code."""
    return _texts(code.co_consts, _DEPTH)


def _texts_read(function: FunctionType) -> Iterator[str]:
    """Yield the texts in variables that a function reads."""
    names, variables = names_of(function.__code__), function.__globals__
    cells = cells_of(function).values()
    read = [variables.get(each.name) for each in names.globals if not each.name.startswith("__")]
    return _texts([*read, *map(cell_value, cells)], _DEPTH)


def _texts(values: Iterable[Any], depth: int) -> Iterator[str]:
    for value in values if depth else ():
        if isinstance(value, str):
            yield value
        elif isinstance(value, CodeType):
            yield from _texts(value.co_consts, depth)
        elif isinstance(value, dict):
            yield from _texts(list(value.values()), depth - 1)
        elif isinstance(value, (list, tuple)):
            yield from _texts(value, depth - 1)
        elif isinstance(value, (set, frozenset)):
            yield from _texts(sorted(value, key=repr), depth - 1)
