"""Hits that are wrong and runs that are needless, over generated changes: ours and other tools."""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.timing import Figure
from benchmarks.validity.changes import Sequence, sequences
from benchmarks.validity.judge import Judgement, judge_all
from benchmarks.validity.tools import HOW, LIBRARIES

__all__ = ["judgements", "run"]

CHANGES = 1_020
"""Changes that the benchmark makes: 60 of each of 17 kinds, or nearly."""


def run(folder: Path) -> Iterator[Figure]:
    """Run all tools that are installed over the same changes, and count."""
    tools = [tool for tool in HOW if _is_installed(tool)]
    found: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements(sequences(CHANGES, extras=has_extras()), tools):
        if judgement.kind != "first":
            found[judgement.tool].append(judgement)
    print(by_kind(found))
    for tool in HOW:
        if tool in found:
            yield from _figures(tool, found[tool])
        else:
            yield Figure(f"{tool}: not installed (extra benchmarks)", 0, 0, "")


def has_extras() -> bool:
    """Whether the libraries of classes for configurations are there."""
    return all(importlib.util.find_spec(name) for name in ("pydantic", "attrs"))


def _is_installed(tool: str) -> bool:
    return importlib.util.find_spec(LIBRARIES[tool][0].partition(".")[0]) is not None


def judgements(made: Iterable[Sequence], tools: list[str]) -> Iterator[Judgement]:
    """Yield a judgement for each change and tool, from a process for each processor."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_judged, each, tools) for each in made]):
            yield from done.result()


def _judged(sequence: Sequence, tools: list[str]) -> list[Judgement]:
    return list(judge_all([sequence], tools))


def _figures(tool: str, found: list[Judgement]) -> Iterator[Figure]:
    """Yield the lines of one tool."""
    stale = sum(len(each.stale) for each in found)
    needless, ran = sum(len(each.needless) for each in found), sum(len(each.ran) for each in found)
    failed = sum(bool(each.error) for each in found)
    what = f"{tool}: {len(found):,} changes"
    note = HOW[tool] + (f"; {failed} runs FAILED" if failed else "")
    yield Figure(f"{what}, stale hits", stale, 0, "hits", None, note)
    yield Figure(f"{what}, needless of all step runs", 100 * needless / max(ran, 1), 0, "%", None,
                 f"{needless:,} of {ran:,}")  # fmt: skip
    for name, told in {
        "explain names the change": [each.explained for each in found],
        "compare names the change": [each.compared for each in found],
    }.items():
        if asked := [each for each in told if each is not None]:
            share = 100 * sum(asked) / len(asked)
            yield Figure(
                f"{what}, {name}", share, 0, "%", None, f"{sum(asked):,} of {len(asked):,}"
            )


def by_kind(found: dict[str, list[Judgement]]) -> str:
    """Return a table: for each kind of change, stale hits and needless runs of each tool."""
    kinds = sorted({each.kind for judged in found.values() for each in judged})
    head = f"{'stale hits / needless runs after':34}{'changes':>8}"
    lines = [head + "".join(f"{tool:>14}" for tool in found)]
    for kind in kinds:
        cells, count = "", 0
        for judged in found.values():
            these = [each for each in judged if each.kind == kind]
            count = len(these)
            stale, idle = sum(len(j.stale) for j in these), sum(len(j.needless) for j in these)
            cells += f"{f'{stale} / {idle}':>14}"
        lines.append(f"{kind:34}{count:>8}{cells}")
    return "\n".join(lines)
