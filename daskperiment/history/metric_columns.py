"""The points of one metric of trials; the numbers of many are kept for the next reader.

Points in runs are read about as fast from their records, which take no more bytes than numbers do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from toolz import partition_all

from daskperiment.codec import PointRun, is_sealed, runs_within
from daskperiment.history.kept_columns import KnownColumns, keep, load_kept
from daskperiment.history.table_columns import NumberColumn
from daskperiment.history.trial_columns import TrialColumns
from daskperiment.history.trial_records import (
    PIECE,
    PointBatch,
    PointValue,
    decoded,
    excerpts,
    intact,
)
from daskperiment.store.opening import columns_folder
from daskperiment.store.protocol import Store, Stored
from daskperiment.vouching import VouchedStore

__all__ = ["MetricPoints", "metric_points", "points_by_metric", "thinned"]

WORTH = 50_000
"""Points in no run since, from which on they are kept for the next reader."""
_NUMBERS = ({int}, {float})


class MetricPoints(NamedTuple):
    """The points of one metric of one trial as they were saved: lists, or arrays of numbers."""

    epochs: Sequence[Any] | np.ndarray[Any, Any]
    values: Sequence[Any] | np.ndarray[Any, Any]


class _UndecodedRuns(Struct, gc=False):
    """A record of points, whose runs are left as they are."""

    points: list[PointValue] = []
    runs: list[msgspec.Raw] = []


_run_of = msgspec.json.Decoder(PointRun).decode


class _Read(NamedTuple):
    """What was read of a trial's points."""

    epochs: list[Sequence[Any]]
    """Those of one record, or of one run of points, after the other."""
    values: list[Any]
    last: Stored
    is_intact: bool
    alone: int
    """How many points are in no run."""


def metric_points(store: Store, metric: str, trials: Sequence[int]) -> dict[int, MetricPoints]:
    """Return the points of one metric, by trial."""
    name = _as_written(metric)
    if name is None:
        return {trial: MetricPoints([], []) for trial in trials}
    metric = name
    folder = columns_folder(store) / "points"
    found: dict[int, MetricPoints] = {}
    checked = isinstance(store, VouchedStore)
    if folder.is_dir() and not checked:
        for trial in trials:
            known = load_kept(_place(folder, metric, trial))
            points = _continued(store, metric, trial, known) if known else None
            if points is not None:
                found[trial] = points
    others = [trial for trial in trials if trial not in found]
    read = _read(metric, excerpts(store, "points", others, [metric])) if others else {}
    for trial in others:
        one = read.get(trial)
        points = found[trial] = _points(one) if one else MetricPoints([], [])
        if one and one.is_intact and not checked and one.alone >= WORTH:
            # A server gave but an excerpt of it.
            last = next(iter(store.read("points", [trial], one.last.position - 1)), None)
            if last is not None and last[:3] == one.last[:3]:
                _keep(_place(folder, metric, trial), None, trial, points, last)
    return found


def _as_written(metric: Any) -> str | None:
    """Return a name as records have it, be it one of NumPy or of an enum; ``None`` if none can.

    No metric is called what is no text, or has half a character.
    """
    try:
        return metric.encode().decode() if isinstance(metric, str) else None
    except UnicodeEncodeError:
        return None


def points_by_metric(
    store: Store, trials: Sequence[int], metrics: Collection[str] | None = None
) -> dict[int, dict[str, MetricPoints]]:
    """Return the points of some metrics, or of all, by trial and metric; each is read once."""
    found: dict[int, dict[str, tuple[list[Sequence[Any]], list[Any]]]]
    found = {trial: {} for trial in trials}
    records = excerpts(store, "points", trials, metrics) if trials else ()
    for trial, batch in intact(records, PointBatch):
        series = found[trial]
        for points in (batch.points, batch.runs):
            for each in points:
                if metrics is None or each.metric in metrics:
                    epochs, values = series.setdefault(each.metric, ([], []))
                    if isinstance(each, PointRun):
                        epochs.append(each.epochs)
                        values.extend(each.values)
                    else:
                        epochs.append((each.epoch,))
                        values.append(each.value)
    return {
        trial: {name: _numbers(*each) for name, each in series.items()}
        for trial, series in found.items()
    }


def _place(folder: Path, metric: str, trial: int) -> Path:
    name = hashlib.sha256(metric.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return folder / f"{trial}-{name}"


def _continued(store: Store, metric: str, trial: int, known: KnownColumns) -> MetricPoints | None:
    """Return what is known with what was saved since; ``None`` if that does not fit."""
    records = iter(store.read("points", [trial], after=known.state.position - 1))
    if not known.fits(store, next(records, None)):
        return None
    one = _read(metric, records).get(trial)
    if one is not None and one.values:
        added = _points(one)
        new = _columns(trial, added)
        if new is None:
            return None
        if one.is_intact and one.alone >= WORTH:
            place = _place(columns_folder(store) / "points", metric, trial)
            _keep(place, known, trial, added, one.last)
        columns = TrialColumns.stacked([*known.parts, new])
    else:
        columns = TrialColumns.stacked(known.parts)
    epochs, values = columns.fields["epoch"], columns.fields["value"]
    if not isinstance(epochs, NumberColumn) or not isinstance(values, NumberColumn):
        return None
    return MetricPoints(epochs.values, values.values)


def _read(metric: str, records: Iterable[Stored]) -> dict[int, _Read]:
    found: dict[int, _Read] = {}
    wanted = _WantedRuns(metric)
    for piece in partition_all(PIECE, records):
        pairs, damaged = _of_metric(piece, wanted)
        for trial, batch in pairs:
            points = [point for point in batch.points if point.metric == metric]
            one = found.get(trial)
            if one is None:
                one = _Read([], [], piece[-1], True, 0)
            found[trial] = one._replace(alone=one.alone + len(points))
            one.epochs.append([point.epoch for point in points])
            one.values.extend([point.value for point in points])
            for run in batch.runs:
                one.epochs.append(run.epochs)
                one.values.extend(run.values)
        for record in piece:
            if record.trial in found:
                found[record.trial] = found[record.trial]._replace(last=record)
        for record in damaged:
            if record.trial in found:
                found[record.trial] = found[record.trial]._replace(is_intact=False)
    return found


def _of_metric(
    piece: Sequence[Stored], wanted: _WantedRuns
) -> tuple[list[tuple[int, PointBatch]], list[Stored]]:
    """Return the points of some records with the runs of one metric, and damaged records."""
    pairs: list[tuple[int, PointBatch]] = []
    damaged: list[Stored] = []
    found = list(map(wanted.within, piece))
    for is_odd, some in groupby(range(len(piece)), lambda at: found[at] is None):
        if is_odd:
            others, wrong = _of_odd([piece[at] for at in some], wanted)
            pairs += others
            damaged += wrong
        else:
            pairs += [(piece[at].trial, PointBatch([], found[at] or [])) for at in some]
    return pairs, damaged


def _of_odd(
    piece: Sequence[Stored], wanted: _WantedRuns
) -> tuple[list[tuple[int, PointBatch]], list[Stored]]:
    raw, damaged = decoded(piece, _UndecodedRuns)
    try:
        return [(trial, PointBatch(one.points, wanted.of(one.runs))) for trial, one in raw], damaged
    except msgspec.MsgspecError:  # no runs, though no checksum tells: which record it is, all tell
        pairs, damaged = decoded(piece, PointBatch)
        for _, batch in pairs:
            batch.runs = [run for run in batch.runs if run.metric == wanted.metric]
        return pairs, damaged


class _WantedRuns:
    """Finds the runs of one metric among others, of which no number is decoded."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._start = b"[" + msgspec.json.encode(metric)

    def within(self, one: Stored) -> list[PointRun] | None:
        """Return those in a record, found by their first characters; None where it is odd."""
        runs = runs_within(one.body, self.metric)
        if runs is None or not is_sealed(one.body, one.trial):
            return None
        try:
            return list(map(_run_of, runs))
        except msgspec.MsgspecError:  # digits that look like a run
            return None

    def of(self, runs: list[msgspec.Raw]) -> list[PointRun]:
        """Return those of the metric."""
        start, size = self._start, len(self._start)
        found = [run for run in map(bytes, runs) if run[:size] == start or self._may_be(run)]
        return [run for run in map(_run_of, found) if run.metric == self.metric]

    @staticmethod
    def _may_be(run: bytes) -> bool:
        """Whether a run may begin with any name: its JSON is not as the package writes it."""
        return run[:2] != b'["' or b"\\" in run


def _points(read: _Read) -> MetricPoints:
    return _numbers(read.epochs, read.values)


def _numbers(epochs: list[Sequence[Any]], values: list[Any]) -> MetricPoints:
    """Return what was read, as arrays where it is numbers of one kind."""
    try:
        numbers, places = _array([values]), _array(epochs)
    except OverflowError:  # an integer beyond 64 bit
        numbers = places = None
    if numbers is not None and places is not None:
        return MetricPoints(places, numbers)
    return MetricPoints(list(chain.from_iterable(epochs)), values)


def _array(parts: list[Sequence[Any]]) -> np.ndarray[Any, Any] | None:
    """Return parts as one array, if they are numbers of one kind; ranges are not spelled out."""
    kinds = set().union(*({int} if type(part) is range else set(map(type, part)) for part in parts))
    if kinds not in _NUMBERS:
        return None
    dtype = np.dtype("int64" if kinds == {int} else "float64")
    arrays = [np.arange(part.start, part.stop, part.step, dtype=dtype) if type(part) is range
              else np.array(part, dtype=dtype) for part in parts]  # fmt: skip
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _columns(trial: int, points: MetricPoints) -> TrialColumns | None:
    """Return points as columns, where they are numbers of one kind."""
    if not isinstance(points.epochs, np.ndarray) or not isinstance(points.values, np.ndarray):
        return None
    fields = {"epoch": NumberColumn(points.epochs), "value": NumberColumn(points.values)}
    return TrialColumns(np.full(len(points.values), trial, "int64"), {**fields}, {})


def _keep(
    place: Path, known: KnownColumns | None, trial: int, points: MetricPoints, last: Stored
) -> None:
    columns = _columns(trial, points)
    if columns is not None:
        keep(place, known, [columns], last, [])


def thinned(values: np.ndarray[Any, np.dtype[np.float64]], most: int) -> Any:
    """Return the lowest and the highest place of each stretch, so that no peak is lost."""
    if len(values) <= most:
        return slice(None)
    size = -(-len(values) // (most // 2))
    missing = -len(values) % size
    low = np.append(np.nan_to_num(values, nan=np.inf), np.full(missing, np.inf)).reshape(-1, size)
    high = np.append(np.nan_to_num(values, nan=-np.inf), np.full(missing, -np.inf))
    starts = np.arange(len(low)) * size
    highest = starts + high.reshape(-1, size).argmax(axis=1)
    chosen = np.concatenate([[0, len(values) - 1], starts + low.argmin(axis=1), highest])
    return np.unique(np.minimum(chosen, len(values) - 1))
