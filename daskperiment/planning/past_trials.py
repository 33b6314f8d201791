"""What trials were made of that a coming one is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from daskperiment.capture.code_inside import content_of, described
from daskperiment.capture.files import FileParts
from daskperiment.codec import (
    LongValues,
    decode,
    find_record,
    from_plain,
    is_object,
    signing_key_in_force,
)
from daskperiment.errors import CorruptRecordError
from daskperiment.execution.given_values import holds_code
from daskperiment.planning.change_warner import LOOK_BACK
from daskperiment.records import (
    BEGUN,
    COMPUTED,
    Argument,
    Begun,
    Code,
    Computed,
    Environment,
    Files,
    Graph,
    Node,
    record_kind,
)
from daskperiment.reuse.reuse_plan import NEVER_RUN
from daskperiment.store.protocol import Store
from daskperiment.vouching import silently, vouched

__all__ = ["PastTrials", "TrialMakeup", "contents_with_code", "written"]


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
    contents: Mapping[str, Argument] = field(default_factory=dict)
    """What the parameter values were that are no plain data."""

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The nodes of the graph by their places."""
        return {node.key: node for node in self.graph.nodes}

    @cached_property
    def calls(self) -> frozenset[Any]:
        """The calls of steps, as far as they are told by what is written in them."""
        return frozenset(map(written, self.graph.nodes))


def written(node: Node) -> tuple[Any, ...]:
    """Return a call of a step as far as it is told by what is written in it."""
    return node.step, *sorted(node.literals.items())


def contents_with_code(values: Mapping[str, Any]) -> dict[str, Argument]:
    """Return what the parameter values are that hold the user's code."""
    found = {}
    for name, value in values.items():
        if holds_code(value):
            with suppress(Exception):  # without a fingerprint, or the user's own code failed
                found[name] = described(value)
    return found


class PastTrials:
    """The trials of a store that a coming one is held against: the latest that had each step."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, TrialMakeup] | None = None
        self._count: int | None = None
        self._before: int | None = None
        """The latest trial, without those that began in this process; None: nobody asked."""

    def covers(self, begun: int) -> bool:
        """Whether no trials began that are not known here; else they are read when asked then.

        `begun` is how many began in this process.
        """
        latest = self._store.state().latest
        if self._before is not None and latest <= self._before + begun:
            return True
        self._latest, self._count, self._before = None, None, latest - begun
        return False

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
            store = vouched(self._store, silently)
            self._latest = {node.key: past for past in _read(store) for node in past.graph.nodes}
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
    long = LongValues(store.get, signing_key_in_force())
    for trial in sorted(begun):
        environment = environments[begun[trial].environment]
        code, graph = codes[begun[trial].code], graphs[begun[trial].graph]
        if code is not None and graph is not None:
            forms = {name: long.spelled_out(form) for name, form in values[trial].items()}
            yield TrialMakeup(
                {name: _read_value(form) for name, form in forms.items()}, code, graph,
                _python_of(environment), _files(store, begun[trial]),
                {name: content for name, form in forms.items() if (content := content_of(form))},
            )  # fmt: skip


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
