"""The differences of two trials in words and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from daskperiment.compare.parts import Cause, Differences, Pair, StepComparison
from daskperiment.formatting import (
    one_line,
    plain_repr,
    shorten,
    shorten_pair,
    told_change,
)
from daskperiment.history.stored_values import StoredObject
from daskperiment.secret_values import HIDDEN

__all__ = [
    "explanation",
    "outcome",
    "reasons",
    "show",
    "show_pair",
    "show_texts",
]

_VALUE, _SHORT, _NAME = 30, 20, 26
"""Widths in columns: of values in a table, in a sentence, and of names."""
_MOST = 6
"""How many things of a kind are named."""
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
    return plain_repr(value)


def show_pair(pair: Pair[Any], columns: int = _VALUE) -> tuple[str, str]:
    """Return two values that differ, shortened so that the difference is seen."""
    if all(isinstance(value, StoredObject) and value.is_secret for value in pair):
        return HIDDEN, "another secret"
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
    lines, data = cause.code, cause.data
    if cause.kind == "argument":
        return shorten(cause.name, _NAME) + told_change(*cause.values, _SHORT, "->", lines, data)
    if data is not None or all(isinstance(each, StoredObject) and not each.is_secret
                               for each in cause.values):  # fmt: skip
        return shorten(cause.name, _NAME) + told_change("", "", _SHORT, "->", lines, data)
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
    if status == "pruned":
        return "was pruned"
    return status if status in ("succeeded", "failed") else f"is {status}"


def _doubts(d: Differences, found: StepComparison | None) -> list[str]:
    """Return the steps that might differ unseen, up to the first that is known to."""
    end = d.steps.index(found) if found else len(d.steps)
    unseen = [repr(step.key) for step in d.steps[:end] if step.verdict == "unchecked"]
    if not unseen:
        return []
    which = f"step {unseen[0]}" if len(unseen) == 1 else f"the steps {listed(unseen)}"
    return [f"Whether the output of {which} differs is not known: it has no fingerprint."]
