"""Nested containers of arrays: their form as JSON, and the arrays apart from it.

The form of a node is a list: what it is, and what it consists of. Arrays are numbered.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import Any

from daskperiment.codec import from_plain, to_plain

__all__ = ["OutOfTreeError", "Tree", "built", "top_modules"]

_DEEPEST = 50


class OutOfTreeError(ValueError):
    """Something in a value is no container, plain value or array that a tree can hold."""


def top_modules(value: Any) -> set[str]:
    """Return the names of the packages that a value's classes come from."""
    return {base.__module__.partition(".")[0] for base in type(value).__mro__}


class Tree:
    """A value taken apart.

    Parameters
    ----------
    value : object
        Dicts, lists and tuples of plain values and of arrays.
    kind_of : callable
        Returns what kind of array something is, None if it is none; OutOfTreeError if it is one
        that cannot be kept exactly.

    Attributes
    ----------
    form : list
        What stands in JSON.
    arrays : list
        The arrays in the order of their numbers.
    names : list of str
        Where each stands, by the keys that lead to it.
    """

    def __init__(self, value: Any, kind_of: Callable[[Any], str | None]) -> None:
        self._kind_of = kind_of
        self._seen: set[int] = set()
        self.arrays: list[Any] = []
        self.names: list[str] = []
        self.form = self._node(value, "", _DEEPEST)

    def _node(self, value: Any, path: str, depth: int) -> list[Any]:
        if not depth:
            raise OutOfTreeError("it nests too deeply")
        kind = self._kind_of(value)
        if kind is not None:
            return [kind, self._number(value, path)]
        return self._container(value, path, depth - 1)

    def _container(self, value: Any, path: str, depth: int) -> list[Any]:
        type_ = type(value)
        if type_ is dict or type_ is OrderedDict:
            pairs = [
                [to_plain(key), self._node(item, _joined(path, key), depth)]
                for key, item in value.items()
            ]
            # torch puts the versions of modules into an attribute of the dict that is their state.
            more = {name: self._node(each, _joined(path, name), depth)
                    for name, each in getattr(value, "__dict__", {}).items()}  # fmt: skip
            return [type_.__name__, pairs, *([more] if more else [])]
        if type_ is list or type_ is tuple:
            items = [self._node(each, _joined(path, n), depth) for n, each in enumerate(value)]
            return [type_.__name__, items]
        if "scipy" in top_modules(value) and hasattr(value, "tocsr"):
            return self._sparse(value, path, depth)
        return ["plain", to_plain(value)]

    def _sparse(self, value: Any, path: str, depth: int) -> list[Any]:
        kind = type(value).__name__
        parts = _SPARSE.get(kind.rpartition("_")[0])
        if parts is None or getattr(sys.modules["scipy.sparse"], kind, None) is not type(value):
            raise OutOfTreeError(f"a sparse matrix of {type(value)!r}")
        held = {name: getattr(value, name) for name in parts}
        return ["sparse", kind, list(value.shape), self._node(held, path, depth)]

    def _number(self, array: Any, path: str) -> int:
        if id(array) in self._seen:
            raise OutOfTreeError("one array stands there twice")
        self._seen.add(id(array))
        self.arrays.append(array)
        self.names.append(path or "array")
        return len(self.arrays) - 1


_SPARSE = {
    **dict.fromkeys(("csr", "csc", "bsr"), ("data", "indices", "indptr")),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}
"""What matrices of scipy consist of."""


def _joined(path: str, key: Any) -> str:
    text = key if type(key) is str else str(key)
    return f"{path}.{text}" if path else text


def built(form: Any, array: Callable[[str, int], Any]) -> Any:
    """Return the value of a tree's form.

    Parameters
    ----------
    form : list
    array : callable
        Takes the kind of an array and its number, and returns it.
    """
    kind, held, *more = form
    if kind in ("list", "tuple"):
        items = [built(each, array) for each in held]
        return items if kind == "list" else tuple(items)
    if kind in ("dict", "OrderedDict"):
        pairs = {from_plain(key): built(each, array) for key, each in held}
        if kind == "dict":
            return pairs
        found: OrderedDict[Any, Any] = OrderedDict(pairs)
        for name, each in more[0].items() if more else ():
            setattr(found, name, built(each, array))
        return found
    if kind == "plain":
        return from_plain(held)
    if kind == "sparse":
        return _sparse_of(held, more[0], built(more[1], array))
    return array(kind, held)


def _sparse_of(kind: str, shape: list[int], held: dict[str, Any]) -> Any:
    sparse = import_module("scipy.sparse")
    if kind.partition("_")[0] not in _SPARSE:
        raise ValueError(f"{kind!r} is no kind of sparse matrix")
    class_ = getattr(sparse, kind)
    if kind.startswith("coo"):
        return class_((held["data"], (held["row"], held["col"])), shape=tuple(shape))
    return class_(tuple(held.values()), shape=tuple(shape))
