"""How much parameters matter for a result, by the evaluators of Optuna where it is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from daskperiment.dashboard.cells import finite_numbers
from daskperiment.formatting import shorten
from daskperiment.history.stored_values import MISSING

__all__ = ["at_most", "importance"]

_TRIALS = 300
_PARAMETERS = 40
_FEWEST = 4
_CATEGORIES = 200


def importance(
    columns: Mapping[str, Sequence[Any]], heights: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Return parameters with their importance, the highest first, or why there is none.

    Of very many trials those at regular steps are evaluated.
    """
    if importlib.util.find_spec("optuna") is None:
        return _none("Install Optuna to see how much each parameter matters: pip install optuna.")
    if len(heights) < _FEWEST or not columns:
        return _none("Too few trials or parameters differ to tell which of them matter.")
    steps = np.linspace(0, len(heights) - 1, min(_TRIALS, len(heights))).astype(int)
    chosen = dict(list(columns.items())[:_PARAMETERS])
    few = {name: [values[at] for at in steps] for name, values in chosen.items()}
    evaluator, ranks = _evaluated(few, heights[steps].tolist())
    return {
        "ranks": [[name, share] for name, share in ranks.items()],
        "evaluator": evaluator,
        "of": len(steps),
        "why": "" if ranks else "Optuna finds no difference that these parameters make.",
    }


def _none(why: str) -> dict[str, Any]:
    return {"ranks": [], "evaluator": "", "of": 0, "why": why}


def _evaluated(
    columns: Mapping[str, Sequence[Any]], heights: Sequence[float]
) -> tuple[str, dict[str, float]]:
    import optuna  # noqa: PLC0415  # an extra that takes long to load

    axes = {name: _axis(values) for name, values in columns.items()}
    distributions = {name: one for name, (one, _) in axes.items()}
    frozen = [
        optuna.trial.create_trial(
            params={name: values[at] for name, (_, values) in axes.items()},
            distributions=distributions, value=height,
        )
        for at, height in enumerate(heights)
    ]  # fmt: skip
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials(frozen)
    finally:
        optuna.logging.set_verbosity(before)
    has_forest = importlib.util.find_spec("sklearn") is not None
    kinds = optuna.importance
    evaluator: Any = (
        kinds.FanovaImportanceEvaluator(n_trees=32, max_depth=16, seed=0)
        if has_forest
        else kinds.PedAnovaImportanceEvaluator()
    )
    found = kinds.get_param_importances(study, evaluator=evaluator)
    return ("fANOVA" if has_forest else "PED-ANOVA"), {
        name: float(share) for name, share in found.items() if math.isfinite(share)
    }


def _axis(values: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return a parameter as Optuna describes one, and its values there."""
    from optuna.distributions import (  # noqa: PLC0415
        CategoricalDistribution,
        FloatDistribution,
    )

    finite = finite_numbers(values)
    if finite and min(finite) < max(finite):
        return FloatDistribution(min(finite), max(finite)), finite
    words = at_most(_CATEGORIES, map(_word, values))
    return CategoricalDistribution(sorted(set(words))), words


def at_most(number: int, words: Iterable[str]) -> list[str]:
    """Return words of which so many are different, at most: later ones are "(others)"."""
    every = list(words)
    known = set(list(dict.fromkeys(every))[: number - 1])
    return [word if word in known else "(others)" for word in every]


def _word(value: Any) -> str:
    return "(none)" if value is MISSING else shorten(repr(value), 60)
