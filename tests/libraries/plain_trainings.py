"""Trainings as people write them, with no line for a record; each tells what is to be recorded."""

from __future__ import annotations

import importlib
import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")

__all__ = ["ARTIFACTS", "PLAIN", "with_callbacks"]

# What a training leaves besides its metrics.
ARTIFACTS = {
    "sklearn": {"SVC parameters", "confusion matrix", "roc curve", "precision recall"},
    "lightning": {"hyperparameters"},
    "transformers": {"training arguments", "model configuration"},
    "keras": {"optimizer", "layers"},
    "xgboost": {"booster settings", "importance"},
    "lightgbm": {"booster settings", "importance"},
}


def sklearn():
    from sklearn.metrics import log_loss
    from sklearn.svm import SVC

    from tests.libraries.small_models import boosting_data

    X, y = boosting_data()
    model = SVC().fit(X, y)
    return {"accuracy": [model.score(X, y)], "log_loss": [log_loss(y, (X[:, 0] > 0) * 0.8 + 0.1)]}


def lightning():
    from tests.libraries.small_models import lightning_parts

    trainer, module, data = lightning_parts(False, tempfile.mkdtemp())
    trainer.fit(module, data, data)
    return {"train_loss": [None] * 3 + [float(trainer.callback_metrics["train_loss"])]}


def transformers():
    from tests.libraries.small_models import transformers_trainer

    trainer = transformers_trainer(tempfile.mkdtemp(), "none", [])
    trainer.train()
    logged = trainer.state.log_history
    return {name: [each[name] for each in logged if name in each] for name in ("loss", "eval_loss")}


def keras():
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    fitted = model.fit(x, y, epochs=3, verbose=0, validation_split=0.5)
    return {**fitted.history, "test_loss": [model.evaluate(x, y, verbose=0)]}


def xgboost():
    import xgboost

    from tests.libraries.small_models import boosting_data

    data, found = xgboost.DMatrix(*boosting_data()[:1], boosting_data()[1]), {}
    xgboost.train({"nthread": 1}, data, 3, evals=[(data, "train")], evals_result=found,
                  verbose_eval=False)  # fmt: skip
    return {"train-rmse": found["train"]["rmse"]}


def lightgbm():
    import lightgbm

    from tests.libraries.small_models import boosting_data

    X, y = boosting_data()
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)
    model.fit(X, y, eval_X=(X,), eval_y=(y,))
    (found,) = model.evals_result_.values()
    return {"valid_0 binary_logloss": found["binary_logloss"]}


def with_callbacks():
    """Train by three libraries with what daskperiment.integrations has for them."""
    import lightgbm
    import xgboost
    from sklearn.svm import SVC

    from tests.libraries.small_models import boosting_data

    X, y = boosting_data()
    known = {name: importlib.import_module(f"daskperiment.integrations.{name}")
             for name in ("sklearn", "xgboost", "lightgbm")}  # fmt: skip
    data = xgboost.DMatrix(X, y)
    xgboost.train({"nthread": 1}, data, 3, evals=[(data, "x")], verbose_eval=False,
                  callbacks=[known["xgboost"].XGBoostCallback("a/")])  # fmt: skip
    data = lightgbm.Dataset(X, y)
    lightgbm.train({"verbose": -1, "num_threads": 1}, data, 2, valid_sets=[data],
                   callbacks=[known["lightgbm"].LightGBMCallback("b/")])  # fmt: skip
    known["sklearn"].record(SVC().fit(X, y), X, y, prefix="c/")


PLAIN = {
    "sklearn": sklearn,
    "lightning": lightning,
    "transformers": transformers,
    "keras": keras,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
}
