"""A search for the settings of XGBoost by Optuna, whose pruning callback ends what is hopeless.

``python examples/pruned_search.py`` runs twelve trials. Each trial of the study is a trial here:
its parameters, its curve as far as it came, and whether it was pruned. It needs the packages of the
extras ``xgboost`` and ``optuna``, and ``optuna-integration``, which has the callback.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import xgboost
from optuna_integration import XGBoostPruningCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import daskperiment

ex = daskperiment.Experiment("pruned-search", seed=1)
eta = ex.parameter("eta", default=0.3)
depth = ex.parameter("depth", default=3)
rounds = ex.parameter("rounds", default=20)


@ex.persist(reuse=True)
def load() -> list[np.ndarray]:
    """Return measurements and labels, a third of them for the test."""
    X, y = load_breast_cancer(return_X_y=True)
    return [np.asarray(each) for each in train_test_split(X, y, test_size=0.33, random_state=0)]


@ex.result
def fit(data: list[np.ndarray], eta: float, depth: int, rounds: int, trial: Any) -> float:
    """Fit a model round by round, and return its last loss in the test."""
    train, test, train_labels, test_labels = data
    held = xgboost.DMatrix(test, test_labels)
    found: dict[str, dict[str, list[float]]] = {}
    settings = {"objective": "binary:logistic", "eta": eta, "max_depth": depth, "nthread": 1}
    xgboost.train(
        settings, xgboost.DMatrix(train, train_labels), rounds, evals=[(held, "test")],
        evals_result=found, verbose_eval=False,
        callbacks=[XGBoostPruningCallback(trial, "test-logloss")],
    )  # fmt: skip
    return found["test"]["logloss"][-1]


def objective(trial: optuna.Trial) -> float:
    """Compute one trial, with the parameters that Optuna suggests."""
    chosen = {
        "eta": trial.suggest_float("eta", 0.001, 1, log=True),
        "depth": trial.suggest_int("depth", 1, 5),
    }
    result = fit(load(), eta, depth, rounds, trial).bind(chosen)
    return float(result.compute(scheduler="synchronous"))


def main() -> None:
    """Search, and show all trials and the best one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=3),
    )
    with ex.autolog("xgboost"):
        study.optimize(objective, n_trials=12)
    history = ex.get_history(verbose=True)
    print(history[["eta", "depth", "Status", "Result"]])
    best = ex.best("Result", mode="min")
    curve = ex.load_metric("test-logloss", best)[best]
    print(f"\nTrial {best} is the best: {curve.iloc[-1]:.4f} after {len(curve)} rounds.")


if __name__ == "__main__":
    main()
