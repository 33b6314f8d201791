"""What libraries report in a step is recorded in its trial, by their own interfaces."""

from __future__ import annotations

import os

import numpy as np
import pytest

from daskperiment.errors import DaskperimentError, InputFileError, TrialIDNotFoundError
from daskperiment.testing import no_trial
from tests.libraries.small_models import boosting_data, lightning_parts, transformers_trainer

os.environ.setdefault("KERAS_BACKEND", "torch")

# Libraries warn of one another; what this package says counts.
pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in
      ("UserWarning", "FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")),
    pytest.mark.filterwarnings("error::daskperiment.errors.DaskperimentWarning"),
]  # fmt: skip


def compute(ex, function):
    """Compute a trial whose only step calls a function; return what it returned."""
    return ex.result(function)().compute(scheduler="synchronous")


def points(ex, name, trial=1):
    """Return the points of a metric as a dict."""
    return ex.load_metric(name, trial)[trial].to_dict()


def test_lightning(ex, tmp_path):
    """What a module logs is there by step, the same as Lightning's own logger writes down."""
    pytest.importorskip("lightning")
    from lightning.pytorch.loggers import CSVLogger

    from daskperiment.integrations.lightning import LightningLogger

    own = CSVLogger(tmp_path)

    def train():
        trainer, module, data = lightning_parts([LightningLogger("a/"), own], tmp_path)
        trainer.fit(module, data, data)
        trainer.validate(module, data, verbose=False)
        return trainer.global_step

    steps = compute(ex, train)
    import pandas as pd

    table = pd.read_csv(f"{own.log_dir}/metrics.csv").set_index("step")
    for name in ("train_loss", "val_loss"):
        wanted = table[name].dropna()
        wanted = wanted[~wanted.index.duplicated(keep="last")]
        assert points(ex, f"a/{name}") == pytest.approx(wanted.to_dict())
    assert len(points(ex, "a/train_loss")) == steps == 4
    assert ex.load("a/hyperparameters", 1) == {"rate": 0.1, "sizes": [2, 1]}


def test_transformers(ex, tmp_path):
    """What the Trainer logs is there by global step, asked for by callback or by report_to."""
    pytest.importorskip("transformers")
    from daskperiment.integrations.transformers import TransformersCallback

    def train():
        trainer = transformers_trainer(tmp_path, "none", [TransformersCallback("a/")])
        trainer.train()
        named = transformers_trainer(tmp_path, "daskperiment", [])
        named.train()
        return [entry for entry in trainer.state.log_history if "loss" in entry]

    logged = compute(ex, train)
    wanted = {entry["step"]: entry["loss"] for entry in logged}
    assert len(wanted) == 2
    assert points(ex, "a/loss") == points(ex, "loss") == pytest.approx(wanted)
    assert set(points(ex, "a/eval_loss")) == {2, 4}
    assert ex.load("model configuration", 1)["hidden_size"] == 8
    assert ex.load("a/training arguments", 1)["num_train_epochs"] == 2


def test_keras(ex):
    """Logs of each epoch and what an evaluation comes to are there, as in Keras' history."""
    pytest.importorskip("keras")
    import keras

    from daskperiment.integrations.keras import KerasCallback

    def train():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="last")])
        model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
        x, y = np.ones((8, 2)), np.ones((8, 1))
        callback = KerasCallback()
        fitted = model.fit(x, y, epochs=3, verbose=0, validation_split=0.5, callbacks=[callback])
        tested = model.evaluate(x, y, verbose=0, return_dict=True, callbacks=[callback])
        return fitted.history, tested

    history, tested = compute(ex, train)
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    for name, values in history.items():
        assert points(ex, name) == pytest.approx(dict(enumerate(values)))
    assert points(ex, "test_mae") == pytest.approx({0: tested["mae"]})
    assert ex.load("optimizer", 1)["name"].startswith("sgd")  # others may have come before
    assert ex.load("layers", 1) == {"last": {"kind": "Dense", "weights": 3}}


@pytest.mark.parametrize("way", ["train", "cv", "estimator"])
def test_xgboost(ex, way):
    """Evaluations of each round are there, whichever way of training it is."""
    xgboost = pytest.importorskip("xgboost")
    from daskperiment.integrations.xgboost import XGBoostCallback

    X, y = boosting_data()
    settings = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}

    def train():
        data = xgboost.DMatrix(X, y, feature_names=["a", "b", "c"])
        if way == "train":
            found = {}
            xgboost.train(settings, data, 4, evals=[(data, "held")], evals_result=found,
                          verbose_eval=False, callbacks=[XGBoostCallback()])  # fmt: skip
            return found["held"]["logloss"]
        if way == "cv":
            table = xgboost.cv(settings, data, 4, nfold=2, callbacks=[XGBoostCallback()])
            return list(table["test-logloss-mean"]), list(table["test-logloss-std"])
        model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1, callbacks=[XGBoostCallback()])
        model.fit(X, y, eval_set=[(X, y)], verbose=False)
        return model.evals_result()["validation_0"]["logloss"]

    found = compute(ex, train)
    if way == "cv":
        assert points(ex, "test-logloss-std") == pytest.approx(dict(enumerate(found[1])))
        found = found[0]
    name = {"train": "held", "cv": "test", "estimator": "validation_0"}[way]
    assert points(ex, f"{name}-logloss") == pytest.approx(dict(enumerate(found)))
    assert len(found) == 4
    if way == "train":
        assert ex.load("importance", 1)["feature"][0] == "a"
        assert "objective" in ex.load("booster settings", 1)


@pytest.mark.parametrize("way", ["train", "stopped", "cv", "estimator"])
def test_lightgbm(ex, way):
    """Evaluations of each round are there, and importance also where training stops early."""
    lightgbm = pytest.importorskip("lightgbm")
    from daskperiment.integrations.lightgbm import LightGBMCallback

    X, y = boosting_data()
    settings = {"objective": "binary", "num_leaves": 3, "verbose": -1, "num_threads": 1}

    def train():
        data = lightgbm.Dataset(X, y, feature_name=["a", "b", "c"])
        found = {}
        callbacks = [LightGBMCallback(), lightgbm.record_evaluation(found)]
        if way == "cv":
            table = lightgbm.cv(settings, data, 4, nfold=2, callbacks=callbacks[:1])
            return table["valid binary_logloss-mean"], None
        if way == "estimator":
            model = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1)
            model.fit(X, y, eval_X=(X,), eval_y=(y,), callbacks=callbacks)
            return found["valid_0"]["binary_logloss"], model.feature_importances_.max()
        if way == "stopped":
            callbacks.append(lightgbm.early_stopping(2, verbose=False))
        held = lightgbm.Dataset(X, 1 - y if way == "stopped" else y, reference=data)
        model = lightgbm.train(settings, data, 30 if way == "stopped" else 4, valid_sets=[held],
                               callbacks=callbacks)  # fmt: skip
        return found["valid_0"]["binary_logloss"], model.feature_importance().max()

    found, most = compute(ex, train)
    name = "valid binary_logloss" if way == "cv" else "valid_0 binary_logloss"
    assert points(ex, name) == pytest.approx(dict(enumerate(found)))
    assert len(found) == (3 if way == "stopped" else 4)
    if most is not None:
        assert ex.load("importance", 1)["split"].max() == most
    else:
        assert len(points(ex, f"{name} std")) == 4


def test_sklearn_classifier(ex):
    """Of a classifier its parameters, scores and three figures are kept; of a regressor one."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from daskperiment.integrations.sklearn import record

    X, y = boosting_data()

    def train():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(X, y)
        record(model, X, y)
        record(LinearRegression().fit(X, y), X, y, prefix="line/")
        return model.score(X, y)

    score = compute(ex, train)
    assert points(ex, "accuracy") == {0: score}
    assert ex.get_metrics(1) == [
        "accuracy", "f1", "line/mean_absolute_error", "line/r2", "line/root_mean_squared_error",
    ]  # fmt: skip
    kept = ex.get_artifacts(1).set_index("Name")["Format"].to_dict()
    assert kept == {
        "Pipeline parameters": "json", "confusion matrix": "png", "roc curve": "png",
        "precision recall": "png", "line/LinearRegression parameters": "json",
        "line/predictions": "png",
    }  # fmt: skip
    assert ex.load("Pipeline parameters", 1)["logisticregression__C"] == 0.5


def test_sklearn_searches(ex):
    """The table of a search has a row for each candidate, that of a cross-validation for a fold."""
    pytest.importorskip("sklearn")
    pytest.importorskip("pyarrow")
    from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
    from sklearn.svm import SVC

    from daskperiment.integrations.sklearn import record

    X, y = boosting_data()

    def train():
        grid = {"C": [0.1, 1.0], "kernel": ["linear"], "gamma": ["scale", 0.5]}
        search = GridSearchCV(SVC(), grid, cv=2).fit(X, y)
        record(search)
        scores = cross_validate(SVC(), X, y, cv=3, return_train_score=True)
        record(scores, prefix="many/")
        record(cross_val_score(SVC(), X, y, cv=3), prefix="one/")
        return search.best_score_, scores["test_score"]

    best, folds = compute(ex, train)
    table = ex.load("search", 1)
    assert list(table["param_C"]) == [0.1, 0.1, 1.0, 1.0]
    assert list(table["param_gamma"]) == ["'scale'", "0.5"] * 2
    assert table["mean_test_score"].max() == best == points(ex, "best score")[0]
    assert set(ex.get_artifacts(1).query("Name == 'search'")["Format"]) <= {"parquet", "arrow"}
    assert list(ex.load("many/cross validation", 1)["test_score"]) == list(folds)
    assert points(ex, "many/test_score") == points(ex, "one/test_score")
    assert points(ex, "many/test_score") == dict(enumerate(folds))
    assert "many/train_score" in ex.get_metrics(1)


def test_optuna_study_in_a_step(ex):
    """Values and intermediate values of a study's trials are points, and its table is kept."""
    optuna = pytest.importorskip("optuna")
    from daskperiment.integrations.optuna import OptunaCallback

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        x = trial.suggest_float("x", -1, 1)
        trial.report(x * 2, 0)
        if trial.number == 1:
            raise optuna.TrialPruned
        return x * x

    def search():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective, n_trials=4, callbacks=[OptunaCallback()])
        return [trial.value for trial in study.trials], study.best_params

    values, best = compute(ex, search)
    found = points(ex, "value")
    assert {n: found[n] for n in (0, 2, 3)} == {n: values[n] for n in (0, 2, 3)}
    assert ex.get_metrics(1) == ["trial 0", "trial 1", "trial 2", "trial 3", "value"]
    table = ex.load("study", 1)
    assert list(table["state"]) == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert ex.load("best parameters", 1)[0]["x"] == best["x"]


def test_optuna_prunes_a_step(ex):
    """A step that Optuna's pruner ends is pruned in Optuna, and its points up to there are kept."""
    optuna = pytest.importorskip("optuna")
    from daskperiment.integrations.optuna import report

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rate = ex.parameter("rate")

    @ex.result
    def train(rate, trial):
        for epoch in range(4):
            report(trial, rate * (epoch + 1), epoch, "loss")
        return rate

    def objective(trial):
        result = train(rate, trial).bind(rate=trial.suggest_float("rate", 1, 9))
        return result.compute(scheduler="synchronous")

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=10))
    study.enqueue_trial({"rate": 2.0})
    study.enqueue_trial({"rate": 6.0})
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    history = ex.get_history(verbose=True)
    assert list(history["Status"]) == ["succeeded", "pruned"]
    assert list(history["rate"]) == [2.0, 6.0]
    assert points(ex, "loss", 2) == {0: 6.0, 1: 12.0}


def test_tensorboard(ex, tmp_path):
    """Scalars of event files come with their steps, values and times, for each run by its path."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    from daskperiment.integrations.tensorboard import save_events

    for run, scale in (("", 1), ("deep/second", 2)):
        with SummaryWriter(str(tmp_path / "runs" / run)) as writer:
            for step in range(3):
                writer.add_scalar("loss", scale / (step + 1), step * 10, walltime=1e9 + step)
            writer.add_scalar("odd", float("nan"), 0, new_style=True)
            writer.add_text("text", "no scalar", 0)
    names = compute(ex, lambda: save_events(tmp_path / "runs", prefix="old/"))
    assert sorted(names) == ex.get_metrics(1) == [
        "old/deep/second/loss", "old/deep/second/odd", "old/loss", "old/odd",
    ]  # fmt: skip
    assert points(ex, "old/loss") == pytest.approx({0: 1.0, 10: 0.5, 20: 1 / 3})
    assert points(ex, "old/deep/second/loss")[0] == 2.0
    assert np.isnan(points(ex, "old/odd")[0])
    with no_trial(), pytest.raises(InputFileError, match="none has 'tfevents'"):
        save_events(tmp_path / "nowhere")


def make(library):
    """Return a function that reports something by an integration, for any of them."""
    import importlib

    module = importlib.import_module(f"daskperiment.integrations.{library}")
    if library == "lightning":
        return lambda: module.LightningLogger().log_metrics({"loss": 1.0}, 0)
    if library == "keras":
        return lambda: module.KerasCallback().on_epoch_end(0, {"loss": 1.0})
    if library == "xgboost":
        return lambda: module.XGBoostCallback().after_iteration(None, 0, {"a": {"b": [1.0]}})
    return lambda: module.record({"test_score": [1.0]})


@pytest.mark.parametrize("library", ["lightning", "keras", "xgboost", "sklearn"])
def test_outside_of_steps(library):
    """Outside of a step it is said at once that there is no trial; in a unit test it passes."""
    pytest.importorskip(library)
    report = make(library)
    with pytest.raises(TrialIDNotFoundError, match="No step runs here"):
        report()
    with no_trial():
        report()


def test_prefix_is_text():
    """A prefix that is no text is refused where it is given."""
    pytest.importorskip("xgboost")
    from daskperiment.integrations.xgboost import XGBoostCallback

    with pytest.raises(TypeError, match="expected text that stands before"):
        XGBoostCallback(prefix=3)
    assert not issubclass(TypeError, DaskperimentError)
