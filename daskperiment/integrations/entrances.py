"""By which calls each library trains, and what reports them, for those who touch no training code.

Libraries stand here without being imported: a module of theirs comes once it is there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

from daskperiment import integrations
from daskperiment.integrations.replacements import Around, Replacements, open_methods
from daskperiment.integrations.sklearn_calls import open_estimators, open_metrics, open_validation
from daskperiment.integrations.training_calls import StepTrainings, trainings_for

__all__ = ["AWAITED", "open_module"]

AWAITED: Mapping[str, tuple[str, ...]] = {
    "sklearn": ("sklearn.base", "sklearn.metrics", "sklearn.model_selection"),
    "lightning": ("lightning.pytorch", "pytorch_lightning"),
    "transformers": ("transformers.trainer",),
    "keras": ("keras",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
}
"""The libraries, and their modules that have something to be replaced."""


def open_module(name: str, module: Any, done: Replacements) -> None:
    """Replace what trains in a module that is there now."""
    _OPENERS[name](module, done)


def _with_callback(
    original: Any, args: Any, kwargs: Any, kind: type, make: Callable[[], Any]
) -> Any:
    """Call a function that takes callbacks with one more, unless it has one of that kind."""
    bound = inspect.signature(original).bind(*args, **kwargs)
    given = bound.arguments.get("callbacks")
    own = list(given) if isinstance(given, (list, tuple, set)) else [given] * (given is not None)
    if not any(isinstance(each, kind) for each in own) and (made := make()) is not None:
        bound.arguments["callbacks"] = [*own, made]
    return original(*bound.args, **bound.kwargs)


# LightGBM and XGBoost -----------------------------------------------------------------------------


def _boost(trainings: StepTrainings, original: Any, args: Any, kwargs: Any) -> Any:
    kind = integrations.lightgbm.LightGBMCallback

    def make() -> Any:
        prefix = trainings.prefix("lightgbm")
        return None if prefix is None else kind(prefix)

    return _with_callback(original, args, kwargs, kind, make)


def _open_lightgbm(module: Any, done: Replacements) -> None:
    for function in (module.train, module.cv):
        done.replace_code(function, "lightgbm", _boost)


def _open_xgboost(module: Any, done: Replacements) -> None:
    # All ways of training make one of these, and it is a class: whoever imported functions by
    # their names is heard, too.
    container = module.callback.CallbackContainer
    original = container.__init__

    @wraps(original)
    def begin(self: Any, callbacks: Any, *args: Any, **kwargs: Any) -> None:
        trainings = trainings_for("xgboost")
        if trainings is not None:
            callbacks = _xgboost_callbacks(trainings, callbacks)
        original(self, callbacks, *args, **kwargs)

    done.replace(container, "__init__", begin)


def _xgboost_callbacks(trainings: StepTrainings, given: Any) -> Any:
    if any(isinstance(each, integrations.xgboost.XGBoostCallback) for each in given):
        return given
    prefix = trainings.prefix("xgboost")
    # It comes first: one that ends the training lets those behind it miss the last round.
    return given if prefix is None else [integrations.xgboost.XGBoostCallback(prefix), *given]


# Keras, transformers and Lightning ----------------------------------------------------------------


def _keras(anew: bool) -> Around:
    def around(trainings: StepTrainings, original: Any, args: Any, kwargs: Any) -> Any:
        kind, fresh = integrations.keras.KerasCallback, anew and not kwargs.get("initial_epoch")
        make = partial(trainings.reporter, "keras", args[0], kind, fresh)
        return _with_callback(original, args, kwargs, kind, make)

    return around


def _open_keras(module: Any, done: Replacements) -> None:
    open_methods("keras", module.Model, {"fit": _keras(True), "evaluate": _keras(False)}, done)


def _transformers(anew: bool) -> Around:
    def around(trainings: StepTrainings, original: Any, args: Any, kwargs: Any) -> Any:
        trainer = args[0]
        own = trainer.callback_handler.callbacks
        if any(isinstance(each, integrations.transformers.TransformersCallback) for each in own):
            return original(*args, **kwargs)
        made = trainings.reporter(
            "transformers", trainer, integrations.transformers.TransformersCallback, anew
        )
        if made is None:
            return original(*args, **kwargs)
        trainer.add_callback(made)
        try:
            return original(*args, **kwargs)
        finally:
            trainer.remove_callback(made)

    return around


def _open_transformers(module: Any, done: Replacements) -> None:
    arounds = {"train": _transformers(True), "evaluate": _transformers(False)}
    open_methods("transformers", module.Trainer, arounds, done)


def _lightning(trainings: StepTrainings, original: Any, args: Any, kwargs: Any) -> Any:
    trainer = args[0]
    own = list(trainer.loggers)
    if any(
        isinstance(each, integrations.lightning.LightningLogger) for each in own
    ) or not _may_log(trainer):
        return original(*args, **kwargs)
    made = trainings.reporter("lightning", trainer, integrations.lightning.LightningLogger)
    trainer.loggers = own if made is None else [*own, made]
    try:
        return original(*args, **kwargs)
    finally:
        trainer.loggers = own


def _may_log(trainer: Any) -> bool:
    """Whether a trainer logs at all."""
    return not (trainer.barebones or trainer.fast_dev_run)


def _open_lightning(module: Any, done: Replacements) -> None:
    arounds = dict.fromkeys(("fit", "validate", "test"), _lightning)
    open_methods("lightning", module.Trainer, arounds, done)


_OPENERS: Mapping[str, Callable[[Any, Replacements], None]] = {
    "sklearn.base": open_estimators,
    "sklearn.metrics": open_metrics,
    "sklearn.model_selection": open_validation,
    "lightning.pytorch": _open_lightning,
    "pytorch_lightning": _open_lightning,
    "transformers.trainer": _open_transformers,
    "keras": _open_keras,
    "xgboost": _open_xgboost,
    "lightgbm": _open_lightgbm,
}
