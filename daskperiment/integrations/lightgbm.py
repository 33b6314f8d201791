"""LightGBM: evaluations of each round are points of the trial, and importance is a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightgbm
import pandas as pd

from daskperiment.integrations.step_report import StepReport

__all__ = ["LightGBMCallback"]


class LightGBMCallback:
    """A callback for ``lightgbm.train``, ``lightgbm.cv`` and LightGBM's estimators.

    Evaluations are points named like ``valid_0 binary_logloss``; of ``cv`` their mean, and the
    same with ``std`` behind it. The settings are the artifact ``booster settings``. The importance
    of features is the artifact ``importance``, once the step ends.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        lightgbm.train(settings, data, valid_sets=[held_out], callbacks=[LightGBMCallback()])
    """

    order = 25
    """It comes before early stopping, which ends the round."""
    before_iteration = False

    def __init__(self, prefix: str = "") -> None:
        self._report = StepReport(prefix)

    def __call__(self, env: Any) -> None:
        """Save the evaluations of a round."""
        if env.iteration == env.begin_iteration:
            self.begin(env.model, env.params)
        self._report.points(evaluations(env.evaluation_result_list or ()), env.iteration)

    def begin(self, model: Any, settings: dict[str, Any]) -> None:
        """Save settings now, and importance when the step ends: then all rounds are over."""
        self._report.settings("booster settings", settings)
        if isinstance(model, lightgbm.Booster):
            report = self._report
            report.at_end(lambda: report.artifact("importance", importance(model)))


def evaluations(results: Sequence[Any]) -> dict[str, float]:
    """Return metrics by name, from the evaluations of one round."""
    found = {}
    for result in results:
        data, metric, value = result[0], result[1], result[2]
        found[f"{data} {metric}"] = value
        if len(result) > 4:  # of the folds of a cross-validation
            found[f"{data} {metric} std"] = result[4]
    return found


def importance(model: lightgbm.Booster) -> pd.DataFrame:
    """Return a row for each feature: how often trees split by it, and what that gained."""
    table = pd.DataFrame(
        {
            "feature": model.feature_name(),
            "split": model.feature_importance("split"),
            "gain": model.feature_importance("gain"),
        }
    )
    return table.sort_values(["gain", "split"], ascending=False, ignore_index=True)
