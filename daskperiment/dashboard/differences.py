"""Two trials side by side, as plain data for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daskperiment.codec import load_record
from daskperiment.compare import ABSENT, Comparison, Pair, compare
from daskperiment.compare.wording import outcome, reasons, show_pair, show_texts
from daskperiment.dashboard.texts import cell, cut, full_text
from daskperiment.errors import CorruptRecordError
from daskperiment.history.reading import trial_or_raise
from daskperiment.records import Environment
from daskperiment.store.protocol import Store

__all__ = ["differences"]

_LONG = 200_000
_WIDE = 200
_BRIEF = ("diff", "untracked")


def differences(store: Store, first: int, second: int) -> dict[str, Any]:
    """Compare two trials; what they have in common is told in short.

    Raises
    ------
    TrialIDNotFoundError
        If there is no such trial.
    """
    found = compare(store, first, second)
    origin = found.first_difference
    return {
        "first": found.first,
        "second": found.second,
        "differs": found.differs,
        "explanation": found.explanation,
        "statuses": list(found.statuses),
        "failures": list(found.failures),
        "results": _results(found),
        "same_result": found.same_result,
        "seeds": list(map(str, found.seeds)) if found.stochastic else None,
        "parameters": _pairs(found.parameters),
        "same_parameters": {name: cell(v)[0] for name, v in found.same_parameters.items()},
        "metrics": _pairs(found.metrics),
        "same_metrics": {name: cell(v)[0] for name, v in found.same_metrics.items()},
        "origin": origin.key if origin else None,
        "steps": [
            {
                "key": step.key,
                "verdict": step.verdict,
                "outcome": outcome(step, first, second),
                "why": reasons(step),
            }
            for step in found.steps
        ],
        "functions": {name: cut(diff, _LONG) for name, diff in found.functions.items()},
        "packages": _texts(found.packages),
        "git": _texts({n: p for n, p in found.git.items() if n not in _BRIEF}),
        "git_diffs": _git_diffs(store, found),
        "environment": [cut(line) for line in found.environment],
        "problems": list(found.problems),
    }


def _results(found: Comparison) -> list[str | None]:
    if found.same_result is False:
        return _shown(found.results)
    return [None if value is ABSENT else full_text(value) for value in found.results]


def _pairs(pairs: Mapping[str, Pair[Any]]) -> list[list[Any]]:
    return [[name, *_shown(pair)] for name, pair in pairs.items()]


def _shown(pair: Pair[Any]) -> list[str | None]:
    texts = show_pair(pair, _WIDE)
    return [None if v is ABSENT else t for v, t in zip(pair, texts, strict=True)]


def _texts(pairs: Mapping[str, Pair[Any]]) -> list[list[Any]]:
    rows = []
    for name, pair in pairs.items():
        texts = show_texts(pair, _WIDE)
        cells = [None if v is ABSENT else t for v, t in zip(pair, texts, strict=True)]
        rows.append([name, *cells])
    return rows


def _git_diffs(store: Store, found: Comparison) -> list[dict[str, Any]]:
    """Give the uncommitted changes of both trials if they differ."""
    if not any(name in found.git for name in _BRIEF):
        return []
    diffs = []
    for trial in (found.first, found.second):
        facts = _git(store, trial)
        untracked = facts.get("untracked", "")
        diffs.append(
            {"trial": trial, "diff": cut(facts.get("diff", ""), _LONG), "untracked": cut(untracked)}
        )
    return diffs


def _git(store: Store, trial: int) -> dict[str, str]:
    digest = trial_or_raise(store, trial).begun.environment
    try:
        environment = load_record(store.get(digest), digest, Environment)
    except (KeyError, CorruptRecordError):
        return {}
    return environment.categories.get("git", {})
