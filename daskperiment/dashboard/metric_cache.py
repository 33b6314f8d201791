"""The metrics of the trials that somebody looks at, kept up to date by reading what is new."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct
from toolz import partition_all

from daskperiment.dashboard.cells import as_number
from daskperiment.dashboard.trial_index import CHUNK, split_damaged
from daskperiment.history.stored_values import viewed
from daskperiment.store.protocol import Store, Stored

__all__ = ["LatestMetrics", "MetricCache", "MetricSeries", "TrialMetrics"]

_TRIALS = 1_000
_POINTS = 2_000_000
"""What is remembered at most; the trials looked at longest ago are forgotten first."""
_TRIALS_AT_ONCE = 100
_BYTES = 500_000
"""Of records that are decoded at once: a long series is not held twice."""
_EXACT = 2**53


# As in records, but the garbage collector passes over them: there may be a million.
class _PlotPoint(Struct, array_like=True, gc=False):
    metric: str
    epoch: Any
    value: Any
    time: float


class _PlotBatch(Struct, gc=False):
    points: list[_PlotPoint]


class MetricSeries:
    """One metric of one trial, as it was saved point by point."""

    __slots__ = ("epochs", "is_numbered", "passed_over", "times", "values")

    def __init__(self) -> None:
        self.epochs = array("d")
        self.values = array("d")
        self.times = array("d")
        self.is_numbered = True
        """Whether the epochs are numbers; where they are not, points are counted instead."""
        self.passed_over = 0
        """Points whose value is no number."""

    def add(self, point: _PlotPoint, store: Store) -> None:
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
        self.series: defaultdict[str, MetricSeries] = defaultdict(MetricSeries)

    @property
    def size(self) -> int:
        """Number of points."""
        return sum(len(series.values) for series in self.series.values())


class MetricCache:
    """The series of the trials that are drawn."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[int, TrialMetrics] = OrderedDict()

    def get(self, trials: Iterable[int]) -> dict[int, TrialMetrics]:
        """Read what is new of these trials, and return all of it."""
        with self._lock:
            wanted = {trial: self._known.setdefault(trial, TrialMetrics()) for trial in trials}
            for trial, metrics in wanted.items():
                self._known.move_to_end(trial)
                # Another thread may still go through those that it was given.
                metrics.series = metrics.series.copy()
            positions = {trial: metrics.position for trial, metrics in wanted.items()}
            for trial, position, batch in _new(self._store, positions):
                for point in batch.points:
                    wanted[trial].series[point.metric].add(point, self._store)
                wanted[trial].position = position
            self._forget(len(wanted))
            return wanted

    def _forget(self, keep: int) -> None:
        size = sum(metrics.size for metrics in self._known.values())
        while len(self._known) > keep and size > _POINTS:
            size -= self._known.popitem(last=False)[1].size


class LatestMetrics:
    """The latest value of each metric of the trials that a table shows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[int, tuple[int, dict[str, Any]]] = OrderedDict()

    def get(self, trials: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Read what is new of these trials, and return metric -> latest value for each."""
        with self._lock:
            wanted = dict.fromkeys(trials)
            for trial in wanted:
                self._known.setdefault(trial, (0, {}))
                self._known.move_to_end(trial)
            positions = {trial: self._known[trial][0] for trial in wanted}
            for trial, position, batch in _new(self._store, positions):
                values = self._known[trial][1]
                values.update({point.metric: point.value for point in batch.points})
                self._known[trial] = position, values
            while len(self._known) > max(_TRIALS, len(wanted)):
                self._known.popitem(last=False)
            latest = {trial: self._known[trial][1] for trial in wanted}
            return {
                trial: {name: viewed(form, self._store) for name, form in forms.items()}
                for trial, forms in latest.items()
            }


def _new(store: Store, positions: dict[int, int]) -> Iterator[tuple[int, int, _PlotBatch]]:
    """Read the batches of trials beyond the positions up to which each is known."""
    # In two readings: of those that are known, only the end of the stream is read.
    fresh = [trial for trial, position in positions.items() if not position]
    known = [trial for trial, position in positions.items() if position]
    after = min((positions[trial] for trial in known), default=0)
    for trials, start in ((fresh, 0), (known, after)):
        for piece in partition_all(_TRIALS_AT_ONCE, trials):
            for chunk in partition_all(CHUNK, store.read("points", piece, start)):
                new = [one for one in chunk if one.position > positions[one.trial]]
                for part in _by_size(new):
                    for one, batch in split_damaged(part, _PlotBatch)[0]:
                        yield one.trial, one.position, batch


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
