"""The contract of a store, as far as objects go."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from daskperiment.store.protocol import Record, Store
from daskperiment.testing.record_tests import MakeStore, body, values

__all__ = ["ObjectTests", "contents", "fill"]


class ObjectTests:
    """What a store does with objects; the fixtures are those of StoreConformance."""

    @pytest.mark.parametrize("size", [0, 1, 1000, 999_999, 1_000_001, 5_000_000])
    def test_object(self, open_store: MakeStore, size: int) -> None:
        """An object comes back whole, whatever its size, by any store object."""
        data = os.urandom(size)
        open_store("a").put("0123456789abcdef" * 4, [data])
        assert bytes(open_store("a").get("0123456789abcdef" * 4)) == data

    @pytest.mark.parametrize("piece", [10, 100_000])
    def test_object_of_parts(self, store: Store, piece: int) -> None:
        """Parts of any buffer type are kept one after the other, empty ones too."""
        data = os.urandom(piece)
        numbers = memoryview(bytearray(8 * piece)).cast("d")
        parts: list[Any] = [data, b"", bytearray(data), memoryview(data)[1:], numbers]
        parts += [bytes([n % 256]) for n in range(100)]
        store.put("aa", parts)
        assert bytes(store.get("aa")) == b"".join(parts)

    def test_object_of_no_parts(self, store: Store) -> None:
        """No parts make an empty object."""
        store.put("aa", [])
        assert bytes(store.get("aa")) == b""

    @pytest.mark.parametrize("size", [10, 3_000_000])
    def test_object_is_left_alone(self, store: Store, size: int) -> None:
        """An object that is there already is not replaced."""
        store.put("aa", [b"a" * size])
        store.put("aa", [b"b" * size])
        assert bytes(store.get("aa")) == b"a" * size

    def test_objects_are_apart(self, store: Store) -> None:
        """Digests that are prefixes of each other name other objects."""
        digests = ["a", "ab", "abc", "abcd", "abcde", "a" * 64, "a" * 63]
        for digest in digests:
            store.put(digest, [digest.encode()])
        assert [bytes(store.get(digest)).decode() for digest in digests] == digests

    def test_large_objects_are_apart(self, store: Store) -> None:
        """The same holds for large objects."""
        digests = ["a", "ab", "abab", "ababc"]
        for n, digest in enumerate(digests):
            store.put(digest, [bytes([n]) * 1_500_000])
        assert [bytes(store.get(d))[:1] for d in digests] == [b"\0", b"\1", b"\2", b"\3"]

    def test_no_such_object(self, store: Store) -> None:
        """An object that was never kept is a KeyError, beside others as well."""
        store.put("ab", [b"x"])
        for digest in ("aa", "a", "abc", "f" * 64):
            with pytest.raises(KeyError):
                store.get(digest)

    def test_object_of_threads(self, store: Store) -> None:
        """Threads that put one object at once leave it whole."""
        data = os.urandom(2_000_000)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: store.put("aa", [data]), range(8)))
        assert bytes(store.get("aa")) == data

    def test_sizes(self, open_store: MakeStore) -> None:
        """The sizes of objects are those of what ``get`` gives."""
        digests = {"a": 0, "ab": 1, "abc": 1000, "abcd": 1_000_001, "a" * 64: 5_000_000}
        for digest, size in digests.items():
            open_store("a").put(digest, [bytes(size)])
        assert open_store("a").sizes([*digests, *digests]) == digests
        assert {digest: len(open_store("a").get(digest)) for digest in digests} == digests

    def test_sizes_missing(self, store: Store) -> None:
        """Objects that are not there have no size, in an empty store and beside others."""
        missing = ["ab", "a", "abc", "f" * 64]
        assert store.sizes(missing) == store.sizes([]) == store.sizes(frozenset()) == {}
        store.put("aa", [b"x"])
        store.put("ba", [bytes(2_000_000)])
        assert store.sizes(missing) == {}
        assert store.sizes({"aa", "ba", *missing}) == {"aa": 1, "ba": 2_000_000}

    def test_sizes_of_many(self, store: Store) -> None:
        """Sizes of thousands of objects can be asked for at once."""
        for n in range(30):
            store.put(f"{n:04x}", [bytes(n)])
        assert store.sizes([f"{n:04x}" for n in range(3000)]) == {f"{n:04x}": n for n in range(30)}

    @pytest.mark.parametrize("size", [0, 10, 3_000_000])
    def test_discard(self, open_store: MakeStore, size: int) -> None:
        """A discarded object is gone for everyone, and the others stay."""
        store, other = open_store("a"), open_store("a")
        for handle, digest in ((store, "aa"), (other, "ab"), (other, "a"), (store, "abc")):
            handle.put(digest, [digest.encode(), bytes(size)])
        store.discard({"aa", "ab"})
        for handle in (store, other, open_store("a")):
            assert handle.sizes(["aa", "ab"]) == {}
            assert [_object(handle, digest) for digest in ("aa", "ab")] == [None, None]
            assert bytes(handle.get("a")) == b"a" + bytes(size)
            assert bytes(handle.get("abc")) == b"abc" + bytes(size)

    def test_discard_keeps_records(self, store: Store) -> None:
        """Discarding objects leaves records and trial ids as they are."""
        fill(store, 1)
        before = contents(store)
        store.discard(["aa", "bb"])
        assert contents(store) == (*before[:3], None, None)

    def test_discard_missing(self, store: Store) -> None:
        """Discarding what is not there is no error, and neither is doing it twice."""
        store.discard(["aa"])
        store.put("bb", [b"x"])
        store.put("bc", [bytes(2_000_000)])
        for _ in range(2):
            store.discard(["aa", "bc", "bc", "f" * 64])
        store.discard([])
        assert store.sizes(["bb", "bc"]) == {"bb": 1}

    def test_discard_many(self, store: Store) -> None:
        """Thousands of objects can be discarded at once."""
        for n in range(30):
            store.put(f"{n:04x}", [bytes(n)])
        store.discard([f"{n:04x}" for n in range(1, 3000)])
        assert store.sizes([f"{n:04x}" for n in range(30)]) == {"0000": 0}

    @pytest.mark.parametrize("size", [10, 9_000_000])
    def test_put_after_discard(self, open_store: MakeStore, size: int) -> None:
        """What was discarded can be kept again, by whoever discarded it and by others."""
        stores = [open_store("a"), open_store("a")]
        for n in range(3):
            stores[n // 2].put("aa", [bytes([n]), b"x" * size])
            assert bytes(stores[n % 2].get("aa")) == bytes([n]) + b"x" * size
            stores[n % 2].discard(["aa"])
        assert stores[0].sizes(["aa"]) == {}

    @pytest.mark.parametrize("size", [10, 9_000_000])
    def test_buffer_after_discard(self, store: Store, size: int) -> None:
        """A buffer that ``get`` gave before stays whole, whatever takes the object's place."""
        store.put("aa", [b"a" * size])
        buffer = store.get("aa")
        store.discard(["aa"])
        store.put("aa", [b"b" * (size // 2)])
        assert bytes(buffer) == b"a" * size

    def test_discard_while_read(self, open_store: MakeStore) -> None:
        """Who gets an object while others discard and keep it has it whole, or not at all."""
        data = os.urandom(9_000_000)
        with ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(_keep_and_discard, open_store("a"), data) for _ in range(2)]
            reader = open_store("a")
            while not all(job.done() for job in writers):
                assert _object(reader, "aa") in (None, data)
            for job in writers:
                job.result()
        assert _object(reader, "aa") in (None, data)


def fill(store: Store, value: int) -> None:
    """Write a little of everything."""
    store.allocate("token1", body(value))
    store.append([Record("steps", 1, "x", body(value)), Record("outputs", 0, "o", body(value))])
    store.put("aa", [b"small", bytes([value])])
    store.put("bb", [b"large" * 500_000, bytes([value])])


def contents(store: Store) -> tuple[Any, ...]:
    """Return all that `fill` writes, as it stands in the store."""
    return (
        store.state().latest,
        values(store.read("trials")),
        values(store.read("steps")) + values(store.read("outputs")),
        _object(store, "aa"),
        _object(store, "bb"),
    )


def _object(store: Store, digest: str) -> bytes | None:
    try:
        return bytes(store.get(digest))
    except KeyError:
        return None


def _keep_and_discard(store: Store, data: bytes) -> None:
    for _ in range(3):
        store.put("aa", [data])
        store.discard(["aa"])
    store.put("aa", [data])
