"""What would become of the steps of a trial, were it computed now."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple

from daskperiment.codec import check_kept
from daskperiment.errors import CorruptRecordError, UntrustedObjectError
from daskperiment.execution.trial import TrialRequest
from daskperiment.graph.template import Template
from daskperiment.planning.past_trials import TrialMakeup
from daskperiment.planning.reasons import Reason, ReasonFinder
from daskperiment.planning.reuse_planner import ReusePlanner
from daskperiment.records import CacheEntry
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.key_parts import KeySpec
from daskperiment.reuse.reuse_plan import NEVER_RUN, ReusePlan
from daskperiment.store.protocol import Store

__all__ = ["StepForecast", "forecast_steps"]

MOST_NAMED = 3
"""How many steps are named of which it depends whether another one runs."""

Key = Hashable


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

    def unless(self, condition: str) -> StepForecast:
        """Return the forecast of a step that is a hit after all under a condition."""
        return self._replace(text=f"{self.text}; runs, unless {condition}")


def forecast_steps(
    planner: ReusePlanner, store: Store, template: Template, reusable: Collection[Hashable],
    request: TrialRequest, now: TrialMakeup,
) -> list[StepForecast]:  # fmt: skip
    """Return what would become of each step.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    refused: set[str | None] = set()

    def refusal(hit: Hit) -> str:
        reason = _refusal(store, hit, request)
        if reason:
            refused.add(hit.digest)
        return reason

    plan = planner.decided(template, reusable, request, now.code, refusal)
    allowed = set(reusable)
    finder = planner.finder(now)
    found = [
        _forecast(spec, plan, spec.key in allowed, finder)
        for spec in template.key_specs.specs
        if spec.step
    ]
    known = _present(store, plan.known_calls, refused)
    taken = {template.places[key] for key in plan.hits}
    return [
        _conditional(forecast, known[forecast.spec.key].trial, now, taken)
        if forecast.needed and forecast.spec.key in known
        else forecast
        for forecast in found
    ]


def _refusal(store: Store, hit: Hit, request: TrialRequest) -> str:
    """Return why an output would turn out not to be loadable, empty if it would not."""
    if hit.digest is None:
        return ""
    try:
        check_kept(hit.entry.kept["value"], store.get, request.setup.signing_key)
    except (CorruptRecordError, UntrustedObjectError, KeyError) as error:
        return f"the output that trial {hit.entry.trial} kept could not be loaded: {error}"
    return ""


def _present(
    store: Store, known: Mapping[Key, CacheEntry], refused: Collection[str | None]
) -> dict[Key, CacheEntry]:
    """Return the entries whose outputs are still in the store, and were not refused."""
    found = {key: Hit("", entry).digest for key, entry in known.items()}
    digests = {key: each for key, each in found.items() if each not in refused}
    there = store.sizes({each for each in digests.values() if each is not None})
    return {key: known[key] for key, each in digests.items() if each is None or each in there}


def _forecast(spec: KeySpec, plan: ReusePlan, reusable: bool, finder: ReasonFinder) -> StepForecast:
    hit, needed = plan.hits.get(spec.key), spec.key in plan.needed
    if hit is not None:
        return StepForecast(spec, hit.entry.trial, needed, True, "")
    reasons: Sequence[Reason] = ()
    text = plan.reasons.get(spec.key, "")
    if reusable and spec.key in plan.never:
        text = f"never reused: {plan.never[spec.key]}"
    elif reusable and text == NEVER_RUN:
        text, reasons = finder.told(spec.place, plan.unfit.get(spec.place))
    return StepForecast(spec, None, needed, reusable, text, reasons)


def _conditional(
    forecast: StepForecast, trial: int, now: TrialMakeup, taken: Collection[str]
) -> StepForecast:
    """Return the forecast of a step that is a hit after all if its inputs are those of a trial."""
    before = now.nodes[forecast.spec.place].steps
    if not before or len(before) > MOST_NAMED or any(each in taken for each in before):
        condition = f"its inputs are those of trial {trial}"
    else:
        verb = "return" if len(before) > 1 else "returns"
        condition = f"{' and '.join(map(repr, before))} {verb} the same as in trial {trial}"
    return forecast.unless(condition)
