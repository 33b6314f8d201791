"""Documents of trials in BSON: what is found without decoding is what decoding gives."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import bson
import pytest
from bson.errors import BSONError
from bson.int64 import Int64

from daskperiment.store.mongo.documents import POSITIONS
from daskperiment.store.mongo.raw_documents import DocumentForm
from daskperiment.store.protocol import Stored

FORM = DocumentForm("a", "trials", 1 << 60)
BODY = '{"lr":0.1,"of":"ä"}'


def element(number: Any = 1, id: Any = "begun", body: Any = BODY, **more: Any) -> dict[str, Any]:
    return {"n": number, "stream": "trials", "id": id, "body": body, **more}


def document(*records: Any, trial: Any = 1, said: Any = None, **key: Any) -> dict[str, Any]:
    identity = {"experiment": "a", "trial": trial, **key}
    return {"_id": identity, "trial": trial if said is None else said, "records": list(records)}


END = element(2, "ended-lost")
USUAL = {
    "two": document(element(), END),
    "one": document(element()),
    "none": document(),
    "of one write": document(element(), element(1, "computed-a"), element(1, "computed-b"), END),
    "empty texts": document(element(id="", body=""), END),
    "highest numbers": document(element(2**31 - 1), trial=2**31 - 1),
    "beyond text": document(element(id="ünded", body="\u4e2d")),
    "null in a text": document(element(body="a\0b"), END),
    "ten": document(*(element(n, f"r{n}") for n in range(10))),
}
ODD = {
    "part": document(element(), part=7),
    "another trial": document(element(), said=2),
    "long numbers": document(element(Int64(2**40)), trial=Int64(2**40)),
    "another experiment": {**document(element()), "_id": {"experiment": "b", "trial": 1}},
    "another stream": document(element() | {"stream": "steps"}),
    "object": document({"n": 1, "stream": "trials", "id": "begun", "object": "00", "size": 3}),
    "bytes": document(element(body=b"\xff")),
    "marked": document(element(aside="begun")),
    "eleven": document(*(element(n, f"r{n}") for n in range(11))),
    "no list": {**document(), "records": {"0": element()}},
    "no records": {"_id": {"experiment": "a", "trial": 1}, "trial": 1},
    "more fields": {**document(element()), "more": 1},
    "foreign": {"_id": 5},
}


def decoded(data: bytes) -> list[Stored]:
    """Return what decoding gives of documents of the form."""
    found = []
    for one in bson.decode_all(data):
        number, place = None, 0
        for each in one["records"]:
            place = place + 1 if each["n"] == number else 0
            number = each["n"]
            position = each["n"] * POSITIONS + place
            found.append(Stored(position, one["trial"], each["id"], each["body"].encode()))
    return found


@pytest.mark.parametrize("name", USUAL)
def test_usual(name: str) -> None:
    """Of a document of the form nothing is decoded, also between others and cut off at a place."""
    data = bson.encode(USUAL[name])
    assert sorted(FORM.records(data, refused)) == sorted(decoded(data))
    many = bson.encode(USUAL["two"]) + data + bson.encode(USUAL["none"]) + data
    assert sorted(FORM.records(many, refused)) == sorted(decoded(many))
    cut = DocumentForm("a", "trials", POSITIONS * 2).records(many, refused)
    assert sorted(cut) == [one for one in sorted(decoded(many)) if one.position < 2 * POSITIONS]


def refused(data: bytes) -> list[Stored]:
    raise AssertionError(f"decoded: {bson.decode(data)}")


@pytest.mark.parametrize("name", ODD)
def test_odd(name: str) -> None:
    """A document of another form is given to who decodes it, whole and alone."""
    data, beside = bson.encode(ODD[name]), bson.encode(USUAL["two"])
    given: list[bytes] = []
    found = FORM.records(beside + data + beside, lambda one: given.append(one) or [])  # type: ignore[func-returns-value]
    assert given == [data]
    assert found == FORM.records(beside + beside, refused)


def changed(whole: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Yield documents of which bytes are others, and at which places."""
    for place in range(4, len(whole)):
        for byte in {0, 1, 255, whole[place] ^ 1, whole[place] ^ 64} - {whole[place]}:
            yield whole[:place] + bytes([byte]) + whole[place + 1 :], [place]
    sizes = [
        at for at in range(4, len(whole) - 4) if whole[at] > 1 and not any(whole[at + 1 : at + 4])
    ]
    for first, second in combinations(sizes, 2):
        for by in (-2, 1):  # sizes that belong together, such as those of a text and what it is in
            data = bytearray(whole)
            data[first] += by
            data[second] += by
            yield bytes(data), [first, second]


def test_changed_bytes() -> None:
    """Whatever bytes change, what is found is what decoding gives, or it is left to that."""
    whole = bson.encode(USUAL["of one write"])
    texts = {
        at for text in ("begun", "computed-a", "computed-b", "ended-lost", BODY)
        for found in re.finditer(re.escape(text.encode()), whole) for at in range(*found.span())
    }  # fmt: skip
    looked = 0
    for data, places in changed(whole):
        given: list[bytes] = []
        found = FORM.records(data, lambda one, to=given: to.append(one) or [])  # type: ignore[misc]
        if given:
            assert b"".join(given) == data
            continue
        try:
            assert sorted(found) == sorted(decoded(data))
            looked += 1
        except BSONError:  # of a text: whose record that is sees it
            assert len(found) == 4
            assert texts.issuperset(places), places
    assert looked > 50


@pytest.mark.parametrize("size", [-1, 0, 4, 2**31 - 1])
def test_sizes_that_are_none(size: int) -> None:
    """A document that says a size that it has not is left to decoding, and its reading ends."""
    data = struct.pack("<i", size) + bson.encode(USUAL["two"])[4:]
    given: list[bytes] = []
    assert FORM.records(data, lambda one: given.append(one) or []) == []  # type: ignore[func-returns-value]
    assert b"".join(given) == data
    assert FORM.records(data[:5], lambda one: given.append(one) or []) == []  # type: ignore[func-returns-value]
    assert given[-1] == data[:5]


@pytest.mark.parametrize("name", [b"id", b"body"])
def test_text_without_its_end(name: bytes) -> None:
    """A text of no bytes at all, of which even the null at its end is missing, is none."""
    whole = bson.encode(document(element(id="", body="")))
    field = b"\x02" + name + b"\0"
    assert whole.count(field + b"\1\0\0\0\0") == 1
    data = bytearray(whole.replace(field + b"\1\0\0\0\0", field + b"\0\0\0\0"))
    for around in (b"", b"\x04records\0", b"\x030\0"):  # the sizes of all that it stands in
        at = data.index(around) + len(around)
        data[at] -= 1
    given: list[bytes] = []
    assert FORM.records(bytes(data), lambda one: given.append(one) or []) == []  # type: ignore[func-returns-value]
    assert given == [data]
