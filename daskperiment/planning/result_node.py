"""Results: what computing one means, and the Dask collection whose computation is a trial."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Self

from dask.base import visualize
from dask.delayed import Delayed, single_key
from dask.highlevelgraph import HighLevelGraph
from dask.utils import shorten_traceback

from daskperiment.capture.code import travelling_sources
from daskperiment.capture.source import register_travelled
from daskperiment.client.completion import end_by_caller, finish_elsewhere
from daskperiment.client.progress import StepBar, reporting
from daskperiment.execution.calls import UserFunction
from daskperiment.execution.lifecycle import begin
from daskperiment.execution.termination import TERMINATION, on_termination
from daskperiment.formatting import html_table, nearest, plain_repr, shorten
from daskperiment.graph.arguments import CallNode
from daskperiment.graph.compiling import compile_template
from daskperiment.graph.keywords import USUAL, check_keywords
from daskperiment.graph.local_tasks import local_scheduler
from daskperiment.graph.step import Step, StepCall, with_functions
from daskperiment.graph.template import Template, TrialGraph
from daskperiment.parameters import Parameters, all_named
from daskperiment.planning.forecasts import StepForecast
from daskperiment.planning.planner import Planner, TrialOptions, TrialPlan, check_reuse
from daskperiment.recording.registry import recorder_for
from daskperiment.seeds import check_seed

__all__ = ["PAUSE", "CollectorPause", "ResultDefinition", "ResultNode", "T_co"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Who writes Result alone means one of anything.
    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

_LARGE = 500
"""How many tasks it is worth it to hold Python's garbage collector back for."""


class CollectorPause:
    """Python's garbage collector rests as long as a thread holds it back, if it was at work before.

    While something large is put together it looks at more and more objects again and again, of
    which none is garbage: of the time that a plan of 10,000 steps takes, that is half.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._worked = False

    def reset(self) -> None:
        """Let the collector work: for a forked child, in which no other thread holds it back."""
        if self._holders and self._worked:
            gc.enable()
        self._lock = threading.Lock()
        self._holders = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._holders:
                self._worked = gc.isenabled()
                gc.disable()
            self._holders += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._holders = max(0, self._holders - 1)  # a child may leave what it did not enter
            if self._worked and not self._holders:
                gc.enable()


PAUSE = CollectorPause()
"""The process's, as its collector is."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PAUSE.reset)


def _putting_together(template: Template) -> AbstractContextManager[None]:
    return PAUSE if len(template.tasks) > _LARGE else nullcontext()


class _Compiled:
    """The template of one call, made once: what its graph holds stays as it is."""

    def __init__(self) -> None:
        self._template: Template | None = None
        self._secrets: frozenset[str] = frozenset()

    def template(self, call: StepCall, parameters: Parameters) -> Template:
        """Return the template."""
        secrets = parameters.secrets
        if self._template is None or self._secrets != secrets:
            self._secrets = secrets
            with PAUSE:
                self._template = compile_template(
                    call.step, call.key, call.fresh_graph(), parameters.keys, secrets
                )
        return self._template


@dataclass(frozen=True, eq=False)
class ResultDefinition:
    """What computing a result means: all that sweeps, reproduction and commands need of it."""

    planner: Planner
    call: StepCall
    options: TrialOptions = field(default_factory=TrialOptions)
    compiled: _Compiled = field(default_factory=_Compiled, repr=False)

    @property
    def name(self) -> str:
        """Name of the result's step."""
        return self.call.step

    @property
    def template(self) -> Template:
        """The graph that trials are copies of."""
        return self.compiled.template(self.call, self.planner.parameters)

    def with_options(self, options: TrialOptions) -> ResultDefinition:
        """Return the same result with other options."""
        if options is self.options:
            return self
        return ResultDefinition(self.planner, self.call, options, self.compiled)

    def with_functions(self, functions: Mapping[str, UserFunction]) -> ResultDefinition:
        """Return a result with the same graph, in which steps call other functions.

        Parameters
        ----------
        functions : mapping of str to UserFunction
            Step -> function, by the names of the template's ``functions``; others keep theirs.
        """
        template = self.template
        steps = {node.key: node.step for node in template.graph.nodes}
        # By identity, as the functions of a step that was defined twice share its name.
        old = template.functions
        changed = {(steps[name], id(old[name])): new for name, new in functions.items()}
        return ResultDefinition(self.planner, with_functions(self.call, changed), self.options)

    def trial_graph(self, later: bool = False, watched: bool = False) -> TrialGraph:
        """Return the graph of a new trial; see :meth:`Planner.plan`."""
        template = self.template
        with _putting_together(template):
            plan = self.plan(later, watched)
            return template.instantiate(plan.token, plan.source, plan.reuse)

    def plan(self, later: bool = False, watched: bool = False) -> TrialPlan:
        """Return the plan of a new trial; see :meth:`Planner.plan`."""
        template = self.template
        with _putting_together(template):
            return self.planner.plan(template, self.options, later, watched)

    def compute(self, plan: TrialPlan, keywords: Mapping[str, Any]) -> Any:
        """Run a trial in the way that Dask computes, and return its result.

        Parameters
        ----------
        plan : TrialPlan
            From `plan`.
        keywords : mapping
            As for :func:`dask.compute`.
        """
        store, get = self.planner.store, local_scheduler(keywords)
        _hear_termination()
        try:
            result = (
                self._by_dask(plan, keywords) if get is None else self._here(plan, get, keywords)
            )
        except BaseException as error:
            with suppress(Warning):  # made an error by a filter, it must not hide the user's
                request = plan.source.request()
                key = request.setup.signing_key
                end_by_caller(store, plan.token, error, request.secret_values, key)
            if TERMINATION.heard:
                TERMINATION.end()
            raise
        # On a local scheduler the trial has seen to itself by now.
        if not recorder_for(store).has_settled(plan.token):
            finish_elsewhere(store, plan.token)
        if TERMINATION.heard:  # and a step came to its end all the same
            TERMINATION.end()
        return result

    def _here(self, plan: TrialPlan, get: Callable[..., Any], keywords: Mapping[str, Any]) -> Any:
        """Begin a trial, and give its tasks to a scheduler in this process."""
        trial = begin(plan.source)
        template = self.template
        tasks, outputs = template.usual if plan.reuse is None else None, None
        if tasks is None or not tasks.fits(trial):
            with _putting_together(template):
                tasks, outputs = template.begun(plan.source, plan.reuse, trial)
        others = dict(keywords)
        others.pop("scheduler", None)
        with self._watching(tasks.names), shorten_traceback():
            return tasks.run(get, trial, outputs, **others)

    def _by_dask(self, plan: TrialPlan, keywords: Mapping[str, Any]) -> Any:
        graph = self.template.instantiate(plan.token, plan.source, plan.reuse)
        with self._watching(graph.keys):
            return Delayed(graph.key, graph.graph).compute(**keywords)

    def _watching(self, keys: Mapping[Any, Any]) -> AbstractContextManager[Any]:
        progress = self.options.progress
        if progress is None:
            return nullcontext()
        places = self.template.places.items()
        return progress.watch({keys[key]: place for key, place in places if key in keys})

    def forecasts(self) -> tuple[list[StepForecast], bool]:
        """Return what would become of each step, and whether any may reuse an output.

        Where none may, it is told what would become of them with ``reuse=True``.
        """
        template = self.template
        with _putting_together(template):
            return self.planner.forecasts(template, self.options)


class _ThreadGraphs(threading.local):
    """The graph that a thread is about to compute, and the one it submitted last."""

    current: TrialGraph | None = None
    stamp: Any = None
    """Of the parameters that the current graph was made with."""
    submitted: TrialGraph | None = None
    computed: str | None = None
    """Token of the trial that the thread computed last."""


def _hear_termination() -> None:
    """See to it that SIGTERM interrupts a trial, unless that was seen to since."""
    if signal.getsignal(signal.SIGTERM) is not on_termination:
        TERMINATION.listen(ResultDefinition.compute.__code__)


class ResultNode(CallNode, Generic[T_co]):
    """What the call of a result's function makes.

    It is a :class:`dask.delayed.Delayed`: whoever computes it, in whatever way and on whatever
    scheduler, runs a trial. Every computation is a trial of its own.
    """

    __slots__ = ("_definition", "_local")

    def __init__(
        self, planner: Planner, call: StepCall, options: TrialOptions | None = None
    ) -> None:
        self._define(ResultDefinition(planner, call, options or TrialOptions()))

    def _define(self, definition: ResultDefinition) -> None:
        # Not Delayed.__init__: the key and the graph are made anew for every trial.
        for name, value in {
            "_definition": definition, "_local": _ThreadGraphs(),
            "_length": definition.call.length,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    # What Dask asks of a collection

    @property
    def key(self) -> Any:
        """Key of the graph that this thread computes next."""
        return self._next().key

    # Dask reads these in place of the properties, here and there.
    _key = key
    _layer = key

    @property
    def dask(self) -> HighLevelGraph:
        """The graph that this thread computes next; making it records nothing."""
        return self._next().graph

    _dask = dask

    def __dask_keys__(self) -> list[Any]:
        # Early versions of Dask ask for them after `__dask_postcompute__`, and the like, too.
        local = self._local
        graph = local.submitted if local.current is None and local.submitted else self._next()
        return [graph.key]

    def __dask_postcompute__(self) -> Any:
        # The one call that every kind of submission makes, once, and in the user's process.
        definition = self._definition
        _hear_termination()
        definition.planner.before_submission(definition.template, definition.options)
        self._local.submitted, self._local.current = self._next(), None
        return single_key, ()

    def __dask_postpersist__(self) -> Any:
        graph = self._local.current or self._local.submitted or self._next()
        self._local.submitted, self._local.current = graph, None
        return _rebuild, (graph.key, self._length)

    def __hash__(self) -> int:
        # Results that are bound to other values differ, though they share a call: they can stand
        # in one set. Not by content, for == makes a node, as Dask has it.
        return object.__hash__(self)

    def __getattr__(self, name: str) -> Any:
        # Not a node of the result's attribute, as for other nodes of Dask: a method that is written
        # wrongly would be a trial, or nothing at all.
        hint = "" if name.startswith("_") else nearest(name, dir(self))
        raise AttributeError(
            f"A result has no attribute {name!r}{hint}"
            + ("" if hint else "; what it returns is known once it is computed")
        )

    def __reduce__(self) -> Any:
        definition = self._definition
        sources = travelling_sources(definition.template.functions.values())
        parts = (definition.planner, definition.call, definition.options)
        return _arrived, (type(self), sources, *parts)

    # What users ask

    def compute(
        self, seed: int | None = None, reuse: bool | None = None, progress: bool = False,
        **kwargs: Any,
    ) -> T_co:  # fmt: skip
        """Run a trial and return its result.

        Parameters
        ----------
        seed : int, optional
            Seed of this trial. Without it, the experiment's; without that, a fresh one.
        reuse : bool, optional
            True: outputs that persisted steps returned in earlier trials are taken, where nothing
            that determines them changed. False: every step runs. None: as the experiment and each
            step say.
        progress : bool
            Whether to show the steps that are done, running and failed, by a bar.
        **kwargs
            As for :func:`dask.compute`, such as ``scheduler``.

        Returns
        -------
        object
            What the result's function returned.

        Raises
        ------
        ParameterUndefinedError
            If a parameter has no value. No trial is recorded.
        StoreUnavailableError
            If the store is away. Nothing is run.
        Exception
            What a step raised, unchanged; the trial is recorded as failed.
        """
        if not kwargs.keys() <= USUAL:
            check_keywords("compute", kwargs, ("seed", "reuse", "progress"))
        options = self._definition.options
        if seed is not None or reuse is not None:
            options = options.refined(seed=check_seed(seed), reuse=check_reuse(reuse))
        if not progress:
            return self.compute_with(options, kwargs)  # type: ignore[no-any-return]
        steps = len(self._definition.template.graph.nodes)
        with reporting(StepBar(steps, self.name)) as reporter:
            value = self.compute_with(options.refined(progress=reporter), kwargs)
            return value  # type: ignore[no-any-return]  # noqa: RET504  # known when it has run

    def compute_with(self, options: TrialOptions, kwargs: Mapping[str, Any]) -> Any:
        """Run a trial as it is asked for, and return its result; keywords are Dask's."""
        definition = self._definition.with_options(options)
        plan = definition.plan()
        self._local.computed = plan.token
        return definition.compute(plan, kwargs)

    def bind(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """Return a result with these parameter values; the experiment stays as it is.

        Parameters
        ----------
        values : mapping of str to object, optional
            Names and values of parameters whose names are no identifiers, as the leaves of a
            configuration: ``{"opt.lr": 0.1}``.
        **named
            Parameter names and values.

        Returns
        -------
        Result
            Computing it is a trial with these values.

        Raises
        ------
        ParameterUndeclaredError
            If the experiment has no such parameter.
        ConfigurationError
            If a value does not fit the configuration that it is a leaf of.
        TypeError
            If a value is a node, which is no data before it is computed.
        """
        options, parameters = self._definition.options, self._definition.planner.parameters
        given = parameters.fitted(all_named("bind", values, named), options.values)
        values = parameters.covered(given)
        return self.with_options(replace(options, values={**options.values, **values}))

    def visualize(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the steps and parameters, as :func:`dask.visualize` does."""
        return visualize(self.as_input(), *args, traverse=False, **kwargs)

    @property
    def name(self) -> str:
        """Name of the result's step."""
        return str(self._definition.name)

    # What other modules ask; hidden from users' completion

    @property
    def definition(self) -> ResultDefinition:
        """What computing the result means."""
        return self._definition  # type: ignore[no-any-return]  # a slot of an untyped class

    @property
    def computed_token(self) -> str | None:
        """Token of the trial that `compute` ran last in this thread."""
        return self._local.computed  # type: ignore[no-any-return]  # a slot of an untyped class

    def with_options(self, options: TrialOptions) -> Self:
        """Return a result whose trials are asked for in this way."""
        return self.of(self._definition.with_options(options))

    @classmethod
    def of(cls, definition: ResultDefinition) -> Self:
        """Return the node of a definition."""
        result = cls.__new__(cls)
        result._define(definition)
        return result

    def as_input(self) -> CallNode:
        """Inside another result's graph, a result is a step like others."""
        return Step(self._definition.call)

    def __dir__(self) -> list[str]:
        inside = ("as_input", "compute_with", "computed_token", "definition", "of", "with_options")
        return [name for name in dir(type(self)) if name not in inside]

    def __repr__(self) -> str:
        return f"Result({self.name!r}{self._described()})"

    def _described(self) -> str:
        definition = self._definition
        values = definition.planner.parameters.covered(definition.options.values)
        bound = [f"{name}={shorten(plain_repr(value), 30)}" for name, value in values.items()]
        return "".join(f", {item}" for item in bound)

    def _repr_html_(self) -> str:
        definition = self.definition
        values = definition.planner.parameters.current(definition.options.values)
        rows = [[name, shorten(plain_repr(values.get(name, "no value or computed")), 60)]
                for name in definition.template.parameters]  # fmt: skip
        return html_table([f"Result {self.name}", "Value"], rows)

    def _next(self) -> TrialGraph:
        """Return the graph that this thread computes next: as long as parameters stay the same."""
        graph, stamp = self._local.current, self._definition.planner.parameters.stamp
        if graph is None or stamp != self._local.stamp:
            self._local.stamp = stamp
            graph = self._local.current = self._definition.trial_graph(later=True)
        return graph  # type: ignore[no-any-return]  # a slot of an untyped class


def _arrived(kind: type[ResultNode], sources: Any, *parts: Any) -> ResultNode:
    """Return a result that was pickled, and tell the sources of its functions."""
    register_travelled(sources)
    return kind(*parts)


def _rebuild(
    graph: Any, key: Any, length: int | None, rename: Mapping[str, str] | None = None
) -> Delayed:
    """Return a plain node of a computed or optimised trial: it is no template any more."""
    if rename:
        key = rename.get(key, key)
    layer = key
    if isinstance(graph, HighLevelGraph) and key not in graph.layers:
        layer = next(name for name, tasks in graph.layers.items() if key in tasks)
    return Delayed(key, graph, length, layer=layer)
