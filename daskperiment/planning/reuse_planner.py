"""The reuse plans of one experiment's trials, with the reasons for what must run."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from daskperiment.client.tracker import tracker_of
from daskperiment.codec import check_object
from daskperiment.errors import CorruptRecordError, StoreError, UntrustedObjectError
from daskperiment.execution.trial import TrialRequest
from daskperiment.graph.template import Template
from daskperiment.planning.decisions import NEVER_RUN, decide_reuse, keys_without_reuse
from daskperiment.planning.reasons import PastTrials, Reason, TrialMakeup, why
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Code
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import KeySpec
from daskperiment.reuse.reuse_plan import ReusePlan, StepKeys
from daskperiment.store.protocol import Store

__all__ = ["ReusePlanner", "StepForecast", "reusable_steps"]


class StepForecast(NamedTuple):
    """What becomes of one step, if the trial is computed now."""

    spec: KeySpec
    trial: int | None
    """The trial whose output is taken, None if the step runs or is not needed."""
    needed: bool
    reusable: bool
    text: str
    """Why it must run."""
    reasons: Sequence[Reason] = ()


def reusable_steps(template: Template, asked: bool | None, every: bool) -> list[Hashable]:
    """Return the keys of the steps whose outputs may be reused.

    Parameters
    ----------
    template : Template
    asked : bool, optional
        What is asked of the one trial.
    every : bool
        What the experiment says of steps that say nothing.
    """
    if not template.persisting or asked is False:
        return []
    every = asked or every
    return [
        spec.key for spec in template.key_specs.specs
        if spec.persist and (spec.reuse or (every and spec.reuse is not False))
    ]  # fmt: skip


class ReusePlanner:
    """Plans what the trials of one experiment reuse.

    Parameters
    ----------
    store : Store
        Where outputs of earlier trials are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._past = PastTrials(store)

    def plan(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest, code: Code
    ) -> ReusePlan:
        """Return the reuse plan of a trial that is about to be computed.

        A store that is away offers nothing to reuse; the trial's first task says that it is away.
        """
        if reusable:
            with suppress(StoreError):
                return self._explained(template, reusable, request, code)
        specs = template.key_specs
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        return ReusePlan(step_keys=keys_without_reuse(specs.specs, cache_keys))

    def forecasts(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest, code: Code
    ) -> list[StepForecast]:
        """Return what would become of each step.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        plan = self._loadable(template, reusable, request, code)
        now = TrialMakeup(request.values, code, template.graph)
        allowed = set(reusable)
        return [
            self._forecast(spec, plan, spec.key in allowed, now)
            for spec in template.key_specs.specs
            if spec.step
        ]

    def _explained(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest, code: Code
    ) -> ReusePlan:
        plan = self._decided(template, reusable, request, code)
        now = TrialMakeup(request.values, code, template.graph)
        step_keys = {place: self._with_reason(place, keys, now)
                     for place, keys in plan.step_keys.items()}  # fmt: skip
        self._past.add(now)
        return replace(plan, step_keys=step_keys)

    def _decided(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest, code: Code
    ) -> ReusePlan:
        specs = template.key_specs
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        recorder = recorder_for(self._store)
        recorder.settle()
        tracker = tracker_of(recorder)
        in_flight = tracker.in_flight() if tracker is not None else frozenset()
        return decide_reuse(self._store, specs.specs, cache_keys, reusable, in_flight)

    def _loadable(
        self, template: Template, reusable: Collection[Hashable], request: TrialRequest, code: Code
    ) -> ReusePlan:
        """Return a plan without the outputs that would turn out not to be loadable."""
        refused: dict[Hashable, str] = {}
        while True:
            left = [key for key in reusable if key not in refused]
            plan = self._decided(template, left, request, code)
            found = {
                key: why
                for key, hit in plan.hits.items()
                if key in plan.needed and (why := self._refusal(hit, request))
            }
            if not found:
                return replace(plan, reasons={**plan.reasons, **refused})
            refused.update(found)

    def _refusal(self, hit: Hit, request: TrialRequest) -> str:
        if hit.digest is None:
            return ""
        try:
            data = self._store.get(hit.digest)
            check_object(data, hit.digest, request.setup.signing_key)
        except (CorruptRecordError, UntrustedObjectError, KeyError) as error:
            return f"the output that trial {hit.entry.trial} kept could not be loaded: {error}"
        return ""

    def _with_reason(self, place: str, keys: StepKeys, now: TrialMakeup) -> StepKeys:
        if keys.reason != NEVER_RUN:
            return keys
        return keys._replace(reason=_joined(why(place, now, self._past.latest_with(place))))

    def _forecast(
        self, spec: KeySpec, plan: ReusePlan, reusable: bool, now: TrialMakeup
    ) -> StepForecast:
        hit, needed = plan.hits.get(spec.key), spec.key in plan.needed
        if hit is not None:
            return StepForecast(spec, hit.entry.trial, needed, True, "")
        text, reasons = plan.reasons.get(spec.key, ""), []
        if reusable and text == NEVER_RUN:
            reasons = why(spec.place, now, self._past.latest_with(spec.place))
            text = _joined(reasons)
        return StepForecast(spec, None, needed, reusable, text, reasons)


def _joined(reasons: Sequence[Reason]) -> str:
    return "; ".join(reason.text for reason in reasons) or NEVER_RUN
