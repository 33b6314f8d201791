"""Why a step must run: what changed since it ran last, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from daskperiment.capture.code import (
    changed_functions,
    diff_functions,
    same_names,
    unknown_constants,
)
from daskperiment.capture.files import FileParts, changed_files
from daskperiment.capture.fingerprint import NoFingerprintError, fingerprint
from daskperiment.codec import decode, find_record, from_plain, is_object
from daskperiment.errors import CorruptRecordError
from daskperiment.formatting import shorten, shorten_pair, told_change
from daskperiment.planning.change_warner import LOOK_BACK
from daskperiment.records import (
    BEGUN,
    COMPUTED,
    Begun,
    Code,
    Computed,
    Environment,
    Files,
    Graph,
    Node,
    StepCode,
    changed_arguments,
    record_kind,
)
from daskperiment.reuse.cache_keys import series_of
from daskperiment.reuse.parameter_fields import ParameterField
from daskperiment.reuse.reuse_plan import NEVER_RUN
from daskperiment.store.protocol import Store

__all__ = ["PastTrials", "Reason", "TrialMakeup", "fallback", "why"]

NO_OUTPUT = "no output of it is known for this code and these inputs"

WIDTH = 40
"""Columns that a value takes at most."""


class Reason(NamedTuple):
    """One change that makes a step run."""

    text: str
    diff: str = ""
    """The change in full, where it is one of code."""


@dataclass(frozen=True)
class TrialMakeup:
    """What a trial was made of."""

    values: Mapping[str, Any]
    """Parameter values, plain where they are; in the store's form where they are not."""
    code: Code
    graph: Graph
    python: str
    """Version of Python."""
    files: Mapping[str, FileParts] = field(default_factory=dict)
    """What the files among the inputs of steps held, by place."""

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The nodes of the graph by their places."""
        return {node.key: node for node in self.graph.nodes}

    @cached_property
    def calls(self) -> frozenset[Any]:
        """The calls of steps, as far as they are told by what is written in them."""
        return frozenset(map(_written, self.graph.nodes))


def _written(node: Node) -> tuple[Any, ...]:
    return node.step, *sorted(node.literals.items())


class PastTrials:
    """The trials of a store that a coming one is held against: the latest that had each step."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, TrialMakeup] | None = None
        self._count: int | None = None

    def latest_with(self, place: str) -> TrialMakeup | None:
        """Return the latest trial that had a step at this place."""
        return self._known().get(place)

    def unknown(self) -> str:
        """Return what is to be said of a step that none of them had."""
        if self._count is None:
            self._count = self._store.state().latest
        few = self._count <= LOOK_BACK
        return NEVER_RUN if few else f"not run in the latest {LOOK_BACK} trials"

    def _known(self) -> dict[str, TrialMakeup]:
        if self._latest is None:
            self._latest = {
                node.key: past for past in _read(self._store) for node in past.graph.nodes
            }
        return self._latest


def _read(store: Store) -> Iterator[TrialMakeup]:
    """Yield what the latest trials were made of, oldest first."""
    latest = store.state().latest
    values: dict[int, dict[str, Any]] = {}
    begun: dict[int, Begun] = {}
    if latest:
        for record in store.read("trials", range(max(1, latest - LOOK_BACK + 1), latest + 1)):
            found = _decoded(record.id, record.body)
            if isinstance(found, Begun):
                begun[record.trial] = found
                values.setdefault(record.trial, {}).update(found.parameters)
            elif isinstance(found, Computed):
                values.setdefault(record.trial, {})[found.name] = found.value
    codes = {each.code: find_record(store.get, each.code, Code) for each in begun.values()}
    graphs = {each.graph: find_record(store.get, each.graph, Graph) for each in begun.values()}
    environments = {
        each.environment: find_record(store.get, each.environment, Environment)
        for each in begun.values()
    }
    for trial in sorted(begun):
        environment = environments[begun[trial].environment]
        code, graph = codes[begun[trial].code], graphs[begun[trial].graph]
        if code is not None and graph is not None:
            known = {name: _read_value(form) for name, form in values[trial].items()}
            yield TrialMakeup(
                known, code, graph, _python_of(environment), _files(store, begun[trial])
            )


def _files(store: Store, begun: Begun) -> Mapping[str, FileParts]:
    record = find_record(store.get, begun.files, Files) if begun.files else None
    return record.places if record is not None else {}


def _python_of(environment: Environment | None) -> str:
    if environment is None:
        return ""
    return environment.categories.get("python", {}).get("version", "")


def _decoded(id: str, body: bytes) -> Begun | Computed | None:
    try:
        kind = record_kind(id)
        if kind == BEGUN:
            return decode(body, Begun)
        return decode(body, Computed) if kind == COMPUTED else None
    except CorruptRecordError:
        return None  # a damaged record of the past is no reason not to go on


def _read_value(form: Any) -> Any:
    try:
        return form if is_object(form) else from_plain(form)
    except CorruptRecordError:
        return form


def why(place: str, now: TrialMakeup, before: TrialMakeup | None) -> list[Reason]:
    """Return what changed of all that reaches a step.

    Parameters
    ----------
    place : str
        The step's place in the graph.
    now, before : TrialMakeup
        What the coming trial is made of, and the latest that had the step.

    Returns
    -------
    list of Reason
        Empty if it is not known, or if the step is new.
    """
    if before is None:
        return []
    reaching = _reaching(place, now.nodes)
    return [
        *_parameters(reaching, now, before),
        *_literals(place, reaching, now, before),
        *_files_of(reaching, now, before),
        *_codes(reaching, now.code, before.code),
        *_wiring(reaching, before),
        *_python(now.python, before.python),
    ]


def _python(now: str, before: str) -> Iterator[Reason]:
    if before and series_of(now) != series_of(before):
        yield Reason(f"Python {before} → {now}")


def _reaching(place: str, nodes: Mapping[str, Node]) -> list[Node]:
    """Return a step and those before it, the nearest first."""
    found: dict[str, Node] = {}
    waiting = [place]
    while waiting:
        key = waiting.pop(0)
        if key in nodes and key not in found:
            found[key] = nodes[key]
            waiting += nodes[key].wiring[0]
    return list(found.values())


def _parameters(reaching: list[Node], now: TrialMakeup, before: TrialMakeup) -> Iterator[Reason]:
    taking = [(node, node.wiring[1]) for node in reaching if node.parameters]
    parts = {text: part for node, names in taking for text, part in node.parts.items()
             if part[0] in names}  # fmt: skip
    whole = dict.fromkeys(name for node, names in taking for name in _whole(node)
                          if name in names)  # fmt: skip
    for text, (name, *path) in parts.items():
        if name not in whole:
            yield from _part(text, ParameterField(name, tuple(path)), now, before)
    for name in whole:
        old, new = before.values.get(name), now.values.get(name)
        known = name in before.values and name in now.values
        # An object of the store is not loaded to find out.
        if known and not is_object(old) and not _equal(old, new):
            yield Reason(f"parameter {name} {_shown(old, new)}")


def _whole(node: Node) -> list[str]:
    """Return the parameters that a step takes whole."""
    if not node.parts:
        return node.parameters
    taken = {part[0] for part in node.parts.values()}
    return [name for name in node.parameters if name not in taken]


def _part(
    text: str, part: ParameterField, now: TrialMakeup, before: TrialMakeup
) -> Iterator[Reason]:
    if is_object(before.values.get(part.name)):
        return  # as below
    with suppress(Exception):  # it may be of the user's own class, and say anything
        old, new = part.taken_from(before.values), part.taken_from(now.values)
        if not _equal(old, new):
            yield Reason(f"parameter {text} {_shown(old, new)}")


def _literals(
    place: str, reaching: list[Node], now: TrialMakeup, before: TrialMakeup
) -> Iterator[Reason]:
    for node in reaching:
        old = before.nodes.get(node.key)
        if old is None or (old.literals, old.arguments) == (node.literals, node.arguments):
            continue
        where = "" if node.key == place else f" of step {node.key}"
        if _written(old) in now.calls and _written(node) not in before.calls:
            texts = ", ".join(f"{name}={text or '…'}" for name, text in node.literals.items())
            yield Reason(f"a new call of step {node.step}: {shorten(texts, WIDTH)}")
            continue
        told = {name: (then.text, new.text) for name, new, then in changed_arguments(node, old)}
        for name, texts_of in told.items():
            change = told_change(*texts_of, WIDTH)
            yield Reason(f"argument {shorten(name, WIDTH)}{where}{change}")
        # Where other nodes are taken, an argument may have been one, or be one now.
        left_out = None if old.wiring != node.wiring else "default"
        for name in {**old.literals, **node.literals}:
            first, second = old.literals.get(name, left_out), node.literals.get(name, left_out)
            if name in told or name in node.ignored:
                continue
            if first is not None and second is not None and first != second:
                pair = shorten_pair(first or "…", second or "…", WIDTH)
                yield Reason(f"argument {name}{where} {' → '.join(pair)}")


def fallback(place: str, now: TrialMakeup, before: TrialMakeup) -> str:
    """Return what is to be said of a step that ran, and of which nothing is known to differ."""
    reaching = _reaching(place, now.nodes)
    arguments = [
        f"argument {name}" + ("" if node.key == place else f" of step {node.key}")
        for node in reaching
        for name, text in node.literals.items()
        if not text or "…" in text or "..." in text
    ]
    names = dict.fromkeys(name for node in reaching for name in node.wiring[1])
    parameters = [f"parameter {name}" for name in names if _is_untold(before.values.get(name))]
    doubts = [*parameters, *arguments][:5]
    return NO_OUTPUT + (f"; perhaps {', '.join(doubts)} changed" if doubts else "")


def _is_untold(value: Any) -> bool:
    """Whether an earlier value is not there to be compared."""
    try:
        return is_object(value) or not fingerprint(value)
    except NoFingerprintError:
        return True


def _files_of(reaching: list[Node], now: TrialMakeup, before: TrialMakeup) -> Iterator[Reason]:
    if not before.files and not now.files:
        return
    lines = [
        line
        for node in reaching
        for line in changed_files(before.files.get(node.key, {}), now.files.get(node.key, {}))
    ]
    yield from map(Reason, dict.fromkeys(lines))


def _equal(old: Any, new: Any) -> bool:
    try:
        return old is new or fingerprint(old) == fingerprint(new)
    except NoFingerprintError:
        return True  # nobody can tell


def _shown(old: Any, new: Any) -> str:
    pair = shorten_pair(repr(old), repr(new), WIDTH)
    return " → ".join(pair)


def _codes(reaching: list[Node], now: Code, before: Code) -> Iterator[Reason]:
    if now is before:
        return
    told: set[str] = set()
    for node in reaching:
        step = node.step
        if step not in before.steps or step not in now.steps:
            continue
        for reason in _code(step, now, before):
            if reason.text not in told:
                told.add(reason.text)
                yield reason


def _code(step: str, now: Code, before: Code) -> Iterator[Reason]:
    if now.steps[step].fingerprint == before.steps[step].fingerprint:
        return
    reasons = list(_parts(step, now, before))
    unknown = unknown_constants(before.steps[step])
    if not reasons and unknown:
        reasons = [Reason(f"perhaps the value of {unknown[0]}, which had no fingerprint")]
    # Imports and aliases of others' functions are in no list, only in the fingerprint.
    yield from reasons or [Reason(f"a name that step {step}() uses stands for something else")]


def _parts(step: str, now: Code, before: Code) -> Iterator[Reason]:
    own = now.steps[step].functions[0] if now.steps[step].functions else step
    for name, old, new in changed_functions(before, now, step):
        # The step's own function has its module in front, unless that is the script itself.
        what = "step" if name == own and name.rpartition(".")[2] == step else "helper"
        if old is None or new is None:
            yield Reason(f"{what} {name}() is {'used now' if old is None else 'no longer used'}")
        else:
            yield Reason(f"{what} {name}() changed", diff_functions(old, new))
    yield from _values(before.steps[step], now.steps[step])


def _values(old: StepCode, new: StepCode) -> Iterator[Reason]:
    before = same_names(old.constants, new.constants)
    for name in {**before, **new.constants}:
        values = before.get(name, ""), new.constants.get(name, "")
        # What had no fingerprint may be the same all the same.
        if None not in values and values[0] != values[1]:
            yield Reason(f"the value of {name} changed")
    for name in {**old.packages, **new.packages}:
        versions = old.packages.get(name, "not used"), new.packages.get(name, "not used")
        if versions[0] != versions[1]:
            yield Reason(f"package {shorten(name, WIDTH)} {versions[0]} → {versions[1]}")


def _wiring(reaching: list[Node], before: TrialMakeup) -> Iterator[Reason]:
    for node in reaching:
        old = before.nodes.get(node.key)
        if old is None:
            yield Reason(f"step {node.key} is new before it")
        elif old.wiring != node.wiring:
            yield Reason(f"step {node.key} takes other inputs")
