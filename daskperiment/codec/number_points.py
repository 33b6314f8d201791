"""Points whose epochs and values are numbers: 24 bytes each, and the body of a record of many.

So a journal has them. They become the runs of a record (:mod:`daskperiment.codec.point_runs`)
without a Python object for any of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isfinite
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from daskperiment.codec.fields import to_plain
from daskperiment.codec.packed_numbers import PackedNumbers, packed_runs
from daskperiment.codec.point_runs import (
    LATEST,
    MANY,
    MOMENT,
    SHORT,
    FoundRun,
    GivenPoint,
    decoded_points,
    may_run,
    points_body,
    runs_body,
)

__all__ = ["FLOAT_POINT", "MOST", "WHOLE_POINT", "NumberPoints", "numbers_body"]

FLOAT_POINT = Struct("<qdd")
"""Epoch, value and time."""
WHOLE_POINT = Struct("<qqd")
MOST = 2**62
"""Epochs and whole numbers are below this, so that a 64-bit integer has their differences."""

_encode = msgspec.json.Encoder().encode


class NumberPoints(NamedTuple):
    """Points of one metric, in their order: epoch, value and time of each."""

    metric: str
    is_whole: bool
    """Whether their values are whole numbers; else all are floats."""
    data: bytes

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.data) // FLOAT_POINT.size

    def pieces(self) -> list[bytes]:
        """Return each as JSON."""
        each = (WHOLE_POINT if self.is_whole else FLOAT_POINT).iter_unpack(self.data)
        metric = self.metric
        return [
            _encode((metric, epoch, value if isfinite(value) else to_plain(value), time))
            for epoch, value, time in each
        ]


def numbers_body(points: Sequence[NumberPoints | bytes], trial: int) -> bytes:
    """Return the body of a record of some points, in their order; what is bytes is one as JSON.

    It is the same as of the same points as JSON.
    """
    parts = list(_all_numbers(points))
    count = sum([part.size for part in parts])
    runs = _runs(parts, count) if count >= MANY and parts[-1] is not _OTHER else None
    if runs is None:
        return points_body([piece for each in points for piece in _pieces(each)], trial)
    return runs_body(b"", list(_encoded(runs)), trial)


def _encoded(runs: list[FoundRun]) -> Iterator[bytes]:
    """Yield runs as JSON."""
    import numpy as np  # noqa: PLC0415  # it is there

    short = [run for run in runs if len(run.times) < _LONG_RUN and run.values.dtype == "float64"]
    known: list[PackedNumbers | None] = []
    if len(short) > 1:
        sizes = [len(run.times) for run in short]
        values = np.concatenate([run.values for run in short])
        if np.isfinite(values).all():
            known = packed_runs(values, [0, *accumulate(sizes[:-1])])
    by_run = {id(run): one for run, one in zip(short, known, strict=False)}
    for run in runs:
        yield run.encoded(by_run.get(id(run)))


_LONG_RUN = 512
"""Points of a run that is packed by itself."""
_OTHER = NumberPoints("", False, b"")
"""Stands last where there are points of other kinds."""


def _all_numbers(points: Sequence[NumberPoints | bytes]) -> Iterator[NumberPoints]:
    """Yield points as numbers, as long as all are."""
    pieces = [one for one in points if isinstance(one, bytes)]
    decoded = iter(decoded_points(pieces))
    for one in points:
        if isinstance(one, NumberPoints):
            yield one
            continue
        point = next(decoded, None)
        if point is None or not may_run(point) or not _fits(point):
            yield _OTHER
            return
        is_whole = type(point.value) is int
        data = (WHOLE_POINT if is_whole else FLOAT_POINT).pack(point.epoch, point.value, point.time)
        yield NumberPoints(point.metric, is_whole, data)


def _fits(point: GivenPoint) -> bool:
    value = 0 if type(point.value) is float else point.value
    return -MOST < point.epoch < MOST and -MOST < value < MOST


def _pieces(one: NumberPoints | bytes) -> list[bytes]:
    return [one] if isinstance(one, bytes) else one.pieces()


def _runs(parts: Sequence[NumberPoints], count: int) -> list[FoundRun] | None:
    """Return points as runs; None where they are to be looked at one by one."""
    import numpy as np  # noqa: PLC0415  # most processes do without

    by_metric: dict[str, list[NumberPoints]] = {}
    for part in parts:
        by_metric.setdefault(part.metric, []).append(part)
    found: list[FoundRun] = []
    for metric, some in by_metric.items():
        if len({part.is_whole for part in some}) > 1:
            return None
        dtype = [("epoch", "<i8"), ("value", "<i8" if some[0].is_whole else "<f8"), ("time", "<f8")]
        points = np.frombuffer(b"".join([part.data for part in some]), dtype)
        for run in _runs_of(metric, *(points[name].copy() for name in ("epoch", "value", "time"))):
            found.append(run)
            if len(found) * SHORT > count:
                return None
    if not all(run.can_be_written() for run in found):
        return None
    return found


def _short_run(metric: str, epochs: Any, values: Any, times: Any) -> FoundRun | None:
    """Return a few points as one run, if that is what they are."""
    places, moments = epochs.tolist(), times.tolist()
    first, step = places[0], places[1] - places[0]
    if moments != sorted(moments) or moments[-1] >= LATEST:
        return None
    if step and places != list(range(first, first + step * len(places), step)):
        return None
    return FoundRun(metric, first, step, values, moments) if step or len({*places}) == 1 else None


def _runs_of(metric: str, epochs: Any, values: Any, times: Any) -> Iterator[FoundRun]:
    """Yield the points of one metric as runs: each is as long as it can be."""
    import numpy as np  # noqa: PLC0415  # as above

    if 1 < len(epochs) <= MANY:
        run = _short_run(metric, epochs, values, times)
        if run is not None:
            yield run
            return
    steps = np.diff(epochs)
    turns = np.flatnonzero(steps[1:] != steps[:-1]).tolist()
    later = times[1:]
    breaks = np.flatnonzero((times[:-1] > later) | (later >= LATEST)).tolist()
    start, count = 0, len(epochs)
    while start < count:
        turn, end = bisect_left(turns, start), count
        if turn < len(turns):
            end = min(end, turns[turn] + 2)
        gap = bisect_left(breaks, start)
        if gap < len(breaks):
            end = min(end, breaks[gap] + 1)
        if end - start > MANY:  # of a quick loop, whose points need no times of their own
            moment = start + int(np.searchsorted(times[start:end], times[start] + MOMENT))
            end = end if moment < start + MANY else moment
        step = int(steps[start]) if end - start > 1 else 0
        yield FoundRun(
            metric, int(epochs[start]), step, values[start:end], times[start:end].tolist()
        )
        start = end
