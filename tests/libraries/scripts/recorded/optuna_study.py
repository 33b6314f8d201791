"""In the manner of Optuna's first optimization."""

import optuna

import daskperiment
from daskperiment.integrations.optuna import OptunaCallback

ex = daskperiment.Experiment("optuna_study")

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial):
    x = trial.suggest_float("x", -10, 10)
    value = (x - 2) ** 2
    print(f"trial {trial.number}: {value:.4f}")
    return value


def main():
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=5, callbacks=[OptunaCallback()])


if __name__ == "__main__":
    ex.result(main)().compute()
