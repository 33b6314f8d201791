"""The differences of two trials in words: in sentences, and as a text of tables or as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from textwrap import fill, wrap
from typing import Any, NamedTuple

from daskperiment.codec import describe
from daskperiment.compare.parts import Cause, Differences, Pair, StepComparison
from daskperiment.formatting import (
    html_table,
    one_line,
    shorten,
    shorten_pair,
    table,
    told_change,
    width,
)
from daskperiment.history.stored_values import StoredObject

__all__ = [
    "as_html",
    "as_text",
    "explanation",
    "outcome",
    "reasons",
    "show",
    "show_pair",
    "show_texts",
]

_VALUE, _SHORT, _NAME, _WHY, _COLUMNS = 30, 20, 26, 52, 96
"""Widths in columns: of values in a table, in a sentence, of names, reasons and the whole text."""
_DIFF_LINES = 40
_MOST = 6
"""How many things of a kind are named."""
_NUMBER = re.compile(r"(?<=\w)#\d+(?='| of trial)")
"""The number of a call in the key of a step."""
_GIT_NAMES = {"diff": "uncommitted changes", "untracked": "untracked files"}
_WAY = {"parameter": "by way of"}
_NAMED = {"file": "{}", "constant": "constant {}", "argument": "argument {}"}
"""Kinds of causes that a step alone knows, and how they are named where they had no effect."""
_OF_NAMES = {
    "environment": "the environment changed ({})",
    "in place": "what it takes was changed in place by {}",
    "unknown": "perhaps {}, with no fingerprint to compare",
}
_ELSEWHERE = ("step", "unchecked")
"""Kinds of causes that are other steps themselves."""


# Values and causes -----------------------------------------------------------------------------


def show(value: Any) -> str:
    """Return a value as readers see it, at full length."""
    if isinstance(value, StoredObject):
        return value.repr
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        value = value.item() if value.dtype.kind in "biufc" else value  # 0.5, not np.float64(0.5)
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return hex(value) if isinstance(value, int) else describe(value)[1]


def show_pair(pair: Pair[Any], columns: int = _VALUE) -> tuple[str, str]:
    """Return two values that differ, shortened so that the difference is seen."""
    first, second = shorten_pair(show(pair.first), show(pair.second), columns)
    if first != second:
        return first, second
    types = [f" ({type(value).__name__})" for value in pair]
    marks = types if types[0] != types[1] else ["", " (other content)"]
    first, second = (shorten(first, max(4, columns - len(mark))) + mark for mark in marks)
    return first, second


def show_texts(pair: Pair[Any], columns: int = _VALUE) -> tuple[str, str]:
    """Return two texts, such as versions, without quotes and shortened in the same way."""
    first, second = (text if isinstance(text, str) else repr(text) for text in pair)
    return shorten_pair(first, second, columns)


def _change(cause: Cause) -> str:
    if cause.kind == "argument":
        return shorten(cause.name, _NAME) + told_change(*cause.values, _SHORT, "->")
    write = show_texts if cause.kind == "package" else show_pair
    return f"{shorten(cause.name, _NAME)} {' -> '.join(write(cause.values, _SHORT))}"


def listed(texts: Iterable[str], most: int = _MOST) -> str:
    """Return an enumeration.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    items = list(texts)
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def phrases(causes: Iterable[Cause], key: str) -> list[str]:
    """Return the causes that reach the step `key`, one phrase for each group of them."""
    groups: dict[tuple[str, str], list[Cause]] = {}
    for cause in causes:
        where = key if cause.kind in _ELSEWHERE else cause.step
        groups.setdefault((cause.kind, where), []).append(cause)
    if set(groups) == {("environment", key)}:
        names = [cause.name for cause in groups["environment", key]]
        return [f"nothing of its own changed, but the environment did ({listed(names)})"]
    return [
        _phrase(kind, group) if step == key
        # The key's input comes through a step whose own output is not known to be equal.
        else f"{_phrase(kind, group).removeprefix('its ')} {_WAY.get(kind, 'in')} step {step!r}"
        for (kind, step), group in groups.items()
    ]  # fmt: skip


def _phrase(kind: str, group: list[Cause]) -> str:
    names = [cause.name for cause in group if cause.name]
    many = "s" if len(group) > 1 else ""
    if kind in _OF_NAMES:
        return _OF_NAMES[kind].format(listed(names))
    match kind:
        case "code":
            return "its code changed" + (f" ({listed(names)})" if names else "")
        case "constant":
            return f"constant{many} {listed(names)} changed"
        case "parameter" | "package" | "argument":
            return f"{kind}{many} {listed(map(_change, group))}"
        case "file":
            return listed(names)
        case "seed":
            return "another seed for its random numbers"
        case "step":
            return f"input from {listed(map(repr, names))}"
        case "unchecked":
            return f"perhaps {listed(map(repr, names))}, with no fingerprint to compare"
    return _single_phrase(kind, group[0])


def _single_phrase(kind: str, cause: Cause) -> str:
    match kind:
        case "graph":
            return f"it takes other inputs ({_rewiring(*cause.values)})"
        case "inputs":
            return (
                "its inputs differ though no step or parameter that it takes is known to: "
                "what made them differ is not recorded"
            )
    note = f"; {cause.name}" if cause.name else ""
    if kind == "unexplained":
        return f"what is recorded does not tell why{note}"
    return (
        "its inputs, code, packages and seed are the same, "
        f"so it depends on something that is not recorded: it is not pure{note}"
    )


def _rewiring(first: Sequence[str], second: Sequence[str]) -> str:
    if max(len(first), len(second)) <= _MOST:
        return f"{listed(first)} -> {listed(second)}"
    added = [key for key in second if key not in first]
    gone = [key for key in first if key not in second]
    texts = ["with " + listed(added)] if added else []
    texts += ["without " + listed(gone)] if gone else []
    return ", ".join(texts) or "in another order"


def outcome(step: StepComparison, first: int, second: int) -> str:
    """Return in two words how a step went."""
    ran = [n for n, status in zip((first, second), step.statuses, strict=True) if status]
    match step.verdict:
        case "failed":
            # A step that failed in both trials did so in different ways.
            failed = [n for n, text in zip((first, second), step.failures, strict=True) if text]
            return "other error" if len(failed) == 2 else f"failed in {failed[0]}"
        case "added":
            return f"only in {second}"
        case "removed":
            return f"only in {first}"
        case "not run":
            return f"ran only in {ran[0]}" if len(ran) == 1 else "not run"
        case "same":
            return "failed alike" if step.failures.first else "same"
        case "not needed":
            return f"needed only in {ran[0]}" if ran else "not needed"
        case "unchecked":
            return "not comparable"
    return step.verdict


def reasons(step: StepComparison) -> str:
    """Return why a step went otherwise, or what is to be known about it."""
    if step.causes:
        return "; ".join(phrases(step.causes, step.key))
    parts = phrases(step.changes, step.key)
    if parts and step.verdict == "same":
        parts.append("to no effect")
    if step.verdict == "unchecked":
        parts.append(step.note or "its output has no fingerprint")
    if any(step.reused):
        parts.append(f"reused from trial {listed(str(n) for n in dict.fromkeys(step.reused) if n)}")
    if step.verdict == "not needed":
        parts.append("what takes its output was reused")
    if step.verdict == "not run" and "interrupted" in step.statuses:
        parts.append("interrupted")
    return "; ".join(parts)


# Sentences -------------------------------------------------------------------------------------


def explanation(d: Differences) -> str:
    """Return in a few sentences where two trials part and why."""
    found = d.first_difference
    sentences = [*_links(d), _first_step(d, found) if found else _without_step(d)]
    if found:
        sentences += [*_further_failure(d, found), *_other_origins(d, found)]
    return one_line(" ".join([*sentences, *_doubts(d, found)]))


def _links(d: Differences) -> list[str]:
    """Return which of the two trials reproduces the other, or was meant to."""
    pairs = zip((d.first, d.second), d.sources, (d.second, d.first), strict=True)
    how = "reproduces" if d.identical else "was run to reproduce"
    return [f"Trial {n} {how} trial {other}." for n, of, other in pairs if of == other]


def _first_step(d: Differences, step: StepComparison) -> str:
    if step.verdict == "differs":
        why = listed(phrases(step.causes, step.key))
        return f"Trial {d.second} differs from trial {d.first} first in step {step.key!r}: {why}."
    return f"{_failure(d, step)}. {_reaching(step)}."


def _reaching(step: StepComparison) -> str:
    why = listed(phrases(step.causes, step.key))
    if step.causes[0].kind in ("impure", "unexplained"):
        return why[0].upper() + why[1:]
    return f"What reaches the step: {why}"


def _failure(d: Differences, step: StepComparison) -> str:
    old, new = (shorten(text, 80) if text else None for text in step.failures)
    if old and new:
        errors = f"with {old} in trial {d.first} and {new} in trial {d.second}"
        return f"Both trials failed in step {step.key!r}, {errors}"
    failed, other = (d.first, d.second) if old else (d.second, d.first)
    return f"Trial {failed} failed in step {step.key!r} with {old or new}; trial {other} did not"


def _further_failure(d: Differences, found: StepComparison) -> list[str]:
    later = next((s for s in d.steps if s.verdict == "failed" and s is not found), None)
    return [f"{_failure(d, later)}. {_reaching(later)}."] if later else []


def _other_origins(d: Differences, found: StepComparison) -> list[str]:
    others = [s for s in d.steps if s.is_origin and s is not found and s.verdict == "differs"]
    origins = {step.key: listed(phrases(step.causes, step.key)) for step in others[:2]}
    return [f"Step {key!r} differs for a reason of its own: {why}." for key, why in origins.items()]


def _without_step(d: Differences) -> str:
    pair = f"trials {d.first} and {d.second}"
    if not d.differs:
        return f"No difference between {pair}{_what_is_same(d)}."
    if d.statuses.first != d.statuses.second or d.failures.first != d.failures.second:
        return _statuses(d)
    if d.same_result is False:
        return f"The results of {pair} differ, but no step's recorded output does."
    if d.metrics:
        return f"Only metrics of {pair} differ: {listed(map(repr, d.metrics))}."
    if d.same_result is None or _is_unsure(d):
        return f"No difference in the outcome of {pair} is known. What differs: {_conditions(d)}."
    return f"{pair.capitalize()} came out the same. What differs had no effect: {_conditions(d)}."


def _what_is_same(d: Differences) -> str:
    if d.same_result is None or _is_unsure(d):
        return " is known"
    ran = " that ran in both" if any(s.verdict == "not needed" for s in d.steps) else ""
    return f": parameters, code, environment and the output of every step{ran} are the same"


def _is_unsure(d: Differences) -> bool:
    unseen = any(
        step.verdict == "unchecked"
        or (step.verdict == "not run" and step.statuses.first != step.statuses.second)
        for step in d.steps
    )
    return unseen or bool(d.problems) or not d.steps


def _conditions(d: Differences) -> str:
    causes = [Cause("parameter", name, "", pair) for name, pair in d.parameters.items()]
    causes += [Cause("package", name, "", pair) for name, pair in d.packages.items()]
    texts = phrases(causes, "")
    texts += [f"code of {name}" for name in d.functions]
    texts += [f"step {s.key!r}" for s in d.steps if s.verdict in ("added", "removed")]
    changes = [change for step in d.steps for change in step.changes if change.kind in _NAMED]
    texts += dict.fromkeys(_NAMED[change.kind].format(change.name) for change in changes)
    texts += [f"git {name}" for name in d.git]
    texts += ["the environment"] if d.environment else []
    texts += ["the seed"] if d.stochastic and d.seeds.first != d.seeds.second else []
    return listed(texts) or "something whose name is not known"


def _statuses(d: Differences) -> str:
    texts = [
        f"trial {number} {_ended(status)}" + (f": {shorten(failure, 80)}" if failure else "")
        for number, status, failure in zip((d.first, d.second), d.statuses, d.failures, strict=True)
    ]
    text = "; ".join(texts)
    return f"{text[0].upper()}{text[1:]}. No step's recorded output differs."


def _ended(status: str) -> str:
    return status if status in ("succeeded", "failed") else f"is {status}"


def _doubts(d: Differences, found: StepComparison | None) -> list[str]:
    """Return the steps that might differ unseen, up to the first that is known to."""
    end = d.steps.index(found) if found else len(d.steps)
    unseen = [repr(step.key) for step in d.steps[:end] if step.verdict == "unchecked"]
    if not unseen:
        return []
    which = f"step {unseen[0]}" if len(unseen) == 1 else f"the steps {listed(unseen)}"
    return [f"Whether the output of {which} differs is not known: it has no fingerprint."]


# Text and HTML ---------------------------------------------------------------------------------


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
