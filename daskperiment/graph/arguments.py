"""What stands in a step's call: nodes of the graph among plain arguments.

Dask's own way to find nodes optimises the graph of those it finds inside lists and dicts. Steps
and parameters could not be told apart afterwards, so they are found here, as they are.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from dask.base import is_dask_collection, tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import is_namedtuple_instance

from daskperiment.graph.dask_tasks import Dict, GraphNode, List, Task, TaskRef

__all__ = ["CallNode", "unpack"]


class CallNode(Delayed):
    """What the call of a step makes."""

    __slots__ = ()

    def as_input(self) -> CallNode:
        """Return what stands for this node where another step takes it."""
        return self


def unpack(value: Any, nodes: list[Any]) -> Any:
    """Replace the nodes in an argument by references, and add them to a list.

    Parameters
    ----------
    value : object
        An argument; nodes are found in lists, tuples, sets, dicts, slices, dataclasses and named
        tuples, however deep.
    nodes : list
        Gets the nodes that were found.

    Returns
    -------
    object
        The argument itself if there is no node in it.
    """
    if isinstance(value, Delayed):
        node = value.as_input() if isinstance(value, CallNode) else value
        nodes.append(node)
        return TaskRef(node.key)
    kind = type(value)
    if kind in (list, tuple, set):
        return _container(value, kind, list(value), nodes)
    if kind is dict:
        return _dict(value, nodes)
    if kind is slice:
        return _container(value, _slice, [value.start, value.stop, value.step], nodes)
    if is_dask_collection(value):
        return unpack(_gather(value), nodes)
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, nodes)
    if is_namedtuple_instance(value):
        return _container(value, getattr(kind, "_make"), list(value), nodes)  # noqa: B009  # public, for all its underscore
    return value


def _container(value: Any, make: Any, items: list[Any], nodes: list[Any]) -> Any:
    forms = [unpack(item, nodes) for item in items]
    if not any(map(_is_reference, forms)):
        return value
    return List(*forms) if make is list else Task(None, make, List(*forms))


def _dict(value: dict[Any, Any], nodes: list[Any]) -> Any:
    pairs = [(unpack(key, nodes), unpack(item, nodes)) for key, item in value.items()]
    return (
        Dict(dict(pairs)) if any(_is_reference(form) for pair in pairs for form in pair) else value
    )


def _dataclass(value: Any, nodes: list[Any]) -> Any:
    names = [field.name for field in fields(value) if field.init]
    forms = [unpack(getattr(value, name), nodes) for name in names]
    if not any(map(_is_reference, forms)):
        return value
    return Task(None, type(value), **dict(zip(names, forms, strict=True)))


def _is_reference(form: Any) -> bool:
    return isinstance(form, (TaskRef, GraphNode))


def _slice(bounds: list[Any]) -> slice:
    return slice(*bounds)


def _gather(collection: Any) -> Delayed:
    """Return one node for a Dask array or another collection of many parts."""
    finalize, extra = collection.__dask_postcompute__()
    name = f"gather-{tokenize(collection)}"
    task = Task(name, finalize, _references(collection.__dask_keys__()), *extra)
    graph = HighLevelGraph.from_collections(name, {name: task}, dependencies=[collection])
    return Delayed(name, graph)


def _references(keys: Any) -> Any:
    return List(*map(_references, keys)) if isinstance(keys, list) else TaskRef(keys)
