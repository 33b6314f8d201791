"""Steps: decorated functions whose calls are nodes of the graph."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, overload

from dask import config
from dask.base import get_annotations, tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import funcname

from daskperiment.capture.code import travelling_sources
from daskperiment.capture.files import source_of, take_file
from daskperiment.capture.signatures import argument_names, defaults_of, parameter_names
from daskperiment.capture.source import register_travelled
from daskperiment.execution.calls import Call, UserFunction
from daskperiment.execution.context import CURRENT
from daskperiment.execution.tasks import run_step
from daskperiment.formats import check_format_name
from daskperiment.formatting import html_table, nearest
from daskperiment.graph.arguments import CallNode, new_key, unpack, unpack_arguments
from daskperiment.graph.dask_tasks import Task, TaskRef
from daskperiment.graph.keywords import CheckedNode
from daskperiment.graph.local_tasks import TRIAL
from daskperiment.graph.template import no_trial

__all__ = ["Step", "StepCall", "StepFunction", "file_node", "with_functions"]

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    # Who writes StepFunction alone means one of anything.
    P = ParamSpec("P", default=...)
    N = TypeVar("N", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    N = TypeVar("N")
Q = ParamSpec("Q")
S = TypeVar("S")


_TRIAL = TaskRef(TRIAL)
_ITS_OWN = frozenset({"_function", "_call"})
"""What of a step function is made anew in another process."""


class StepCall:
    """The call of a step, as it stands in the graph that a user built.

    The graph up to it is put together once somebody asks for it. Most calls are taken by others,
    and nobody asks: a graph for each would hold all before it.

    Parameters
    ----------
    step : str
        Name of the step.
    key : str
    length : int, optional
        Number of outputs, if it returns a sequence of known length.
    task : Task, optional
    nodes : sequence
        What it takes.
    graph : HighLevelGraph, optional
        In place of the task, where it is there already.
    """

    __slots__ = ("_graph", "_layer", "_nodes", "_task", "key", "length", "step")

    def __init__(
        self, step: str, key: str, length: int | None, task: Task | None,
        nodes: Sequence[Any] = (), graph: HighLevelGraph | None = None,
    ) -> None:  # fmt: skip
        self.step, self.key, self.length = step, key, length
        self._task, self._nodes, self._graph = task, nodes, graph
        self._layer: MaterializedLayer | None = None
        # A layer takes the annotations in force at this moment. Where there are none it is made
        # later: of thousands of calls, each object counts for the garbage collector.
        if task and (get_annotations() or config.get("collection_annotations", None)):
            self._layer = MaterializedLayer({key: task})

    @property
    def is_made(self) -> bool:
        """Whether there is a graph and no task."""
        return self._task is None

    @property
    def graph(self) -> HighLevelGraph:
        """The graph up to this call."""
        if self._graph is None:
            self._graph = self.fresh_graph()
        return self._graph

    def fresh_graph(self) -> HighLevelGraph:
        """Return the graph up to this call, which nobody keeps if it was not made before."""
        if self._graph is not None:
            return self._graph
        layers, dependencies = _parts_of(no_trial())
        del dependencies[""]
        names: dict[int, set[str]] = {}
        waiting = [self]
        while waiting:
            call = waiting.pop()
            if call.key in layers:
                continue
            layers[call.key] = call._layer or _bare_layer(call)
            before = dependencies[call.key] = {TRIAL}
            for node in call._nodes:
                known = _unmade(node)
                if known is None and id(node) not in names:
                    found, those = _parts_of(node)
                    names[id(node)] = those.pop("")
                    layers.update(found)
                    dependencies.update(those)
                before.update(names[id(node)] if known is None else [known.key])
            waiting += [known for node in reversed(call._nodes)
                        if (known := _unmade(node)) is not None]  # fmt: skip
        return HighLevelGraph(layers, dependencies)

    def __reduce__(self) -> Any:
        return StepCall, (self.step, self.key, self.length, None, (), self.graph)


def _bare_layer(call: StepCall) -> MaterializedLayer:
    layer = MaterializedLayer({call.key: call._task})
    # Set afterwards: a layer that is made takes the annotations in force at that moment.
    layer.annotations = layer.collection_annotations = None
    return layer


def _unmade(node: Any) -> StepCall | None:
    """Return the call of a node whose graph is still to be put together."""
    if not isinstance(node, Step) or node.step_call.is_made:
        return None
    return node.step_call


def _parts_of(node: Any) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """Return layers and dependencies of a collection; what depends on it is called by no name."""
    graph = HighLevelGraph.from_collections("", {}, dependencies=[node])
    return {name: layer for name, layer in graph.layers.items() if name}, dict(graph.dependencies)


class Step(CallNode):
    """One call of a step: a :class:`dask.delayed.Delayed`.

    Computing it alone runs the function and records no trial; it belongs to a trial when a result
    is computed that takes it.
    """

    __slots__ = ("_call",)

    def __init__(self, call: StepCall) -> None:
        # Not Delayed.__init__, which wants the graph.
        for name, value in {
            "_call": call, "_key": call.key, "_layer": call.key, "_length": call.length,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def dask(self) -> HighLevelGraph:
        """The graph up to this call."""
        return self._call.graph  # type: ignore[no-any-return]  # a slot of an untyped class

    # Dask reads it in place of the property, here and there.
    _dask = dask

    @property
    def step_call(self) -> StepCall:
        """The call that it stands for."""
        return self._call  # type: ignore[no-any-return]  # as above

    def __reduce__(self) -> Any:
        return type(self), (self._call,)

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self)) if name not in ("as_input", "step_call")]

    def __repr__(self) -> str:
        return f"Step({self._call.step!r})"

    def _repr_html_(self) -> str:
        return html_table(["Step", "Key"], [[self._call.step, str(self._key)]])


class StepFunction(Generic[P, N]):
    """A decorated function. Calling it makes a node of the graph; nothing runs yet.

    To type checkers it has the function's own arguments. A call gives what the function is declared
    to return, so that steps can be given to each other; that of a result's function gives a
    :class:`Result` of it.

    Parameters
    ----------
    function : callable
        Neither a coroutine nor an asynchronous generator function.
    wrap : callable
        Makes what a call returns from its :class:`StepCall`.
    persist : bool
        Whether the output is kept in each trial.
    nout : int, optional
        Number of outputs, if the function returns a sequence of known length.
    seed : int, optional
        The experiment's seed.
    reuse : bool, optional
        Whether a kept output may be reused; None leaves it to the experiment.
    version : str, optional
        Part of the cache key: another version makes another output.
    ignore : sequence of str
        Names of arguments that the output does not depend on.
    format : str, optional
        Name of the format in which a kept output is kept.

    Attributes
    ----------
    __wrapped__ : callable
        The function itself, for unit tests.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, Any]

    def __init__(
        self, function: Callable[..., Any], wrap: Callable[[StepCall], Any],
        persist: bool = False, nout: int | None = None, seed: int | None = None,
        reuse: bool | None = None, version: str | None = None, ignore: Any = (),
        format: str | None = None,
    ) -> None:  # fmt: skip
        self._kind = _kind_of(function)
        if isinstance(function, (classmethod, staticmethod)):
            function = function.__func__
        _check_function(function)
        functools.update_wrapper(self, function, updated=())
        self.__wrapped__ = function
        self._function = UserFunction(function)
        self._call: Call | None = None
        self.name: str = getattr(function, "__name__", None) or _name_of(function)
        self.__name__ = self.name
        self.persist = persist
        self._wrap = wrap
        self._nout = _check_nout(nout)
        self._seed = seed
        self._reuse = _check_reuse(reuse, persist)
        self._version = _check_version(version)
        self._ignore = _check_ignore(ignore, function)
        self._format = _check_format(format, persist)

    def __getstate__(self) -> Any:
        state = {name: each for name, each in self.__dict__.items() if name not in _ITS_OWN}
        return travelling_sources([self.__wrapped__]), state

    def __setstate__(self, state: Any) -> None:
        register_travelled(state[0])
        self.__dict__.update(state[1])
        self._function, self._call = UserFunction(self.__wrapped__), None

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> N:
        """Return the node of this call; in a running step, what the function returns.

        Raises
        ------
        TypeError
            If the function cannot be called with such arguments.
        """
        if CURRENT.get() is not None:
            return self.__wrapped__(*args, **kwargs)  # type: ignore[no-any-return]
        names = argument_names(self.__wrapped__, args, kwargs)
        call, keywords = self._call, tuple(kwargs)
        # Calls that are written alike share what says so: there may be tens of thousands.
        if (
            call is None or call.names != names or call.keywords != keywords
            or call.function.__wrapped__ is not self.__wrapped__
        ):  # fmt: skip
            call = self._call = self._call_of(names, keywords)
        # Not a token of the arguments: two equal calls are two step runs.
        key = new_key(self.name)
        nodes: list[Any] = []
        own = args[0] if args and getattr(type(args[0]), self.name, None) is self else None
        values = (*args, *kwargs.values())
        forms = unpack_arguments(self.name, names, values, nodes, own)
        task = Task(key, run_step, _TRIAL, call, *forms)
        call_of = StepCall(self.name, key, self._nout, task, tuple(nodes))
        return self._wrap(call_of)  # type: ignore[no-any-return]  # a node stands for its value

    def _call_of(self, names: tuple[str, ...], keywords: tuple[str, ...]) -> Call:
        function = self._function
        if function.__wrapped__ is not self.__wrapped__:
            function = self._function = UserFunction(self.__wrapped__)
        return Call(
            self.name, function, self.persist, self._seed, self._reuse, self._version,
            names=names, keywords=keywords, ignore=self._ignore,
            defaulted=any(name not in names for name, _ in defaults_of(self.__wrapped__)),
            format=self._format,
        )  # fmt: skip

    # What takes objects and classes alike, None too, is static; a class method takes the class,
    # a method objects of it. Only as a Callable mypy looks at the first argument.
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], N], instance: S, owner: S
    ) -> StepFunction[P, N]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], N], instance: object, owner: S
    ) -> StepFunction[Q, N]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> StepFunction[P, N]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], N], instance: S, owner: Any = None
    ) -> StepFunction[Q, N]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> StepFunction[P, N]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Bind to what functions are bound to: a decorated method is a step."""
        first = owner if self._kind is classmethod else instance
        if first is None or self._kind in (staticmethod, None):
            return self
        return MethodType(self, first)

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"

    def _repr_html_(self) -> str:
        return html_table(["Step function"], [[self.name]])


def file_node(source: Any) -> CheckedNode:
    """Return the node of an input file: a path, a pattern, a URL, or a node that gives one.

    TypeError for anything else.
    """
    nodes: list[Any] = []
    form = unpack(source, nodes)
    if not isinstance(form, TaskRef):
        form = source_of(source)
    name = f"file-{tokenize(form)}"
    call = StepCall("", name, None, Task(name, take_file, form), nodes)
    return CheckedNode(name, call.graph)  # type: ignore[no-untyped-call]  # dask's


def _kind_of(function: Any) -> type | None:
    """Return the type that says how a function is bound to objects; None if it never is."""
    return type(function) if hasattr(type(function), "__get__") else None


def _name_of(function: Any) -> str:
    """Return the name of a callable object: its class's, as its text may have an address."""
    name = str(funcname(function))
    return type(function).__name__ if name == str(function) else name


def _check_function(function: Any) -> None:
    if not callable(function):
        raise TypeError(
            f"A step is a function or another callable, got {function!r}. Use @ex above a def, "
            "or call ex(function)."
        )
    if isinstance(function, StepFunction):
        raise TypeError(f"{function!r} is a step already; decorate the function once")
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function!r} is an asynchronous generator; a step returns its output. Collect it: "
            "return [each async for each in ...]."
        )


def _check_nout(nout: Any) -> int | None:
    if nout is None or (isinstance(nout, int) and not isinstance(nout, bool) and nout >= 0):
        return nout
    raise ValueError(f"nout is {nout!r}; expected None or an integer of at least 0")


def _check_reuse(reuse: Any, persist: bool) -> bool | None:
    if reuse is not None and not isinstance(reuse, bool):
        raise TypeError(f"reuse is {reuse!r}; expected True, False or None")
    if reuse and not persist:
        raise ValueError("reuse=True needs an output that is kept: give persist=True as well")
    return reuse


def _check_version(version: Any) -> str:
    if version is None or isinstance(version, (str, int, float)):
        return "" if version is None else str(version)
    raise TypeError(f"version is {version!r}; expected text or a number")


def _check_format(format: Any, persist: bool) -> str | None:
    name = check_format_name(format)
    if name is not None and not persist:
        raise ValueError(
            f"format={name!r} says how a kept output is kept, and this one is not kept: add "
            "persist=True"
        )
    return name


def _check_ignore(ignore: Any, function: Callable[..., Any]) -> tuple[str, ...]:
    names = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    known = parameter_names(function)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"ignore has {name!r}; expected names of the step's arguments")
        if known is not None and name not in known:
            raise ValueError(
                f"ignore names {name!r}, which is no argument of {funcname(function)}()"
                f"{nearest(name, known)}; its arguments are {', '.join(map(repr, known)) or 'none'}"
            )
    return names


# Other functions in the same graph ----------------------------------------------------------------


def with_functions(call: StepCall, functions: Mapping[tuple[str, int], UserFunction]) -> StepCall:
    """Return a call with the same graph, in which steps call other functions.

    Parameters
    ----------
    call : StepCall
        Stays as it is.
    functions : mapping of (str, int) to UserFunction
        Name of a step and identity of its function (two of one name may be in a graph) -> the
        function to call; other steps keep theirs.
    """
    graph = _replaced(call.fresh_graph(), functions)
    return StepCall(call.step, call.key, call.length, None, graph=graph)


def _replaced(
    graph: HighLevelGraph, functions: Mapping[tuple[str, int], UserFunction]
) -> HighLevelGraph:
    layers = {name: _replaced_layer(layer, functions) for name, layer in graph.layers.items()}
    return HighLevelGraph(layers, dict(graph.dependencies))


def _replaced_layer(layer: Any, functions: Mapping[tuple[str, int], UserFunction]) -> Any:
    if not isinstance(layer, MaterializedLayer):
        return layer
    tasks = {key: _replaced_task(task, functions) for key, task in layer.items()}
    if all(tasks[key] is task for key, task in layer.items()):
        return layer
    new = MaterializedLayer(tasks)
    # Set afterwards: a layer that is made takes the annotations in force at that moment.
    new.annotations = layer.annotations
    return new


def _replaced_task(task: Any, functions: Mapping[tuple[str, int], UserFunction]) -> Any:
    if type(task) is not Task or task.func is not run_step:
        return task
    trial, call, *args = task.args
    assert isinstance(call, Call)
    function = functions.get((call.step, id(call.function.__wrapped__)))
    if function is None:
        return task
    other = replace(call, function=function)
    return Task(task.key, run_step, trial, other, *args)
