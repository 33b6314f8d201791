"""Which step differs, and which of the recorded changes reach it.

A change reaches a step if the step takes it itself, or by way of steps before it whose outputs
are not known to be equal: an equal output lets nothing through.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from daskperiment.capture.code_changes import (
    changed_constants,
    changed_functions,
    names_of_changes,
    unknown_constants,
)
from daskperiment.capture.code_inside import UNKNOWN, ContentChange, change_of, content_of
from daskperiment.capture.files import changed_files
from daskperiment.codec import is_object
from daskperiment.compare.evidence import Evidence
from daskperiment.compare.parts import ABSENT, Cause, Pair, StepComparison, Verdict
from daskperiment.records import Argument, Node, StepCode, StepRun

__all__ = ["changed_entries", "compare_steps"]


@dataclass(frozen=True)
class _TrialPair:
    """What is known of two trials, where the causes of a difference are looked for."""

    first: Evidence
    second: Evidence
    parameters: dict[str, Pair[Any]]
    """Those that differ."""
    environment: Sequence[str]
    """What differs of the interpreter and the machine, a line each."""

    def runs(self, key: str) -> Pair[StepRun | None]:
        return Pair(self.first.runs.get(key), self.second.runs.get(key))

    def nodes(self, key: str) -> Pair[Node | None]:
        return Pair(self.first.nodes.get(key), self.second.nodes.get(key))

    def keys(self, key: str) -> Pair[str | None]:
        """Return the keys that a step has in the trials themselves."""
        return Pair(self.first.own_key(key), self.second.own_key(key))

    def content_change(self, parameter: str) -> ContentChange:
        """Return what changed of a parameter that is no plain value."""
        old, new = (content_of(evidence.trial.parameters.get(parameter))
                    for evidence in (self.first, self.second))  # fmt: skip
        return UNKNOWN if old is None or new is None else change_of(old, new)

    def codes(self, step: str) -> Pair[StepCode | None]:
        codes = self.first.code, self.second.code
        return Pair(*(code.steps.get(step) if code else None for code in codes))


def compare_steps(
    first: Evidence, second: Evidence, parameters: dict[str, Pair[Any]], environment: Sequence[str]
) -> tuple[StepComparison, ...]:
    """Return the comparison of every step of two trials, inputs before those who use them.

    `parameters` are those that differ. `environment` is what differs of the interpreter and the
    machine: said where nothing else explains a step.
    """
    both = _TrialPair(first, second, parameters, environment)
    return tuple(_compare(both, key) for key in _merged_order(first, second))


def _merged_order(first: Evidence, second: Evidence) -> list[str]:
    """Return all keys as the earlier trial has them; others stand behind what they stood behind."""
    earlier, later = sorted([first, second], key=lambda evidence: evidence.trial.trial)
    behind: dict[str, list[str]] = {}
    before = ""
    for key in later.nodes:
        if key in earlier.nodes:
            before = key
        else:
            behind.setdefault(before, []).append(key)
    order = behind.get("", [])
    for key in earlier.nodes:
        order += [key, *behind.get(key, [])]
    return order


def _compare(both: _TrialPair, key: str) -> StepComparison:
    runs = both.runs(key)
    verdict = _verdict(both, key)
    return StepComparison(
        key=key,
        verdict=verdict,
        keys=both.keys(key),
        statuses=Pair(*(run.status if run else None for run in runs)),
        failures=Pair(*map(_description, runs)),
        reused=Pair(*(run.reused if run else None for run in runs)),
        note=next((run.note for run in runs if run and run.note), None),
        changes=(*_own_changes(both, key), *_literals(both, key)),
        causes=_causes(both, key) if verdict in ("differs", "failed") else (),
    )


def _verdict(both: _TrialPair, key: str) -> Verdict:
    old, new = both.runs(key)
    if key not in both.first.nodes and both.first.wired:
        return "added"
    if key not in both.second.nodes and both.second.wired:
        return "removed"
    if _not_needed(both, key):
        return "not needed"
    if old is None or new is None or "interrupted" in (old.status, new.status):
        return "not run"
    if old.status != new.status:
        return "failed"
    if old.status in ("failed", "pruned"):
        return "same" if _description(old) == _description(new) else "failed"
    if old.output is None or new.output is None:
        return "same" if _kept_alike(old, new) else "unchecked"
    return "same" if old.output == new.output else "differs"


def _kept_alike(old: StepRun, new: StepRun) -> bool:
    """Whether two outputs were kept as the same bytes; unequal bytes say nothing."""
    kept = [(run.kept or {}).get("value") for run in (old, new)]
    digests = [form["digest"] if form is not None and is_object(form) else None for form in kept]
    return digests[0] is not None and digests[0] == digests[1]


def _not_needed(both: _TrialPair, key: str) -> bool:
    """Whether it did not run where it had not to, and ran well where it did."""
    ways = {
        "spared" if key in trial.spared else run.status if run else "not run"
        for trial, run in zip((both.first, both.second), both.runs(key), strict=True)
    }
    return "spared" in ways and ways <= {"spared", "succeeded"}


def _description(run: StepRun | None) -> str | None:
    return run.failure.description if run and run.failure else None


_DOUBTS = ("unchecked", "unknown")
"""Kinds of causes that are not known to differ."""


def _causes(both: _TrialPair, key: str) -> tuple[Cause, ...]:
    causes = [*_through_inputs(both, key), *_own_changes(both, key), *_seed(both, key)]
    causes.sort(key=lambda cause: cause.kind != "step")
    known = [cause for cause in causes if cause.kind not in _DOUBTS]
    if known:
        return tuple(known)
    doubts = [*causes, *_unknown(both, key)]
    if not doubts and _same_inputs(both, key) is None:
        doubts = [Cause("unchecked", key, key)]
    around = [Cause("environment", line, key) for line in both.environment]
    return (*doubts, *around) if doubts or around else (_nothing_changed(both, key),)


def _nothing_changed(both: _TrialPair, key: str) -> Cause:
    """Return what is to be said where nothing recorded differs: asserted only if all is known."""
    note = next((run.note for run in both.runs(key) if run and run.note), "")
    codes = both.codes(next(node.step for node in both.nodes(key) if node))
    known = None not in codes and both.first.environment and both.second.environment
    if not known or _same_inputs(both, key) is None:
        return Cause("unexplained", note, key)
    states = list(dict.fromkeys(name for code in codes if code for name in code.states))
    note = note or (f"its code changes {', '.join(states)}, which it reads" if states else "")
    return Cause("impure", note, key)


def _unknown(both: _TrialPair, key: str) -> Iterator[Cause]:
    """Yield what a step reads or takes and that cannot be compared."""
    nodes = [node for node in both.nodes(key) if node]
    codes = [code for code in both.codes(nodes[0].step) if code]
    for name in dict.fromkeys(name for code in codes for name in unknown_constants(code)):
        yield Cause("unknown", f"constant {name}", key)
    # Where all of them together have a fingerprint, those without are ignored ones.
    arguments = [run.arguments for run in both.runs(key) if run and run.inputs is None]
    unknown = [name for each in arguments for name in each if each[name].fingerprint is None]
    for name in dict.fromkeys(unknown):
        yield Cause("unknown", f"argument {name}", key)


def _through_inputs(both: _TrialPair, key: str) -> list[Cause]:
    equal = _same_inputs(both, key)
    if equal:
        return []
    arguments = _arguments(both, key)
    nodes = [node for node in both.nodes(key) if node]
    literal = {name for node in nodes for name in node.literals}
    causes = _upstream(both, key, {key})
    told = [one for one in arguments if one.name in literal or not causes]
    if any(_files(both, key)):
        told = [one for one in told if one.values.first != one.values.second]
    if told and not causes and (changed := _changed_in_place(both, key)):
        told = changed
    causes += told
    if causes or equal is not False or any(_files(both, key)) or _changed_code(both, key):
        return causes
    return [Cause("inputs", key, key)]


def _arguments(both: _TrialPair, key: str) -> list[Cause]:
    """Return the arguments that are known to differ."""
    old, new = (run.arguments if run else {} for run in both.runs(key))
    pairs = {name: Pair(old[name], new[name]) for name in old if name in new}
    calls = [node.arguments if node else {} for node in both.nodes(key)]
    changed = {
        name: (pair, change_of(*pair))
        for name, pair in pairs.items()
        if None not in (prints := [one.fingerprint for one in pair]) and prints[0] != prints[1]
    }
    of_code = _changed_code(both, key)
    return [
        # What is no scalar is told by the call, if by anything.
        Cause("argument", name, key, _texts(name, pair, calls), change.lines(), change.data)
        for name, (pair, change) in changed.items()
        if not change.is_of(of_code)  # else the step's own code tells it
    ]


def _texts(name: str, pair: Pair[Argument], calls: Sequence[dict[str, Argument]]) -> Pair[str]:
    found = zip(pair, calls, strict=True)
    return Pair(*(one.text or call.get(name, one).text for one, call in found))


def _changed_code(both: _TrialPair, key: str) -> frozenset[str]:
    """Return the names of what changed of a step's code."""
    step = next((node.step for node in both.nodes(key) if node), "")
    old, new = both.first.code, both.second.code
    return names_of_changes(old, new, step) if old and new else frozenset()


def _literals(both: _TrialPair, key: str) -> list[Cause]:
    """Return the arguments that differ and stand in the call itself."""
    literal = {name for node in both.nodes(key) if node for name in node.literals}
    return [one for one in _arguments(both, key) if one.name in literal]


def _changed_in_place(both: _TrialPair, key: str) -> list[Cause]:
    """Return the steps that changed what they were given, and so perhaps what this one takes."""
    found: dict[str, Cause] = {}
    for evidence in (both.first, both.second):
        changing = [other for other, run in evidence.runs.items() if run.changed and other != key]
        before = _ancestors(evidence, key) if changing else set()
        for other in changing:
            if not before.isdisjoint(_ancestors(evidence, other)):
                found[other] = Cause("in place", other, key)
    return list(found.values())


def _ancestors(evidence: Evidence, key: str) -> set[str]:
    """Return the steps and parameters that reach a step, and itself."""
    found: set[str] = set()
    waiting = [key]
    while waiting:
        each = waiting.pop()
        if each not in found and (node := evidence.nodes.get(each)) is not None:
            waiting += node.steps
            found.update(f"parameter {name}" for name in node.parameters)
        found.add(each)
    return found


def _same_inputs(both: _TrialPair, key: str) -> bool | None:
    """Whether the arguments are equal; ``None`` if their fingerprints do not tell."""
    old, new = both.runs(key)
    if old is None or new is None or old.inputs is None or new.inputs is None:
        return None
    if bool(old.arguments) != bool(new.arguments):
        return None  # an earlier version made another fingerprint of them
    return old.inputs == new.inputs


def _upstream(both: _TrialPair, key: str, seen: set[str]) -> list[Cause]:
    """Return what comes in by the step's arguments, directly or through steps not known equal."""
    found: list[Cause] = []
    # Not by recursion: a graph may be deeper than Python's stack.
    waiting = [_arriving(both, key, seen, found)]
    while waiting:
        below = next(waiting[-1], None)
        if below is None:
            waiting.pop()
        else:
            waiting.append(below)
    return found


_Visit = Iterator["_Visit"]
"""Visits a step, which adds causes; it yields the visits that are to be made in between."""


def _arriving(both: _TrialPair, key: str, seen: set[str], found: list[Cause]) -> _Visit:
    nodes = [node for node in both.nodes(key) if node]
    if _rewired(both, nodes):
        found.append(Cause("graph", key, key, Pair(*map(_wiring, nodes))))
    of_code = _changed_code(both, key)
    for name in dict.fromkeys(name for node in nodes for name in node.wiring[1]):
        if name in both.parameters:
            change = both.content_change(name)
            if not change.is_of(of_code):  # else the step's own code tells it
                values, told = both.parameters[name], change.lines()
                found.append(Cause("parameter", name, key, values, told, change.data))
    for before in dict.fromkeys(name for node in nodes for name in node.wiring[0]):
        if before not in seen:
            seen.add(before)
            yield _through(both, before, seen, found)


def _rewired(both: _TrialPair, nodes: list[Node]) -> bool:
    known = len(nodes) == 2 and both.first.wired and both.second.wired
    return known and _wiring(nodes[0]) != _wiring(nodes[1])


def _wiring(node: Node) -> list[str]:
    steps, parameters = node.wiring
    return [*steps, *parameters]


def _through(both: _TrialPair, key: str, seen: set[str], found: list[Cause]) -> _Visit:
    verdict = _verdict(both, key)
    if verdict in ("differs", "failed"):
        found.append(Cause("step", key, key))
    elif verdict in ("unchecked", "not run", "not needed"):
        known = len(found)
        found += [*_own_changes(both, key), *_seed(both, key), *_unknown(both, key)]
        if not _same_inputs(both, key):
            yield _arriving(both, key, seen, found)
        if len(found) == known:
            found.append(Cause("unchecked", key, key))


def _seed(both: _TrialPair, key: str) -> Iterator[Cause]:
    old, new = both.runs(key)
    if old and new and (old.stochastic or new.stochastic) and old.seed != new.seed:
        yield Cause("seed", key, key, Pair(old.seed, new.seed))


def _own_changes(both: _TrialPair, key: str) -> Iterator[Cause]:
    """Yield what changed of the step's own code, its constants and the packages that it uses."""
    yield from _files(both, key)
    step = next(node.step for node in both.nodes(key) if node)
    old, new = both.codes(step)
    runs = both.runs(key)
    if old is None or new is None:
        # The step runs say whether the code changed even where the code itself cannot be read.
        if runs.first and runs.second and runs.first.code != runs.second.code:
            yield Cause("code", "", key)
        return
    if old.fingerprint == new.fingerprint:
        return
    assert both.first.code is not None
    assert both.second.code is not None
    functions = changed_functions(both.first.code, both.second.code, step)
    constants = changed_constants(both.first.code, both.second.code, step)
    # Where one is read in one of them alone, the code is another.
    constants = {name: pair for name, pair in constants.items()
                 if None not in pair and not (functions and "" in pair)}  # fmt: skip
    packages = changed_entries(old.packages, new.packages)
    changes = [Cause("code", name, key) for name, _, _ in functions]
    changes += [Cause("constant", name, key) for name in constants]
    changes += [Cause("package", name, key, pair) for name, pair in packages.items()]
    yield from changes or ([] if _unreadable(old, new) else [Cause("code", "", key)])


def _unreadable(old: StepCode, new: StepCode) -> bool:
    return bool(unknown_constants(old)) != bool(unknown_constants(new))


def _files(both: _TrialPair, key: str) -> Iterator[Cause]:
    """Yield what differs of the files that a step takes, or read besides."""
    lines = changed_files(both.first.files.get(key, {}), both.second.files.get(key, {}))
    reads = [run.reads if run else [] for run in both.runs(key)]
    before = {(state.kind, state.name): state.digest for state in reads[0]}
    for state in reads[1]:
        old = before.get((state.kind, state.name))
        if None not in (old, state.digest) and old != state.digest:
            lines.append(f"{_KINDS[state.kind]} {os.path.basename(state.name)} changed")
    yield from (Cause("file", line, key) for line in dict.fromkeys(lines))


_KINDS = {
    "file": "file",
    "tree": "file",
    "names": "the files in folder",
    "variable": "environment variable",
}


def changed_entries(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Pair[Any]]:
    """Return what differs between two dicts, by name; `ABSENT` for what one of them lacks."""
    pairs = {name: Pair(old.get(name, ABSENT), new.get(name, ABSENT)) for name in {**old, **new}}
    return {name: pair for name, pair in pairs.items() if pair.first != pair.second}
