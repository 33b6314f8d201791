"""Finds the steps of a result's graph, in order, and what becomes of each task in a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from dask._task_spec import GraphNode, Task, TaskRef
from dask.utils import funcname

from daskperiment.execution.tasks import Call, run_between, run_parameter, run_result, run_step
from daskperiment.graph.references import in_order, references
from daskperiment.records import Node

__all__ = ["TRIAL", "Survey"]

TRIAL = "daskperiment-trial"
"""Key of the node that stands for the current trial in every template."""

Key = Hashable


class _Sources(NamedTuple):
    """What a task takes, directly or through functions that are no steps."""

    steps: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


class Survey:
    """Walks a template once: inputs before those who take them, in order of arguments."""

    def __init__(self, tasks: Mapping[Key, GraphNode], inlined: Mapping[Key, str], last: Key):
        self.nodes: list[Node] = []
        self.functions: dict[str, Callable[..., Any]] = {}
        self.parameters: dict[str, None] = {}
        self.persisting = False
        self._tasks = tasks
        self._last = last
        self._sources: dict[Key, _Sources] = {
            key: _Sources(parameters=(name,)) for key, name in inlined.items()
        }
        self._names: Counter[str] = Counter()
        self._prepared: dict[Key, GraphNode] = {}
        for key in in_order(tasks, last):
            self._visit(key)

    def prepared(self, key: Key) -> GraphNode:
        """Give the task as trials have it, before keys are substituted."""
        return self._prepared.get(key, self._tasks[key])

    def _visit(self, key: Key) -> None:
        task = self._tasks[key]
        found = [self._sources.get(ref, _Sources()) for ref in references(task)]
        sources = _Sources(
            tuple(dict.fromkeys(step for source in found for step in source.steps)),
            tuple(dict.fromkeys(name for source in found for name in source.parameters)),
        )
        if type(task) is not Task:
            self._sources[key] = sources
        elif task.func is run_step:
            self._sources[key] = self._step(key, task, sources)
        elif task.func is run_parameter:
            self._sources[key] = _Sources(parameters=(task.args[1],))
            self.parameters[task.args[1]] = None
        else:
            self._sources[key] = sources
            self._between(key, task)

    def _step(self, key: Key, task: Task, sources: _Sources) -> _Sources:
        call: Call = task.args[1]
        place = self._place(call.step)
        self.persisting |= call.persist
        self.nodes.append(Node(place, call.step, list(sources.steps), list(sources.parameters)))
        self.parameters.update(dict.fromkeys(sources.parameters))
        function = call.function.__wrapped__
        if self.functions.setdefault(call.step, function) is not function:
            self.functions[place] = function  # a step that was defined anew under its old name
        trial, _, *args = task.args
        run = run_result if key == self._last else run_step
        prepared = Task(key, run, trial, replace(call, key=place), *args, **task.kwargs)
        self._prepared[key] = prepared
        return _Sources(steps=(place,))

    def _between(self, key: Key, task: Task) -> None:
        label = self._place(funcname(task.func))
        self._prepared[key] = Task(
            key, run_between, TaskRef(TRIAL), label, task.func, *task.args, **task.kwargs
        )

    def _place(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}#{self._names[name]}"
