"""Records carry a checksum: what changed in them is seen, and those of old have none."""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec
import pytest

from daskperiment.codec import (
    decode,
    decode_each,
    decode_many,
    dump_record,
    encode,
    is_of,
    placed,
    sealed,
)
from daskperiment.errors import CorruptRecordError
from daskperiment.recording import journal_format as frames
from daskperiment.records import Beat, Computed, Ended, Environment


class Points(msgspec.Struct):
    points: list[object]


RECORDS = [
    Ended("succeeded", 17.25, 0.5, "<class 'int'>", 12345),
    Ended("failed", 1.0, 2.0),
    Computed("größe", {"$": "tuple", "v": [1, "x"]}),
    Computed("\ud800", "lone surrogate"),
    Beat(1795729620.8266497),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: type(one).__name__)
def test_no_changed_byte_goes_unseen(record: msgspec.Struct) -> None:
    """With any byte of a body changed, it is damage or the same record: never another one."""
    body, type_ = encode(record), type(record)
    whole = decode(body, type_)
    for place in range(len(body)):
        for new in b"0", b"9", b"x", b" ", bytes([body[place] ^ 1]), b"":
            changed = body[:place] + new + body[place + 1 :]
            for read in (
                lambda one: decode(one, type_),
                lambda one: decode_many([body, one], type_)[1],
            ):
                with suppress(CorruptRecordError):
                    assert read(changed) == whole, changed


def test_one_changed_record_costs_no_other() -> None:
    """Of many, those that are as they were written are returned, and in its place the error."""
    bodies = [encode(Beat(float(n))) for n in range(5)]
    bodies[2] = bodies[2].replace(b"2.0", b"7.0")
    found = decode_each(bodies, Beat)
    assert isinstance(found[2], CorruptRecordError)
    assert re.search("checksum.*damaged.*restore", str(found[2]))
    assert [one for one in found if isinstance(one, Beat)] == [
        Beat(n) for n in (0.0, 1.0, 3.0, 4.0)
    ]


def test_records_of_old_have_none() -> None:
    """A body without checksum is read as ever, alone and among others."""
    bodies = [msgspec.json.encode(Beat(1.0)), encode(Beat(2.0))]
    assert decode(bodies[0], Beat) == Beat(1.0)
    assert decode_many(bodies, Beat) == [Beat(1.0), Beat(2.0)]


def test_points_of_a_journal_have_one() -> None:
    """Points that the journal joins to a record are covered too."""
    (record,) = frames._close({(frames.POINT, 1): (24, [b'["loss",0,0.5,1.0]'])}, "j", {})
    assert decode(record.body, Points).points == [["loss", 0, 0.5, 1.0]]
    with pytest.raises(CorruptRecordError, match="checksum"):
        decode(record.body.replace(b"0.5", b"0.6"), Points)
    assert record.body == sealed(b'{"points":[["loss",0,0.5,1.0]]}', 1)


@pytest.mark.parametrize("trial", [0, 1, 17, 2**40 - 1])
def test_a_record_of_another_trial_is_seen(trial: int) -> None:
    """Where a store's number of the trial changed, it is damage: alone, and among others."""
    body = encode(Beat(1.5), trial)
    assert decode(body, Beat) == Beat(1.5)
    assert is_of(body, trial)
    assert decode_many([body, body], Beat, [trial] * 2) == [Beat(1.5)] * 2
    for bit in range(41):
        other = trial ^ 1 << bit
        assert not is_of(body, other)
        good, bad = decode_each([body, body], Beat, [trial, other])
        assert good == Beat(1.5)
        assert isinstance(bad, CorruptRecordError)
        assert f"another trial than {other}" in str(bad)


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: type(one).__name__)
def test_no_changed_byte_of_a_trial_goes_unseen(record: msgspec.Struct) -> None:
    """The number within is covered by the checksum as all else is."""
    body, type_ = encode(record, 5), type(record)
    whole = decode(body, type_)
    for place in range(len(body)):
        for new in b"0", b"6", b"", bytes([body[place] ^ 1]):
            changed = body[:place] + new + body[place + 1 :]
            (read,) = decode_each([changed], type_, [5])
            assert isinstance(read, CorruptRecordError) or read == whole, changed


def test_a_record_is_placed_anew() -> None:
    """Written for another trial it says that, with a checksum that fits; one of old stays."""
    body = encode(Ended("failed", 1.0, 2.0), 7)
    assert placed(body, 9) == encode(Ended("failed", 1.0, 2.0), 9)
    assert placed(body, 7) == body
    for old in (encode(Beat(1.0)), msgspec.json.encode(Beat(1.0))):
        assert placed(old, 9) == old
        assert is_of(old, 9)
        assert decode_many([old], Beat, [9]) == [Beat(1.0)]


def test_shared_records_need_none() -> None:
    """A record that is an object is kept under the digest of its JSON alone."""
    blob = dump_record(Environment({"git": {"commit": "a"}}))
    assert blob.parts == [msgspec.json.encode(Environment({"git": {"commit": "a"}}))]
