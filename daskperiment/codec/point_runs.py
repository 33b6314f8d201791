"""The body of a record of points: point by point, or in runs where many came at once.

What a loop saves within five milliseconds at epochs that are evenly apart is a *run*: the metric,
its first epoch, the distance of its epochs and the time are written once, and then the values
alone. So a point of a long loop takes little more than the digits of its value. It stays JSON,
which the views of a folder read as they read points. All points of a run have the time of its
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct, field

from daskperiment.codec.bodies import sealed
from daskperiment.records import Point

__all__ = ["MANY", "PointRecord", "PointRun", "points_body"]

MANY = 64
"""Points of a record from which on runs are looked for: of few it does not matter."""
_SHORT = 4
"""Points that a run must have on average, to take less than the points themselves."""
_NUMBERS = (float, int)
_MOMENT = 0.005
"""Seconds that the points of a run are apart at most."""

P = TypeVar("P")

_encode = msgspec.json.Encoder().encode


class _GivenPoint(Struct, array_like=True, gc=False):
    metric: str
    epoch: Any
    value: Any
    time: float
    serial: str = ""
    """Where there is a signing key, each point has a signature of its own."""


_points_of = msgspec.json.Decoder(list[_GivenPoint]).decode


class PointRun(Struct, array_like=True, gc=False):
    """Points of one metric that came together: values at epochs that are evenly apart."""

    metric: str
    first: int
    """The first epoch."""
    step: int
    """From one epoch to the next; 0 if all are the same."""
    time: float
    """Of the first point."""
    values: list[int | float]

    @property
    def epochs(self) -> Sequence[int]:
        """One for each value."""
        count = len(self.values)
        if self.step == 0:
            return [self.first] * count
        return range(self.first, self.first + count * self.step, self.step)

    def points(self) -> Iterator[Point]:
        """Yield each point, with the time of the first."""
        return map(Point, repeat(self.metric), self.epochs, self.values, repeat(self.time))


class PointRecord(Struct, Generic[P], gc=False):
    """The body of a record of the stream ``points``: it has points, or runs of them.

    `P` has what a reader needs of each point, by the names that it has in a `Point`.
    """

    points: list[P] = field(default_factory=list)
    runs: list[PointRun] = field(default_factory=list)

    def each(self) -> Iterator[P | Point]:
        """Yield all points, those of each metric as they were saved."""
        return chain(self.points, *(run.points() for run in self.runs))


def points_body(points: list[bytes], trial: int) -> bytes:
    """Return the body of a record of some points, each as JSON; the same for the same points."""
    joined = b",".join(points)
    decoded = _decoded(joined) if len(points) >= MANY else []
    odd = {each.metric for each in decoded if not _may_run(each)}
    runs = _runs_of(each for each in decoded if each.metric not in odd)
    if runs and len(runs) * _SHORT <= len(points):
        # The points of a metric stay together, so that their order is known.
        pairs = zip(points, decoded, strict=True)
        others = b",".join([point for point, each in pairs if each.metric in odd])
        return sealed(b'{"points":[%b],"runs":%b}' % (others, _encode(runs)), trial)
    return sealed(b'{"points":[%b]}' % joined, trial)


def _decoded(joined: bytes) -> list[_GivenPoint]:
    """Return points; none if anything else is among them."""
    try:
        return _points_of(b"[%b]" % joined)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _may_run(point: _GivenPoint) -> bool:
    return not point.serial and type(point.epoch) is int and type(point.value) in _NUMBERS


def _runs_of(points: Iterable[_GivenPoint]) -> list[PointRun]:
    """Return points as runs, those of each metric in their order."""
    latest: dict[str, PointRun] = {}
    found: list[PointRun] = []
    for point in points:
        run = latest.get(point.metric)
        if run is None or not _goes_on(run, point):
            run = PointRun(point.metric, point.epoch, 0, point.time, [])
            latest[point.metric] = run
            found.append(run)
        run.values.append(point.value)
    return found


def _goes_on(run: PointRun, point: _GivenPoint) -> bool:
    """Whether a point is the next one of a run, whose distance the second point decides."""
    if not 0 <= point.time - run.time < _MOMENT:
        return False
    count = len(run.values)
    if count == 1:
        run.step = point.epoch - run.first
    return bool(point.epoch == run.first + count * run.step)
