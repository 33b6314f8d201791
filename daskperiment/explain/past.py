"""What a trial reused and what not, from its records."""

from __future__ import annotations

from daskperiment.compare.evidence import collect
from daskperiment.explain.explanation import PLAIN, Explanation, StepExplanation, hit
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.records import StepRun
from daskperiment.store.protocol import Store

__all__ = ["explain_trial"]


def explain_trial(store: Store, trial_id: int) -> Explanation:
    """Tell for each step of a trial whether its output was reused, and if not, why.

    Raises
    ------
    TrialIDNotFoundError
        If there is no such trial.
    """
    evidence = collect(store, trial_or_raise(store, trial_id))
    result = evidence.trial.begun.result
    steps = tuple(
        _of_run(node.key, node.step, evidence.runs.get(node.key))
        for node in evidence.nodes.values()
    )
    return Explanation(f"Trial {evidence.trial.trial}, {result} ({evidence.trial.status}):", steps)


def _of_run(key: str, step: str, run: StepRun | None) -> StepExplanation:
    if run is None:
        return StepExplanation(key, step, "not needed", "it did not run")
    if run.reused is not None:
        return hit(key, step, run.reused)
    if run.reason is not None:
        return StepExplanation(key, step, "miss", run.reason)
    return StepExplanation(key, step, "run", PLAIN)
