"""The differences of two trials as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from textwrap import fill, wrap
from typing import Any, NamedTuple

from daskperiment.compare.parts import Differences, Pair
from daskperiment.compare.wording import (
    VALUE,
    explanation,
    outcome,
    reasons,
    show,
    show_pair,
    show_texts,
)
from daskperiment.formatting import html_table, one_line, shorten, table, width

__all__ = ["as_html", "as_text"]

COLUMNS = 96
NAME = 26
WHY = 52
DIFF_LINES = 40
_GIT_NAMES = {"diff": "uncommitted changes", "untracked": "untracked files"}


class Section(NamedTuple):
    """A titled part: a table, or lines to be kept as they are."""

    title: str
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()
    note: str = ""


def _sections(d: Differences) -> list[Section]:
    trials = [f"trial {d.first}", f"trial {d.second}"]
    sections = [
        Section("Outcome", trials, _outcome_rows(d)),
        Section("Errors", lines=_errors(d)),
        Section("Parameters", trials, _pair_rows(d.parameters), note=_same(d.same_parameters)),
        Section("Metrics, last value", trials, _pair_rows(d.metrics), note=_same(d.same_metrics)),
        Section("Steps", ["output", "why"], _step_rows(d)),
        *(Section(f"Code of {name}", lines=_cut(diff)) for name, diff in d.functions.items()),
        Section("Packages", trials, _text_rows(d.packages)),
        Section("Git", trials, _git_rows(d.git)),
        Section("Environment", lines=[shorten(line, COLUMNS - 2) for line in d.environment]),
        Section("Not compared", lines=_wrapped(d.problems)),
        Section("Notes on the reproduction", lines=_wrapped(d.notes)),
    ]
    return [section for section in sections if section.rows or section.lines]


def _outcome_rows(d: Differences) -> list[list[str]]:
    rows = [["status", *d.statuses], ["result", *_results(d)]]
    if d.targets.first != d.targets.second:
        rows.append(["result step", *d.targets])
    if d.stochastic and d.seeds.first != d.seeds.second:
        rows.append(["seed", *map(str, d.seeds)])
    return rows


def _errors(d: Differences) -> list[str]:
    numbered = zip((d.first, d.second), d.failures, strict=True)
    return [shorten(f"trial {n}: {text}", COLUMNS - 2) for n, text in numbered if text]


def _results(d: Differences) -> tuple[str, str]:
    if d.same_result is False:
        return show_pair(d.results)
    first, second = (shorten(show(value), VALUE) for value in d.results)
    return first, second + ("  (cannot be compared)" if d.same_result is None else "")


def _pair_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    return [[shorten(name, NAME), *show_pair(pair)] for name, pair in pairs.items()]


def _text_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    return [[shorten(name, NAME), *show_texts(pair)] for name, pair in pairs.items()]


def _git_rows(pairs: Mapping[str, Pair[Any]]) -> list[list[str]]:
    rows = []
    for name, pair in pairs.items():
        first, second = show_texts(Pair(*(_git_fact(name, text) for text in pair)))
        mark = " (others)" if first == second else ""
        rows.append([_GIT_NAMES.get(name, name), first, second + mark])
    return rows


def _git_fact(name: str, text: Any) -> str:
    """Sum up what takes many lines."""
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
    return shorten(f"the same: {', '.join(shown)}", COLUMNS - 2) if shown else ""


def _step_rows(d: Differences) -> list[list[str]]:
    if all(step.verdict == "same" and not step.changes for step in d.steps):
        return []
    return [
        [shorten(step.key, NAME), outcome(step, d.first, d.second), one_line(reasons(step))]
        for step in d.steps
    ]


def _cut(diff: str) -> list[str]:
    lines = [shorten(line, COLUMNS - 2) for line in diff.splitlines()]
    if len(lines) <= DIFF_LINES:
        return lines
    rest = len(lines) - DIFF_LINES
    return [*lines[:DIFF_LINES], f"… {rest} more lines: see the attribute 'functions'"]


def _wrapped(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in wrap(one_line(text), COLUMNS - 2)]


def as_text(d: Differences) -> str:
    """Write the differences as text that fits a terminal of 100 columns."""
    parts = [_heading(d), fill(explanation(d), COLUMNS)]
    parts += map(_section_text, _sections(d))
    return "\n\n".join(parts)


def _heading(d: Differences) -> str:
    return f"Comparison of trials {d.first} and {d.second}"


def _section_text(section: Section) -> str:
    if not section.rows:
        return "\n".join([section.title, *("  " + line for line in section.lines)])
    rows = [line for row in section.rows for line in _fitted(row)]
    text = table([section.title, *section.headers], rows)
    return f"{text}\n  ({section.note})" if section.note else text


def _fitted(row: Sequence[str]) -> list[list[str]]:
    """Wrap a row's last cell; what it takes further down stands below it."""
    *cells, last = row
    first, *more = wrap(last, WHY) if width(last) > WHY else [last]
    return [["  " + cells[0], *cells[1:], first], *([*[""] * len(cells), line] for line in more)]


def as_html(d: Differences) -> str:
    """Write the differences as HTML: no script, nothing unescaped, colours of the page."""
    parts = [f"<p><b>{_heading(d)}</b></p><p>{escape(explanation(d))}</p>"]
    parts += map(_section_html, _sections(d))
    return f'<div style="max-width: 70em">{"".join(parts)}</div>'


def _section_html(section: Section) -> str:
    title = escape(section.title)
    if section.rows:
        note = f"<p><small>{escape(section.note)}</small></p>" if section.note else ""
        return html_table([section.title, *section.headers], section.rows) + note
    lines = "\n".join(map(_coloured, section.lines))
    return f"<details open><summary>{title}</summary><pre>{lines}</pre></details>"


def _coloured(line: str) -> str:
    """Colour a line of a diff so that it is legible on a light and on a dark page."""
    colour = {"+": "rgba(0,160,0,.2)", "-": "rgba(220,0,0,.2)"}.get(line[:1])
    text = escape(line)
    return f'<span style="background: {colour}">{text}</span>' if colour else text
