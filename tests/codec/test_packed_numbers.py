"""Numbers in texts come back bit by bit, and take about as much as their bytes."""

from __future__ import annotations

import random
import struct
from itertools import accumulate, chain
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskperiment.codec import FLOAT_POINT, NumberPoints, PointRecord, decode, numbers_body
from daskperiment.codec.packed_numbers import DIGITS, packed, packed_runs, unpacked
from daskperiment.errors import CorruptRecordError
from daskperiment.records import Point

NAN, INF = float("nan"), float("inf")
FLOATS = st.floats(allow_nan=False) | st.sampled_from(
    [
        NAN,
        INF,
        -INF,
        0.0,
        -0.0,
        0.1,
        1 / 3,
        2.0**-1022,
        2.0**-968,
        5e-324,
        1.7976931348623157e308,
        2.0**60,
        1e-9,
    ]
)
CLOSE = st.floats(1e-9, 1e9) | st.floats(-1e9, -1e-9) | st.sampled_from([0.0, NAN, INF, -INF])
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9) | st.just(2**64 - 1)


def bits(values: list[Any]) -> bytes:
    """Return floats as their bytes, and other numbers as text."""
    return b"".join(
        struct.pack("<d", one) if type(one) is float else b"%d;" % one for one in values
    )


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1) | st.lists(CLOSE, min_size=1) | st.lists(WHOLE, min_size=1))
def test_numbers_come_back(values: list[Any]) -> None:
    """Whatever can be written in texts is read from them with each bit and sign."""
    found = packed(values)
    if found is not None:
        assert bits(unpacked(found)) == bits(values)
        text = "".join(found.texts)
        assert len(text) == found.digits * len(values)
        assert set(text) <= set(DIGITS)


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ([random.Random(n).random() for n in range(5000)], 9),
        ([random.Random(n).gauss(0, 1) for n in range(5000)], 9),
        ([struct.unpack("f", struct.pack("f", n / 7))[0] for n in range(1, 5000)], 5),
        ([1e-9, 1e9, 1 / 3], 10),
        ([0.5] * 100, 1),
        ([0.0, -0.0, 1.0, -1.0], 1),
        ([NAN] * 9, 1),
        ([0.5, NAN, INF, -INF, 0.0], 1),
        (list(range(5000)), 2),
        ([2**63 - 1, 2**63 - 2], 1),
        ([-(2**63), 0], 0),
        ([2**63, 2**63], 0),
        ([1e-300, 1.0], 0),
        ([5e-324, 1.0], 0),
        ([0.0, 0.0], 0),
        ([1, 0.5], 0),
        ([True, False], 0),
    ],
)
def test_digits_of_a_number(values: list[Any], digits: int) -> None:
    """A number has as many digits as the longest of its run, and none where that does not fit."""
    found = packed(values)
    assert (0 if found is None else found.digits) == digits


@pytest.mark.parametrize(
    "run",
    [
        ["a", 0, 1, 9, ["##"], [1, 1], [], 11, 0, 1.0],
        ["a", 0, 1, 9, ["###"], [1, 1], [], 2, 0, 1.0],
        ["a", 0, 1, 9, ["é#"], [1, 1], [], 2, 0, 1.0],
        ["a", 0, 1, 9, ["##", 5], [1, 1], [], 2, 0, 1.0],
        ["a", 0, 1, 9, ["##"], [1, 1], [], 2, 53, 1.0],
        ["a", 0, 1, 9, ["##"], [1, 1], [], 2, -2, 1.0],
        ["a", 0, 1, 9, ["##"], [1, 1], [], 2, -1, 1.5],
        ["a", 0, 1, 9, ["##"], [1, 1], [0, 1], 2, 0, 1.0],
        ["a", 0, 1, 9, ["##"], [1, 1], []],
        ["a", 0, 1, 9, [0.5], [1, 1], [], 2, 0, 1.0],
    ],
)
def test_what_is_no_run(run: list[Any]) -> None:
    """A run that nobody wrote so is damage, as any other part of a record."""
    with pytest.raises(CorruptRecordError):
        decode(msgspec.json.encode({"runs": [run]}), PointRecord[Point])


def test_any_digits_are_numbers() -> None:
    """Texts of other characters, or of more than a number can be, end no reading."""
    for digits, text, bits_, base in [
        (10, "~" * 20, 52, 1e308), (3, "abc \x7f'", -1, 2**63 - 1), (10, "~" * 20, -1, -(2**63)),
        (1, "~~", -1, 2**64 - 1),
    ]:  # fmt: skip
        run = ["a", 0, 1, 9, [text], [1, 1], [], digits, bits_, base]
        record = decode(msgspec.json.encode({"runs": [run]}), PointRecord[Point])
        assert len(list(record.each())) == 2


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.lists(FINITE | st.sampled_from([0.0, -0.0, 0.1, -3.5]), min_size=1), min_size=1))
def test_runs_at_once_are_as_one_by_one(runs: list[list[float]]) -> None:
    """What is packed together is what each run is by itself, where it can be packed at all."""
    starts = [0, *accumulate(map(len, runs[:-1]))]
    found = packed_runs(np.array(list(chain.from_iterable(runs))), starts)
    assert [one for one in found if one] == [
        packed(run) for run, one in zip(runs, found, strict=True) if one
    ]
    assert all(packed(run) is None for run, one in zip(runs, found, strict=True) if not one)


def test_many_short_runs_are_packed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many metrics that are saved in turn none is packed by itself."""
    packs: list[int] = []
    monkeypatch.setattr(
        "daskperiment.codec.point_runs.packed", lambda values: packs.append(len(values))
    )
    points = [
        NumberPoints(f"metric {n}", False, b"".join(
            FLOAT_POINT.pack(epoch, 1 / (epoch + n + 1), 1.7e9 + epoch) for epoch in range(20)
        )) for n in range(100)
    ]  # fmt: skip
    record = decode(numbers_body(points, 1), PointRecord[Point])
    assert [run.values for run in record.runs] == [
        [1 / (epoch + n + 1) for epoch in range(20)] for n in range(100)
    ]
    assert packs == []
