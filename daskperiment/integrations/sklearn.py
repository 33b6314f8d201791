"""scikit-learn: parameters of estimators, scores and figures, cross-validations and searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.base import is_classifier, is_regressor

from daskperiment.integrations.step_report import StepReport, tidy
from daskperiment.integrations.training_calls import part_of_training

__all__ = ["record"]

_MANY = 50  # classes of which a confusion matrix can still be read


@part_of_training()
def record(model: Any, X: Any = None, y: Any = None, prefix: str = "") -> None:
    """Record an estimator, a search or the scores of a cross-validation; to be called in a step.

    Of an estimator its parameters are an artifact, such as ``SVC parameters``. With data, scores
    are points, and figures artifacts, where Matplotlib is installed: ``confusion matrix``,
    ``roc curve`` and ``precision recall`` of a classifier, ``predictions`` of a regressor. Of a
    fitted search ``search`` is the table of its candidates, and ``best score`` a point; of what
    ``cross_validate`` or ``cross_val_score`` returned ``cross validation`` is the table of folds.

    Parameters
    ----------
    model : estimator, mapping or array
        Fitted, if there is data.
    X, y : array, optional
        Data that the model did not see, and what is right for it.
    prefix : str
        Stands before the names of metrics and artifacts.

    Examples
    --------
    ::

        record(model, test_images, test_labels)
        record(cross_validate(model, images, labels))
    """
    report = StepReport(prefix)
    if isinstance(model, (Mapping, np.ndarray)):
        record_folds(report, model)
        return
    record_parameters(report, model)
    if hasattr(model, "cv_results_"):
        record_search(report, model)
    if X is not None and y is not None:
        record_scores(report, model, X, y)


def record_parameters(report: StepReport, model: Any) -> None:
    """Save an estimator's parameters, those of estimators within it included."""
    report.settings(f"{type(model).__name__} parameters", model.get_params())


def record_folds(report: StepReport, scores: Mapping[str, Any] | np.ndarray) -> None:
    """Save the scores of a cross-validation: a table, and each score by fold."""
    named = scores if isinstance(scores, Mapping) else {"test_score": scores}
    shown = {name: values for name, values in named.items() if name not in ("estimator", "indices")}
    report.artifact("cross validation", tidy(shown))
    for name, values in shown.items():
        for fold, value in enumerate(values):
            report.points({name: value}, fold)


def record_search(report: StepReport, search: Any) -> None:
    """Save the candidates of a search as a table, and what the best of them scored."""
    results = {name: values for name, values in search.cv_results_.items() if name != "params"}
    report.artifact("search", tidy(results))
    report.points({"best score": getattr(search, "best_score_", None)}, 0)
    if hasattr(search, "best_params_"):
        report.settings("best parameters", search.best_params_)


def record_scores(
    report: StepReport, model: Any, X: Any, y: Any, number: int = 0, figures: bool = True
) -> bool:
    """Save how a model does with data, in numbers and figures; return whether it predicts."""
    guess = model.predict(X)
    if is_classifier(model):
        scores = {"accuracy": metrics.accuracy_score(y, guess),
                  "f1": metrics.f1_score(y, guess, average="weighted")}  # fmt: skip
    elif is_regressor(model):
        scores = {"r2": metrics.r2_score(y, guess),
                  "mean_absolute_error": metrics.mean_absolute_error(y, guess),
                  "root_mean_squared_error": metrics.mean_squared_error(y, guess) ** 0.5,
        }  # fmt: skip
    else:
        return False
    report.points(scores, number)
    for name, draw in _figures(model, X, y, guess) if figures else ():
        with suppress(ImportError, ValueError):  # no Matplotlib, or labels that it cannot show
            from matplotlib.figure import Figure  # noqa: PLC0415  # for those who have it

            figure = Figure(layout="constrained")
            draw(figure.subplots())
            report.artifact(name, figure, "png")
    return True


def _figures(model: Any, X: Any, y: Any, guess: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yield the name of each figure that shows a model, and what draws it."""
    if not is_classifier(model):
        shown = metrics.PredictionErrorDisplay.from_predictions
        yield "predictions", lambda axes: shown(y_true=y, y_pred=guess, ax=axes)
        return
    if len(classes := np.unique(y)) <= _MANY:
        matrix = metrics.ConfusionMatrixDisplay.from_predictions
        yield "confusion matrix", lambda axes: matrix(y, guess, ax=axes)
    if len(classes) == 2 and any(hasattr(model, n) for n in ("predict_proba", "decision_function")):
        roc, recall = metrics.RocCurveDisplay, metrics.PrecisionRecallDisplay
        yield "roc curve", lambda axes: roc.from_estimator(model, X, y, ax=axes)
        yield "precision recall", lambda axes: recall.from_estimator(model, X, y, ax=axes)
