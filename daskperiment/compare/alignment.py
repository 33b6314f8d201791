"""Which calls of two trials belong together: by what they compute, not by their number.

A call that is put in front of others shifts their numbers: ``read#2`` is ``read#3`` then. So calls
of one step are matched by what they take, and only then by what stands around them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import msgspec

from daskperiment.compare.evidence import Evidence
from daskperiment.records import Node, StepRun

__all__ = ["aligned"]

Matches = dict[str, str]
"""Key of a call in the second trial -> that in the first."""


def aligned(first: Evidence, second: Evidence) -> tuple[Evidence, Evidence]:
    """Return two trials with one key for calls that belong together: that of the second one.

    A call of the first trial that has none in the second, where its key is another call's, is told
    by its trial.
    """
    matches = _Matching(first, second).matches()
    keys = {old: new for new, old in matches.items()}
    for key in first.nodes:
        if key not in keys:
            taken = key in second.nodes
            keys[key] = f"{key} of trial {first.trial.trial}" if taken else key
    if all(old == new for old, new in keys.items()):
        return first, second
    return _renamed(first, keys), second


def _renamed(evidence: Evidence, keys: Mapping[str, str]) -> Evidence:
    nodes = {
        keys[key]: msgspec.structs.replace(
            node, key=keys[key], steps=[keys.get(each, each) for each in node.steps]
        )
        for key, node in evidence.nodes.items()
    }
    runs = {keys.get(key, key): run for key, run in evidence.runs.items()}
    renamed = {new: old for old, new in keys.items() if new != old}
    files = {keys.get(key, key): found for key, found in evidence.files.items()}
    return replace(evidence, nodes=nodes, runs=runs, files=files, renamed=renamed)


class _Matching:
    """Matches the calls of each step, inputs before those who use them."""

    def __init__(self, first: Evidence, second: Evidence) -> None:
        self._first = first
        self._second = second
        self._known: Matches = {}

    def matches(self) -> Matches:
        """Return the calls that belong together."""
        old, new = (_by_step(each.nodes) for each in (self._first, self._second))
        for step in _in_order(self._first, self._second):
            if step in old and step in new:
                self._match(old[step], new[step])
        return self._known

    def _match(self, old: Sequence[Node], new: Sequence[Node]) -> None:
        if len(old) == len(new) == 1:
            self._known[new[0].key] = old[0].key
            return
        for identity in (self._call, self._cache_key, self._inputs):
            self._by(identity, old, new)
        self._by_neighbours([node.key for node in old], [node.key for node in new])

    def _by(
        self, identity: Callable[[Evidence, Node], Hashable | None],
        old: Sequence[Node], new: Sequence[Node],
    ) -> None:  # fmt: skip
        """Match calls of equal identity; where there are several, those of one key first."""
        taken = set(self._known.values())
        waiting: defaultdict[Hashable, list[str]] = defaultdict(list)
        for node in old:
            if node.key not in taken:
                waiting[identity(self._first, node)].append(node.key)
        waiting.pop(None, None)
        left = [node for node in new if node.key not in self._known]
        found = {node.key: waiting.get(identity(self._second, node), []) for node in left}
        for key, candidates in found.items():
            if key in candidates:
                candidates.remove(key)
                self._known[key] = key
        for key, candidates in found.items():
            if candidates and key not in self._known:
                self._known[key] = candidates.pop(0)

    def _call(self, evidence: Evidence, node: Node) -> Hashable | None:
        """What the call takes: which other calls, which parameters, and what is written in it."""
        run = evidence.runs.get(node.key)
        literals = [
            (name, text if text and not _is_cut(text) else _digest(run, name))
            for name, text in node.literals.items()
        ]
        if None in [known for _, known in literals] or not (
            node.steps or node.parameters or literals
        ):
            return None
        of_second = evidence is self._second
        steps = [self._known.get(key, "") if of_second else key for key in node.steps]
        return tuple(steps), node.parameters, tuple(sorted(literals))

    def _cache_key(self, evidence: Evidence, node: Node) -> Hashable | None:
        run = evidence.runs.get(node.key)
        return run.cache_key if run else None

    def _inputs(self, evidence: Evidence, node: Node) -> Hashable | None:
        run = evidence.runs.get(node.key)
        return run.inputs if run else None

    def _by_neighbours(self, old: Sequence[str], new: Sequence[str]) -> None:
        """Match what follows matched calls; of the rest, as many as are left on both sides."""
        behind = dict(zip(["", *old], old, strict=False))
        taken = set(self._known.values())
        before = ""
        for key in new:
            candidate = behind.get(before)
            if key not in self._known and candidate is not None and candidate not in taken:
                self._known[key] = candidate
                taken.add(candidate)
            before = self._known.get(key, "?")
        rest = [key for key in new if key not in self._known]
        free = [key for key in old if key not in taken]
        if len(rest) == len(free):
            self._known.update(zip(rest, free, strict=True))


def _is_cut(text: str) -> bool:
    return "…" in text or "..." in text


def _digest(run: StepRun | None, name: str) -> str | None:
    argument = run.arguments.get(name) if run else None
    return argument.fingerprint if argument else None


def _by_step(nodes: Mapping[str, Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in nodes.values():
        found.setdefault(node.step, []).append(node)
    return found


def _in_order(first: Evidence, second: Evidence) -> list[str]:
    """Return the names of all steps, inputs before those who use them."""
    nodes = [*second.nodes.values(), *first.nodes.values()]
    return list(dict.fromkeys(node.step for node in nodes))
