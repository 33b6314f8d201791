"""The metrics of the trials that somebody looks at, kept up to date by reading what is new."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from sys import intern
from typing import Any, TypeVar

from msgspec import Struct
from toolz import partition_all

from daskperiment.codec import PointRecord, PointRun
from daskperiment.dashboard.cells import as_number
from daskperiment.dashboard.damage import undamaged
from daskperiment.history.metrics import MetricSummary
from daskperiment.history.stored_values import viewed
from daskperiment.history.trial_records import PointBatch, excerpts
from daskperiment.records import SYSTEM, Point
from daskperiment.store.protocol import Store, Stored

__all__ = ["MetricCache", "MetricSeries", "MetricSummaries", "TrialMetrics"]

CHUNK = 1000
"""Records that are decoded at once, so that the bodies of all are never in memory together."""
_POINTS = 2_000_000
"""What is remembered at most; the trials looked at longest ago are forgotten first."""
_TRIALS_AT_ONCE = 100
_BYTES = 500_000
"""Of records that are decoded at once: a long series is not held twice."""
_EXACT = 2**53
_MANY = 1_000
"""Trials beyond which a stream is read as a whole."""
_NEVER = 2**63
_SIMPLE = frozenset({int, float, str})

T = TypeVar("T", bound=Struct)


# As in records, but the garbage collector passes over them: there may be a million.
class _PlotPoint(Struct, array_like=True, gc=False):
    metric: str
    epoch: Any
    value: Any
    time: float


class _PlotBatch(PointRecord[_PlotPoint], gc=False):
    """The points of a record, with their times."""


class MetricSeries:
    """One metric of one trial, as it was saved point by point."""

    __slots__ = ("drawn", "epochs", "is_numbered", "passed_over", "times", "values")

    def __init__(self) -> None:
        self.epochs = array("d")
        self.values = array("d")
        self.times = array("d")
        self.drawn: tuple[Any, Any] | None = None
        """What the curve was drawn of, and its columns: a note of whoever draws it."""
        self.is_numbered = True
        """Whether the epochs are numbers; where they are not, points are counted instead."""
        self.passed_over = 0
        """Points whose value is no number."""

    def add(self, point: _PlotPoint | Point, store: Store) -> None:
        """Add a point."""
        value = _number(point.value, store)
        if value is None:
            self.passed_over += 1
            return
        epoch = _number(point.epoch, store)
        if epoch is None and self.is_numbered:
            self.is_numbered = False
            self.epochs = array("d", range(len(self.values)))
        self.epochs.append(epoch if self.is_numbered and epoch is not None else len(self.values))
        self.values.append(value)
        self.times.append(point.time)


class TrialMetrics:
    """The metrics of one trial up to a position in the stream."""

    def __init__(self) -> None:
        self.position = 0
        self.names: set[str] = set()
        """Of all metrics that it has."""
        self.drawn: frozenset[str] | None = frozenset()
        """Those that somebody asked for; ``None`` for all."""
        self.series: defaultdict[str, MetricSeries] = defaultdict(MetricSeries)
        """Of them."""

    @property
    def size(self) -> int:
        """Number of points."""
        return sum(len(series.values) for series in self.series.values())

    @property
    def room(self) -> int:
        """What it takes, in points: a name takes no less."""
        return max(self.size, len(self.names))

    def add(self, batch: _PlotBatch, store: Store, some: Collection[str] | None) -> None:
        """Add points of a record, of some metrics or of all."""
        every: Iterable[_PlotPoint | PointRun] = chain(batch.points, batch.runs)
        for each in every:
            self.names.add(intern(each.metric))
            if some is None or each.metric in some:
                # The numbers of other runs are not even read.
                for point in each.points() if isinstance(each, PointRun) else (each,):
                    self.series[each.metric].add(point, store)


class MetricCache:
    """The series of the trials that are drawn."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[int, TrialMetrics] = OrderedDict()

    def get(
        self, trials: Iterable[int], metrics: Collection[str] | None = None
    ) -> dict[int, TrialMetrics]:
        """Read what is new of these trials, and return all of it: names, and some or all series."""
        with self._lock:
            wanted = {trial: self._of(trial, metrics) for trial in trials}
            for trial, known in wanted.items():
                self._known.move_to_end(trial)
                # Another thread may still go through those that it was given.
                known.series, known.names = known.series.copy(), known.names.copy()
            if metrics is not None:
                self._catch_up(wanted, metrics)
            positions = {trial: known.position for trial, known in wanted.items()}
            for trial, position, batch in _new(self._store, "points", positions, _PlotBatch):
                if batch is not None:
                    wanted[trial].add(batch, self._store, wanted[trial].drawn)
                wanted[trial].position = position
            self._forget(len(wanted))
            return wanted

    def _of(self, trial: int, metrics: Collection[str] | None) -> TrialMetrics:
        """Return what is known of a trial: nothing, if all is wanted where it is but some."""
        known = self._known.get(trial)
        if known is None or (metrics is None and known.drawn is not None):
            known = self._known[trial] = TrialMetrics()
            known.drawn = None if metrics is None else frozenset()
        return known

    def _catch_up(self, wanted: Mapping[int, TrialMetrics], metrics: Collection[str]) -> None:
        """Read those metrics that were passed over, up to where each trial is known."""
        lacking = {
            trial: frozenset(metrics) - known.drawn
            for trial, known in wanted.items()
            if known.drawn is not None
        }
        behind = sorted(one for one in lacking if lacking[one] & wanted[one].names)
        names = set().union(*(lacking[trial] for trial in behind))
        # Apart, so that nothing is there twice if the store goes away in between.
        found = {trial: TrialMetrics() for trial in behind}
        for some in partition_all(_TRIALS_AT_ONCE, behind):
            for chunk in partition_all(CHUNK, excerpts(self._store, "points", some, names)):
                old = [one for one in chunk if one.position <= wanted[one.trial].position]
                for part in _by_size(old):
                    for one, batch in undamaged(part, _PlotBatch):
                        found[one.trial].add(batch, self._store, lacking[one.trial])
        for trial, added in lacking.items():
            known = wanted[trial]
            known.drawn = added.union(known.drawn or ())
            if trial in found:
                known.series.update(found[trial].series)

    def _forget(self, keep: int) -> None:
        size = sum(metrics.room for metrics in self._known.values())
        while len(self._known) > keep and size > _POINTS:
            size -= self._known.popitem(last=False)[1].room


class MetricSummaries:
    """The last, lowest and highest value of each metric of trials, those that they reused, too."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[int, dict[str, MetricSummary]] = {}
        self._positions: dict[int, int] = {}
        self._reused: dict[int, dict[str, int]] = {}
        """For each trial the trials that its reused metrics come from, by name."""
        self._steps: dict[int, int] = {}

    def get(self, trials: Collection[int]) -> dict[int, dict[str, MetricSummary]]:
        """Read what is new of these trials, and return the metrics of each by name."""
        with self._lock:
            self._follow_steps(trials)
            sources = {one for trial in trials for one in self._reused.get(trial, {}).values()}
            self._follow_points({*trials, *sources})
            return {trial: self._of(trial) for trial in trials}

    def sources(self, trials: Collection[int]) -> dict[int, dict[str, int]]:
        """Return for each of these trials which trials its reused metrics come from, by name."""
        with self._lock:
            self._follow_steps(trials)
            return {trial: dict(self._reused.get(trial, {})) for trial in trials}

    def _of(self, trial: int) -> dict[str, MetricSummary]:
        reused = {
            name: self._known[source][name]
            for name, source in self._reused.get(trial, {}).items()
            if name in self._known[source]
        }
        return {**reused, **self._known[trial]}

    def _follow_points(self, trials: Collection[int]) -> None:
        positions = {trial: self._positions.get(trial, 0) for trial in trials}
        for trial in trials:
            self._known.setdefault(trial, {})
        for trial, position, batch in _new(self._store, "points", positions, PointBatch):
            summaries = self._known[trial]
            for point in () if batch is None else batch.each():
                if point.metric.startswith(SYSTEM):
                    continue
                summary = summaries.setdefault(point.metric, MetricSummary())
                value = point.value
                summary.add(value if type(value) in _SIMPLE else viewed(value, self._store))
            self._positions[trial] = position

    def _follow_steps(self, trials: Collection[int]) -> None:
        positions = {trial: self._steps.get(trial, 0) for trial in trials}
        for trial, position, run in _new(self._store, "steps", positions, _Reused):
            self._steps[trial] = position
            if run is not None and run.reused is not None and run.metrics:
                self._reused.setdefault(trial, {}).update(dict.fromkeys(run.metrics, run.reused))


class _Reused(Struct, gc=False):
    metrics: list[str] = []
    reused: int | None = None


def _new(
    store: Store, stream: str, positions: Mapping[int, int], type_: type[T]
) -> Iterator[tuple[int, int, T | None]]:
    """Read the records of trials beyond the positions up to which each is known.

    Yields with each record how far its trial is known then. At last, with ``None``, how far those
    are whose own records end before those of others, which are not to be read again.
    """
    # In two readings: of those that are known, only the end of the stream is read.
    fresh = [trial for trial, position in positions.items() if not position]
    known = [trial for trial, position in positions.items() if position]
    after = min((positions[trial] for trial in known), default=0)
    for trials, start in ((fresh, 0), (known, after)):
        many = len(trials) > _MANY
        for piece in [tuple(trials)] if many else partition_all(_TRIALS_AT_ONCE, trials):
            last = start
            for chunk in partition_all(CHUNK, store.read(stream, None if many else piece, start)):
                last = chunk[-1].position
                new = [one for one in chunk if one.position > positions.get(one.trial, _NEVER)]
                for part in _by_size(new):
                    for one, record in undamaged(part, type_):
                        yield one.trial, one.position, record
            yield from ((trial, last, None) for trial in piece if last > positions[trial])


def _by_size(chunk: list[Stored]) -> Iterator[list[Stored]]:
    part: list[Stored] = []
    size = 0
    for one in chunk:
        part.append(one)
        size += len(one.body)
        if size > _BYTES:
            yield part
            part, size = [], 0
    yield part


def _number(form: Any, store: Store) -> float | None:
    # Nearly all are such, and there may be a million of them.
    if type(form) is float or (type(form) is int and -_EXACT < form < _EXACT):
        return form
    return as_number(viewed(form, store))
