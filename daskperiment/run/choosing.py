"""Choosing what a trial reuses, with the reasons for what it does not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, Protocol

from daskperiment.codec import check_object
from daskperiment.errors import CorruptRecordError, StoreError, UntrustedObjectError
from daskperiment.records import Code, Graph
from daskperiment.run.facts import Hit
from daskperiment.run.following import followed
from daskperiment.run.plan import Request
from daskperiment.run.reasons import Past, PastTrials, Reason, why
from daskperiment.run.recipes import Formula, Formulas
from daskperiment.run.recorder import recorder_for
from daskperiment.run.reuse import NEVER_RUN, Arrangement, Mark, arrange, plain_marks
from daskperiment.store.protocol import Store

__all__ = ["Chooser", "Prospect", "reusable_steps"]


class Design(Protocol):
    """What is to be chosen from."""

    @property
    def graph(self) -> Graph:
        """The steps in graph order."""

    @property
    def persisting(self) -> bool:
        """Whether any step's output is kept."""

    @property
    def formulas(self) -> Formulas:
        """How the recipes of the nodes are made."""


class Prospect(NamedTuple):
    """What becomes of one step, if the trial is computed now."""

    formula: Formula
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
        formula.key for formula in design.formulas.formulas
        if formula.persist and (formula.reuse or (every and formula.reuse is not False))
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
    ) -> Arrangement:
        """Choose for a trial that is about to be computed.

        A store that is away offers nothing to reuse; the trial's first task says that it is away.
        """
        formulas = design.formulas
        if reusable:
            with suppress(StoreError):
                arrangement = self._arranged(design, reusable, request, code)
                now = Past(request.values, code, design.graph)
                marks = {
                    formula.place: self._explained(formula, arrangement, now)
                    for formula in formulas.formulas
                    if formula.place in arrangement.marks
                }
                self._past.add(now)
                return replace(arrangement, marks=marks)
        recipes = formulas.recipes(request.values, code.steps, request.seed)
        return Arrangement(marks=plain_marks(formulas.formulas, recipes))

    def prospects(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> list[Prospect]:
        """Tell what would become of each step.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        arrangement = self._checked(design, reusable, request, code)
        now = Past(request.values, code, design.graph)
        return [
            self._prospect(formula, arrangement, formula.key in reusable, now)
            for formula in design.formulas.formulas
            if formula.step
        ]

    def _checked(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> Arrangement:
        """Arrange a trial without the outputs that would turn out not to be loadable."""
        refused: dict[Hashable, str] = {}
        while True:
            left = [key for key in reusable if key not in refused]
            arrangement = self._arranged(design, left, request, code)
            found = {
                key: why
                for key, hit in arrangement.hits.items()
                if key in arrangement.needed and (why := self._refusal(hit, request))
            }
            if not found:
                return replace(arrangement, reasons={**arrangement.reasons, **refused})
            refused.update(found)

    def _refusal(self, hit: Hit, request: Request) -> str:
        if hit.digest is None:
            return ""
        try:
            data = self._store.get(hit.digest)
            check_object(data, hit.digest, request.common.signing_key)
        except (CorruptRecordError, UntrustedObjectError, KeyError) as error:
            return f"the output that trial {hit.fact.trial} kept could not be loaded: {error}"
        return ""

    def _arranged(
        self, design: Design, reusable: Sequence[Hashable], request: Request, code: Code
    ) -> Arrangement:
        formulas = design.formulas
        recipes = formulas.recipes(request.values, code.steps, request.seed)
        recorder_for(self._store).settle()
        return arrange(self._store, formulas.formulas, recipes, reusable, self._in_flight())

    def _in_flight(self) -> Callable[[str], bool]:
        """Tell what trials that this process gave to a cluster are making now."""
        flights = followed(recorder_for(self._store))
        names: frozenset[str] = frozenset().union(*flights.kept()) if flights else frozenset()
        return names.__contains__

    def _explained(self, formula: Formula, arrangement: Arrangement, now: Past) -> Mark:
        mark = arrangement.marks[formula.place]
        if mark.reason != NEVER_RUN:
            return mark
        return mark._replace(reason=_joined(self._why(formula, now)))

    def _why(self, formula: Formula, now: Past) -> list[Reason]:
        return why(formula.place, now, self._past.of(formula.place))

    def _prospect(
        self, formula: Formula, arrangement: Arrangement, reusable: bool, now: Past
    ) -> Prospect:
        hit, needed = arrangement.hits.get(formula.key), formula.key in arrangement.needed
        if hit is not None:
            return Prospect(formula, hit.fact.trial, needed, True, "")
        text = arrangement.reasons.get(formula.key, "")
        reasons = self._why(formula, now) if reusable and text == NEVER_RUN else []
        text = _joined(reasons) if reasons else text
        return Prospect(formula, None, needed, reusable, text, reasons)


def _joined(reasons: Sequence[Reason]) -> str:
    return "; ".join(reason.text for reason in reasons) or NEVER_RUN
