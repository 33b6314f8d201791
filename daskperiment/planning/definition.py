"""What a result is apart from being a node: a call, its experiment's planner, and options."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from dask.delayed import Delayed

from daskperiment.client.completion import completing
from daskperiment.execution.tasks import UserFunction
from daskperiment.graph.step import StepCall, with_functions
from daskperiment.graph.template import Template, TrialGraph, compile_template
from daskperiment.parameters import Parameters
from daskperiment.planning.options import TrialOptions
from daskperiment.planning.planner import Planner
from daskperiment.planning.reuse_planner import StepForecast

__all__ = ["ResultDefinition"]


class _Compiled:
    """The template of one call, made anew when the experiment's parameters are declared anew."""

    def __init__(self) -> None:
        self._version: tuple[int, int] | None = None
        self._template: Template | None = None

    def template(self, call: StepCall, parameters: Parameters) -> Template:
        """Return the template."""
        if self._template is None or self._version != parameters.version:
            self._version = parameters.version
            self._template = compile_template(call.step, call.key, call.graph, parameters.keys)
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
        return replace(self, options=options)

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
        plan = self.planner.plan(template, self.options, later, watched)
        return template.instantiate(plan.token, plan.source, plan.reuse)

    def compute(self, graph: TrialGraph, keywords: Mapping[str, Any]) -> Any:
        """Run a trial in the way that Dask computes, and return its result.

        Parameters
        ----------
        graph : TrialGraph
            From `trial_graph`.
        keywords : mapping
            As for :func:`dask.compute`.
        """
        progress = self.options.progress
        showing = nullcontext() if progress is None else progress.watch(self._steps(graph))
        with showing, completing(self.planner.store, graph.token):
            return Delayed(graph.key, graph.graph).compute(**keywords)

    def _steps(self, graph: TrialGraph) -> dict[Any, str]:
        places = self.template.places
        return {graph.keys[key]: place for key, place in places.items() if key in graph.keys}

    def forecasts(self) -> tuple[list[StepForecast], bool]:
        """Return what would become of each step, and whether any may reuse an output.

        Where none may, it is told what would become of them with ``reuse=True``.
        """
        return self.planner.forecasts(self.template, self.options)
