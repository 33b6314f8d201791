"""From the graph that a user built to the graph of one trial.

A *template* is what the calls of steps made: an ordinary Dask graph in which parameters and "the
current trial" are nodes known by their keys. Compiling finds, once for each result, the steps in
graph order and the layers that depend on the trial. Instantiating copies those layers for one
trial: under keys of its own, with a first task that begins the trial; the last one also ends it.
Everything else, such as data that no parameter reaches, keeps its keys and is shared by trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import key_split
from msgspec.structs import replace as replace_fields

from daskperiment.client.shipping import LocalRequest
from daskperiment.execution.between_steps import run_parameter
from daskperiment.execution.lifecycle import (
    TrialOfOneTask,
    begin,
    begin_within,
    last_key,
    take_optional,
    take_parameter,
)
from daskperiment.execution.shared_tasks import StoredOutputs, adopt, adopt_untouched
from daskperiment.execution.trial import TrialHandle
from daskperiment.graph.dask_tasks import (
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_graph,
    in_order,
    references,
)
from daskperiment.graph.key_specs import make_key_specs
from daskperiment.graph.local_tasks import OUTPUTS, TRIAL, LocalTasks
from daskperiment.graph.shared_nodes import SharedNode, SharedNodes, TemplateNodes
from daskperiment.records import Argument, Graph
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import KeySpecs
from daskperiment.reuse.parameter_fields import ParameterField
from daskperiment.reuse.reuse_plan import ReusePlan

__all__ = [
    "TaskLayer",
    "Template",
    "TrialGraph",
    "no_trial",
]

_HERE = "here"
"""Takes the place of a trial's token where no other trial's tasks are beside its own."""
_FEW = 100
"""Tasks of a graph that is kept for coming trials which take the same outputs."""

Key = Hashable


def no_trial() -> Any:
    """Return the template's node for the current trial: None where there is none."""
    layer: dict[Any, Any] = {TRIAL: DataNode(TRIAL, None)}
    return Delayed(TRIAL, HighLevelGraph.from_collections(TRIAL, layer, dependencies=()))


class TrialGraph(NamedTuple):
    """The graph of one trial."""

    token: str
    key: str
    """Of its last task."""
    graph: HighLevelGraph
    keys: Mapping[Key, Any]
    """Key in the template -> key in this graph, or the node that takes its place."""


@dataclass(frozen=True)
class TaskLayer:
    """A layer of the graph whose tasks are copied for each trial."""

    tasks: Any
    annotations: Any
    dependencies: set[str]


class _Taking(NamedTuple):
    """The tasks of the trials that took outputs from the store last."""

    hits: Mapping[Key, Hit]
    """Which outputs: the same object in all their plans."""
    tasks: LocalTasks | None
    """None if each of them makes its own."""


@dataclass(frozen=True, eq=False)
class Template:
    """A result's graph, ready to be copied for trials."""

    result: str
    """Name of the result's step."""
    key: Key
    """Key of the result's step."""
    shared: Mapping[str, Any]
    """Layers that do not depend on the trial, as they are."""
    own: Mapping[str, TaskLayer]
    """Layers that every trial has a copy of."""
    dependencies: Mapping[str, set[str]]
    """Of the shared layers."""
    inlined: Mapping[Key, str]
    """Key of a parameter -> its name: they become part of the tasks that take them."""
    taken: Mapping[Key, ParameterField]
    """Key of a task that only takes a part of such a parameter -> the part."""
    graph: Graph
    """The steps in graph order."""
    places: Mapping[Key, str]
    """Key of a step's call -> its place in the trial's graph."""
    functions: Mapping[str, Callable[..., Any]]
    """Step -> the function that it calls."""
    parameters: tuple[str, ...]
    """Names of the parameters that steps take."""
    reaching: tuple[str, ...]
    """The same with those from which they are computed."""
    persisting: bool
    """Whether any step's output is kept."""
    takes_files: bool
    """Whether there is an input of ``ex.file``."""

    def reusable(self, asked: bool | None, every: bool) -> list[Key]:
        """Return the keys of the steps whose outputs may be reused.

        Parameters
        ----------
        asked : bool, optional
            What is asked of the one trial.
        every : bool
            What the experiment says of steps that say nothing.
        """
        if not self.persisting or asked is False:
            return []
        every = asked or every
        return [
            spec.key for spec in self.key_specs.specs
            if spec.persist and (spec.reuse or (every and spec.reuse is not False))
        ]  # fmt: skip

    def instantiate(self, token: str, source: LocalRequest, reuse: ReusePlan | None) -> TrialGraph:
        """Return the graph of one trial.

        Parameters
        ----------
        token : str
            The trial's token.
        source : LocalRequest
            What its first task begins it with.
        reuse : ReusePlan, optional
            What it reuses and shares.
        """
        return self._copying(token, source, reuse).graph(source)

    def begun(
        self, source: LocalRequest, reuse: ReusePlan | None, trial: TrialHandle
    ) -> tuple[LocalTasks, StoredOutputs | None]:
        """Return the tasks of a trial that has begun in this process, for this process alone.

        `source` and `reuse` are as for `instantiate`; `trial` is what the tasks get. Beside them
        stands what they take from the store, if they are common to trials that take the same.
        """
        if reuse is None:
            return _Copying(self, _HERE).tasks(DataNode(None, trial)), None
        tasks = self._taking(source, reuse)
        if tasks is None or not tasks.fits(trial):
            return self._copying(_HERE, source, reuse).tasks(DataNode(None, trial)), None
        nodes = self._nodes
        return tasks, StoredOutputs(
            source, reuse.seeded, lambda key: SharedNodes(source, reuse, nodes).again(key)
        )

    def _taking(self, source: LocalRequest, reuse: ReusePlan) -> LocalTasks | None:
        """Return the tasks of all trials that take these outputs from the store, and run the rest.

        None where there is more to it, or where there are so many that each trial makes its own.
        """
        (last,) = self._last_taking
        if last.hits is not reuse.hits:
            last = _Taking(reuse.hits, self._made_for(source, reuse))
            self._last_taking[:] = [last]  # both at once: other threads may compute trials too
        return last.tasks

    def _made_for(self, source: LocalRequest, reuse: ReusePlan) -> LocalTasks | None:
        if not reuse.hits or len(reuse.needed) > _FEW:
            return None
        nodes = SharedNodes(source, reuse, self._nodes)
        taken = nodes.taken(nodes.shared())
        if taken is None:
            return None
        copying = _Copying(self, _HERE)
        copying.take(taken, reuse.needed)
        return copying.tasks(None)

    @cached_property
    def _last_taking(self) -> list[_Taking]:
        return [_Taking({}, None)]

    @cached_property
    def usual(self) -> LocalTasks:
        """The tasks of any trial that runs all its steps in this process, and has all parameters.

        It gives them what stands for the trial and the parameters.
        """
        return _Copying(self, _HERE).tasks(None)

    @cached_property
    def stands_alone(self) -> bool:
        """Whether a trial shares no task with others, and none has annotations."""
        return not self.shared and all(layer.annotations is None for layer in self.own.values())

    def _copying(self, token: str, source: LocalRequest, reuse: ReusePlan | None) -> _Copying:
        # Dask takes equal keys for equal work, so each trial has keys of its own.
        copying = _Copying(self, token)
        if reuse is not None:
            copying.share(SharedNodes(source, reuse, self._nodes), reuse.needed)
        return copying

    @cached_property
    def tasks(self) -> dict[Key, GraphNode]:
        """All tasks that the result depends on, but for parameters and the trial."""
        own = {key: task for layer in self.own.values() for key, task in layer.tasks.items()}
        waiting = {ref for task in own.values() for ref in references(task)}
        if waiting <= {TRIAL, *self.inlined, *own}:
            return own
        shared = dict(HighLevelGraph(self.shared, self.dependencies))
        return {**convert_legacy_graph(shared), **own}

    @cached_property
    def _nodes(self) -> TemplateNodes:
        functions = {key: getattr(task, "func", None) for key, task in self.tasks.items()}
        own = {key for layer in self.own.values() for key in layer.tasks}
        return TemplateNodes(self.tasks, functions, own, self.inlined, self.taken)

    def graph_with(self, arguments: Mapping[str, Mapping[str, Argument]]) -> Graph:
        """Return the graph with what else its calls give the steps, by place and name."""
        if not arguments:
            return self.graph
        nodes = [replace_fields(node, arguments={**node.arguments, **arguments[node.key]})
                 if node.key in arguments else node for node in self.graph.nodes]  # fmt: skip
        return Graph(nodes)

    @cached_property
    def key_specs(self) -> KeySpecs:
        """How the cache keys of the nodes are made."""
        return make_key_specs(self.tasks, in_order(self.tasks, self.key), self.inlined, self.taken)


class _Copying:
    """The graph of one trial in the making."""

    def __init__(self, template: Template, token: str) -> None:
        self.template = template
        self.token = token
        self.first, self.last = f"begin-{token}-first", last_key(template.result, token)
        self.own = dict(template.own)
        self.made: Mapping[str, SharedNode] = {}
        self.extra: dict[str, set[str]] = {}
        self.takes = False
        """Whether tasks take outputs from the store, so that they run depth first."""

    def share(self, nodes: SharedNodes, needed: Collection[Key]) -> None:
        """Leave out what nobody needs, and take from shared tasks what can be taken."""
        shared = nodes.shared()
        for name, layer in self.template.own.items():
            tasks = {key: task for key, task in layer.tasks.items() if key in needed}
            taken = {key: shared[key] for key in tasks if key in shared}
            tasks.update((key, nodes.own(key, taken[key])) for key in taken)
            self.own[name] = TaskLayer(tasks, layer.annotations, layer.dependencies)
            self.extra[name] = set(taken.values())
            if not tasks:
                del self.own[name]
        self.made = nodes.made

    def take(self, taken: Mapping[Key, Task], needed: Collection[Key]) -> None:
        """Leave out what nobody needs, and put tasks that take outputs in the place of others."""
        self.takes = True
        for name, layer in self.template.own.items():
            tasks = {key: taken.get(key, task) for key, task in layer.tasks.items()
                     if key in needed}  # fmt: skip
            self.own[name] = TaskLayer(tasks, layer.annotations, layer.dependencies)

    def tasks(self, begins: Any) -> LocalTasks:
        """Return the tasks that the last one depends on.

        `begins` gives the trial; None if that and the parameters' values come with each trial.
        """
        own = [key for layer in self.own.values() for key in layer.tasks]
        given, optional = ({}, {}) if begins is None else self._given(begins)
        keys = self._keys(given, own)
        tasks: dict[Key, GraphNode] = {}
        for layer in self.own.values():
            tasks.update(_copies(layer, keys, optional))
        outside = {TRIAL, OUTPUTS, *self.template.inlined} if begins is None else set()
        found = self._behind_last(tasks, outside)
        others = found.keys() - tasks.keys() - self.made.keys()
        mixed = any(not isinstance(found[key], DataNode) for key in others)
        parameters = self.template.inlined if outside else None
        found = self._nested(found) if self.made else found
        return LocalTasks(self.last, found, keys, parameters, mixed, self.takes)

    def _behind_last(
        self, tasks: Mapping[Key, GraphNode], outside: Collection[Key]
    ) -> dict[Key, GraphNode]:
        """Return the last task with all before it: inputs before those who take them.

        Depth first, in the order in which the steps take them, so that what one takes is made just
        before it.
        """
        found: dict[Key, GraphNode] = {}
        waiting: list[Key] = [self.last]
        while waiting:
            key = waiting[-1]
            if key in found:
                waiting.pop()
                continue
            task = tasks.get(key)
            if task is None:
                task = self._outside(key)
            missing: list[Key] = []
            for each in task.dependencies:
                if each not in found and each not in outside:
                    missing.append(each)
            if len(missing) > 1:
                missing = _as_taken(missing, task)
            if missing:
                missing.reverse()
                waiting += missing
            else:
                found[key] = task
                waiting.pop()
        return found

    def _nested(self, tasks: dict[Key, GraphNode]) -> dict[Key, GraphNode]:
        """Put what is loaded for one task alone into that task: Dask's scheduling takes longer."""
        loads: dict[Any, Any] = {key: node.task for key, node in self.made.items() if node.loads}
        if not loads:
            return tasks
        uses = Counter(chain.from_iterable([task.dependencies for task in tasks.values()]))
        loads = {key: task for key, task in loads.items() if uses[key] == 1}
        return {
            key: task if loads.keys().isdisjoint(task.dependencies) else _with_loads(task, loads)
            for key, task in tasks.items()
            if key not in loads
        }

    def _outside(self, key: Key) -> GraphNode:
        """Return a task that is not this trial's own."""
        made = self.made.get(key)  # type: ignore[call-overload]
        return self.template.tasks[key] if made is None else made.task

    def graph(self, source: LocalRequest) -> TrialGraph:
        """Put the graph together, layer by layer."""
        own = [key for layer in self.own.values() for key in layer.tasks]
        layers: dict[str, Any] = dict(self.template.shared)
        dependencies: dict[str, set[str]] = dict(self.template.dependencies)
        if self.made:
            self._add_made(layers, dependencies)
        if len(own) == 1 and not self.extra:  # its only task begins the trial as well
            begins: Any = Task(None, begin_within, TrialOfOneTask(source))
        else:
            begins = TaskRef(self.first)
            layers[self.first] = _layer({self.first: Task(self.first, begin, source)}, None)
            dependencies[self.first] = set()
        given, optional = self._given(begins)
        keys = self._keys(given, own)
        names = {name: self.last if name == self.template.key else f"{name}-{self.token}"
                 for name in self.own}  # fmt: skip
        for name, layer in self.own.items():
            before = {self.first, *self.extra.get(name, ())}
            before.update([names.get(each, each) for each in layer.dependencies])
            layers[names[name]] = _layer(_copies(layer, keys, optional), layer.annotations)
            dependencies[names[name]] = before
        for name in names.values():
            dependencies[name] &= layers.keys()  # what nobody needs is not there
        return TrialGraph(self.token, self.last, HighLevelGraph(layers, dependencies), keys)

    def _add_made(self, layers: dict[str, Any], dependencies: dict[str, set[str]]) -> None:
        """Add the tasks that trials share: together, or each apart where some have annotations."""
        if len(self.template.own) == 1:
            (layer,) = self.template.own.values()
            name = f"shared-{self.token}"
            tasks = {key: node.task for key, node in self.made.items()}
            layers[name] = _layer(tasks, layer.annotations)
            dependencies[name] = layer.dependencies & self.template.shared.keys()
            self.extra = {each: {name} for each in self.extra}
            return
        sources = {key: layer for layer in self.template.own.values() for key in layer.tasks}
        for key, (task, before, source, _) in self.made.items():
            layer = sources[source]
            outside = layer.dependencies & self.template.shared.keys()
            layers[key] = _layer({key: task}, layer.annotations)
            dependencies[key] = {*before, *outside}

    def _given(self, begins: Any) -> tuple[dict[Key, Any], dict[Key, Any]]:
        """Return what stands for the trial and its parameters, in two ways.

        What a computed parameter is computed from may have no value where it was set itself.
        """
        given: dict[Key, Any] = {TRIAL: begins}
        optional: dict[Key, Any] = {}
        for key, name in self.template.inlined.items():
            # Inside the tasks that take it: a task of its own would cost as much as a small step.
            # Under the key that it stands for, or Dask makes it anew for each of them.
            given[key] = Task(key, take_parameter, begins, name)
            optional[key] = Task(key, take_optional, begins, name)
        return given, optional

    def _keys(self, given: Mapping[Key, Any], own: list[Key]) -> dict[Key, Any]:
        """Old key -> new key, or the node that takes its place."""
        keys = dict(given)
        for number, key in enumerate(own):
            keys[key] = _rename(key, self.token, number)
        keys[self.template.key] = self.last
        return keys


def _as_taken(keys: list[Key], task: GraphNode) -> list[Key]:
    """Return keys in the order in which a task takes them."""
    places = {key: place for place, key in enumerate(dict.fromkeys(references(task)))}
    # What stands in a task of a kind that is seldom seen comes last, in an order all the same.
    return sorted(keys, key=lambda key: (places.get(key, len(places)), str(key)))


def _with_loads(task: Any, loads: dict[Any, Any]) -> Any:
    function = getattr(task, "func", None)
    if function is adopt:
        task = Task(task.key, adopt_untouched, *task.args, **task.kwargs)
    return task.substitute(loads)


def _rename(key: Key, token: str, number: int) -> Key:
    if isinstance(key, tuple):  # a chunk of an array: its place must stay readable
        return (f"{_name_in(key[0])}-{token}-{number}", *key[1:])
    return f"{_name_in(key)}-{token}-{number}"


# Dask's own keeps 100,000 keys, of which no graph has one of another's: no question is asked twice.
_name_in = getattr(key_split, "__wrapped__", key_split)


def _copies(
    layer: TaskLayer, keys: Mapping[Key, Any], optional: Mapping[Key, Any]
) -> dict[Key, GraphNode]:
    tasks = {}
    computing = {**keys, **optional} if optional else keys
    for old, task in layer.tasks.items():
        new = keys[old]
        computes = type(task) is Task and task.func is run_parameter
        tasks[new] = task.substitute(computing if computes else keys, key=new)
    return tasks


def _layer(tasks: dict[Any, Any], annotations: Any) -> MaterializedLayer:
    layer = MaterializedLayer(tasks)
    # Set afterwards: a layer that is made takes the annotations in force at that moment.
    layer.annotations = annotations
    return layer
