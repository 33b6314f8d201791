"""The graph of a trial that reuses outputs and shares steps with other trials.

Each shared node is a task under a key of its content, followed by a task of the trial's own that
adopts its outcome. What is loaded needs nothing before it; what nobody needs is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from daskperiment.capture.fingerprint import NoFingerprintError, combine, exact_fingerprint
from daskperiment.client.shipping import LocalRequest
from daskperiment.execution.between_steps import run_between, run_parameter
from daskperiment.execution.calls import Call
from daskperiment.execution.lifecycle import join
from daskperiment.execution.shared_tasks import (
    RecomputeTask,
    RecomputeTasks,
    RecordingTrial,
    adopt,
    adopt_between,
    adopt_result,
    load_or_none,
    load_shared,
    pass_shared,
    run_shared,
    share_between,
    take_stored,
    take_stored_result,
    value_of,
)
from daskperiment.execution.tasks import run_result, run_step
from daskperiment.execution.trial import RequestSource
from daskperiment.graph.dask_tasks import (
    DataNode,
    GraphNode,
    List,
    Task,
    TaskRef,
    references,
    referred,
)
from daskperiment.graph.local_tasks import OUTPUTS, TRIAL
from daskperiment.reuse.parameter_fields import ParameterField
from daskperiment.reuse.reuse_plan import ReusePlan
from daskperiment.secret_values import Secret, revealed

__all__ = ["SharedNode", "SharedNodes", "TemplateNodes"]

Key = Any


class TemplateNodes(NamedTuple):
    """The nodes of a template, as all trials have them in common."""

    tasks: Mapping[Key, Any]
    """The template's tasks."""
    functions: Mapping[Key, Any]
    """What each of them calls, None if it calls nothing."""
    own: Collection[Key]
    """Keys of those that every trial has a copy of; the others keep their keys."""
    parameters: Mapping[Key, str]
    """Key of a parameter that is not computed -> its name."""
    taken: Mapping[Key, ParameterField]
    """Key of a task that only takes a part of such a parameter -> the part."""


class SharedNode(NamedTuple):
    """A task that trials share."""

    task: Task
    dependencies: tuple[str, ...]
    """Keys of the shared tasks that it takes."""
    source: Key
    """Key of the template's task that it was made from."""
    loads: bool = False
    """Whether it loads what a step returned."""


class _NodeContent(NamedTuple):
    """What a node calls, apart from how it is shared."""

    names: tuple[str, ...]
    """Its place in the trial's graph and its step, as far as it has them."""
    arguments: Sequence[Any]
    named: Mapping[str, Any] = {}


class SharedNodes:
    """The shared tasks of one trial, and what becomes of the trial's own.

    Parameters
    ----------
    source : LocalRequest
        Of the trial, in which the shared tasks that it brings are recorded.
    reuse : ReusePlan
        What is shared, loaded, and needed at all.
    nodes : TemplateNodes
        Of the template.
    """

    def __init__(self, source: LocalRequest, reuse: ReusePlan, nodes: TemplateNodes) -> None:
        self._reuse = reuse
        self._source = source
        self._request = source.request()
        self._tasks, self._functions, self._own, self._names, self._taken = nodes
        self._runs: dict[Key, str] = {}
        self._loads: dict[Key, str] = {}
        self._keys: dict[str, Key] = {}
        self._taking: dict[Key, list[Key]] = {}
        self.made: dict[str, SharedNode] = {}
        """The tasks that the graph needs, by key."""

    def shared(self) -> dict[Key, str]:
        """Return the shared tasks that the trial needs: key in the template -> their key."""
        found: dict[Key, str] = {}
        # Inputs come before those who take them, so that no name is made by recursion.
        for key in self._reuse.shared:
            if key in self._own and key in self._reuse.needed and self._value(key) is None:
                name = self._best(key)
                if self._functions[key] in _ADOPTING:
                    found[key] = name
                    self._collect(name)
        return found

    def _collect(self, name: str) -> None:
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name not in self.made:
                self.made[name] = node = self._made(name)
                waiting += node.dependencies

    def own(self, key: Key, shared: str) -> Any:
        """Return the task by which the trial adopts a shared one; its keys are the template's."""
        task = self._tasks[key]
        function = _ADOPTING.get(self._functions[key])
        if function is None:
            return task
        trial, *arguments = task.args
        head = (trial, self._reuse.seeded[key], TaskRef(shared))
        if key in self._reuse.hits:
            # Parameters that are computed are recorded even if nothing else needs them.
            computed = [TaskRef(each) for each in self._reuse.computed.get(key, ())]
            return Task(key, function, *head, arguments[0], *computed)
        return Task(key, function, *head, *arguments, **task.kwargs)

    def taken(self, shared: Mapping[Key, str]) -> dict[Key, Task] | None:
        """Return the tasks by which a trial in this process takes what it shares from the store.

        They are those of any trial that takes the same: each gives them its `StoredOutputs`. None
        where some is run, or is taken by several.
        """
        if len({*shared.values()}) < len(shared) or not all(
            node.loads for node in self.made.values()
        ):
            return None
        return {key: self._taking_stored(key) for key in shared}

    def _taking_stored(self, key: Key) -> Task:
        trial, call, *_ = self._tasks[key].args
        function = take_stored_result if self._functions[key] is run_result else take_stored
        hit, computed = self._reuse.hits[key], self._reuse.computed.get(key, ())
        return Task(key, function, trial, TaskRef(OUTPUTS), key, call, hit, *map(TaskRef, computed))

    def _best(self, key: Key) -> str:
        return self._load(key) if key in self._reuse.hits else self._run(key)

    def _load(self, key: Key) -> str:
        """Return the key of the task that loads what a step returned."""
        if key not in self._loads:
            hit = self._reuse.hits[key]
            name = self._named(self._call(key).step, "load", hit.cache_key, hit.digest or "")
            self._loads[key] = name
            self._keys[name] = key
        return self._loads[key]

    def _run(self, key: Key) -> str:
        """Return the key of the task that runs what a node stands for."""
        if key not in self._runs:
            task = self._tasks[key]
            before = {ref: self._best(ref) for ref in self._refs(key)}
            # Equal keys have equal dependencies, which Dask's scheduler insists on.
            name = self._named(
                self._label(key), "run", self._reuse.shared[key], *before.values(),
                *self._outside(task), *self._form(key),
            )  # fmt: skip
            self._runs[key] = name
            self._keys[name] = key
        return self._runs[key]

    def _refs(self, key: Key) -> list[Key]:
        """Return the nodes that a node takes."""
        found = self._taking.get(key)
        if found is None:
            refs = dict.fromkeys(references(self._tasks[key]))
            self._taking[key] = found = [ref for ref in refs if self._is_node(ref)]
        return found

    def _made(self, name: str) -> SharedNode:
        key = self._keys[name]
        source = self._source.for_steps(*self._content(key).names)
        if name == self._loads.get(key):
            again = RecomputeTasks(SharedNodes.again, self, key)
            return SharedNode(self._loading(key, source, load_shared, again), (), key, True)
        before = tuple(dict.fromkeys(map(self._best, self._refs(key))))
        return SharedNode(self._running(key, source), before, key)

    def again(self, last: Key) -> tuple[dict[Key, RecomputeTask], str]:
        """Return the tasks that run a step with all before it, and the key of the last."""
        return self._tasks_behind(last), self._run(last)

    def _loading(
        self, key: Key, source: RequestSource, load: Callable[..., Any], *again: RecomputeTasks
    ) -> Task:
        call = self._call(key)
        recording = RecordingTrial(source, self._reuse.seeded[key], ())
        return Task(self._load(key), load, recording, call, self._reuse.hits[key], *again)

    def _running(self, key: Key, source: RequestSource) -> Task:
        task, before = self._tasks[key], {ref: self._best(ref) for ref in self._refs(key)}
        given: dict[Key, Any] = self._parameters(task)
        # Under the keys that they stand for, or Dask makes each of them anew where it is put in.
        given.update((ref, Task(ref, value_of, TaskRef(known))) for ref, known in before.items())
        return self._task(self._run(key), key, before, source, given)

    def _tasks_behind(self, last: Key) -> dict[Key, RecomputeTask]:
        """Return the tasks that run a step, with all before it."""
        behind, apart = self._behind(last)
        names = [self._run(key) for key in behind]
        # One request for all, so that it is pickled once.
        source = self._source.for_steps(
            *(each for key in (*behind, *apart) for each in self._content(key).names)
        )
        tasks = [self._running(key, source) for key in behind]
        found = {name: RecomputeTask(task) for name, task in zip(names, tasks, strict=True)}
        for key in behind:
            if key in self._reuse.hits and key != last:
                name, loading = self._load(key), self._loading(key, source, load_or_none)
                found[name] = RecomputeTask(loading, self._runs[key])
        own = {key: self._running_apart(key, source) for key in apart}
        found.update((key, RecomputeTask(task)) for key, task in own.items())
        return {**self._outside_of([*tasks, *own.values()]), **found}

    def _behind(self, last: Key) -> tuple[list[Key], list[Key]]:
        """Return a node and all before it that trials share, inputs first, and those they do not.

        What a step ignores may have no cache key.
        """
        found = {last}
        apart: dict[Key, None] = {}
        waiting = [last]
        while waiting:
            key = waiting.pop()
            for ref in self._refs(key):
                if ref not in found:
                    found.add(ref)
                    waiting.append(ref)
            for ref in references(self._tasks[key]):
                if ref not in apart and self._is_apart(ref):
                    apart[ref] = None
                    waiting.append(ref)
        return sorted(found, key=self._order.__getitem__), list(apart)

    def _is_apart(self, key: Key) -> bool:
        """Whether a node is one of the trial's own that no other trial shares."""
        return key in self._own and key not in self._reuse.shared and self._value(key) is None

    def _running_apart(self, key: Key, source: RequestSource) -> Any:
        """Return the task that runs such a node in the trial itself."""
        task, given = self._tasks[key], self._parameters(self._tasks[key])
        given[TRIAL] = Task(TRIAL, join, source)
        given.update(
            (ref, Task(ref, value_of, TaskRef(self._best(ref)))) for ref in self._refs(key)
        )
        return task.substitute(given)

    @cached_property
    def _order(self) -> dict[Key, int]:
        return {key: number for number, key in enumerate(self._reuse.shared)}

    def _outside_of(self, tasks: list[Task]) -> dict[Key, RecomputeTask]:
        """Return what tasks take of Dask's other objects."""
        found: dict[Key, RecomputeTask] = {}
        waiting = [ref for task in tasks for ref in references(task)]
        while waiting:
            key = waiting.pop()
            if key in self._tasks and key not in found:
                found[key] = RecomputeTask(self._tasks[key])
                waiting += references(self._tasks[key])
        return found

    def _task(
        self, name: str, key: Key, before: Mapping[Key, str], source: RequestSource,
        given: dict[Key, Any],
    ) -> Task:  # fmt: skip
        seeded, content = self._reuse.seeded, self._content(key)
        fits = tuple(seeded[ref] for ref in before)
        recording = RecordingTrial(source, seeded[key], fits)
        outcomes = List(*map(TaskRef, before.values()))
        shared = _SHARING.get(self._functions[key], pass_shared)
        arguments = [_given(each, given) for each in content.arguments]
        named = {name: _given(each, given) for name, each in content.named.items()}
        return Task(name, shared, recording, outcomes, *arguments, **named)

    def _content(self, key: Key) -> _NodeContent:
        task, function = self._tasks[key], self._functions[key]
        if function in (run_step, run_result):
            return _NodeContent((task.args[1].key, task.args[1].step), task.args[1:])
        if function is run_between:
            return _NodeContent((task.args[1],), task.args[1:], task.kwargs)
        if function is run_parameter:
            _, name, wrapped, _, names, *values = task.args
            place = f"parameter {name}"
            named = dict(zip(names, values, strict=True))
            return _NodeContent((place,), [place, wrapped.__wrapped__], named)
        return _NodeContent((), [task])

    def _form(self, key: Key) -> list[str]:
        """Return what equal calls of a step may differ in: form, and arguments that are ignored."""
        if self._functions[key] not in (run_step, run_result):
            return []
        _, call, *forms = self._tasks[key].args
        ignored = [form for name, form in zip(call.names, forms, strict=True)
                   if name in call.ignore]  # fmt: skip
        kinds = [type(form).__name__ for form in forms]
        return [*call.names, "", *call.keywords, "", *kinds, *map(self._digest, ignored)]

    def _digest(self, form: Any) -> str:
        if (key := referred(form)) is not None:
            value = self._request.values.get(self._names.get(key, ""))
            form = value if key in self._names else None
        try:
            return exact_fingerprint(form)
        except NoFingerprintError:
            return self._request.token  # shared with nobody

    def _label(self, key: Key) -> str:
        runs = self._functions[key] in (run_step, run_result)
        return self._call(key).step if runs else "shared"

    def _call(self, key: Key) -> Call:
        call: Call = self._tasks[key].args[1]
        return call

    def _outside(self, task: Any) -> list[str]:
        """Return what a task takes of Dask's other objects: their keys are shared as they are."""
        return [str(ref) for ref in references(task) if ref in self._tasks and ref not in self._own]

    def _is_node(self, key: Key) -> bool:
        shared = key in self._reuse.shared and key in self._own
        return shared and self._value(key) is None

    def _value(self, key: Key) -> DataNode | Task | None:
        """Return the value of a parameter that would be computed but was set, or of a part."""
        task, values = self._tasks[key], self._request.values
        if key in self._taken and key in self._reuse.shared:  # else taking it raises
            return _given_value(key, self._taken[key].taken_from(values))
        if self._functions[key] is run_parameter and task.args[1] in values:
            return _given_value(key, values[task.args[1]])
        return None

    def _parameters(self, task: Any) -> dict[Key, DataNode | Task]:
        found: dict[Key, DataNode | Task] = {}
        for ref in references(task):
            if ref in self._names:
                value = self._request.values.get(self._names[ref])
                found[ref] = _given_value(ref, value)
            elif ref in self._tasks and (node := self._value(ref)) is not None:
                found[ref] = node
        return found

    def _named(self, label: str, *content: str) -> str:
        return f"{label}-{combine(self._request.setup.store.address, *content)}"


def _given_value(key: Key, value: Any) -> DataNode | Task:
    """Return the node of a value; a secret is taken out when the node is computed."""
    return Task(key, revealed, value) if type(value) is Secret else DataNode(key, value)


def _given(argument: Any, given: dict[Key, Any]) -> Any:
    if type(argument) is TaskRef:
        return given.get(argument.key, argument)
    return argument.substitute(given) if isinstance(argument, (GraphNode, TaskRef)) else argument


_ADOPTING: dict[Any, Any] = {
    run_step: adopt, run_result: adopt_result, run_between: adopt_between,
}  # fmt: skip
_SHARING: dict[Any, Any] = {
    run_step: run_shared, run_result: run_shared, run_between: share_between,
    run_parameter: share_between,
}  # fmt: skip
