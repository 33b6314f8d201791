"""What is recorded of calls of scikit-learn that code makes on its own account in a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

from daskperiment import integrations
from daskperiment.errors import StoreWarning
from daskperiment.integrations.replacements import Around, Replacements, reporting
from daskperiment.integrations.step_report import StepReport
from daskperiment.integrations.training_calls import StepTrainings
from daskperiment.warn import warn_user

__all__ = ["open_estimators", "open_metrics", "open_validation"]

_FITS = ("fit", "fit_transform", "fit_predict", "partial_fit")

Given = Mapping[str, Any]


def _fitted(trainings: StepTrainings, name: str, given: Given, value: Any) -> None:
    """Record what was fitted: its parameters, and the candidates of a search."""
    model = given["self"]
    if name == "partial_fit" and trainings.knows(model):
        return  # one of many calls
    kind = type(model).__name__
    report = trainings.reporter("sklearn", model, StepReport, kind=kind)
    if report is not None:
        integrations.sklearn.record_parameters(report, model)
        if hasattr(model, "cv_results_"):
            integrations.sklearn.record_search(report, model)


def _scored(trainings: StepTrainings, name: str, given: Given, value: Any) -> None:
    """Record how a model did with data: the first time in figures, too."""
    model, X, y = given["self"], given.get("X"), given.get("y")
    report, number = StepReport(trainings.lead), trainings.count("score")
    if (
        X is None
        or y is None
        or not integrations.sklearn.record_scores(report, model, X, y, number, number == 0)
    ):
        report.points({"score": value}, number)


def _measured(trainings: StepTrainings, name: str, given: Given, value: Any) -> None:
    """Record what a function of ``sklearn.metrics`` returned, if it is one number."""
    if isinstance(value, Real):
        StepReport(trainings.lead).points({name: value}, trainings.count(f"metric {name}"))


def _judged(trainings: StepTrainings, name: str, given: Given, value: Any) -> None:
    """Record what a scorer's own function returned: a scorer negates what is best if small."""
    scorer = given["self"]
    function, sign = getattr(scorer, "_score_func", None), getattr(scorer, "_sign", 1)
    name = getattr(function, "__name__", "score").strip("<>")
    _measured(trainings, name, given, sign * value if isinstance(value, Real) else value)


def _validated(trainings: StepTrainings, name: str, given: Given, value: Any) -> None:
    """Record the scores of a cross-validation."""
    prefix = trainings.prefix("sklearn", "cross validation")
    if prefix is not None:
        integrations.sklearn.record_folds(StepReport(prefix), value)


Act = Callable[[StepTrainings, str, Given, Any], None]


def _recorded(act: Act) -> Around:
    """Return what calls an original, and then records what came of it.

    What fails there does not fail the training.
    """

    def around(trainings: StepTrainings, original: Any, args: Any, kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        try:
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            act(trainings, original.__name__, given, value)
        except Exception as error:  # of a model of whatever kind
            warn_user(StoreWarning(
                f"autolog could not record {original.__qualname__}(): "
                f"{type(error).__name__}: {error}"
            ))  # fmt: skip
        return value

    return around


def open_estimators(module: Any, done: Replacements) -> None:
    """Let estimators of ``sklearn.base`` report that they are fitted, and how they score."""
    base = module.BaseEstimator
    for mixin in (module.ClassifierMixin, module.RegressorMixin):
        done.replace(mixin, "score", reporting("sklearn", _recorded(_scored), mixin.score))

    def begin(cls: Any, /, **given: Any) -> None:
        super(base, cls).__init_subclass__(**given)
        _open_estimator(cls, done)

    done.replace(base, "__init_subclass__", classmethod(begin))  # for those that come later
    for cls in _subclasses(base):
        _open_estimator(cls, done)


def _subclasses(cls: type) -> Iterator[type]:
    each: type
    for each in type.__subclasses__(cls):
        yield each
        yield from _subclasses(each)


def _open_estimator(cls: type, done: Replacements) -> None:
    if not cls.__module__.startswith("sklearn."):
        return  # users' own, and other libraries': what they take from here is replaced there
    for name in (*_FITS, "score"):
        own = vars(cls).get(name)
        if inspect.isfunction(own) and not hasattr(own, "_daskperiment_reports"):
            act = _scored if name == "score" else _fitted
            replacement = reporting("sklearn", _recorded(act), own)
            setattr(replacement, "_daskperiment_reports", True)  # noqa: B010
            done.replace(cls, name, replacement)


def open_metrics(module: Any, done: Replacements) -> None:
    """Let functions of ``sklearn.metrics`` that return one number report it."""
    for name in module.__all__:
        function = getattr(module, name)
        number = name.endswith(("_score", "_loss", "_error", "_corrcoef"))
        if number and inspect.isfunction(function):
            done.replace_code(function, "sklearn", _recorded(_measured))
    # Scorers have no class of a public name; what they call is told with the arguments of theirs.
    for cls in type(module.make_scorer(len)).__mro__:
        if inspect.isfunction(call := vars(cls).get("__call__")):
            done.replace(cls, "__call__", reporting("sklearn", _recorded(_judged), call))


def open_validation(module: Any, done: Replacements) -> None:
    """Let cross-validations of ``sklearn.model_selection`` report their folds."""
    for function in (module.cross_validate, module.cross_val_score):
        done.replace_code(function, "sklearn", _recorded(_validated))
