"""From the graph that a user built to the template of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import funcname

from daskperiment.capture.files import take_file
from daskperiment.execution.between_steps import run_between, run_parameter
from daskperiment.execution.calls import SCALARS, Call
from daskperiment.execution.given_values import identities
from daskperiment.execution.tasks import run_result, run_step
from daskperiment.formatting import brief
from daskperiment.graph.dask_tasks import (
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_graph,
    function_of,
    in_order,
    members,
    references,
)
from daskperiment.graph.key_specs import fixed_arguments
from daskperiment.graph.local_tasks import TRIAL
from daskperiment.graph.template import TaskLayer, Template
from daskperiment.records import Graph, Node
from daskperiment.reuse.parameter_fields import ParameterField, field_of

__all__ = ["compile_template"]

Key = Hashable


def compile_template(
    result: str, key: Key, graph: HighLevelGraph, parameters: Any,
    secrets: frozenset[str] = frozenset(),
) -> Template:  # fmt: skip
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
    secrets : frozenset of str
        Names of the secret ones.
    """
    parameters = _plain(graph, parameters)
    # Only what depends on the trial is copied: data that no parameter reaches stays one layer
    # for all trials, which Dask then loads once.
    moving = _moving_layers(graph, {TRIAL, *parameters})
    gone = {TRIAL, *parameters}
    raw = _own_layers(graph, moving - gone, gone)
    survey = _Survey({k: task for layer in raw.values() for k, task in layer.tasks.items()},
                     parameters, key, secrets)  # fmt: skip
    own = {
        name: replace(layer, tasks={k: survey.prepared(k) for k in layer.tasks})
        for name, layer in raw.items()
    }
    own = {n: replace(layer, dependencies=layer.dependencies - gone) for n, layer in own.items()}
    return Template(
        result=result,
        key=key,
        shared={n: layer for n, layer in graph.layers.items() if n not in moving},
        own=_grouped(own, key),
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
        for key in _mentioned(layer, found):
            if function_of(layer[key]) is run_parameter:
                del found[key]
    return found


def _moving_layers(graph: HighLevelGraph, seeds: set[Any]) -> set[str]:
    """Find the layers that depend on the trial or a parameter, those two included."""
    moving = {name for name, layer in graph.layers.items() if _mentioned(layer, seeds)}
    waiting = list(moving)
    dependents = graph.dependents
    while waiting:
        for name in dependents[waiting.pop()] - moving:
            moving.add(name)
            waiting.append(name)
    return moving


def _mentioned(layer: Any, keys: Collection[Key]) -> list[Any]:
    """Return which of some keys are in a layer, which may be a whole graph of a collection."""
    if not isinstance(layer, MaterializedLayer):
        return []
    if len(layer) < len(keys):
        return [key for key in layer if key in keys]
    return [key for key in keys if key in layer]


def _own_layers(graph: HighLevelGraph, names: set[str], gone: set[str]) -> dict[str, TaskLayer]:
    # Old-style tasks name keys of other layers, and can be told from data by all keys alone.
    every = {key for layer in graph.layers.values() for key in layer}
    return {
        name: TaskLayer(
            convert_legacy_graph({k: task for k, task in layer.items() if k not in gone}, every),
            layer.annotations,
            graph.dependencies[name],
        )
        for name, layer in graph.layers.items()
        if name in names
    }


def _grouped(own: Mapping[str, TaskLayer], last: Any) -> dict[str, TaskLayer]:
    """Put layers without annotations together, and name the one of the last task by that.

    What a scheduler does for each layer it does for all keys. A layer with annotations stays
    apart; what stands behind it goes into another group than what stands before it, so that groups
    make no circle.
    """
    before = {name: layer.dependencies & own.keys() for name, layer in own.items()}
    apart = {name for name, layer in own.items() if layer.annotations}
    phases: dict[str, int] = {}
    for name in TopologicalSorter(before).static_order():
        later = [phases[each] + (each in apart and name not in apart) for each in before[name]]
        phases[name] = max(later, default=0)
    firsts: dict[int, str] = {}
    for name in (last, *own):
        if name not in apart:
            firsts.setdefault(phases[name], name)
    group = {name: name if name in apart else firsts[phases[name]] for name in own}
    found: dict[str, TaskLayer] = {}
    for name, layer in own.items():
        to = group[name]
        known = found.setdefault(to, TaskLayer({}, layer.annotations, set()))
        known.tasks.update(layer.tasks)
        known.dependencies.update({group.get(each, each) for each in layer.dependencies} - {to})
    return found


def _literals(task: Task) -> dict[str, str]:
    """Return the arguments of a step's call that are no nodes, in short."""
    _, call, *forms = task.args
    return {
        name: brief(form)
        for name, form in zip(call.names, forms, strict=True)
        if not isinstance(form, (TaskRef, GraphNode))
    }


_PLAIN = SCALARS | {TaskRef, Call}


def _counted_literals(tasks: Mapping[Key, GraphNode]) -> Counter[int]:
    """Return how many calls have each object that stands in a call itself, by its id."""
    found: Counter[int] = Counter()
    for task in tasks.values():
        if isinstance(task, Task):
            forms = (form for form in (*task.args, *task.kwargs.values())
                     if type(form) not in _PLAIN)  # fmt: skip
            held = [identities(each.value) for form in forms for _, each in members(form, {})
                    if isinstance(each, DataNode)]  # fmt: skip
            found.update(set().union(*held))
    return found


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

    def __init__(
        self, tasks: Mapping[Key, GraphNode], inlined: Mapping[Key, str], last: Key,
        secrets: frozenset[str],
    ) -> None:  # fmt: skip
        self._secrets = secrets
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
        self._alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._prepared: dict[Key, GraphNode] = {}
        self._lending: set[str] = set()
        """Places of the steps that take what others see, or what such a step returned."""
        self._exposed: set[Key] = set()
        """Keys of the nodes whose value, or a part of it, more than one may see."""
        self._takers = Counter(ref for task in tasks.values() for ref in references(task))
        self._literal_takers = _counted_literals(tasks)
        for key in in_order(tasks, last):
            self._visit(key)

    def prepared(self, key: Key) -> GraphNode:
        """Return the task as trials have it, before keys are substituted."""
        return self._prepared.get(key, self._tasks[key])

    def _visit(self, key: Key) -> None:
        task = self._tasks[key]
        sources = self._inputs_of(references(task))
        if self._takers[key] > 1 or any(map(self._is_exposed, references(task))):
            self._exposed.add(key)
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
        steps, parameters = set(kept.steps), set(kept.parameters)
        return [
            *(f"step {key}" for key in sources.steps if key not in steps),
            *(f"parameter {name}" for name in sources.parameters if name not in parameters),
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
            Node(place, call.step, self._once(sources.steps), self._once(sources.parameters),
                 _parts(sources), _literals(task), fixed_arguments(call, task.args[2:]),
                 call.ignore, tuple(self._beside(call, task, sources)))
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
        lent = {name: places for name, form in zip(call.names, args, strict=True)
                if (places := self._lenders(form))}  # fmt: skip
        if shared or lent:
            self._lending.add(place)
        call = replace(
            call, key=place, shared=shared, lent=lent, given=self._given(call, args),
            handed=key in self._exposed, secret=self._secret(call.names, args),
        )  # fmt: skip
        prepared = Task(key, run, trial, call, *args)
        self._prepared[key] = prepared
        return _Inputs(steps=(place,))

    def _once(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the same names for all steps that have the same."""
        return self._alike.setdefault(names, names)

    def _secret(self, names: Sequence[str], forms: Sequence[Any]) -> tuple[str, ...]:
        """Return the arguments that secret parameters reach; what a step returns is its own."""
        if not self._secrets:
            return ()
        return tuple(
            name for name, form in zip(names, forms, strict=True)
            if not self._secrets.isdisjoint(
                self._inputs_of(references(Task(None, run_step, form))).parameters
            )
        )  # fmt: skip

    def _is_shared(self, form: Any) -> bool:
        """Whether others than one call see what stands there; parameters keep their value."""
        if not isinstance(form, (TaskRef, GraphNode)):
            return True
        taken = [form.key] if isinstance(form, TaskRef) else list(references(form))
        return any(self._takers[key] > 1 or key not in self._tasks for key in taken)

    def _is_exposed(self, member: Key | DataNode) -> bool:
        if isinstance(member, DataNode):
            return any(self._literal_takers[each] > 1 for each in identities(member.value))
        return member in self._exposed or member not in self._tasks

    def _given(self, call: Call, forms: Sequence[Any]) -> dict[str, tuple[tuple[Any, ...], ...]]:
        """Return where in its arguments stands what others see and may change."""
        found = {
            name: tuple(path for path, each in members(form, self._tasks) if self._is_exposed(each))
            for name, form in zip(call.names, forms, strict=True)
            if type(form) not in SCALARS
        }
        return {name: paths for name, paths in found.items() if paths}

    def _lenders(self, form: Any) -> tuple[str, ...]:
        """Return the steps that give an argument, and that may hand on what others see."""
        if not isinstance(form, (TaskRef, GraphNode)):
            return ()
        keys = [form.key] if isinstance(form, TaskRef) else list(references(form))
        places = [self.places[key] for key in keys if key in self.places]
        return tuple(place for place in places if place in self._lending)

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
