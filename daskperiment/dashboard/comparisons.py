"""Trials side by side, as plain data for the page. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from daskperiment.codec import find_record
from daskperiment.compare import ABSENT, Comparison, Pair, compare
from daskperiment.compare.wording import outcome, reasons, show_pair, show_texts
from daskperiment.dashboard.artifact_files import describe_artifacts
from daskperiment.dashboard.cells import LONGEST, as_number, cell, full_text, truncate
from daskperiment.dashboard.table import TrialTable, differing
from daskperiment.errors import FilterError
from daskperiment.history.filtering.language import Path
from daskperiment.history.history_table import HistoryTable
from daskperiment.history.stored_values import MISSING
from daskperiment.history.trial_records import trial_or_raise
from daskperiment.records import Environment
from daskperiment.store.protocol import Store

__all__ = ["compare_trials"]

_Show = Callable[[Pair[Any], int], Iterable[str]]

_PAIR_WIDTH = 200
_GIT_TEXTS = ("diff", "untracked")
_MOST = 200
"""Trials that stand side by side at most."""
_EXPLAINED = 12
"""Trials of which it is said where they part from the first one."""

# Any number of trials -----------------------------------------------------------------------------


def compare_trials(table: TrialTable, trials: Sequence[int]) -> dict[str, Any]:
    """Return trials side by side: where each parts from the first, and how far numbers differ.

    Of fewer than two it is only told which they are.
    """
    shown = list(dict.fromkeys(trials))[:_MOST]
    for trial in shown:
        if not len(table.of([trial])):
            trial_or_raise(table.store, trial)  # says which trials there are
    if len(shown) < 2:  # that a filter finds now: others may begin, or were there a moment ago
        return {"trials": shown}
    few = table.of(shown)
    first, *others = shown
    found = [compare(table.store, first, other) for other in others[:_EXPLAINED]]
    results: list[Path] = [("Result",), *few.paths("Result")]
    differ = differing(few, np.arange(len(few)))
    names = list(few.columns.parameters)
    return {
        "trials": shown,
        "left_out": max(0, len(set(trials)) - len(shown)),
        "statuses": few.column(("Status",)).to_list(),
        "tags": [", ".join(tags) for tags in few.column(("Tags",)).to_list()],
        "explanations": [[one.second, one.explanation] for one in found],
        "unexplained": max(0, len(others) - len(found)),
        "results": [_line(".".join(path), _values(few, path)) for path in results],
        "metrics": [_line(name, _values(few, ("metrics", name))) for name in few.metric_names],
        "duration": _line("Duration in seconds", _values(few, ("Process Time",))),
        "parameters": [_line(n, few.parameter(n).to_list()) for n in names if n in differ],
        "same": {n: cell(few.parameter(n).to_list()[0])[0] for n in names if n not in differ},
        "artifacts": _artifacts(table.store, shown),
        "two": _two(table.store, found[0]) if len(shown) == 2 else None,
    }


def _values(table: HistoryTable, path: Path) -> list[Any]:
    try:
        return table.column(path).to_list()
    except FilterError:
        return [MISSING] * len(table)


def _line(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return values as cells, each number with how far it is from the first one."""
    numbers = [as_number(value) for value in values]
    return {
        "name": name,
        "cells": [cell(value) for value in values],
        "deltas": [None, *(_delta(numbers[0], number) for number in numbers[1:])],
    }


def _delta(first: float | None, other: float | None) -> str | None:
    if first is None or other is None or not abs(other - first) < float("inf"):
        return None
    delta = other - first
    share = f" ({100 * delta / abs(first):+.3g} %)" if first and delta else ""
    return f"{delta:+.4g}{share}" if delta else "±0"


def _artifacts(store: Store, trials: Sequence[int]) -> list[dict[str, Any]]:
    """Return the artifacts of trials side by side, by their names."""
    each = [{one["name"]: one for one in describe_artifacts(store, trial)} for trial in trials]
    names = dict.fromkeys(name for one in each for name in one)
    return [{"name": name, "each": [one.get(name) for one in each]} for name in names]


# Two trials --------------------------------------------------------------------------------------


def _two(store: Store, found: Comparison) -> dict[str, Any]:
    """Return how two trials differ, and in short what they have in common."""
    first, second = found.first, found.second
    origin = found.first_difference
    git = {name: pair for name, pair in found.git.items() if name not in _GIT_TEXTS}
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
        "parameters": _rows(found.parameters),
        "same_parameters": {name: cell(v)[0] for name, v in found.same_parameters.items()},
        "metrics": _rows(found.metrics),
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
        "functions": {name: truncate(diff, LONGEST) for name, diff in found.functions.items()},
        "packages": _rows(found.packages, show_texts),
        "git": _rows(git, show_texts),
        "git_diffs": _git_diffs(store, found),
        "environment": [truncate(line) for line in found.environment],
        "problems": list(found.problems),
    }


def _results(found: Comparison) -> list[str | None]:
    if found.same_result is False:
        return _shown(found.results, show_pair)
    return [None if value is ABSENT else full_text(value) for value in found.results]


def _rows(pairs: Mapping[str, Pair[Any]], show: _Show = show_pair) -> list[list[Any]]:
    return [[name, *_shown(pair, show)] for name, pair in pairs.items()]


def _shown(pair: Pair[Any], show: _Show) -> list[str | None]:
    texts = show(pair, _PAIR_WIDTH)
    return [None if v is ABSENT else t for v, t in zip(pair, texts, strict=True)]


def _git_diffs(store: Store, found: Comparison) -> list[dict[str, Any]]:
    """Return the uncommitted changes of both trials if they differ."""
    if not any(name in found.git for name in _GIT_TEXTS):
        return []
    return [_git_diff(store, trial) for trial in (found.first, found.second)]


def _git_diff(store: Store, trial: int) -> dict[str, Any]:
    digest = trial_or_raise(store, trial).begun.environment
    environment = find_record(store.get, digest, Environment)
    texts = environment.categories.get("git", {}) if environment else {}
    diff, untracked = (texts.get(name, "") for name in _GIT_TEXTS)
    return {"trial": trial, "diff": truncate(diff, LONGEST), "untracked": truncate(untracked)}
