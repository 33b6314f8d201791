"""The differences of two trials as a text of tables, and as HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from textwrap import fill, wrap
from typing import Any, NamedTuple

from daskperiment.compare.parts import Differences, Pair, StepComparison
from daskperiment.compare.wording import explanation, outcome, reasons, show, show_pair, show_texts
from daskperiment.formatting import html_table, one_line, shorten, table, width

__all__ = ["as_html", "as_text"]

_VALUE, _NAME, _WHY, _COLUMNS = 30, 26, 52, 96
"""Widths in columns: of values, names, reasons and the whole text."""
_DIFF_LINES = 40
_NUMBER = re.compile(r"(?<=\w)#\d+(?='| of trial)")
"""The number of a call in the key of a step."""
_GIT_NAMES = {"diff": "uncommitted changes", "untracked": "untracked files"}


class _Part(NamedTuple):
    """A titled part of the text: a table, or lines to be kept as they are."""

    title: str
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()
    note: str = ""


def _parts(d: Differences) -> list[_Part]:
    trials = [f"trial {d.first}", f"trial {d.second}"]
    parts = [
        _Part("Outcome", trials, _outcome_rows(d)),
        _Part("Errors", lines=_errors(d)),
        _Part("Parameters", trials, _pair_rows(d.parameters), note=_same(d.same_parameters)),
        _Part("Metrics, last value", trials, _pair_rows(d.metrics), note=_same(d.same_metrics)),
        _Part("Steps", ["output", "why"], _step_rows(d)),
        *(_Part(f"Code of {name}", lines=_cut(diff)) for name, diff in d.functions.items()),
        _Part("Packages", trials, _text_rows(d.packages)),
        _Part("Git", trials, _git_rows(d.git)),
        _Part("Environment", lines=[shorten(line, _COLUMNS - 2) for line in d.environment]),
        _Part("Not compared", lines=_wrapped(d.problems)),
        _Part("Notes on the reproduction", lines=_wrapped(d.notes)),
    ]
    return [part for part in parts if part.rows or part.lines]


def _outcome_rows(d: Differences) -> list[list[str]]:
    rows = [["status", *d.statuses], ["result", *_results(d)]]
    if d.targets.first != d.targets.second:
        rows.append(["result step", *d.targets])
    if d.stochastic and d.seeds.first != d.seeds.second:
        rows.append(["seed", *map(str, d.seeds)])
    return rows


def _errors(d: Differences) -> list[str]:
    numbered = zip((d.first, d.second), d.failures, strict=True)
    return [shorten(f"trial {n}: {text}", _COLUMNS - 2) for n, text in numbered if text]


def _results(d: Differences) -> tuple[str, str]:
    if d.same_result is False:
        return show_pair(d.results)
    first, second = (shorten(show(value), _VALUE) for value in d.results)
    return first, second + ("  (cannot be compared)" if d.same_result is None else "")


def _pair_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    return [[shorten(name, _NAME), *show_pair(pair)] for name, pair in pairs.items()]


def _text_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    return [[shorten(name, _NAME), *show_texts(pair)] for name, pair in pairs.items()]


def _git_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    rows = []
    for name, pair in pairs.items():
        first, second = show_texts(Pair(*(_git_summary(name, text) for text in pair)))
        mark = " (others)" if first == second else ""
        rows.append([_GIT_NAMES.get(name, name), first, second + mark])
    return rows


def _git_summary(name: str, text: Any) -> str:
    """Return one line for what takes many."""
    lines = text.splitlines() if isinstance(text, str) else []
    match name:
        case "diff":
            files = sum(line.startswith("diff --git ") for line in lines)
            added = sum(line[:1] == "+" and line[:4] != "+++ " for line in lines)
            removed = sum(line[:1] == "-" and line[:4] != "--- " for line in lines)
            return f"{_files(files)}, +{added} -{removed}" if files else "none"
        case "untracked":
            return _files(len(lines)) if lines else "none"
        case "commit":
            return "".join(lines)[:12] or "none"
    return one_line("; ".join(lines)) or "none"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _same(values: Mapping[str, Any]) -> str:
    shown = [f"{name}={shorten(show(value), 20)}" for name, value in values.items()]
    return shorten(f"the same: {', '.join(shown)}", _COLUMNS - 2) if shown else ""


def _step_rows(d: Differences) -> list[list[str]]:
    if all(step.verdict == "same" and not step.changes for step in d.steps):
        return []
    groups: dict[tuple[str, str, str], list[StepComparison]] = {}
    for step in d.steps:
        name, how, why = step.key.partition("#")[0], outcome(step, d.first, d.second), reasons(step)
        groups.setdefault((name, how, _NUMBER.sub("", why)), []).append(step)
    return [_step_row(d, name, group) for (name, _, _), group in groups.items()]


def _step_row(d: Differences, name: str, group: Sequence[StepComparison]) -> list[str]:
    """Return one row for calls of a step of which there is the same to tell."""
    first, how = group[0], outcome(group[0], d.first, d.second)
    if len(group) == 1:
        return [shorten(first.key, _NAME), how, one_line(reasons(first))]
    count = f" ({len(group)} calls)"
    why = _NUMBER.sub("", reasons(first))
    return [shorten(name, _NAME - len(count)) + count, how, one_line(why)]


def _cut(diff: str) -> list[str]:
    lines = [shorten(line, _COLUMNS - 2) for line in diff.splitlines()]
    if len(lines) <= _DIFF_LINES:
        return lines
    rest = len(lines) - _DIFF_LINES
    return [*lines[:_DIFF_LINES], f"… {rest} more lines: see the attribute 'functions'"]


def _wrapped(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in wrap(one_line(text), _COLUMNS - 2)]


def as_text(d: Differences) -> str:
    """Return the differences as text that fits a terminal of 100 columns."""
    parts = [_heading(d), fill(explanation(d), _COLUMNS)]
    parts += map(_part_text, _parts(d))
    return "\n\n".join(parts)


def _heading(d: Differences) -> str:
    return f"Comparison of trials {d.first} and {d.second}"


def _part_text(part: _Part) -> str:
    if not part.rows:
        return "\n".join([part.title, *("  " + line for line in part.lines)])
    rows = [line for row in part.rows for line in _fitted(row)]
    text = table([part.title, *part.headers], rows)
    return f"{text}\n  ({part.note})" if part.note else text


def _fitted(row: Sequence[str]) -> list[list[str]]:
    """Return a row with its last cell wrapped; what that takes further stands below it."""
    *cells, last = row
    first, *more = wrap(last, _WHY) if width(last) > _WHY else [last]
    return [["  " + cells[0], *cells[1:], first], *([*[""] * len(cells), line] for line in more)]


def as_html(d: Differences) -> str:
    """Return the differences as HTML: no script, nothing unescaped, colours of the page."""
    parts = [f"<p><b>{_heading(d)}</b></p><p>{escape(explanation(d))}</p>"]
    parts += map(_part_html, _parts(d))
    return f'<div style="max-width: 70em">{"".join(parts)}</div>'


def _part_html(part: _Part) -> str:
    title = escape(part.title)
    if part.rows:
        note = f"<p><small>{escape(part.note)}</small></p>" if part.note else ""
        return html_table([part.title, *part.headers], part.rows) + note
    lines = "\n".join(map(_coloured, part.lines))
    return f"<details open><summary>{title}</summary><pre>{lines}</pre></details>"


def _coloured(line: str) -> str:
    """Return a line of a diff in colours that are legible on a light and on a dark page."""
    colour = {"+": "rgba(0,160,0,.2)", "-": "rgba(220,0,0,.2)"}.get(line[:1])
    text = escape(line)
    return f'<span style="background: {colour}">{text}</span>' if colour else text
