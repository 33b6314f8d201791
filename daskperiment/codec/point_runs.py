"""The body of a record of points: point by point, or in runs where many came together.

Points of one metric at epochs that are evenly apart are a *run*: the metric, its first epoch, the
distance of its epochs and its first time are written once, and then the values alone, with the
milliseconds since the first time where they took five or more. What a loop saves within less has
the time of its first point.

Where that takes fewer characters, the values of a run are digits in texts: see
:mod:`daskperiment.codec.packed_numbers`. All of it stays JSON, which the views of a folder read as
they read points, and all numbers come back bit by bit.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from math import isfinite
from operator import ne, sub
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, field

from daskperiment.codec.bodies import blocked, sealed
from daskperiment.codec.fields import to_plain
from daskperiment.codec.packed_numbers import MOST_DIGITS, PackedNumbers, packed, unpacked
from daskperiment.records import Point

__all__ = [
    "LATEST",
    "MANY",
    "MOMENT",
    "SHORT",
    "FoundRun",
    "GivenPoint",
    "PointRecord",
    "PointRun",
    "decoded_points",
    "may_run",
    "points_body",
    "runs_body",
    "runs_within",
]

MANY = 64
"""Points of a record from which on runs are looked for: of few it does not matter."""
SHORT = 4
"""Points that a run must have on average, to take less than the points themselves."""
_NUMBERS = {float, int}
MOMENT = 0.005
"""Seconds of a run whose points have the time of its first."""
LATEST = 2.0**32
"""Seconds since the Unix epoch up to which times are counted in microseconds."""
_SAMPLE = 64
"""Numbers by which it is seen what is shorter, if it is much shorter."""
_NO_MULTIPLES = (1, 1)
_RUNS = b'{"points":[],"runs":['
"""What a body of runs alone begins with."""
_NEXT, _LAST = b'],["', b']],"'
"""Ends of a run: only a run begins with a text, and no list in one follows a list of texts so."""
_NOT_FINITE = [to_plain(float(text)) for text in ("nan", "inf", "-inf")]

P = TypeVar("P")

_encode = msgspec.json.Encoder().encode


class GivenPoint(Struct, array_like=True, gc=False):
    """A point as it was written down."""

    metric: str
    epoch: Any
    value: Any
    time: float
    serial: str = ""
    """Where there is a signing key, each point has a signature of its own."""


_points_of = msgspec.json.Decoder(list[GivenPoint]).decode


class PointRun(Struct, array_like=True, gc=False):
    """Points of one metric that came together: values at epochs that are evenly apart."""

    metric: str
    first: int
    """The first epoch."""
    step: int
    """From one epoch to the next; 0 if all are the same."""
    time: float
    """Of the first point."""
    written: list[int | float | str]
    """The numbers as they were saved, or multiples of the divisors, or texts of digits."""
    divisors: tuple[int, int] = _NO_MULTIPLES
    """Powers of two, by which numbers are divided as they are read; once there were no digits."""
    after: list[int] = []
    """Milliseconds from the first point to each; empty if all have the time of the first."""
    digits: int = 0
    """Of each number in the texts; 0 where there are numbers."""
    bits: int = -1
    """As of `PackedNumbers`, and so is the base."""
    base: int | float = 0

    def __post_init__(self) -> None:
        one, other = self.divisors
        kinds = set(map(type, self.written))
        fits = self._texts_fit(kinds) if self.digits else str not in kinds and min(one, other) >= 1
        if not fits or (self.after and len(self.after) != self.count):
            raise ValueError("this is no run of points")
        if one > 1 and not self.digits:
            import numpy as np  # noqa: PLC0415  # most commands do without

            try:
                self.written = (np.array(self.written, "float64") / one / other).tolist()
            except OverflowError as error:  # nobody wrote such numbers
                raise ValueError("these are no multiples") from error

    def _texts_fit(self, kinds: set[type]) -> bool:
        if kinds != {str} or not 1 <= self.digits <= MOST_DIGITS or not -1 <= self.bits <= 52:
            return False
        whole = not any(len(text) % self.digits or not text.isascii() for text in self._texts)
        return whole and (self.bits >= 0 or type(self.base) is int)

    @property
    def _texts(self) -> list[str]:
        return self.written  # type: ignore[return-value]  # looked at when it was read

    @property
    def count(self) -> int:
        """How many points it has."""
        if not self.digits:
            return len(self.written)
        return sum(map(len, self._texts)) // self.digits

    @property
    def values(self) -> list[int | float]:
        """The numbers as they were saved, read anew each time: most readers want a few runs."""
        if not self.digits:
            return self.written  # type: ignore[return-value]
        return unpacked(PackedNumbers(self._texts, self.digits, self.bits, self.base))

    @property
    def epochs(self) -> Sequence[int]:
        """One for each value."""
        count = self.count
        if self.step == 0:
            return [self.first] * count
        return range(self.first, self.first + count * self.step, self.step)

    @property
    def times(self) -> Iterable[float]:
        """One for each value, in seconds since the Unix epoch."""
        if not self.after:
            return repeat(self.time, self.count)
        # Counted in whole numbers, so that points that are copied keep their times.
        start = round(self.time * 1e6)
        return [(start + 1000 * each) / 1e6 for each in self.after]

    def points(self) -> Iterator[Point]:
        """Yield each point, its value as a plain one, with its time as far as it was kept."""
        values: list[Any] = self.values
        if self.bits > 0 and not all(map(isfinite, values)):
            values = list(map(to_plain, values))
        return map(Point, repeat(self.metric), self.epochs, values, self.times)


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
    decoded = decoded_points(points) if len(points) >= MANY else []
    infinite = _with_floats(decoded)
    odd = _odd_metrics(decoded)
    kept = [each for each in decoded if each.metric not in odd] if odd else decoded
    runs = [run for some in _by_metric(kept) for run in _runs_of(some)]
    if infinite:
        odd |= {run.metric for run in runs if run.metric in infinite and not run.can_be_written()}
        runs = [run for run in runs if run.metric not in odd]
    if runs and len(runs) * SHORT <= sum([len(run.times) for run in runs]):
        # The points of a metric stay together, so that their order is known.
        pairs = zip(points, decoded, strict=True)
        others = b",".join([point for point, each in pairs if each.metric in odd] if odd else [])
        return runs_body(others, [run.encoded() for run in runs], trial)
    return sealed(b"%b]}" % blocked(b'{"points":[', points, b"p", _POINT_FILLING), trial)


_POINT_FILLING = {4: b',"",""'}
"""What a point that nobody signed leaves out of `SignedPoint`."""
_RUN_FILLING = {7: b",0,-1,0", 10: b""}


def runs_body(points: bytes, runs: Sequence[bytes], trial: int) -> bytes:
    """Return the body of a record of runs, each as JSON, and of points beside them."""
    start = b'{"points":[%b],"runs":[' % points
    return sealed(b"%b]}" % blocked(start, runs, b"r", _RUN_FILLING), trial)


def runs_within(body: bytes, metric: str) -> list[bytes] | None:
    """Return the JSON of a metric's runs in the body of a record, of which nothing is decoded.

    None where they cannot be told apart by their first characters: there are points beside them, or
    texts with escapes. The body must be as `points_body` makes it, which its checksum tells.
    """
    if not body.startswith(_RUNS) or b"\\" in body:
        return None
    found = []
    for hit in re.finditer(re.escape(b"[%b," % _encode(metric)), body):  # `find` takes longer
        place = hit.start()
        # Digits of numbers may look like a name: these lists stand behind a number.
        if place == len(_RUNS) or body[place - 2 : place] == b"],":
            end = body.find(_NEXT, hit.end())
            found.append(body[place : (body.rfind(_LAST) if end < 0 else end) + 1])
    return found


def decoded_points(points: Sequence[bytes]) -> list[GivenPoint]:
    """Return points of JSON; none if anything else is among them."""
    try:
        return _points_of(b"[%b]" % b",".join(points))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _with_floats(points: Sequence[GivenPoint]) -> set[str]:
    """Put floats in the place of values that JSON has no number for; return their metrics."""
    found: set[str] = set()
    if dict in {type(each.value) for each in points}:
        for each in points:
            if each.value in _NOT_FINITE:
                each.value = float(each.value["v"])
                found.add(each.metric)
    return found


def _odd_metrics(points: Sequence[GivenPoint]) -> set[str]:
    """Return the metrics of which a point has no place in a run."""
    # Passes that make no call for a point: there may be a million of them.
    epochs = {type(each.epoch) for each in points}
    values = {type(each.value) for each in points}
    if epochs <= {int} and values <= _NUMBERS and not {each.serial for each in points} - {""}:
        return set()
    return {each.metric for each in points if not may_run(each)}


def may_run(point: GivenPoint) -> bool:
    """Whether a point has a place in a run."""
    return not point.serial and type(point.epoch) is int and type(point.value) in _NUMBERS


def _by_metric(points: Sequence[GivenPoint]) -> Iterable[Sequence[GivenPoint]]:
    """Return the points of each metric, in their order."""
    if len({each.metric for each in points}) < 2:
        return [points] if points else []
    found: dict[str, list[GivenPoint]] = {}
    for each in points:
        found.setdefault(each.metric, []).append(each)
    return found.values()


class FoundRun(NamedTuple):
    """Points of one metric that can be written as a run."""

    metric: str
    first: int
    step: int
    values: Any
    """A list of numbers, or an array of 64-bit integers or floats."""
    times: list[float]

    @property
    def is_array(self) -> bool:
        """Whether the values are an array."""
        return type(self.values) is not list

    def can_be_written(self) -> bool:
        """Whether there is JSON for all its values."""
        values = self.values
        if self.is_array:
            import numpy as np  # noqa: PLC0415  # it is there

            return bool(np.isfinite(values).all()) or packed(values) is not None
        return all(map(isfinite, values)) or packed(values) is not None

    def encoded(self, known: PackedNumbers | None = None) -> bytes:
        """Return the run as JSON; its numbers may be packed already."""
        time, after = self.times[0], b"[]"
        if self.times[-1] - time >= MOMENT:
            counted = [round(each * 1e6) for each in self.times]
            time = counted[0] / 1e6
            after = _encode([(each - counted[0]) // 1000 for each in counted])
        head = _encode([self.metric, self.first, self.step, time])[:-1]
        found = known or packed(self.values)
        if found is None:
            return b"%b,%b,[1,1],%b]" % (head, _encode(self._listed()), after)
        texts, *rest = found
        shorter = b"%b,%b,[1,1],%b,%b" % (head, _encode(texts), after, _encode(rest)[1:])
        # A sum that is too large costs some characters.
        if not isfinite(sum(self._listed(_SAMPLE))):
            return shorter
        sample = _encode(self._listed(_SAMPLE))
        if len(sample) > 2 * found.digits * min(len(self.values), _SAMPLE):
            return shorter  # most likely, and to write all as JSON would take the longest of all
        if not isfinite(sum(self._listed())):
            return shorter
        return min(b"%b,%b,[1,1],%b]" % (head, _encode(self._listed()), after), shorter, key=len)

    def _listed(self, most: int | None = None) -> list[int | float]:
        values = self.values[:most]
        return values.tolist() if self.is_array else values  # type: ignore[no-any-return]


def _runs_of(points: Sequence[GivenPoint]) -> Iterator[FoundRun]:
    """Yield the points of one metric as runs: each is as long as it can be."""
    epochs = [each.epoch for each in points]
    values = [each.value for each in points]
    times = [each.time for each in points]
    # Where a run cannot go on is looked for by the interpreter's own loops, not point by point.
    steps = list(map(sub, islice(epochs, 1, None), epochs))
    turns = breaks = [False] * len(points)
    if steps and steps.count(steps[0]) < len(steps):
        # Before the next point but one, whether it is as far away as the next one.
        turns = list(map(ne, islice(steps, 1, None), steps))
    if times != sorted(times) or times[-1] >= LATEST:
        # Before the next point: it is not as late as this one, or later than is counted.
        pairs = zip(times, islice(times, 1, None), strict=False)
        breaks = [not time <= following < LATEST for time, following in pairs]
    turns, breaks = [*turns, True, True], [*breaks, True]
    start, count = 0, len(points)
    while start < count:
        end = min(turns.index(True, start) + 2, breaks.index(True, start) + 1, count)
        if end - start > MANY:  # of a quick loop, whose points need no times of their own
            later = bisect_left(times, times[start] + MOMENT, start, end)
            end = end if later < start + MANY else later
        step = steps[start] if end - start > 1 else 0
        yield FoundRun(points[0].metric, epochs[start], step, values[start:end], times[start:end])
        start = end
