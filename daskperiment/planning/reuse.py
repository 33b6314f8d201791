"""Choosing what a trial reuses, with the reasons for what it does not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, Protocol

from daskperiment.client.tracker import followed
from daskperiment.codec import check_object
from daskperiment.errors import CorruptRecordError, StoreError, UntrustedObjectError
from daskperiment.execution.request import Request
from daskperiment.planning.arranging import (
    NEVER_RUN,
    KeyMark,
    ReusePlan,
    marks_without_reuse,
    plan_reuse,
)
from daskperiment.planning.reasons import Past, PastTrials, Reason, why
from daskperiment.recording.recorder import recorder_for
from daskperiment.records import Code, Graph
from daskperiment.reuse.cache_entries import Hit
from daskperiment.reuse.cache_keys import KeySpec, KeySpecs
from daskperiment.store.protocol import Store

__all__ = ["Chooser", "StepForecast", "reusable_steps"]


class Design(Protocol):
    """What is to be chosen from."""

    @property
    def graph(self) -> Graph:
        """The steps in graph order."""

    @property
    def persisting(self) -> bool:
        """Whether any step's output is kept."""

    @property
    def specs(self) -> KeySpecs:
        """How the cache_keys of the nodes are made."""


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


def reusable_steps(design: Design, asked: bool | None, every: bool) -> list[Hashable]:
    """List the keys of the steps whose outputs may be reused.

    Parameters
    ----------
    design : Design
    asked : bool, optional
        What is asked of the one trial.
    every : bool
        What the experiment says of steps that say nothing.
    """
    if not design.persisting or asked is False:
        return []
    every = asked or every
    return [
        spec.key for spec in design.specs.specs
        if spec.persist and (spec.reuse or (every and spec.reuse is not False))
    ]  # fmt: skip


class Chooser:
    """Chooses for the trials of one experiment.

    Parameters
    ----------
    store : Store
        Where outputs of earlier trials are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._past = PastTrials(store)

    def choose(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> ReusePlan:
        """Choose for a trial that is about to be computed.

        A store that is away offers nothing to reuse; the trial's first task says that it is away.
        """
        specs = design.specs
        if reusable:
            with suppress(StoreError):
                reuse_plan = self._reuse(design, reusable, request, code)
                now = Past(request.values, code, design.graph)
                marks = {
                    spec.place: self._explained(spec, reuse_plan, now)
                    for spec in specs.specs
                    if spec.place in reuse_plan.marks
                }
                self._past.add(now)
                return replace(reuse_plan, marks=marks)
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        return ReusePlan(marks=marks_without_reuse(specs.specs, cache_keys))

    def forecasts(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> list[StepForecast]:
        """Tell what would become of each step.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        reuse_plan = self._checked(design, reusable, request, code)
        now = Past(request.values, code, design.graph)
        return [
            self._forecast(spec, reuse_plan, spec.key in reusable, now)
            for spec in design.specs.specs
            if spec.step
        ]

    def _checked(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> ReusePlan:
        """Arrange a trial without the outputs that would turn out not to be loadable."""
        refused: dict[Hashable, str] = {}
        while True:
            left = [key for key in reusable if key not in refused]
            reuse_plan = self._reuse(design, left, request, code)
            found = {
                key: why
                for key, hit in reuse_plan.hits.items()
                if key in reuse_plan.needed and (why := self._refusal(hit, request))
            }
            if not found:
                return replace(reuse_plan, reasons={**reuse_plan.reasons, **refused})
            refused.update(found)

    def _refusal(self, hit: Hit, request: Request) -> str:
        if hit.digest is None:
            return ""
        try:
            data = self._store.get(hit.digest)
            check_object(data, hit.digest, request.common.signing_key)
        except (CorruptRecordError, UntrustedObjectError, KeyError) as error:
            return f"the output that trial {hit.entry.trial} kept could not be loaded: {error}"
        return ""

    def _reuse(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> ReusePlan:
        specs = design.specs
        cache_keys = specs.cache_keys(request.values, code.steps, request.seed)
        recorder_for(self._store).settle()
        return plan_reuse(self._store, specs.specs, cache_keys, reusable, self._in_flight())

    def _in_flight(self) -> Callable[[str], bool]:
        """Tell what trials that this process gave to a cluster are making now."""
        flights = followed(recorder_for(self._store))
        names: frozenset[str] = frozenset().union(*flights.kept()) if flights else frozenset()
        return names.__contains__

    def _explained(self, spec: KeySpec, reuse_plan: ReusePlan, now: Past) -> KeyMark:
        mark = reuse_plan.marks[spec.place]
        if mark.reason != NEVER_RUN:
            return mark
        return mark._replace(reason=_joined(self._why(spec, now)))

    def _why(self, spec: KeySpec, now: Past) -> list[Reason]:
        return why(spec.place, now, self._past.of(spec.place))

    def _forecast(
        self, spec: KeySpec, reuse_plan: ReusePlan, reusable: bool, now: Past
    ) -> StepForecast:
        hit, needed = reuse_plan.hits.get(spec.key), spec.key in reuse_plan.needed
        if hit is not None:
            return StepForecast(spec, hit.entry.trial, needed, True, "")
        text = reuse_plan.reasons.get(spec.key, "")
        reasons = self._why(spec, now) if reusable and text == NEVER_RUN else []
        text = _joined(reasons) if reasons else text
        return StepForecast(spec, None, needed, reusable, text, reasons)


def _joined(reasons: Sequence[Reason]) -> str:
    return "; ".join(reason.text for reason in reasons) or NEVER_RUN
