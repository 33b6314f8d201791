"""Metrics: the series of points that trials saved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from msgspec import Struct

from daskperiment.errors import MetricNotFoundError
from daskperiment.history.metric_columns import MetricPoints, metric_points, points_by_metric
from daskperiment.history.stored_values import MISSING, viewed, viewed_all
from daskperiment.history.trial_records import (
    PointBatch,
    as_trial_id,
    excerpts,
    intact,
    require_trial,
)
from daskperiment.records import SYSTEM
from daskperiment.store.protocol import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MetricSummary",
    "get_metrics",
    "load_metric",
    "load_metrics",
    "reused_metrics",
    "summarize",
]

S = TypeVar("S", "pd.Series", "pd.DataFrame")

_EXACT = 2**53
_SIMPLE = frozenset({int, float, str})


class _PointName(Struct, array_like=True, gc=False):
    """The first field of a point, or of a run of them: what follows is not even decoded."""

    metric: str


class _MetricNames(Struct, gc=False):
    points: list[_PointName] = []
    runs: list[_PointName] = []


def get_metrics(store: Store, trial_id: int | None = None, system: bool = False) -> list[str]:
    """Return the names of a trial's metrics, or those of all trials, in alphabetical order.

    Those that steps saved, or those of what trials used of the machine.
    """
    trials = None if trial_id is None else [as_trial_id(store, trial_id)]
    every = set().union(*_names(store, trials).values())
    names = {name for name in every if name.startswith(SYSTEM) is system}
    if trials and not system:
        names |= {name for _, _, metrics in reused_metrics(store, trials) for name in metrics}
    if trials and not every and not names:
        require_trial(store, trials[0])
    return sorted(names)


def load_metric(store: Store, metric_key: str, trial_id: int | Sequence[int]) -> pd.DataFrame:
    """Return a metric of one or more trials, in a column each, by the epochs.

    Epochs are sorted where they can be compared. If one was saved more than once, the last value
    holds. A step that was reused brings the metrics that it saved.
    """
    trials = _trial_ids(store, trial_id)
    points = metric_points(store, metric_key, trials)
    _addreused_metrics(store, metric_key, points)
    without = [trial for trial in trials if not len(points[trial].values)]
    for trial in without:
        require_trial(store, trial)
    if without and len(without) == len(trials):
        raise MetricNotFoundError(_not_found(store, metric_key, without))
    trials = [trial for trial in trials if trial not in set(without)]
    return _side_by_side({trial: _series(points[trial], store) for trial in trials})


class MetricSummary:
    """What a table of trials says of one metric of one trial."""

    __slots__ = ("last", "max", "min")

    def __init__(self) -> None:
        self.last: Any = MISSING
        """The value that was saved last."""
        self.min: Any = MISSING
        """The lowest number; nan is none."""
        self.max: Any = MISSING

    def add(self, value: Any) -> None:
        """Add a value."""
        self.last = value
        if isinstance(value, int | float) and value == value:
            self.min = value if self.min is MISSING else min(self.min, value)
            self.max = value if self.max is MISSING else max(self.max, value)


def summarize(
    store: Store, trials: Collection[int], metrics: Collection[str] | None = None
) -> dict[int, dict[str, MetricSummary]]:
    """Return the last, lowest and highest values of some metrics, or of all, of some trials."""
    found: dict[int, dict[str, MetricSummary]] = {trial: {} for trial in trials}
    runs = list(reused_metrics(store, list(trials))) if trials else []
    for trial, batch in _batches(store, {*found, *(source for _, source, _ in runs)}, metrics):
        summaries = found.setdefault(trial, {})
        for point in batch.each():
            summary = summaries.get(point.metric)
            if summary is None:
                # Of metrics that nobody asked for, a part may be missing.
                is_other = metrics is not None and point.metric not in metrics
                if is_other or point.metric.startswith(SYSTEM):
                    continue
                summary = summaries[point.metric] = MetricSummary()
            value = point.value
            summary.add(value if type(value) in _SIMPLE else viewed(value, store))
    for trial, source, names in reversed(runs):  # of two steps with a metric the last one counts
        known = found.get(source, {})
        found[trial].update(
            {name: known[name] for name in names if name in known and name not in found[trial]}
        )
    return {trial: found[trial] for trial in trials}


def _batches(
    store: Store, trials: Collection[int], metrics: Collection[str] | None
) -> Iterator[tuple[int, PointBatch]]:
    records = excerpts(store, "points", sorted(trials), metrics) if trials else ()
    return intact(records, PointBatch)


def load_metrics(
    store: Store, trial_id: int, metrics: Collection[str] | None = None
) -> dict[str, pd.Series]:
    """Return metrics of a trial by name, each by its epochs; the points are read once.

    Those that are asked for, or all: first those that steps saved, then those of what it used of
    the machine.
    """
    trial = as_trial_id(store, trial_id)
    found = points_by_metric(store, [trial], metrics)[trial]
    runs = list(reused_metrics(store, [trial]))
    missing = {name for _, _, names in runs for name in names} - found.keys()
    if metrics is not None:
        missing.intersection_update(metrics)
    runs = [run for run in runs if not missing.isdisjoint(run[2])]
    sources = list(dict.fromkeys(source for _, source, _ in runs))
    reused = points_by_metric(store, sources, missing)
    for _, source, names in reversed(runs):  # as in `summarize`
        known = reused[source]
        found.update({name: known[name] for name in names if name in known and name not in found})
    if not found:
        require_trial(store, trial)
    return {name: _series(found[name], store) for name in sorted(found, key=_apart)}


def _apart(name: str) -> tuple[bool, str]:
    return name.startswith(SYSTEM), name


def _trial_ids(store: Store, trial_id: Any) -> list[int]:
    if isinstance(trial_id, Iterable) and not isinstance(trial_id, str | bytes):
        return list(dict.fromkeys(as_trial_id(store, one) for one in trial_id))
    return [as_trial_id(store, trial_id)]


def _names(store: Store, trials: list[int] | None) -> dict[int, set[str]]:
    names: dict[int, set[str]] = {}
    for trial, batch in intact(store.read("points", trials), _MetricNames):
        names.setdefault(trial, set()).update(
            [each.metric for each in (*batch.points, *batch.runs)]
        )
    return names


class _ReusedRun(Struct, gc=False):
    """What a step run says of the metrics that came with a reused output."""

    metrics: list[str] = []
    reused: int | None = None


def reused_metrics(store: Store, trials: list[int]) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the trial, source and metrics of each step whose output comes from another trial."""
    for trial, run in intact(store.read("steps", trials), _ReusedRun):
        if run.reused is not None and run.metrics:
            yield trial, run.reused, run.metrics


def _addreused_metrics(store: Store, metric: str, points: dict[int, MetricPoints]) -> None:
    """Add the points of trials without any: those of the trials that ran the step they reused."""
    without = [trial for trial, found in points.items() if not len(found.values)]
    runs = reused_metrics(store, without) if without else ()
    sources = {trial: source for trial, source, metrics in runs if metric in metrics}
    known = metric_points(store, metric, list(dict.fromkeys(sources.values())))
    for trial, source in sources.items():
        points[trial] = known[source]


def _not_found(store: Store, metric: str, trials: list[int]) -> str:
    for trial in trials:
        require_trial(store, trial)
    names = _names(store, trials)
    described = "; ".join(
        f"trial {trial} has {', '.join(map(repr, sorted(names.get(trial, ())))) or 'no metrics'}"
        for trial in trials[:10]
    )
    return (
        f"There is no metric {metric!r} in trial {', '.join(map(str, trials))}: {described}. "
        "Metrics are saved with save_metric() in a step."
    )


# Series ----------------------------------------------------------------------------------------


def _series(points: MetricPoints, store: Store) -> pd.Series:
    """Return the series of one trial: each epoch once, sorted if that is possible."""
    import pandas as pd  # noqa: PLC0415  # large, and a summary does without

    from daskperiment.history.columns import column  # noqa: PLC0415  # it needs pandas

    if isinstance(points.epochs, np.ndarray) and isinstance(points.values, np.ndarray):
        epochs = pd.Index(points.epochs.copy(), name="Epoch")
        series = pd.Series(points.values.copy(), index=epochs)
    else:
        epochs = _epochs(viewed_all(list(points.epochs), store))
        series = column(viewed_all(list(points.values), store), epochs, nullable=False)
    if epochs.is_monotonic_increasing and epochs.is_unique:
        return series
    return _sorted(series[~epochs.duplicated(keep="last")])


def _epochs(values: list[Any]) -> pd.Index:
    import pandas as pd  # noqa: PLC0415  # as above

    from daskperiment.history.columns import column  # noqa: PLC0415  # as above

    labels = values if _SIMPLE.issuperset(map(type, values)) else list(map(_hashable, values))
    series = column(labels, pd.RangeIndex(len(labels)))
    return pd.Index(series, dtype=series.dtype, name="Epoch", tupleize_cols=False)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _sorted(data: S) -> S:
    try:
        return data.sort_index(kind="stable")
    except TypeError:  # epochs of kinds that cannot be compared stay as they were saved
        return data


def _side_by_side(series: dict[int, pd.Series]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  # as above

    columns = pd.Index(list(series), dtype="int64", name="Trial ID")
    if not series:
        return pd.DataFrame(index=pd.Index([], name="Epoch"), columns=columns)
    first, *others = series.values()
    if all(other.index.equals(first.index) for other in others):
        frame = pd.DataFrame(dict(enumerate(series.values())), index=first.index)
    else:
        exact = [_exact(one) for one in series.values()]
        frame = _sorted(pd.concat(exact, axis=1, sort=False))
    frame.columns = columns
    frame.index.name = "Epoch"
    return frame


def _exact(series: pd.Series) -> pd.Series:
    # Beside NaN pandas turns integers into floats, which the large ones do not survive.
    if series.dtype == np.int64 and (series.abs() > _EXACT).any():
        return series.astype(object)
    return series
