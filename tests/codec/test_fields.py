"""Any value into a record's field, and back."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskperiment.codec import (
    LongValues,
    describe,
    from_plain,
    is_long,
    is_object,
    object_ref,
    pack,
    spelled_out,
    to_plain,
    unpack,
)
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    UntrustedObjectError,
)


class Store(dict[str, bytes]):
    """Objects by digest, as a store keeps them."""

    def get_object(self, digest: str) -> bytes:
        return self[digest]

    def keep(self, value: Any, **options: Any) -> Any:
        data, blob = pack(value, **options)
        if blob is not None:
            self[blob.digest] = b"".join(bytes(part) for part in blob.parts)
        return msgspec.json.decode(msgspec.json.encode(data))


class Rude(type):
    """A class whose very name raises."""

    def __repr__(cls) -> str:
        raise RuntimeError("no name")


class RudeValue(metaclass=Rude):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    __hash__ = None  # type: ignore[assignment]


class BadPickle:
    def __reduce__(self) -> Any:
        raise RuntimeError("no\npickle \ud800")


class LongRepr:
    def __repr__(self) -> str:
        return "line\n\x1b[31m" * 1_000_000


class WrongRepr:
    def __repr__(self) -> str:
        return 5  # type: ignore[return-value]


class NoMemory:
    def __reduce__(self) -> Any:
        raise MemoryError


class UnhashableType(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no comparison")


class Odd(metaclass=UnhashableType):
    pass


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def generator() -> Iterator[int]:
    yield 1


def test_plain_values_stay_in_the_record() -> None:
    """Plain values become their form, without an object."""
    for value in (None, 1, 0.5, "a", [1, (2,)], {"a": {1}}):
        data, blob = pack(value)
        assert blob is None
        assert not is_object(data)
        assert unpack(data, {}.__getitem__) == value


@pytest.mark.parametrize(
    "value", ["x" * 200, list(range(100)), {"a": [1.5] * 50}, b"x" * 100], ids=type
)
def test_plain_values_above_the_limit_become_objects(value: Any) -> None:
    """A plain value becomes an object where its JSON is longer than the limit, and comes back."""
    length = len(msgspec.json.encode(pack(value, most=None)[0]))
    assert pack(value, most=length)[1] is None
    store = Store()
    data = store.keep(value, most=length - 1)
    assert is_object(data)
    assert not is_long(data)
    assert unpack(data, store.get_object) == value


LONG_VALUES = {
    "str": "x" * 10_001, "umlauts": "ä" * 9_000, "surrogates": "\ud800" * 9_000,
    "list": list(range(4_000)), "dict": {"a": [1.5] * 5_000, "lr": 0.5}, "bytes": b"x" * 9_000,
    "tuple": tuple(range(4_000)), "nested": {"a": {(1, 2): {"x" * 9_999}}},
    "set": set(range(4_000)), "int": 7**20_000, "text with a mark": {"$": "x" * 10_000},
}  # fmt: skip


@pytest.mark.parametrize("key", [None, b"key"], ids=["unsigned", "signed"])
@pytest.mark.parametrize("value", LONG_VALUES.values(), ids=LONG_VALUES)
@pytest.mark.parametrize("most", [None, 1_000_000], ids=["parameter", "result"])
def test_long_values_are_kept_by_their_content(
    value: Any, most: int | None, key: bytes | None
) -> None:
    """Their record is short, equal ones share an object, and they come back from it."""
    store = Store()
    data = store.keep(value, most=most, signing_key=key)
    assert is_long(data)
    assert len(msgspec.json.encode(data)) < 1_000
    assert pack(copy.deepcopy(value), key, most)[0] == data
    assert unpack(data, store.get_object, key) == value
    assert spelled_out(data, store.get_object, key) == to_plain(value)
    assert from_plain(spelled_out(data, store.get_object, key)) == value


def test_no_long_value_is_believed_that_others_wrote() -> None:
    """With a signing key one that is unsigned, or signed for something else, is not spelled out."""
    store, text = Store(), "x" * 20_000
    unsigned, other = store.keep(text), store.keep("y" * 20_000, signing_key=b"key")
    for data in (unsigned, {**unsigned, "seal": other["seal"]}):
        assert spelled_out(data, store.get_object, b"key") == data
        with pytest.raises(UntrustedObjectError):
            unpack(data, store.get_object, b"key")


@pytest.mark.parametrize("body", [b"", b"[", b"nonsense", b"\xff" * 20])
def test_damaged_long_values_are_objects_that_cannot_be_loaded(body: bytes) -> None:
    """What is damaged or gone stays a reference, and says so where it is loaded."""
    store = Store()
    data = store.keep("x" * 20_000)
    for blob, error in ((body, CorruptRecordError), (None, PersistedResultNotFoundError)):
        store.pop(data["digest"], None)
        if blob is not None:
            store[data["digest"]] = blob
        assert spelled_out(data, store.get_object) == data
        with pytest.raises(error):
            unpack(data, store.get_object)


def test_each_content_is_read_once() -> None:
    """Of ten records with one long value, and one without its object, two objects are asked for."""
    store, asked = Store(), []

    def get(digest: str) -> Any:
        asked.append(digest)
        return store.get_object(digest)

    data, lost = store.keep("x" * 20_000), pack("y" * 20_000)[0]
    values = LongValues(get)
    found = [values.spelled_out(each) for each in [data, 1, "a"] * 10]
    assert found == ["x" * 20_000, 1, "a"] * 10
    assert values.spelled_out(lost) == lost
    assert asked == [data["digest"], lost["digest"]]


def test_a_short_value_stays_in_the_record_whatever_its_kind() -> None:
    """Up to 10,000 bytes of JSON are in the record."""
    for value in ("x" * 9_000, list(range(2_000)), {"a": 1}, b"x" * 7_000):
        assert pack(value, most=None)[1] is None


def test_objects_come_back() -> None:
    """What is not plain is kept as an object, described in the record."""
    store = Store()
    data = store.keep(OrderedDict(a=1))
    reference = object_ref(data)
    assert reference.type == "<class 'collections.OrderedDict'>"
    assert "'a'" in reference.repr
    assert reference.digest is not None
    assert reference.size == len(store[reference.digest])
    assert reference.reason is None
    back = unpack(data, store.get_object)
    assert type(back) is OrderedDict
    assert back == OrderedDict(a=1)


def test_arrays_come_back() -> None:
    """An array is kept as an object and comes back equal."""
    store = Store()
    np.testing.assert_array_equal(
        unpack(store.keep(np.arange(1000)), store.get_object), np.arange(1000)
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (threading.Lock, "lock"),
        (generator, "generator"),
        (lambda: [1, threading.Lock()], "lock"),
        (RudeValue, "RuntimeError: no class"),
        (BadPickle, "RuntimeError: no pickle \\ud800"),
        (NoMemory, "MemoryError"),
        (deep, "recursion"),
    ],
)
def test_unpicklable_values_are_described_with_the_reason(make: Any, reason: str) -> None:
    """A value that cannot be kept costs nothing but itself; its record says why."""
    data, blob = pack(make())
    assert blob is None
    reference = object_ref(msgspec.json.decode(msgspec.json.encode(data)))
    assert reference.digest is None
    assert reference.reason is not None
    assert reason in reference.reason
    with pytest.raises(PersistedResultNotFoundError, match="was not kept"):
        unpack(data, {}.__getitem__)


def test_strange_types_are_kept() -> None:
    """A type that can be neither hashed nor compared does not upset packing."""
    data, _ = pack(Odd())
    assert is_object(data)


def test_cycles_are_kept() -> None:
    """A list that holds itself becomes an object and comes back as it was."""
    cycle: list[Any] = []
    cycle.append(cycle)
    store = Store()
    back = unpack(store.keep(cycle), store.get_object)
    assert back[0] is back


def test_keys_are_passed_on() -> None:
    """Objects are signed and checked with the key that is given."""
    store = Store()
    signed, unsigned = store.keep(slice(1), signing_key=b"key"), store.keep(slice(1))
    assert unpack(signed, store.get_object, b"key") == slice(1)
    with pytest.raises(UntrustedObjectError):
        unpack(unsigned, store.get_object, b"key")


def test_pruned_object_is_reported() -> None:
    """If the object is gone, the message says so and what to do."""
    data, _ = pack(slice(1))
    with pytest.raises(
        PersistedResultNotFoundError, match=r"not in the store.*run the trial again"
    ):
        unpack(data, {}.__getitem__)


def test_damaged_form_is_reported() -> None:
    """A damaged form or reference raises CorruptRecordError."""
    for data in ({"$": "object"}, {"$": "what"}):
        with pytest.raises(CorruptRecordError):
            unpack(data, {}.__getitem__)


MAKERS: dict[str, Callable[[], Any]] = {
    "int": lambda: 1,
    "long int": lambda: 10**5000,
    "control characters": lambda: "a\nb\x1b[31m\ud800",
    "long text": lambda: "x" * 10_000,
    "long list": lambda: list(range(10**6)),
    "long dict": lambda: {i: i for i in range(10**5)},
    "array": lambda: np.zeros((1000, 1000)),
    "rude": RudeValue,
    "odd": Odd,
    "long repr": LongRepr,
    "wrong repr": WrongRepr,
    "deep": deep,
    "rude class": lambda: RudeValue,
}


@pytest.mark.parametrize("name", MAKERS)
def test_descriptions_are_short_and_printable(name: str) -> None:
    """Type and repr are one printable line of limited length for any value whatever."""
    type_, text = describe(MAKERS[name]())
    assert type_.startswith("<class ")
    assert 0 < len(text) <= 200
    assert (type_ + text).isprintable()
    assert msgspec.json.encode([type_, text])


def test_descriptions_are_what_people_expect() -> None:
    """A short value is shown as its repr shows it."""
    assert describe([1, "a"]) == ("<class 'list'>", "[1, 'a']")
    assert describe(OrderedDict(a=1))[0] == "<class 'collections.OrderedDict'>"
    assert describe(slice(1, 2)) == ("<class 'slice'>", "slice(1, 2, None)")


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=500))
def test_any_text_can_be_described(text: str) -> None:
    """Text of any characters gives a description that JSON can hold."""
    assert msgspec.json.encode(describe(text))
    assert len(describe(text)[1]) <= 200


@pytest.mark.parametrize("sealed_first", [True, False])
def test_a_long_value_is_known_by_its_seal_too(sealed_first: bool) -> None:
    """Who has a key is shown a long value where a seal vouches for it, and only there."""
    form, blob = pack("a" * 20_000, b"key")
    assert blob is not None
    values = LongValues({blob.digest: b"".join(blob.parts)}.__getitem__, b"key")
    bare = {**form, "seal": None}
    told = {True: "a" * 20_000, False: bare}
    for sealed in (sealed_first, not sealed_first, sealed_first):
        assert values.spelled_out(form if sealed else bare) == told[sealed]
