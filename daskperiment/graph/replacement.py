"""A result whose steps call other functions than those that they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dask._task_spec import Task
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from daskperiment.execution.tasks import Call, Function, run_step
from daskperiment.graph.result import ResultNode
from daskperiment.graph.step import Step

__all__ = ["with_functions"]


def with_functions(result: ResultNode, functions: Mapping[str, Function]) -> ResultNode:
    """Make a result with the same graph, in which steps call other functions.

    Parameters
    ----------
    result : Result
        Stays as it is.
    functions : mapping of str to Function
        Step -> function, by the names of the result's ``functions``; other steps keep theirs.
    """
    step, old = result._step, result._template.functions
    steps = {node.key: node.step for node in result._template.graph.nodes}
    # By identity, as the functions of a step that was defined twice share its name.
    changed = {(steps[key], id(old[key])): new for key, new in functions.items()}
    graph = _substituted(step.dask, changed) if changed else step.dask
    other = Step(step._step, step.key, graph, step._length)
    return type(result)(result._planner, other, result._options)


def _substituted(
    graph: HighLevelGraph, functions: Mapping[tuple[str, int], Function]
) -> HighLevelGraph:
    layers = {name: _layer(layer, functions) for name, layer in graph.layers.items()}
    return HighLevelGraph(layers, dict(graph.dependencies))


def _layer(layer: Any, functions: Mapping[tuple[str, int], Function]) -> Any:
    if not isinstance(layer, MaterializedLayer):
        return layer
    tasks = {key: _task(task, functions) for key, task in layer.items()}
    if all(tasks[key] is task for key, task in layer.items()):
        return layer
    new = MaterializedLayer(tasks)
    # Set afterwards: a layer that is made takes the annotations in force at that moment.
    new.annotations = layer.annotations
    return new


def _task(task: Any, functions: Mapping[tuple[str, int], Function]) -> Any:
    if type(task) is not Task or task.func is not run_step:
        return task
    trial, call, *args = task.args
    assert isinstance(call, Call)
    function = functions.get((call.step, id(call.function.__wrapped__)))
    if function is None:
        return task
    other = replace(call, function=function)
    return Task(task.key, run_step, trial, other, *args, **task.kwargs)
