"""Results: nodes whose computation is a trial."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol, Self

from dask.base import visualize
from dask.delayed import Delayed, single_key
from dask.highlevelgraph import HighLevelGraph

from daskperiment.execution.progress import StepBar, showing
from daskperiment.execution.random_state import check_seed
from daskperiment.execution.request import Plan
from daskperiment.formatting import html_table, shorten
from daskperiment.graph.arguments import Node
from daskperiment.graph.step import Step
from daskperiment.graph.template import Bound, Template, compile_template
from daskperiment.parameters import Parameters
from daskperiment.planning.options import TrialOptions, check_reuse
from daskperiment.planning.reuse import StepForecast

__all__ = ["Planner", "ResultNode"]


class Planner(Protocol):
    """What a result needs of its experiment."""

    parameters: Parameters

    def plan(self, template: Template, token: str, order: TrialOptions) -> Plan:
        """Make the plan of a trial that is computed later, or never."""

    def settled_plan(self, template: Template, token: str, order: TrialOptions) -> Plan:
        """Make the plan of a trial that is computed right now."""

    def submitting(self, template: Template) -> None:
        """Take note that a trial of this template is about to be computed."""

    def forecasts(self, template: Template, order: TrialOptions) -> tuple[list[StepForecast], bool]:
        """Tell what would become of each step, were the trial computed now."""

    def watching(self, token: str) -> AbstractContextManager[None]:
        """Give a context manager that sees to the trial's end if its last task cannot."""


class _Local(threading.local):
    """The graph that a thread is about to compute, and the one it submitted last."""

    current: Bound | None = None
    stamp: Any = None
    """Of the parameters that the current graph was made with."""
    submitted: Bound | None = None
    computed: str | None = None
    """Token of the trial that the thread computed last."""


class ResultNode(Node):
    """What the call of a result's function makes.

    It is a :class:`dask.delayed.Delayed`: whoever computes it, in whatever way and on whatever
    scheduler, runs a trial. Every computation is a trial of its own.
    """

    __slots__ = ("_compiled", "_local", "_options", "_planner", "_step")

    def __init__(self, planner: Planner, step: Step, order: TrialOptions | None = None) -> None:
        # Not Delayed.__init__: the key and the graph are made anew for every trial.
        for name, value in {
            "_planner": planner, "_step": step, "_options": order or TrialOptions(),
            "_compiled": None, "_local": _Local(), "_length": step._length,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    # What Dask asks of a collection

    @property
    def key(self) -> Any:
        """Key of the graph that this thread computes next."""
        return self._bound().key

    _key = key
    _layer = key

    @property
    def dask(self) -> HighLevelGraph:
        """The graph that this thread computes next; making it records nothing."""
        return self._bound().graph

    _dask = dask

    def __dask_keys__(self) -> list[Any]:
        # Early versions of Dask ask for them after `__dask_postcompute__`, and the like, too.
        local = self._local
        bound = local.submitted if local.current is None and local.submitted else self._bound()
        return [bound.key]

    def __dask_postcompute__(self) -> Any:
        # The one call that every kind of submission makes, once, and in the user's process.
        self._planner.submitting(self._template)
        self._local.submitted, self._local.current = self._bound(), None
        return single_key, ()

    def __dask_postpersist__(self) -> Any:
        bound = self._local.current or self._local.submitted or self._bound()
        self._local.submitted, self._local.current = bound, None
        return _rebuild, (bound.key, self._length)

    def __hash__(self) -> int:
        return hash(self._step.key)

    def __reduce__(self) -> Any:
        return type(self), (self._planner, self._step, self._options)

    # What users ask

    def compute(
        self, seed: int | None = None, reuse: bool | None = None, progress: bool = False,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
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
        order = self._options.refined(seed=check_seed(seed), reuse=check_reuse(reuse))
        if not progress:
            return self._run(order, kwargs)
        with showing(StepBar(len(self._template.graph.nodes), self.name)) as reporter:
            return self._run(order.refined(progress=reporter), kwargs)

    def _run(self, order: TrialOptions, kwargs: Mapping[str, Any]) -> Any:
        template, planner = self._template, self._planner
        bound = template.instantiate(lambda token: planner.settled_plan(template, token, order))
        self._local.computed = bound.token
        with self._planner.watching(bound.token):
            return Delayed(bound.key, bound.graph).compute(**kwargs)

    def bind(self, **values: Any) -> Self:
        """Make a result with these parameter values; the experiment stays as it is.

        Parameters
        ----------
        **values
            Parameter names and values.

        Returns
        -------
        Result
            Computing it is a trial with these values.

        Raises
        ------
        ParameterUndeclaredError
            If the experiment has no such parameter.
        """
        self._planner.parameters.check_declared(values)
        return self.with_options(replace(self._options, values={**self._options.values, **values}))

    def with_options(self, order: TrialOptions) -> Self:
        """Make a result whose trials are asked for in this way."""
        result = type(self)(self._planner, self._step, order)
        object.__setattr__(result, "_compiled", self._compiled)
        return result

    def forecasts(self) -> tuple[list[StepForecast], bool]:
        """Tell what would become of each step, and whether any is allowed to reuse an output.

        Where none is, it is told what would become of them with ``reuse=True``.
        """
        planner: Planner = self._planner
        return planner.forecasts(self._template, self._options)

    def visualize(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the steps and parameters, as :func:`dask.visualize` does."""
        return visualize(self._step, *args, traverse=False, **kwargs)

    @property
    def computed_token(self) -> str | None:
        """Token of the trial that `compute` ran last in this thread."""
        return self._local.computed  # type: ignore[no-any-return]  # a slot of an untyped class

    @property
    def name(self) -> str:
        """Name of the result's step."""
        return str(self._step._step)

    def as_input(self) -> Node:
        """Inside another result's graph, a result is a step like others."""
        return self._step  # type: ignore[no-any-return]  # a slot of an untyped class

    def __dir__(self) -> list[str]:
        inside = ("as_input", "computed_token", "with_options", "forecasts")
        return [name for name in dir(type(self)) if name not in inside]

    def __repr__(self) -> str:
        return f"Result({self.name!r}{self._described()})"

    def _described(self) -> str:
        bound = [
            f"{name}={shorten(repr(value), 30)}" for name, value in self._options.values.items()
        ]
        return "".join(f", {item}" for item in bound)

    def _repr_html_(self) -> str:
        values = self._planner.parameters.current(self._options.values)
        rows = [[name, shorten(repr(values.get(name, "no value or computed")), 60)]
                for name in self._template.parameters]  # fmt: skip
        return html_table([f"Result {self.name}", "Value"], rows)

    # Making graphs

    @property
    def _template(self) -> Template:
        version = self._planner.parameters.version
        if self._compiled is None or self._compiled[0] != version:
            step = self._step
            template = compile_template(
                step._step, step.key, step.dask, self._planner.parameters.keys
            )
            object.__setattr__(self, "_compiled", (version, template))
        return self._compiled[1]  # type: ignore[no-any-return]  # a slot of an untyped class

    def _bound(self) -> Bound:
        bound, stamp = self._local.current, self._planner.parameters.stamp
        if bound is None or stamp != self._local.stamp:
            template, plan = self._template, self._planner.plan
            self._local.stamp = stamp
            bound = self._local.current = template.instantiate(
                lambda token: plan(template, token, self._options)
            )
        return bound  # type: ignore[no-any-return]  # a slot of an untyped class


def _rebuild(
    graph: Any, key: Any, length: int | None, rename: Mapping[str, str] | None = None
) -> Delayed:
    """Make a plain node of a computed or optimised trial: it is no template any more."""
    if rename:
        key = rename.get(key, key)
    layer = key
    if isinstance(graph, HighLevelGraph) and key not in graph.layers:
        layer = next(name for name, tasks in graph.layers.items() if key in tasks)
    return Delayed(key, graph, length, layer=layer)
