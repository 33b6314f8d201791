"""Making a comparison of what a store holds about two trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from daskperiment.capture.code import changed_functions, diff_functions
from daskperiment.codec import is_object
from daskperiment.compare.causes import changed_entries, compare_steps
from daskperiment.compare.comparison import Comparison
from daskperiment.compare.evidence import Evidence, collect
from daskperiment.compare.parts import ABSENT, Pair
from daskperiment.compare.surroundings import compare_surroundings
from daskperiment.history.stored_values import viewed
from daskperiment.history.trial_records import RecordedTrial, trial_or_raise
from daskperiment.records import Code, Function
from daskperiment.store.protocol import Store

__all__ = ["compare"]


def compare(store: Store, first: int, second: int) -> Comparison:
    """Compare two trials.

    Nothing is unpickled. What is damaged or missing is left out and named in ``problems``.

    Parameters
    ----------
    store : Store
        Where both trials are.
    first, second : int
        Trial ids. Differences are told as changes from the first to the second.

    Raises
    ------
    TrialIDNotFoundError
        If there is no such trial.
    """
    trials = trial_or_raise(store, first), trial_or_raise(store, second)
    old, new = (collect(store, trial) for trial in trials)
    return _Building(store, old, new).comparison()


class _Building:
    """The parts of one comparison in the making."""

    def __init__(self, store: Store, old: Evidence, new: Evidence) -> None:
        self.store = store
        self.old, self.new = old, new
        self.trials = Pair(old.trial, new.trial)

    def comparison(self) -> Comparison:
        old, new = self.trials
        parameters, same_parameters = self._split(old.parameters, new.parameters)
        metrics, same_metrics = self._split(self.old.metrics, self.new.metrics)
        surroundings = compare_surroundings(self.old.environment, self.new.environment)
        return Comparison(
            first=old.trial,
            second=new.trial,
            statuses=Pair(old.status, new.status),
            targets=Pair(old.begun.result, new.begun.result),
            failures=self._each(_failure),
            results=self._each(self._result),
            same_result=self._same_result(),
            seeds=Pair(old.begun.seed, new.begun.seed),
            stochastic=self.old.stochastic or self.new.stochastic,
            parameters=parameters,
            same_parameters=same_parameters,
            metrics=metrics,
            same_metrics=same_metrics,
            steps=compare_steps(self.old, self.new, parameters, surroundings.reaching),
            functions=_function_diffs(self.old.code, self.new.code),
            packages=surroundings.packages,
            git=surroundings.git,
            environment=surroundings.environment,
            problems=tuple(dict.fromkeys([*self.old.problems, *self.new.problems])),
            sources=Pair(old.begun.source, new.begun.source),
        )

    def _each(self, get: Callable[[RecordedTrial], Any]) -> Pair[Any]:
        return Pair(get(self.trials.first), get(self.trials.second))

    def _split(
        self, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> tuple[dict[str, Pair[Any]], dict[str, Any]]:
        """Part recorded values by name into those that differ and those that are the same."""
        changed = changed_entries(*({k: _canonical(v) for k, v in d.items()} for d in (old, new)))
        return (
            {name: Pair(self._view(old, name), self._view(new, name)) for name in changed},
            {name: self._view(old, name) for name in old if name not in changed},
        )

    def _view(self, forms: Mapping[str, Any], name: str) -> Any:
        return viewed(forms[name], self.store) if name in forms else ABSENT

    def _result(self, trial: RecordedTrial) -> Any:
        form = _result_form(trial)
        return form if form is ABSENT else viewed(form, self.store)

    def _same_result(self) -> bool | None:
        forms = self._each(_result_form)
        if ABSENT in forms:
            return forms.first is forms.second
        if not all(map(is_object, forms)):
            return _canonical(forms.first) == _canonical(forms.second)
        outputs = _result_output(self.old), _result_output(self.new)
        if None not in outputs:
            return outputs[0] == outputs[1]
        # Equal values may be pickled to other bytes, other values never to equal ones.
        first, second = (form.get("digest") for form in forms)
        return True if first is not None and first == second else None


def _failure(trial: RecordedTrial) -> str | None:
    failure = trial.ended.failure if trial.ended else None
    return failure.description if failure else trial.reason


def _result_form(trial: RecordedTrial) -> Any:
    ended = trial.ended
    return ended.value if ended and ended.status == "succeeded" else ABSENT


def _result_output(evidence: Evidence) -> str | None:
    """Give the fingerprint of the result: the output of the last step of its name."""
    name = evidence.trial.begun.result
    keys = [node.key for node in evidence.nodes.values() if node.step == name]
    run = evidence.runs.get(keys[-1]) if keys else None
    return run.output if run else None


def _canonical(form: Any) -> bytes:
    """Give bytes that are equal if two recorded values are: 1, 1.0 and True are not."""
    return msgspec.json.encode(form, order="deterministic")


def _function_diffs(old: Code | None, new: Code | None) -> dict[str, str]:
    if old is None or new is None:
        return {}
    diffs: dict[str, str] = {}
    for step in old.steps:
        if step in new.steps:
            for name, *pair in changed_functions(old, new, step):
                diffs[name] = _diff(name, *pair)
    return diffs


def _diff(name: str, old: Function | None, new: Function | None) -> str:
    if old is None or new is None:
        return f"{name} is {'used now' if old is None else 'no longer used'}."
    return diff_functions(old, new) or f"{name} is written the same: its default values differ."
