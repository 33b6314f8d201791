"""The graph of a trial that reuses outputs and shares steps with other trials.

Each shared node is a task under a key of its content, followed by a task of the trial's own that
adopts its outcome. What is loaded needs nothing before it; what nobody needs is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from daskperiment.capture.fingerprint import combine
from daskperiment.client.shipping import LocalRequest
from daskperiment.execution.shared_tasks import (
    RecomputeTasks,
    RecordingTrial,
    adopt,
    adopt_between,
    adopt_result,
    load_shared,
    pass_shared,
    run_shared,
    share_between,
    value_of,
)
from daskperiment.execution.tasks import Call, run_between, run_parameter, run_result, run_step
from daskperiment.graph.dask_tasks import DataNode, List, Task, TaskRef, function_of, references
from daskperiment.reuse.reuse_plan import ReusePlan

__all__ = ["SharedNode", "SharedNodes"]

Key = Any


class SharedNode(NamedTuple):
    """A task that trials share."""

    task: Task
    dependencies: set[str]
    """Keys of the shared tasks that it takes."""
    source: Key
    """Key of the template's task that it was made from."""


class SharedNodes:
    """The shared tasks of one trial, and what becomes of the trial's own.

    Parameters
    ----------
    source : LocalRequest
        Of the trial, in which the shared tasks that it brings are recorded.
    reuse : ReusePlan
        What is shared, loaded, and needed at all.
    tasks : mapping
        The template's tasks.
    own : collection
        Keys of those that every trial has a copy of; the others keep their keys.
    parameters : mapping
        Key of a parameter that is not computed -> its name.
    """

    def __init__(
        self, source: LocalRequest, reuse: ReusePlan, tasks: Mapping[Key, Any],
        own: Collection[Key], parameters: Mapping[Key, str],
    ) -> None:  # fmt: skip
        self._reuse = reuse
        self._source = source
        self._request = source.request()
        self._tasks = tasks
        self._own = own
        self._names = parameters
        self._runs: dict[Key, str] = {}
        self._loads: dict[Key, str] = {}
        self._all: dict[str, SharedNode] = {}
        self.made: dict[str, SharedNode] = {}
        """The tasks that the graph needs, by key."""

    def shared(self) -> dict[Key, str]:
        """Return the shared tasks that the trial needs: key in the template -> their key."""
        found: dict[Key, str] = {}
        for key in self._reuse.shared:
            if key in self._reuse.needed and function_of(self._tasks[key]) in _ADOPTING:
                found[key] = self._best(key)
                self._collect(found[key])
        return found

    def _collect(self, name: str) -> None:
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name not in self.made:
                self.made[name] = self._all[name]
                waiting += self._all[name].dependencies

    def own(self, key: Key, shared: str) -> Any:
        """Return the task by which the trial adopts a shared one; its keys are the template's."""
        task = self._tasks[key]
        function = _ADOPTING.get(function_of(task))
        if function is None:
            return task
        trial, *arguments = task.args
        head = (trial, self._reuse.seeded[key], TaskRef(shared))
        if key in self._reuse.hits:
            # Parameters that are computed are recorded even if nothing else needs them.
            computed = [TaskRef(each) for each in self._reuse.computed.get(key, ())]
            return Task(key, function, *head, arguments[0], *computed)
        return Task(key, function, *head, *arguments, **task.kwargs)

    def _best(self, key: Key) -> str:
        return self._load(key) if key in self._reuse.hits else self._run(key)

    def _load(self, key: Key) -> str:
        if key not in self._loads:
            hit, call = self._reuse.hits[key], self._call(key)
            name = self._named(call.step, "load", hit.cache_key, hit.digest or "")
            source = self._source.for_step(call.key, call.step)
            recording = RecordingTrial(source, self._reuse.seeded[key], ())
            recompute = RecomputeTasks(self._tasks_behind(key), self._run(key))
            task = Task(name, load_shared, recording, call, hit, recompute)
            self._all[name] = SharedNode(task, set(), key)
            self._loads[key] = name
        return self._loads[key]

    def _tasks_behind(self, key: Key) -> dict[Key, Any]:
        """Return the tasks that run a step: up to those before it that are loaded."""
        found: dict[Key, Any] = {}
        waiting: list[Key] = [self._run(key)]
        while waiting:
            name = waiting.pop()
            if name not in found and (name in self._all or name in self._tasks):
                found[name] = self._all[name].task if name in self._all else self._tasks[name]
                waiting += references(found[name])
        return found

    def _run(self, key: Key) -> str:
        if key not in self._runs:
            task = self._tasks[key]
            refs: list[Key] = [ref for ref in dict.fromkeys(references(task)) if self._is_node(ref)]
            before = {ref: self._best(ref) for ref in refs}
            # Equal keys have equal dependencies, which Dask's scheduler insists on.
            name = self._named(
                self._label(task), "run", self._reuse.shared[key], *before.values(),
                *self._outside(task),
            )  # fmt: skip
            made = self._task(name, key, before)
            values = {ref: Task(None, value_of, TaskRef(known)) for ref, known in before.items()}
            made = made.substitute({**self._parameters(task), **values}, key=name)
            self._all[name] = SharedNode(made, set(before.values()), key)
            self._runs[key] = name
        return self._runs[key]

    def _task(self, name: str, key: Key, before: Mapping[Key, str]) -> Task:
        task, seeded = self._tasks[key], self._reuse.seeded
        function = function_of(task)
        place = step = ""
        arguments: list[Any] = [task]
        named: dict[str, Any] = {}
        if function in (run_step, run_result):
            place, step, arguments = task.args[1].key, task.args[1].step, task.args[1:]
        elif function is run_between:
            place, arguments, named = task.args[1], task.args[1:], task.kwargs
        elif function is run_parameter:
            _, name, wrapped, _, names, *values = task.args
            place = f"parameter {name}"
            arguments = [place, wrapped.__wrapped__]
            named = dict(zip(names, values, strict=True))
        fits = tuple(seeded[ref] for ref in before)
        recording = RecordingTrial(self._source.for_step(place, step), seeded[key], fits)
        outcomes = List(*map(TaskRef, before.values()))
        shared = _SHARING.get(function, pass_shared)
        return Task(name, shared, recording, outcomes, *arguments, **named)

    def _label(self, task: Any) -> str:
        return task.args[1].step if function_of(task) in (run_step, run_result) else "shared"

    def _call(self, key: Key) -> Call:
        call: Call = self._tasks[key].args[1]
        return call

    def _outside(self, task: Any) -> list[str]:
        """Return what a task takes of Dask's other objects: their keys are shared as they are."""
        return [str(ref) for ref in references(task) if ref in self._tasks and ref not in self._own]

    def _is_node(self, key: Key) -> bool:
        shared = key in self._reuse.shared and key in self._own
        return shared and self._value(key) is None

    def _value(self, key: Key) -> DataNode | None:
        """Return the value of a parameter that would be computed but was set."""
        task, values = self._tasks[key], self._request.values
        if function_of(task) is run_parameter and task.args[1] in values:
            return DataNode(None, values[task.args[1]])
        return None

    def _parameters(self, task: Any) -> dict[Key, DataNode]:
        found = {}
        for ref in references(task):
            if ref in self._names:
                found[ref] = DataNode(None, self._request.values.get(self._names[ref]))
            elif ref in self._tasks and (node := self._value(ref)) is not None:
                found[ref] = node
        return found

    def _named(self, label: str, *content: str) -> str:
        return f"{label}-{combine(self._request.setup.store.address, *content)}"


_ADOPTING: dict[Any, Any] = {
    run_step: adopt, run_result: adopt_result, run_between: adopt_between,
}  # fmt: skip
_SHARING: dict[Any, Any] = {
    run_step: run_shared, run_result: run_shared, run_between: share_between,
    run_parameter: share_between,
}  # fmt: skip
