"""What would be reused or was, what runs, and why: as people see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from daskperiment.compare.evidence import collect
from daskperiment.formatting import html_table, one_line, table
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.planning.forecasts import StepForecast
from daskperiment.records import Node, StepRun
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Explanation", "StepExplanation", "explain_forecasts", "explain_trial"]

Verdict = Literal["hit", "miss", "run", "not needed"]
"""``hit``: the output of an earlier trial is taken. ``miss``: it might be, but the step must run.
``run``: the step's output is never reused. ``not needed``: only outputs that are reused need it."""

_NOT_REUSED = "its output is not to be reused"


@dataclass(frozen=True)
class StepExplanation:
    """What becomes of one step."""

    key: str
    step: str
    verdict: Verdict
    reason: str = ""
    """Why the step must run, in words; for a hit, where the output comes from."""
    trial: int | None = None
    """The trial that the output is taken from."""
    diffs: tuple[str, ...] = ()
    """Changes of code that make it run, as unified diffs."""


@dataclass(frozen=True, repr=False)
class Explanation:
    """For each step of a result: a hit or a miss, and why.

    Printed, it is a table with the changes of code below it.

    Attributes
    ----------
    title : str
        What is explained.
    steps : tuple of StepExplanation
        In graph order: inputs before those who take them.
    """

    title: str
    steps: tuple[StepExplanation, ...]

    def __iter__(self) -> Iterator[StepExplanation]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, key: str) -> StepExplanation:
        """Return what becomes of a step; its key is its name, ``#2`` behind a second call."""
        for step in self.steps:
            if step.key == key:
                return step
        known = ", ".join(repr(step.key) for step in self.steps)
        raise KeyError(f"There is no step {key!r}; the steps are {known}")

    def to_frame(self) -> pd.DataFrame:
        """Return the steps as a table, with the columns Step, Verdict, Trial and Reason."""
        import pandas as pd  # noqa: PLC0415  # slow to load, and only needed here

        rows = [(s.key, s.step, s.verdict, s.trial, s.reason) for s in self.steps]
        frame = pd.DataFrame(rows, columns=["Key", "Step", "Verdict", "Trial", "Reason"])
        return frame.astype({"Trial": "Int64"}).set_index("Key")

    def __repr__(self) -> str:
        listed = table(["step", "verdict", "why"], self._rows(), indent="  ")
        return "\n".join([self.title, listed, *self._diffs()])

    def _repr_html_(self) -> str:
        diffs = "".join(f"<pre>{escape(diff)}</pre>" for diff in self._diffs())
        return html_table([self.title, "", ""], self._rows()) + diffs

    def _rows(self) -> list[list[str]]:
        return [[one_line(s.key), s.verdict, one_line(s.reason)] for s in self.steps]

    def _diffs(self) -> list[str]:
        return list(dict.fromkeys(diff for step in self.steps for diff in step.diffs))


def explain_forecasts(result: str, forecasts: Iterable[StepForecast], reusing: bool) -> Explanation:
    """Return what computing a result would do now."""
    title = f"Computing {result} now" if reusing else f"Computing {result} with reuse=True"
    return Explanation(f"{title}:", tuple(map(_explained, forecasts)))


def _explained(forecast: StepForecast) -> StepExplanation:
    key, step = forecast.spec.place, forecast.spec.step
    if not forecast.needed:
        return StepExplanation(key, step, "not needed", "what follows is reused")
    if forecast.trial is not None:
        return _hit(key, step, forecast.trial, forecast.spec.ignored)
    if not forecast.reusable:
        return StepExplanation(key, step, "run", _NOT_REUSED)
    diffs = tuple(reason.diff for reason in forecast.reasons if reason.diff)
    text = forecast.text + _without(forecast.spec.ignored)
    return StepExplanation(key, step, "miss", text, diffs=diffs)


def explain_trial(store: Store, trial_id: int) -> Explanation:
    """Return for each step of a trial whether its output was reused, and if not, why."""
    evidence = collect(store, trial_or_raise(store, trial_id))
    result = evidence.trial.begun.result
    steps = tuple(_of_run(node, evidence.runs.get(node.key)) for node in evidence.nodes.values())
    return Explanation(f"Trial {evidence.trial.trial}, {result} ({evidence.trial.status}):", steps)


def _of_run(node: Node, run: StepRun | None) -> StepExplanation:
    key, step = node.key, node.step
    if run is None:
        return StepExplanation(key, step, "not needed", "it did not run")
    if run.reused is not None:
        return _hit(key, step, run.reused, node.ignored, run.reason)
    if run.reason is not None:
        return StepExplanation(key, step, "miss", run.reason + _without(node.ignored))
    return StepExplanation(key, step, "run", _NOT_REUSED)


def _hit(
    key: str, step: str, trial: int, ignored: Sequence[str], why: str | None = None
) -> StepExplanation:
    text = f"output of trial {trial}" + (f": {why}" if why else "") + _without(ignored)
    return StepExplanation(key, step, "hit", text, trial)


def _without(ignored: Sequence[str]) -> str:
    return f"; {', '.join(ignored)} ignored" if ignored else ""
