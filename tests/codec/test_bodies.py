"""Records and their JSON."""

from __future__ import annotations

import json

import pytest

from daskperiment.codec import decode, decode_many, encode
from daskperiment.errors import CorruptRecordError
from daskperiment.records import Begun, Ended, Failure, ObjectRef, Origin, Point, StepRun

BEGUN = Begun(
    token="t",
    result="score",
    started=1.5,
    seed=2**63,
    parameters={"é": {"$": "tuple", "v": [1, 2]}},
    code="c",
    environment="e",
    graph="g",
    origin=Origin("host", "boot", 1, 0.5, "user"),
)
RUN = StepRun("a#2", "a", "failed", 1.0, 0.1, 0.1, 9, "h", 1, "t", "c", failure=Failure("E", "E()"))


@pytest.mark.parametrize(
    "record", [BEGUN, RUN, Ended("succeeded", 2.0, 0.5, value=3), Point("m", 1, 0.5, 2.0)], ids=type
)
def test_records_survive(record: object) -> None:
    """A record comes back equal from its JSON, alone and among others."""
    body = encode(record)  # type: ignore[arg-type]
    assert decode(body, type(record)) == record  # type: ignore[type-var]
    assert decode_many([body, body], type(record)) == [record, record]  # type: ignore[type-var]
    assert json.loads(body)


def test_object_reference_has_its_tag() -> None:
    """An object reference is marked as such in its JSON."""
    form = json.loads(encode(ObjectRef("<class 'A'>", "A()")))
    assert len(form.pop("checksum")) == 16
    assert form == {"$": "object", "type": "<class 'A'>", "repr": "A()"}


def test_no_bodies_give_no_records() -> None:
    """Reading nothing gives nothing."""
    assert decode_many([], Point) == []


def test_later_fields_are_passed_over() -> None:
    """A field that a later version adds does not keep this one from reading the record."""
    data = json.loads(encode(RUN)) | {"colour": "red"}
    assert decode(json.dumps(data).encode(), StepRun) == RUN


def test_text_outside_unicode_in_a_list_is_escaped_too() -> None:
    """Escaping reaches every part of a record."""
    back = decode(encode(Ended("failed", 1.0, 1.0, value=["\ud800", {"\ud800": 2.5}])), Ended)
    assert back.value == ["\\ud800", {"\\ud800": 2.5}]


def test_text_outside_unicode_does_not_cost_the_record() -> None:
    """Lone surrogates, as in undecodable file names, are written as escapes."""
    failure = Failure("E", "E(\udcff)", traceback="é")
    back = decode(encode(Ended("failed", 1.0, 1.0, failure=failure)), Ended)
    assert back.failure == Failure("E", "E(\\udcff)", traceback="é")


DAMAGED = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"1,2",
    b"}{",
    b"\xff\xfe",
    b"[" * 100_000,
    encode(RUN)[:-1],
    encode(RUN)[1:],
    encode(RUN).replace(b'"failed"', b'"jumped"'),
    encode(RUN).replace(b'"wall":0.1', b'"wall":"x"'),
    encode(RUN).replace(b'"step":"a"', b'"step":"\xff"'),
    encode(RUN) + b"," + encode(RUN),
]


@pytest.mark.parametrize("body", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_record_is_reported(body: bytes) -> None:
    """A damaged record raises CorruptRecordError that shows where it begins and what to do."""
    with pytest.raises(CorruptRecordError, match=r"StepRun.*backup"):
        decode(body, StepRun)
    with pytest.raises(CorruptRecordError, match=r"StepRun.*backup"):
        decode_many([encode(RUN), body], StepRun)


def test_bodies_that_only_fit_together_are_damaged() -> None:
    """Two halves of one record are not taken for one whole record."""
    body = encode(RUN)
    cut = body.index(b",")
    with pytest.raises(CorruptRecordError, match="StepRun"):
        decode_many([body[:cut], body[cut + 1 :]], StepRun)
