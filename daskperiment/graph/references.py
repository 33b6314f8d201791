"""What tasks take, and the order that follows from it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from dask._task_spec import Alias, GraphNode, Task, TaskRef

__all__ = ["in_order", "references"]

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
