"""Optuna: a study's trials are points of the trial, and its pruner may end a step."""

from __future__ import annotations

import time
from typing import Any

import optuna

from daskperiment.integrations.step_report import StepReport, plain, tidy

__all__ = ["OptunaCallback", "report"]


class OptunaCallback:
    """A callback for ``study.optimize`` within a step.

    The value of each of the study's trials is a point of ``value``, by its number; what it reported
    on the way is the metric ``trial 0``, ``trial 1`` and so on. When the step ends, the table of
    the study's trials is the artifact ``study``, and the best parameters are ``best parameters``.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        study.optimize(objective, n_trials=20, callbacks=[OptunaCallback()])
    """

    def __init__(self, prefix: str = "") -> None:
        self._report = StepReport(prefix)
        self._steps: list[Any] = []

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Save what a trial of the study came to."""
        values = trial.values or []
        several = len(study.directions) > 1
        named = {f"value {i}" if several else "value": value for i, value in enumerate(values)}
        self._report.points(named, trial.number)
        for step, value in trial.intermediate_values.items():
            self._report.points({f"trial {trial.number}": value}, step)
        running = self._report.step
        if all(running is not each for each in self._steps):
            self._steps.append(running)
            running.at_end.append(lambda: self._finish(study))

    def _finish(self, study: optuna.Study) -> None:
        self._report.artifact("study", tidy(study.trials_dataframe()))
        if study.best_trials:
            best = [{"number": each.number, "values": each.values, **each.params}
                    for each in study.best_trials]  # fmt: skip
            self._report.artifact("best parameters", plain(best), "json")


def report(trial: optuna.Trial, value: Any, step: int, name: str = "value") -> None:
    """Save a point, report it to Optuna, and end the step where Optuna's pruner says so.

    To be called in a step. The trial is then ``pruned``, in Optuna and here.

    Parameters
    ----------
    trial : optuna.Trial
        Of a study whose direction is that of the value.
    value : float
        What was reached by now.
    step : int
        The epoch.
    name : str
        Of the metric.

    Raises
    ------
    optuna.TrialPruned
        If the pruner ends it.
    TrialIDNotFoundError
        Outside a step.
    TypeError
        If the value is not one number.

    Examples
    --------
    ::

        for epoch in range(10):
            report(trial, train_epoch(), epoch, "loss")
    """
    StepReport().series(name, [(step, value, time.time())])
    trial.report(float(value), step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"Optuna's pruner ended trial {trial.number} at step {step}.")
