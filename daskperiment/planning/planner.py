"""What an experiment's trials have in common: store, parameters, seed, code and environment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import dask

from daskperiment.client.shipping import prepare, ship
from daskperiment.client.watching import watching
from daskperiment.codec import Blob, dump_record
from daskperiment.execution.lifecycle import undefined
from daskperiment.execution.random_state import fresh_seed
from daskperiment.execution.request import Common, Plan, Request, Settled
from daskperiment.planning.arranging import ReusePlan
from daskperiment.planning.changes import ChangeWatch
from daskperiment.planning.options import TrialOptions
from daskperiment.planning.reuse import Chooser, StepForecast, reusable_steps
from daskperiment.planning.snapshot import CodeSource, EnvironmentSource
from daskperiment.recording.recorder import recorder_for
from daskperiment.records import Code, Environment, Graph
from daskperiment.reuse.cache_keys import KeySpecs
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Store

__all__ = ["Planner", "signing_key"]


class Values(Protocol):
    """The current values of parameters."""

    def current(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """All values of this moment, in order of declaration."""

    def missing(self, needed: Any, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the needed parameters that have no value."""


class Design(Protocol):
    """What a trial's graph is made of."""

    @property
    def result(self) -> str:
        """Name of the result's step."""

    @property
    def graph(self) -> Graph:
        """The steps in graph order."""

    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """Step -> the function that it calls."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are needed."""

    @property
    def persisting(self) -> bool:
        """Whether any step's output is kept."""

    @property
    def specs(self) -> KeySpecs:
        """How the cache_keys of the nodes are made."""


def signing_key() -> bytes | None:
    """Get the configured key that objects are signed with."""
    key = dask.config.get("daskperiment.signing-key", None)
    return key.encode() if isinstance(key, str) else key


class _Kept:
    """What is worked out once for each design."""

    def __init__(self, design: Design) -> None:
        self.code = CodeSource(design.functions)
        self.graph: Blob = dump_record(design.graph)
        self._common: Common | None = None

    def common(
        self, store: Store, result: str, code: Code, code_blob: Blob, environment: Blob
    ) -> Common:
        """Give what coming trials have in common: the same object while nothing changes."""
        last, origin, key = self._common, current_origin(), signing_key()
        now = (code_blob.digest, environment.digest, origin, key)
        if last is None or now != (
            last.code.digest, last.environment.digest, last.origin, last.signing_key
        ):  # fmt: skip
            last = self._common = Common(
                store, result, code_blob, environment, self.graph,
                codes={step: each.fingerprint for step, each in code.steps.items()},
                origin=origin, signing_key=key,
            )  # fmt: skip
        return last


class Planner:
    """Makes the plans of one experiment's trials, and watches over them.

    Parameters
    ----------
    store : Store
        Where trials are recorded.
    parameters : Values
        The experiment's parameters.
    """

    def __init__(self, store: Store, parameters: Values) -> None:
        self.store = store
        self.parameters: Any = parameters  # results see more of it than trials do
        self.seed: int | None = None
        self.reuse = False
        self._environment = EnvironmentSource()
        self._kept: weakref.WeakKeyDictionary[Any, _Kept] = weakref.WeakKeyDictionary()
        self._changes = ChangeWatch(store)
        self._chooser = Chooser(store)

    def __reduce__(self) -> Any:
        state = {"seed": self.seed, "reuse": self.reuse}
        return Planner, (self.store, self.parameters), state

    def settled_plan(self, design: Design, token: str, order: TrialOptions) -> Plan:
        """Make the plan of a trial that is computed right now."""
        request, reuse_plan = self._request(design, token, order)
        if not request.missing:
            prepare(self.store, *request.common.blobs)
        plan = Settled(request, ship)
        plan.reuse_plan = reuse_plan
        plan.keep = reuse_plan.making if reuse_plan else None
        return plan

    def plan(self, design: Design, token: str, order: TrialOptions) -> Plan:
        """Make a trial's plan. Values, code and environment are read when the trial begins."""
        if reusable_steps(design, order.reuse, self.reuse):
            return self.settled_plan(design, token, order)  # the graph depends on it
        return Plan(lambda: self._request(design, token, order)[0], ship)

    def _request(
        self, design: Design, token: str, order: TrialOptions
    ) -> tuple[Request, ReusePlan | None]:
        request, code, environment = self._settle(design, token, order)
        if order.source is None:  # a trial that is run again is compared with its first run
            self._changes.look(code, environment)
        if not design.persisting or request.missing:
            return request, None
        reusable = reusable_steps(design, order.reuse, self.reuse)
        reuse_plan = self._chooser.choose(design, reusable, request, code)
        request = replace(request, marks=reuse_plan.marks)
        return request, reuse_plan if reuse_plan.needed else None

    def _settle(
        self, design: Design, token: str, order: TrialOptions
    ) -> tuple[Request, Code, Environment]:
        values = self.parameters.current(order.values)
        kept = self._keep(design)
        code, code_blob = kept.code.now()
        environment, environment_blob = self._environment.now()
        chosen = next((s for s in (order.seed, self.seed) if s is not None), None)
        request = Request(
            kept.common(self.store, design.result, code, code_blob, environment_blob), token,
            seed=fresh_seed() if chosen is None else chosen,
            values=values, missing=self.parameters.missing(design.parameters, values),
            sweep=order.sweep, source=order.source, progress=order.progress,
        )  # fmt: skip
        return request, code, environment

    def forecasts(self, design: Design, order: TrialOptions) -> tuple[list[StepForecast], bool]:
        """Tell what would become of each step, were the trial computed now.

        And whether any of them may reuse an output; if not, it is told for ``reuse=True``.

        Raises
        ------
        ParameterUndefinedError
            If a parameter has no value.
        StoreError
            If the store cannot be read.
        """
        request, code, _ = self._settle(design, "", order)
        if request.missing:
            raise undefined(request.missing)
        allowed = reusable_steps(design, order.reuse, self.reuse)
        reusable = allowed or reusable_steps(design, True, True)
        return self._chooser.forecasts(design, reusable, request, code), bool(allowed)

    def _keep(self, design: Design) -> _Kept:
        kept = self._kept.get(design)
        if kept is None:
            kept = self._kept[design] = _Kept(design)
        return kept

    def submitting(self, design: Design) -> None:
        """Warn, in the process of the user, of what changed since the previous trial."""
        kept = self._keep(design)
        code, code_blob = kept.code.now()
        environment, environment_blob = self._environment.now()
        prepare(self.store, code_blob, environment_blob, kept.graph)
        self._changes.look(code, environment)

    def watching(self, token: str) -> AbstractContextManager[None]:
        """See to the end of a trial that its last task cannot write down."""
        return watching(recorder_for(self.store), token)

    def code(self, functions: Mapping[str, Callable[..., Any]]) -> Code:
        """Capture the code of these steps, as it is now."""
        return CodeSource(functions).now()[0]

    def environment(self) -> Environment:
        """Capture the environment, as it is now."""
        return self._environment.now()[0]

    def forget(self) -> None:
        """Remember no records: they are about to be deleted."""
        recorder_for(self.store).forget()
        self._changes = ChangeWatch(self.store)
        self._chooser = Chooser(self.store)
