"""Dask's tasks: what they are made of, what they take, and the order that follows from it.

The one module that imports Dask's task specification, which is private to Dask: what the rest of
the package needs of it is named here, so that a change there is mended here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from dask._task_spec import (
    Alias,
    DataNode,
    Dict,
    GraphNode,
    List,
    Set,
    Task,
    TaskRef,
    convert_legacy_graph,
)

__all__ = [
    "Alias",
    "DataNode",
    "Dict",
    "GraphNode",
    "List",
    "Set",
    "Task",
    "TaskRef",
    "convert_legacy_graph",
    "function_of",
    "in_order",
    "members",
    "references",
    "referred",
]

Key = Hashable


def in_order(tasks: Mapping[Key, GraphNode], last: Key) -> Iterator[Key]:
    """Yield keys, inputs before those who take them.

    Depth first and without recursion: a graph may be deeper than Python's stack.
    """
    seen: set[Key] = {last}
    stack = [(last, references(tasks[last]))]
    while stack:
        key, before = stack[-1]
        for reference in before:
            if reference in tasks and reference not in seen:
                seen.add(reference)
                stack.append((reference, references(tasks[reference])))
                break
        else:
            stack.pop()
            yield key


def references(node: GraphNode) -> Iterator[Key]:
    """Yield the keys that a task takes, in order of its arguments."""
    if isinstance(node, Alias):
        yield node.target
    elif isinstance(node, Task):
        for item in (*node.args, *node.kwargs.values()):
            if isinstance(item, TaskRef):
                yield item.key
            elif isinstance(item, GraphNode):
                yield from references(item)


def members(
    form: Any, tasks: Mapping[Key, GraphNode], path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the keys that stand in an argument, each behind the path that leads to it.

    A key of a list, tuple or dict of nodes is told by what it is made of. Other values that can
    change are yielded as they are, as a `DataNode`.
    """
    if isinstance(form, (TaskRef, Alias)):
        whole = tasks.get(referred(form))
        if isinstance(whole, (List, Dict, Alias)) or _is_tuple(whole):
            yield from members(whole, tasks, path)
        else:
            yield path, referred(form)
    elif isinstance(form, Dict):
        for key, each in zip(form.args[::2], form.args[1::2], strict=True):
            if isinstance(key, (str, int)):
                yield from members(each, tasks, (*path, key))
    elif isinstance(form, List):
        for number, each in enumerate(form.args):
            yield from members(each, tasks, (*path, number))
    elif _is_tuple(form):
        yield from members(form.args[0], tasks, path)
    elif isinstance(form, DataNode) or not isinstance(form, GraphNode):
        yield path, form if isinstance(form, DataNode) else DataNode(None, form)


def referred(form: Any) -> Key | None:
    """Return the key of the task whose value stands there; None if it is another form."""
    if isinstance(form, Alias):  # as older versions of Dask name another task
        return form.target
    return form.key if isinstance(form, TaskRef) else None


def _is_tuple(form: Any) -> bool:
    return isinstance(form, Task) and form.func is tuple and len(form.args) == 1


def function_of(task: GraphNode) -> Any:
    """Return the function that a task calls, None if it calls none of the user's or ours."""
    # A list or dict with nodes in it is a task too, of a type of its own.
    return task.func if type(task) is Task else None
