"""What a store holds about one trial and a comparison needs, as records.

What is damaged is left out and named in ``problems``; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from msgspec import Struct, structs
from toolz import partition_all

from daskperiment.capture.files import FileParts
from daskperiment.codec import decode_each
from daskperiment.errors import CorruptRecordError
from daskperiment.history.trial_records import PointBatch, PointValue, RecordedTrial, part_of
from daskperiment.records import (
    SYSTEM,
    Argument,
    Code,
    Environment,
    Files,
    Graph,
    Node,
    Point,
    StepRun,
)
from daskperiment.secret_values import is_mark, may_differ
from daskperiment.store.protocol import Store

__all__ = ["Evidence", "collect", "comparable", "with_origins"]

R = TypeVar("R", Code, Environment, Files, Graph)
T = TypeVar("T", bound=Struct)

_PIECE = 1000


@dataclass(frozen=True)
class Evidence:
    """What is known about one trial."""

    trial: RecordedTrial
    runs: dict[str, StepRun]
    """By key."""
    nodes: dict[str, Node]
    """By key, in graph order."""
    wired: bool
    """Whether the graph is known; else the nodes are those that ran, without inputs."""
    code: Code | None
    environment: Environment | None
    metrics: dict[str, Any]
    """The value of each metric's last epoch, in JSON form."""
    problems: tuple[str, ...]
    files: Mapping[str, FileParts] = field(default_factory=dict)
    """What the files among the inputs of steps held, by key."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Key -> the one that it has in the trial itself, where that is another."""

    def own_key(self, key: str) -> str | None:
        """Return the key that a step has in the trial itself; None if it has no such step."""
        return self.renamed.get(key, key) if key in self.nodes else None

    @cached_property
    def spared(self) -> frozenset[str]:
        """Steps that did not run because outputs of those behind them were reused."""
        if not self.wired or self.trial.status != "succeeded":
            return frozenset()
        users: dict[str, list[str]] = {}
        spared: set[str] = set()
        for node in reversed(self.nodes.values()):
            behind = users.get(node.key, [])
            idle = node.key not in self.runs and bool(behind)
            if idle and all(self._spares(key, spared) for key in behind):
                spared.add(node.key)
            for key in node.steps:
                users.setdefault(key, []).append(node.key)
        return frozenset(spared)

    def _spares(self, key: str, spared: set[str]) -> bool:
        run = self.runs.get(key)
        return key in spared or (run is not None and run.reused is not None)

    @property
    def stochastic(self) -> bool:
        """Whether a step drew random numbers."""
        return any(run.stochastic for run in self.runs.values())


def collect(store: Store, trial: RecordedTrial) -> Evidence:
    """Return what the store holds about a trial."""
    problems: list[str] = []
    runs = _runs(store, trial.trial, problems)
    graph = _load(store, trial, Graph, problems)
    files = _load(store, trial, Files, problems) if trial.begun.files else None
    nodes = graph.nodes if graph else [Node(run.key, run.step) for run in runs.values()]
    return Evidence(
        trial=trial,
        runs=runs,
        nodes={node.key: node for node in nodes},
        wired=graph is not None,
        code=_load(store, trial, Code, problems),
        environment=_load(store, trial, Environment, problems),
        metrics=_last_values(store, trial.trial, problems),
        problems=tuple(problems),
        files=files.places if files else {},
    )


def with_origins(store: Store, evidence: Evidence) -> Evidence:
    """Return evidence in which reused steps have the inputs with which their outputs were made."""
    taken = {run.reused for run in evidence.runs.values() if run.inputs is None and run.reused}
    # What is damaged there is no problem of this trial.
    origins = {trial: _runs(store, trial, []) for trial in taken}
    runs = {
        key: _with_inputs(run, origins[run.reused].get(key)) if run.reused in origins else run
        for key, run in evidence.runs.items()
    }
    return replace(evidence, runs=runs)


def _with_inputs(run: StepRun, origin: StepRun | None) -> StepRun:
    if origin is None or run.inputs is not None:
        return run
    reads = run.reads or origin.reads
    return structs.replace(run, inputs=origin.inputs, arguments=origin.arguments, reads=reads)


def comparable(old: Evidence, new: Evidence) -> tuple[Evidence, Evidence]:
    """Return evidence without what cannot be held against the other's: marks of other keys."""
    pairs = {key: _without_other_marks(old.runs[key], new.runs[key])
             for key in old.runs if key in new.runs}  # fmt: skip
    first, second = ({key: pair[i] for key, pair in pairs.items()} for i in (0, 1))
    return (replace(old, runs={**old.runs, **first}), replace(new, runs={**new.runs, **second}))


def _without_other_marks(old: StepRun, new: StepRun) -> tuple[StepRun, StepRun]:
    names = [
        name for name in old.arguments
        if name in new.arguments and _is_untold(old.arguments[name], new.arguments[name])
    ]  # fmt: skip
    if not names:
        return old, new
    first, second = (
        structs.replace(run, inputs=None, arguments={
            **run.arguments, **{name: Argument(run.arguments[name].text) for name in names}
        })
        for run in (old, new)
    )  # fmt: skip
    return first, second


def _is_untold(old: Argument, new: Argument) -> bool:
    marks = [each.fingerprint or "" for each in (old, new)]
    return any(map(is_mark, marks)) and may_differ(*marks) is None


def _load(store: Store, trial: RecordedTrial, type_: type[R], problems: list[str]) -> R | None:
    try:
        return part_of(store, trial, type_)
    except CorruptRecordError as error:
        problems.append(str(error))
        return None


def _records(
    store: Store, stream: str, trial: int, type_: type[T], problems: list[str]
) -> Iterator[T]:
    for piece in partition_all(_PIECE, store.read(stream, [trial])):
        records = decode_each([stored.body for stored in piece], type_, [trial] * len(piece))
        for stored, record in zip(piece, records, strict=True):
            if not isinstance(record, CorruptRecordError):
                yield record
                continue
            problems.append(f"{stored.id!r} in {stream!r} of trial {trial} is left out: {record}")


def _runs(store: Store, trial: int, problems: list[str]) -> dict[str, StepRun]:
    """Return the step runs by key; of several for one key, the last that succeeded."""
    runs: dict[str, StepRun] = {}
    for run in _records(store, "steps", trial, StepRun, problems):
        known = runs.get(run.key)
        if known is None or run.status == "succeeded" or known.status != "succeeded":
            runs[run.key] = run
    return dict(sorted(runs.items(), key=lambda item: item[1].started))


def _last_values(store: Store, trial: int, problems: list[str]) -> dict[str, Any]:
    last: dict[str, PointValue | Point] = {}
    for batch in _records(store, "points", trial, PointBatch, problems):
        for point in batch.each():
            if point.metric.startswith(SYSTEM):
                continue  # of the machine, and nothing that the trial came to
            known = last.get(point.metric)
            if known is None or not _is_before(point.epoch, known.epoch):
                last[point.metric] = point
    return {name: point.value for name, point in sorted(last.items())}


def _is_before(epoch: Any, other: Any) -> bool:
    """Whether an epoch is an earlier one; what is no plain number counts in the order of saving."""
    numbers = isinstance(epoch, int | float) and isinstance(other, int | float)
    return numbers and epoch < other
