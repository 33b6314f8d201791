"""From the graph that a user built to the graph of one trial.

A *template* is what the calls of steps made: an ordinary Dask graph in which parameters and "the
current trial" are nodes known by their keys. Compiling finds, once for each result, the steps in
graph order and the layers that depend on the trial. Instantiating copies those layers for one
trial: under keys of its own, with a first task that begins the trial; the last one also ends it.
Everything else, such as data that no parameter reaches, keeps its keys and is shared by trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import funcname, key_split
from msgspec.structs import replace as replace_fields

from daskperiment.capture.files import take_file
from daskperiment.client.shipping import LocalRequest
from daskperiment.execution.lifecycle import (
    TrialOfOneTask,
    begin,
    begin_within,
    last_key,
    take_optional,
    take_parameter,
)
from daskperiment.execution.tasks import Call, run_between, run_parameter, run_result, run_step
from daskperiment.formatting import brief
from daskperiment.graph.dask_tasks import (
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_graph,
    function_of,
    in_order,
    references,
)
from daskperiment.graph.key_specs import fixed_arguments, make_key_specs
from daskperiment.graph.shared_nodes import SharedNodes
from daskperiment.records import Graph, Node
from daskperiment.reuse.cache_keys import KeySpecs
from daskperiment.reuse.parameter_fields import ParameterField, field_of
from daskperiment.reuse.reuse_plan import ReusePlan

__all__ = ["TRIAL", "Template", "TrialGraph", "compile_template", "no_trial"]

TRIAL = "daskperiment-trial"
"""Key of the node that stands for the current trial in every template."""

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
class _TaskLayer:
    tasks: Any
    annotations: Any
    dependencies: set[str]


@dataclass(frozen=True, eq=False)
class Template:
    """A result's graph, ready to be copied for trials."""

    result: str
    """Name of the result's step."""
    key: Key
    """Key of the result's step."""
    shared: Mapping[str, Any]
    """Layers that do not depend on the trial, as they are."""
    own: Mapping[str, _TaskLayer]
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
        # Dask takes equal keys for equal work, so each trial has keys of its own.
        copying = _Copying(self, token)
        if reuse is not None:
            own = {key for layer in self.own.values() for key in layer.tasks}
            nodes = SharedNodes(source, reuse, self.tasks, own, self.inlined, self.taken)
            copying.share(nodes, reuse.needed)
        return copying.graph(source)

    @cached_property
    def tasks(self) -> dict[Key, GraphNode]:
        """All tasks that the result depends on, but for parameters and the trial."""
        own = {key: task for layer in self.own.values() for key, task in layer.tasks.items()}
        waiting = {ref for task in own.values() for ref in references(task)}
        if waiting <= {TRIAL, *self.inlined, *own}:
            return own
        shared = dict(HighLevelGraph(self.shared, self.dependencies))
        return {**convert_legacy_graph(shared), **own}

    def graph_now(self) -> Graph:
        """Return the graph with what its calls give the steps at this moment."""
        arguments = self.key_specs.arguments() if self.persisting else {}
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
        self.first, self.last = f"trial-begin-{token}", last_key(template.result, token)
        self.own = dict(template.own)
        self.layers: dict[str, Any] = dict(template.shared)
        self.dependencies: dict[str, set[str]] = dict(template.dependencies)
        self.extra: dict[str, set[str]] = {}

    def share(self, nodes: SharedNodes, needed: Collection[Key]) -> None:
        """Leave out what nobody needs, and take from shared tasks what can be taken."""
        shared = nodes.shared()
        for name, layer in self.template.own.items():
            tasks = {key: task for key, task in layer.tasks.items() if key in needed}
            taken = {key: shared[key] for key in tasks if key in shared}
            tasks.update((key, nodes.own(key, taken[key])) for key in taken)
            self.own[name] = replace(layer, tasks=tasks)
            self.extra[name] = set(taken.values())
            if not tasks:
                del self.own[name]
        layers = {key: layer for layer in self.template.own.values() for key in layer.tasks}
        for key, (task, dependencies, source) in nodes.made.items():
            layer = layers[source]
            outside = layer.dependencies & self.template.shared.keys()
            self.layers[key] = _layer({key: task}, layer.annotations)
            self.dependencies[key] = dependencies | outside

    def graph(self, source: LocalRequest) -> TrialGraph:
        """Put the graph together."""
        tasks = [key for layer in self.own.values() for key in layer.tasks]
        if len(tasks) == 1 and not self.extra:  # its only task begins the trial as well
            begins: Any = Task(None, begin_within, TrialOfOneTask(source))
        else:
            begins = TaskRef(self.first)
            self.layers[self.first] = _layer({self.first: Task(self.first, begin, source)}, None)
            self.dependencies[self.first] = set()
        keys = self._keys(begins, tasks)
        # What a computed parameter is computed from may have no value where it was set itself.
        optional = {key: Task(None, take_optional, begins, name)
                    for key, name in self.template.inlined.items()}  # fmt: skip
        names = {name: self.last if name == self.template.key else f"{name}-{self.token}"
                 for name in self.own}  # fmt: skip
        for name, layer in self.own.items():
            before = {self.first, *self.extra.get(name, ())}
            before.update([names.get(each, each) for each in layer.dependencies])
            self.layers[names[name]] = _copy(layer, keys, optional)
            self.dependencies[names[name]] = before
        for name in names.values():
            self.dependencies[name] &= self.layers.keys()  # what nobody needs is not there
        graph = HighLevelGraph(self.layers, self.dependencies)
        return TrialGraph(self.token, self.last, graph, keys)

    def _keys(self, begins: Any, tasks: list[Key]) -> dict[Key, Any]:
        """Old key -> new key, or the node that takes its place."""
        keys: dict[Key, Any] = {TRIAL: begins}
        for key, name in self.template.inlined.items():
            # Inside the tasks that take it: a task of its own would cost as much as a small step.
            keys[key] = Task(None, take_parameter, begins, name)
        for number, key in enumerate(tasks):
            keys[key] = _rename(key, self.token, number)
        keys[self.template.key] = self.last
        return keys


def _rename(key: Key, token: str, number: int) -> Key:
    if isinstance(key, tuple):  # a chunk of an array: its place must stay readable
        return (f"{key_split(key[0])}-{token}-{number}", *key[1:])
    return f"{key_split(key)}-{token}-{number}"


def _copy(
    layer: _TaskLayer, keys: Mapping[Key, Any], optional: Mapping[Key, Any]
) -> MaterializedLayer:
    tasks = {}
    for old, task in layer.tasks.items():
        new = keys[old]
        computes = type(task) is Task and task.func is run_parameter
        known = {**keys, **optional} if computes else keys
        tasks[new] = task.substitute(known, key=new)
    return _layer(tasks, layer.annotations)


def _layer(tasks: dict[Any, Any], annotations: Any) -> MaterializedLayer:
    layer = MaterializedLayer(tasks)
    # Set afterwards: a layer that is made takes the annotations in force at that moment.
    layer.annotations = annotations
    return layer


def compile_template(result: str, key: Key, graph: HighLevelGraph, parameters: Any) -> Template:
    """Find out what a trial's graph needs.

    Parameters
    ----------
    result : str
        Name of the result's step.
    key : hashable
        Key of the result's step in the graph.
    graph : HighLevelGraph
        As the calls of steps made it.
    parameters : mapping
        Key of a parameter -> its name.
    """
    parameters = _plain(graph, parameters)
    # Only what depends on the trial is copied: data that no parameter reaches stays one layer
    # for all trials, which Dask then loads once.
    moving = _moving_layers(graph, {TRIAL, *parameters})
    gone = {TRIAL, *parameters}
    raw = _own_layers(graph, moving - gone, gone)
    survey = _Survey({k: task for layer in raw.values() for k, task in layer.tasks.items()},
                     parameters, key)  # fmt: skip
    own = {
        name: replace(layer, tasks={k: survey.prepared(k) for k in layer.tasks})
        for name, layer in raw.items()
    }
    own = {n: replace(layer, dependencies=layer.dependencies - gone) for n, layer in own.items()}
    return Template(
        result=result,
        key=key,
        shared={n: layer for n, layer in graph.layers.items() if n not in moving},
        own=own,
        dependencies={n: set(d) for n, d in graph.dependencies.items() if n not in moving},
        inlined=dict(parameters),
        taken={key: part for key, part in survey.taken.items() if part.path},
        graph=Graph(survey.nodes),
        places=survey.places,
        functions=survey.functions,
        parameters=tuple(survey.parameters),
        reaching=tuple({**survey.parameters, **survey.inputs}),
        persisting=survey.persisting,
        takes_files=survey.takes_files,
    )


def _plain(graph: HighLevelGraph, parameters: Mapping[Key, str]) -> dict[Key, str]:
    """Return the parameters that are not computed in this graph.

    By what stands there: a parameter may have been declared in another way since.
    """
    found = dict(parameters)
    for layer in graph.layers.values():
        if isinstance(layer, MaterializedLayer):
            for key in [key for key in found if key in layer]:
                if function_of(layer[key]) is run_parameter:
                    del found[key]
    return found


def _moving_layers(graph: HighLevelGraph, seeds: set[str]) -> set[str]:
    """Find the layers that depend on the trial or a parameter, those two included."""
    moving = {name for name, layer in graph.layers.items() if _mentions(layer, seeds)}
    waiting = list(moving)
    dependents = graph.dependents
    while waiting:
        for name in dependents[waiting.pop()] - moving:
            moving.add(name)
            waiting.append(name)
    return moving


def _mentions(layer: Any, keys: set[str]) -> bool:
    """Whether one of the keys is in the layer, which may be a whole graph of a collection."""
    return isinstance(layer, MaterializedLayer) and any(key in layer for key in keys)


def _own_layers(graph: HighLevelGraph, names: set[str], gone: set[str]) -> dict[str, _TaskLayer]:
    # Old-style tasks name keys of other layers, and can be told from data by all keys alone.
    every = {key for layer in graph.layers.values() for key in layer}
    return {
        name: _TaskLayer(
            convert_legacy_graph({k: task for k, task in layer.items() if k not in gone}, every),
            layer.annotations,
            graph.dependencies[name],
        )
        for name, layer in graph.layers.items()
        if name in names
    }


def _literals(task: Task) -> dict[str, str]:
    """Return the arguments of a step's call that are no nodes, in short."""
    _, call, *forms = task.args
    return {
        name: brief(form)
        for name, form in zip(call.names, forms, strict=True)
        if not isinstance(form, (TaskRef, GraphNode))
    }


class _Inputs(NamedTuple):
    """What a task takes, directly or through functions that are no steps."""

    steps: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    parts: tuple[ParameterField, ...] = ()
    """Those of parameters that are taken as parts."""
    whole: tuple[str, ...] = ()
    """Names of the parameters that are taken whole."""


def _parts(sources: _Inputs) -> dict[str, list[Any]]:
    return {
        str(part): [part.name, *part.path]
        for part in sources.parts
        if part.name not in sources.whole
    }


class _Survey:
    """Walks a result's graph once: inputs before those who take them, in order of arguments."""

    def __init__(self, tasks: Mapping[Key, GraphNode], inlined: Mapping[Key, str], last: Key):
        self.nodes: list[Node] = []
        self.functions: dict[str, Callable[..., Any]] = {}
        self.parameters: dict[str, None] = {}
        self.inputs: dict[str, None] = {}
        """Names of the parameters from which others are computed."""
        self.persisting = False
        self.takes_files = False
        self.places: dict[Key, str] = {}
        self._tasks = tasks
        self._last = last
        self._sources: dict[Key, _Inputs] = {
            key: _Inputs(parameters=(name,), whole=(name,)) for key, name in inlined.items()
        }
        self.taken = {key: ParameterField(name) for key, name in inlined.items()}
        self._names: Counter[str] = Counter()
        self._prepared: dict[Key, GraphNode] = {}
        self._takers = Counter(ref for task in tasks.values() for ref in references(task))
        for key in in_order(tasks, last):
            self._visit(key)

    def prepared(self, key: Key) -> GraphNode:
        """Return the task as trials have it, before keys are substituted."""
        return self._prepared.get(key, self._tasks[key])

    def _visit(self, key: Key) -> None:
        task = self._tasks[key]
        sources = self._inputs_of(references(task))
        if type(task) is not Task:
            self._sources[key] = sources
        elif task.func is run_step:
            self._sources[key] = self._step(key, task, sources)
        elif task.func is run_parameter:
            self._sources[key] = _Inputs(parameters=(task.args[1],), whole=(task.args[1],))
            self.parameters[task.args[1]] = None
            self.inputs.update(dict.fromkeys(sources.parameters))
        else:
            self._sources[key] = self._part(key, task) or sources
            self._between(key, task)

    def _inputs_of(self, keys: Iterable[Key]) -> _Inputs:
        found = [self._sources.get(ref, _Inputs()) for ref in keys]
        return _Inputs(
            tuple(dict.fromkeys(step for source in found for step in source.steps)),
            tuple(dict.fromkeys(name for source in found for name in source.parameters)),
            tuple(dict.fromkeys(part for source in found for part in source.parts)),
            tuple(dict.fromkeys(name for source in found for name in source.whole)),
        )

    def _beside(self, call: Call, task: Task, sources: _Inputs) -> list[str]:
        """Return what a step takes only for arguments that it ignores."""
        if not call.ignore:
            return []
        forms = dict(zip(call.names, task.args[2:], strict=True))
        counting = [form for name, form in forms.items() if name not in call.ignore]
        kept = self._inputs_of(references(Task(None, run_step, *counting)))
        return [
            *(f"step {key}" for key in sources.steps if key not in kept.steps),
            *(f"parameter {name}" for name in sources.parameters if name not in kept.parameters),
        ]

    def _part(self, key: Key, task: Task) -> _Inputs | None:
        """Note a task that only takes a part of a parameter."""
        first = next(references(task), None)
        part = field_of(task.func, task.args, self.taken.get(first))
        if part is None or task.kwargs:
            return None
        self.taken[key] = part
        return _Inputs(parameters=(part.name,), parts=(part,))

    def _step(self, key: Key, task: Task, sources: _Inputs) -> _Inputs:
        call: Call = task.args[1]
        place = self.places[key] = self._place(call.step)
        self.persisting |= call.persist
        self.nodes.append(
            Node(place, call.step, list(sources.steps), list(sources.parameters),
                 _parts(sources), _literals(task), fixed_arguments(call, task.args[2:]),
                 list(call.ignore), self._beside(call, task, sources))
        )  # fmt: skip
        self.parameters.update(dict.fromkeys(sources.parameters))
        function = call.function.__wrapped__
        if self.functions.setdefault(call.step, function) is not function:
            self.functions[place] = function  # a step that was defined anew under its old name
        trial, _, *args = task.args
        # The last step ends the trial as well, so that nothing is left to do for the caller.
        run = run_result if key == self._last else run_step
        shared = tuple(name for name, form in zip(call.names, args, strict=True)
                       if self._is_shared(form))  # fmt: skip
        prepared = Task(key, run, trial, replace(call, key=place, shared=shared), *args)
        self._prepared[key] = prepared
        return _Inputs(steps=(place,))

    def _is_shared(self, form: Any) -> bool:
        """Whether others than one call see what stands there; parameters keep their value."""
        if not isinstance(form, (TaskRef, GraphNode)):
            return True
        taken = [form.key] if isinstance(form, TaskRef) else list(references(form))
        return any(self._takers[key] > 1 or key not in self._tasks for key in taken)

    def _between(self, key: Key, task: Task) -> None:
        self.takes_files |= task.func is take_file
        # A plain delayed function between steps: recorded only where it fails, or draws.
        label = self._place(funcname(task.func))
        self._prepared[key] = Task(
            key, run_between, TaskRef(TRIAL), label, task.func, *task.args, **task.kwargs
        )

    def _place(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}#{self._names[name]}"
