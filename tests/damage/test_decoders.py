"""Decoders take what is damaged for damage, and make nothing large of what is small."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pandas  # noqa: F401  # decoders import it, which takes memory of its own
import pytest

from daskperiment.codec import decode, from_plain, load_object, parsed
from daskperiment.codec.object_format import digest_of
from daskperiment.errors import CorruptRecordError
from daskperiment.recording import journal_format as frames
from daskperiment.records import Begun
from daskperiment.store.protocol import Record

NOBODY = frames.JournalNames({}, {}, {})
RANGE = {"$": "range", "v": [0, 10**9, 1]}
LARGE = [
    {"$": "numpy", "v": ["bytes_", 10**9]},
    {"$": "numpy", "v": ["void", 10**9]},
    {"$": "numpy", "v": ["str_", RANGE]},
    {"$": "numpy", "v": ["int64", RANGE]},
    {"$": "tuple", "v": RANGE},
    {"$": "set", "v": RANGE},
    {"$": "frozenset", "v": RANGE},
    {"$": "dict", "v": RANGE},
    {"$": "bytes", "v": RANGE},
    {"$": "bytearray", "v": 10**9},
    {"$": "fraction", "v": ["1e1000000000", 1]},
    {"$": "fraction", "v": "1e1000000000"},
    {"$": "decimal", "v": [0, [1], 10**9]},
    {"$": "complex", "v": RANGE},
    {"$": "range", "v": RANGE},
    {"$": "timedelta", "v": RANGE},
    {"$": "uuid", "v": RANGE},
    {"$": "path", "v": RANGE},
    {"$": "pandas-timedelta", "v": RANGE},
    {"$": "interval", "v": RANGE},
]


@pytest.mark.parametrize("data", LARGE, ids=lambda data: f"{data['$']}-{str(data['v'])[:20]}")
def test_small_form_of_a_large_value(data: Any) -> None:
    """A form of a few bytes that would make a gigabyte, or run for hours, is damage."""
    body = msgspec.json.encode(data)
    assert len(body) < 100
    with pytest.raises(CorruptRecordError):
        from_plain(0) or from_plain({"$": "unknown", "v": 0})  # imports what messages need
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRecordError):
            from_plain(msgspec.json.decode(body))
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "header",
    [
        b"\x91\xdd\xff\xff\xff\xff", b"\x91\xdc\xff\xff\x01", b"\x91\x91\xcf" + b"\xff" * 8,
        b"\x91\x92\xce\x7f\xff\xff\xff\x01", b"\xdb\xff\xff\xff\xff", b"\x91" * 5000, b"",
    ],
)  # fmt: skip
def test_lengths_in_the_head_of_an_object(header: bytes) -> None:
    """A head that tells of more than there is allocates nothing, and is damage."""
    data = b"\x89daskex\n" + bytes([1, 0, 0, 0]) + len(header).to_bytes(4, "little") + header
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRecordError):
            load_object(data, digest_of([data]))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"[1", b'{"a":' * 5000, b'"\\ud800"', b"1e999999", b"nul"]
)
def test_a_body_that_is_none(body: bytes) -> None:
    """Whatever stands in a record's place is a CorruptRecordError, with a type and without."""
    with pytest.raises(CorruptRecordError, match="damaged"):
        decode(body, Begun)
    if body not in (b'"\\ud800"', b"1e999999"):
        with pytest.raises(CorruptRecordError, match="damaged"):
            parsed(body)


def _record_frame(trial: int, data: bytes) -> bytes:
    return frames.encode_frame(frames.RECORD, trial, data)


@pytest.mark.parametrize(
    ("trial", "data"),
    [(1, b""), (1, b"\x01"), (1, b"\x02\x01\x00\xff\xfe\xff{}"), (2**63, b"\x01\x01\x00sx{}")],
)
def test_a_frame_that_is_no_record(tmp_path: Any, trial: int, data: bytes) -> None:
    """A whole frame of a journal that holds no record is passed over and counted as damage."""
    good = frames.encode_record(Record("steps", 1, "x", b"{}"))
    path = tmp_path / "a.journal"
    path.write_bytes(frames.encode_mark(0) + _record_frame(trial, data) + good)
    with open(path, "rb") as file:
        end = path.stat().st_size
        found = list(frames.sections(file.fileno(), "j", NOBODY, frames.START, end))
    assert [record.id for section in found for record in section.records] == ["x"]
    assert sum(section.skipped for section in found) >= len(data) > -1
