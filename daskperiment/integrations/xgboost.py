"""XGBoost: evaluations of each round are points of the trial, and importance is a table."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pandas as pd
import xgboost

from daskperiment.integrations.step_report import StepReport

__all__ = ["XGBoostCallback"]


class XGBoostCallback(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """A callback for ``xgboost.train``, ``xgboost.cv`` and XGBoost's estimators.

    Evaluations are points named like ``validation-logloss``; of ``cv`` their mean, and
    ``test-logloss-std``. The importance of features is the artifact ``importance``, the settings
    of the booster ``booster settings``.

    Parameters
    ----------
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        xgboost.train(settings, data, evals=[(held_out, "test")], callbacks=[XGBoostCallback()])
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._report = StepReport(prefix)

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Save the evaluations of a round; training goes on."""
        points: dict[str, Any] = {}
        for data, metrics in evals_log.items():
            for metric, values in metrics.items():
                name, value = f"{data}-{metric}", values[-1]
                if isinstance(value, tuple):  # of the folds of a cross-validation
                    value, points[f"{name}-std"] = value
                points[name] = value
        self._report.points(points, epoch)
        return False

    def after_training(self, model: Any) -> Any:
        """Save the importance of features."""
        if isinstance(model, xgboost.Booster):
            settings = json.loads(model.save_config())
            self._report.settings("booster settings", settings.get("learner", settings))
            self._report.artifact("importance", importance(model))
        return model


def importance(model: xgboost.Booster) -> pd.DataFrame:
    """Return a row for each feature that the trees split by: each kind of importance that it has.

    Boosters of linear models have but one.
    """
    scores = {}
    for kind in ("weight", "gain", "cover", "total_gain", "total_cover"):
        with suppress(xgboost.core.XGBoostError):
            scores[kind] = model.get_score(importance_type=kind)
    table = pd.DataFrame({kind: pd.Series(values, dtype=float) for kind, values in scores.items()})
    table.index.name = "feature"
    return table.sort_values(list(scores)[-2:], ascending=False).reset_index()
