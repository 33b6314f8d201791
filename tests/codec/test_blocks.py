"""A store may give some blocks of a record without the others: what they hold is never wrong."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.codec import MARK, points_body
from daskperiment.errors import StoreWarning
from daskperiment.history.metric_columns import metric_points, points_by_metric
from daskperiment.records import Point
from daskperiment.store.protocol import Stored

NAMES = [
    "m7", "m77", "7", "", " ", "\\", 'm"7', '"', '\\"', '!",-0]', "-0]", '",-0],["', ",-0],[",
    "],[", "$m7", "m.7", "^m7$", "%", "\x00", "\n", "\x7f", "é", "\u2028", "\U0001f600", "points",
    "runs", '","of":"', "checksum", "0", "[1,1]", "x" * 1500,
]  # fmt: skip


class ExcerptStore:
    """A store of one trial that gives what a server gives."""

    address = "somewhere"

    def __init__(self, *bodies: bytes) -> None:
        self._records = [Stored(at, 1, str(at), body) for at, body in enumerate(bodies, 1)]

    def read(self, stream: str, trials: Any = None, after: int = 0) -> list[Stored]:
        return [one for one in self._records if one.position > after]

    def read_excerpts(
        self, stream: str, trials: Any, after: int, texts: Collection[str], mark: str
    ) -> Iterator[Stored]:
        def has_text(piece: bytes) -> bool:
            return any(text.encode() in piece for text in texts)

        for one in self.read(stream, trials, after):
            *blocks, end = one.body.split(mark.encode())
            if not blocks and (has_text(end) or b"\\" in end):
                yield one
            elif blocks and has_text(one.body):
                wanted = [block + mark.encode() for block in blocks if has_text(block)]
                yield one._replace(body=b"".join([*wanted, end]))


def read(metric: str, *bodies: bytes) -> list[tuple[Any, Any]]:
    store: Any = ExcerptStore(*bodies)
    points = metric_points(store, metric, [1])[1]
    found = [(*pair,) for pair in zip(points.epochs, points.values, strict=True)]
    every = points_by_metric(store, [1], {metric})[1].get(metric)
    assert found == ([] if every is None else [*zip(every.epochs, every.values, strict=True)])
    return found


def body_of(points: list[tuple[str, Any, Any]]) -> bytes:
    encoded = [msgspec.json.encode(Point(*one, 1e9 + n)) for n, one in enumerate(points)]
    return points_body(encoded, 1)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=40, unique=True),
    st.sampled_from([1, 3, 30]),
    st.lists(st.sampled_from([0, 0.5, -0.0, 2**70, '!",-0]', '"m7"']), min_size=1, max_size=7),
    st.sampled_from([1, -2, 0]),
)
def test_any_names(names: list[str], count: int, values: list[Any], step: int) -> None:
    """Each metric is found in excerpts as it was saved, whatever names stand beside it."""
    names = [*names, *(f"x{n}" for n in range(150))]
    wanted: dict[str, list[tuple[Any, Any]]] = {
        name: [(epoch * step, values[(at + epoch) % len(values)]) for epoch in range(count)]
        for at, name in enumerate(names)
    }
    points = [(name, *wanted[name][at]) for at in range(count) for name in names]
    half = len(points) // 2
    assert MARK in body_of(points) or count == 30  # a few runs beside points stand in no blocks
    bodies = [body_of(some) for some in (points[:half], points[half:])]
    for name in (*names[:12], "none", "m"):
        assert read(name, *bodies) == wanted.get(name, []), name


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("odd", [False, True])
def test_a_changed_byte(count: int, odd: bool) -> None:
    """Whatever byte is another one, a metric has its points, or none of the record, which is told.

    Where the name itself is damaged nobody finds it by its name: that is told by who reads all.
    """
    names = [f"m{n:02}" for n in range(40)]
    points = [
        (name, "e" if odd and at % 5 == 0 else epoch, (at + epoch) / 7)
        for epoch in range(count)
        for at, name in enumerate(names)
    ]
    body = body_of(points)
    for name in ("m00", "m07", "m39"):
        wanted = read(name, body)
        assert len(wanted) == count
        for at in range(0, len(body), 3):
            changed = body[:at] + bytes([body[at] ^ (1 + at % 7)]) + body[at + 1 :]
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", StoreWarning)
                found = read(name, changed)
            assert found in (wanted, [])
            assert found or told or b'"%b"' % name.encode() not in changed


def test_what_stands_behind_a_damaged_mark() -> None:
    """A block whose mark is damaged is none that was checked, though JSON is read of it."""
    body = body_of([(f"m{n:02}", 1, n) for n in range(100)])
    end = body.rindex(MARK)
    assert MARK in body[:end]
    changed = body[:end].replace(b'["m99",1,99', b'["m99",1,98') + MARK.replace(b"0", b"1")
    changed += body[end + len(MARK) :]
    assert len(changed) == len(body)
    store: Any = ExcerptStore(changed)
    with pytest.warns(StoreWarning, match="damaged"):
        assert points_by_metric(store, [1], {"m00", "m99"}) == {1: {}}
