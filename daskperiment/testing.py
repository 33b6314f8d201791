"""A conformance suite: shows that a store keeps the contract of :mod:`daskperiment.store.protocol`.

Subclass it in a test module, say how to make a store, and run pytest::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda name: MyStore(tmp_path / name)

Needs pytest.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from daskperiment.store.protocol import Record, Store, Stored

__all__ = ["StoreConformance"]

MakeStore = Callable[[str], Store]

_STREAMS = ("trials", "steps", "points", "outputs", "notes", "beats")


def body(value: Any) -> bytes:
    """Encode a record's body."""
    return json.dumps({"v": value}, ensure_ascii=False).encode()


def values(stored: Iterable[Stored]) -> list[Any]:
    """Decode the bodies of records."""
    return [json.loads(bytes(record.body))["v"] for record in stored]


class StoreConformance:
    """Every sentence of the contract as a test.

    A subclass gives the fixture ``make_store``: a callable that takes a name (lower-case letters,
    digits, underscores) and returns a new store object. Equal names are the same experiment, other
    names are other experiments in the same place (folder, server, database). Each test starts
    with an empty place; closing servers is the fixture's part, closing stores is the suite's.
    """

    password: str | None = None
    """The password that the stores connect with, if any: it must not show in their address."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Return the callable that makes a store; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture make_store")

    @pytest.fixture
    def open_store(self, make_store: MakeStore) -> Iterator[MakeStore]:
        """Make stores that are closed after the test."""
        made: list[Store] = []

        def make(name: str) -> Store:
            made.append(make_store(name))
            return made[-1]

        yield make
        for store in made:
            store.close()

    @pytest.fixture
    def store(self, open_store: MakeStore) -> Store:
        """Return a store on an empty experiment."""
        return open_store("a")

    # Trial ids -------------------------------------------------------------------------------

    def test_is_a_store(self, store: Store) -> None:
        """The object has the methods of the protocol."""
        assert isinstance(store, Store)

    def test_empty(self, store: Store) -> None:
        """A fresh store has no trial, no record and no object, and says so without an error."""
        assert store.state().latest == 0
        assert [list(store.read(stream)) for stream in _STREAMS] == [[]] * len(_STREAMS)
        with pytest.raises(KeyError):
            store.get("00")

    def test_ids_count_from_one(self, store: Store) -> None:
        """Trial ids are 1, 2, 3, each marked as new."""
        found = [store.allocate(f"token{n}", body(n)) for n in range(3)]
        assert [(a.trial, a.new) for a in found] == [(1, True), (2, True), (3, True)]

    def test_begun(self, store: Store) -> None:
        """Allocating writes the trial's first record, with the id ``begun``."""
        store.allocate("token", body("x"))
        (record,) = store.read("trials")
        assert (record.trial, record.id, values([record])) == (1, "begun", ["x"])

    def test_token_keeps_its_id(self, open_store: MakeStore) -> None:
        """A token that comes again, by any store object, keeps its id and nothing is written."""
        first, second = open_store("a"), open_store("a")
        first.allocate("one", body(1))
        first.allocate("two", body(2))
        again = second.allocate("one", body("other"))
        assert (again.trial, again.new) == (1, False)
        assert values(second.read("trials")) == [1, 2]
        assert second.allocate("three", body(3)).trial == 3

    def test_long_token(self, store: Store) -> None:
        """A token may have 100 characters, and those alike but for the last are others."""
        assert store.allocate("t" * 99 + "a", body(0)).trial == 1
        assert store.allocate("t" * 99 + "b", body(0)).trial == 2
        assert store.allocate("t" * 99 + "a", body(0)).trial == 1

    def test_ids_ignore_appended_records(self, store: Store) -> None:
        """A record that names a trial does not use up its id."""
        store.append([Record("steps", 7, "s", body(0)), Record("trials", 9, "x", body(0))])
        assert store.state().latest == 0
        assert store.allocate("token", body(1)).trial == 1

    def test_state(self, open_store: MakeStore) -> None:
        """The state tells the highest id given out, also by another store object."""
        first, second = open_store("a"), open_store("a")
        assert second.state().latest == 0
        first.allocate("one", body(1))
        first.allocate("two", body(2))
        first.allocate("one", body(1))
        assert second.state().latest == first.state().latest == 2

    def test_clock(self, store: Store) -> None:
        """The clock goes forward, and allocating tells the same clock as asking."""
        allocation = store.allocate("token", body(0))
        state = store.state()
        # Not the clock of this machine, perhaps; an hour covers any slow test machine.
        assert 0 <= state.clock - allocation.clock < 3600
        assert store.state().clock >= state.clock
        assert state.clock > 1.6e9

    def test_ids_of_threads(self, open_store: MakeStore) -> None:
        """Eight threads on two store objects get ids without gap or repetition."""
        stores = [open_store("a"), open_store("a")]
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(_allocate_many, stores[n % 2], f"t{n}", 25) for n in range(8)]
            found = [trial for job in jobs for trial in job.result()]
        assert sorted(found) == list(range(1, 201))
        assert sorted(r.trial for r in stores[0].read("trials")) == list(range(1, 201))

    def test_one_token_of_threads(self, store: Store) -> None:
        """Threads that allocate one token at the same moment get one id, new for one of them."""
        barrier = threading.Barrier(8)

        def allocate() -> tuple[int, bool]:
            barrier.wait(60)
            found = store.allocate("token", body(0))
            return found.trial, found.new

        with ThreadPoolExecutor(8) as pool:
            found = [job.result() for job in [pool.submit(allocate) for _ in range(8)]]
        assert sorted(found) == [(1, False)] * 7 + [(1, True)]
        assert len(list(store.read("trials"))) == 1

    def test_processes(self, store: Store) -> None:
        """Four processes, each with a pickled store, create it at once: nothing is lost."""
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager, ProcessPoolExecutor(4, mp_context=context) as pool:
            barrier = manager.Barrier(4)
            jobs = [pool.submit(_work_in_process, store, f"p{n}", barrier) for n in range(4)]
            found = [trial for job in jobs for trial in job.result()]
        assert sorted(found) == list(range(1, 101))
        begun = {record.trial: value for record, value in _pairs(store.read("trials"))}
        steps = {record.trial: value for record, value in _pairs(store.read("steps"))}
        assert begun == steps
        assert sorted(begun) == list(range(1, 101))

    # Records ---------------------------------------------------------------------------------

    def test_round_trip(self, store: Store) -> None:
        """Records of every stream come back with trial, id and an equal body."""
        for stream in _STREAMS:
            store.append([Record(stream, 3, "x", body(stream)), Record(stream, 0, "y", body(1))])
        for stream in _STREAMS:
            found = list(store.read(stream))
            assert [(r.trial, r.id) for r in found] == [(3, "x"), (0, "y")]
            assert values(found) == [stream, 1]

    @pytest.mark.parametrize(
        "value",
        [
            "é ß 数 🎈 \u0000 \u2028 \ufffd 'quote' \"double\" back\\slash",
            {"a.b": 1, "$set": {"$": [], "": None}, "_id": 5, "é": "數"},
            [1, -1, 2**70, -(10**400), 0.1, 1e308, 5e-324, True, False, None, "", [], {}],
            [[[[[[[[[[{"deep": [{}]}]]]]]]]]]],
            "x" * 2_000_000,
        ],
        ids=["text", "keys", "numbers", "nested", "large"],
    )
    def test_bodies(self, store: Store, value: Any) -> None:
        """Any JSON comes back equal, in each stream."""
        for stream in _STREAMS:
            store.append([Record(stream, 1, "x", body(value))])
            assert values(store.read(stream)) == [value]

    def test_begun_with_any_body(self, store: Store) -> None:
        """The first record's body, too, may be any JSON."""
        value = {"a.b": "\u0000", "$set": 2**70, "": [None]}
        store.allocate("token", body(value))
        assert values(store.read("trials")) == [value]

    def test_ids_are_text(self, store: Store) -> None:
        """Ids of 200 characters, and ids of any characters, are kept apart."""
        ids = ["i" * 199 + "a", "i" * 199 + "b", "é" * 200, "a/b:c d#2", "A", "a", "0", "00", "a*"]
        store.append([Record("steps", 1, name, body(name)) for name in ids])
        found = list(store.read("steps"))
        assert [r.id for r in found] == values(found) == ids

    def test_repeated(self, open_store: MakeStore) -> None:
        """A record whose identity is there is passed over: the first body stands."""
        first, second = open_store("a"), open_store("a")
        first.append([Record("steps", 1, "x", body("first"))])
        assert list(second.append([Record("steps", 1, "x", body("second"))])) == []
        batch = [Record("steps", 1, "x", body(0)), Record("steps", 1, "y", body("new"))]
        assert list(second.append(batch)) == []
        assert values(first.read("steps")) == ["first", "new"]

    def test_repeated_in_one_call(self, store: Store) -> None:
        """An identity that comes twice in one call is written once."""
        store.append([Record("steps", 1, "x", body(1)), Record("steps", 1, "x", body(2))])
        assert values(store.read("steps")) == [1]

    def test_identity(self, store: Store) -> None:
        """Stream, trial and id together make the identity."""
        records = [
            Record("steps", 1, "x", body(1)),
            Record("steps", 2, "x", body(2)),
            Record("steps", 1, "y", body(3)),
            Record("notes", 1, "x", body(4)),
            Record("steps", 11, "x", body(5)),
            Record("steps", 0, "x", body(6)),
        ]
        store.append(records)
        assert values(store.read("steps")) == [1, 2, 3, 5, 6]
        assert values(store.read("notes")) == [4]

    def test_begun_is_a_record(self, store: Store) -> None:
        """A record with the identity of the trial's first is passed over."""
        store.allocate("token", body("first"))
        store.append([Record("trials", 1, "begun", body("second"))])
        assert values(store.read("trials")) == ["first"]

    def test_outputs(self, store: Store) -> None:
        """Of the stream ``outputs``, append returns what stood there before, and that alone."""
        first = Record("outputs", 0, "x", body("first"))
        assert list(store.append([first, Record("steps", 1, "x", body(1))])) == []
        batch = [
            Record("steps", 1, "x", body(2)),
            Record("outputs", 0, "new", body("new")),
            Record("outputs", 0, "x", body("second")),
        ]
        (standing,) = store.append(batch)
        assert standing[:3] == ("outputs", 0, "x")
        assert json.loads(bytes(standing.body)) == {"v": "first"}
        assert values(store.read("outputs")) == ["first", "new"]

    def test_outputs_of_threads(self, store: Store) -> None:
        """Of threads that write one output at once, one writes it and the others learn it."""
        barrier = threading.Barrier(8)

        def write(n: int) -> list[Record]:
            barrier.wait(60)
            return list(store.append([Record("outputs", 0, "x", body(n))]))

        with ThreadPoolExecutor(8) as pool:
            found = [job.result() for job in [pool.submit(write, n) for n in range(8)]]
        (winner,) = values(store.read("outputs"))
        assert found[winner] == []
        others = [json.loads(bytes(r.body))["v"] for records in found for r in records]
        assert others == [winner] * 7

    def test_many_at_once(self, store: Store) -> None:
        """A thousand records of several streams in one call keep their order."""
        streams = ("steps", "points", "steps", "notes")
        store.append([Record(streams[n % 4], n % 7, f"r{n}", body(n)) for n in range(1000)])
        assert values(store.read("steps")) == [n for n in range(1000) if n % 2 == 0]
        assert values(store.read("points")) == list(range(1, 1000, 4))

    def test_nothing(self, store: Store) -> None:
        """Appending nothing is allowed and changes nothing."""
        assert list(store.append([])) == []
        assert list(store.read("steps")) == []

    def test_unknown_stream(self, store: Store) -> None:
        """A stream that nobody wrote is an empty one."""
        store.allocate("token", body(1))
        assert list(store.read("nothing_such")) == []
        assert list(store.read("nothing_such", trials=[1], after=3)) == []

    def test_survives_the_process(self, store: Store) -> None:
        """What append, allocate and put wrote survives SIGKILL of the process that wrote it."""
        process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(store,))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert values(store.read("trials")) == ["begun"]
        assert values(store.read("steps")) == list(range(20))
        assert bytes(store.get("ab")) == b"object"

    # Reading ---------------------------------------------------------------------------------

    def test_positions(self, open_store: MakeStore) -> None:
        """Positions are positive and grow in the order of writing, whoever writes."""
        stores = [open_store("a"), open_store("a")]
        for n in range(20):
            stores[n % 2].append([Record("steps", 20 - n, f"x{n}", body(n))])
        found = list(stores[0].read("steps"))
        positions = [r.position for r in found]
        assert values(found) == list(range(20))
        assert positions == sorted(set(positions))
        assert positions[0] > 0

    def test_after(self, store: Store) -> None:
        """``after`` gives the records at higher positions, down to none."""
        store.append([Record("steps", n, "x", body(n)) for n in range(10)])
        found = list(store.read("steps"))
        for n, record in enumerate(found):
            assert list(store.read("steps", after=record.position)) == found[n + 1 :]
        assert list(store.read("steps", after=found[-1].position + 10**6)) == []

    def test_trials(self, store: Store) -> None:
        """``trials`` gives the records of these trials alone, in order of position."""
        store.append([Record("steps", n % 12, f"x{n}", body(n)) for n in range(60)])
        assert values(store.read("steps", trials=[1])) == [1, 13, 25, 37, 49]
        wanted = {11, 1, 0, 99}
        expected = [n for n in range(60) if n % 12 in wanted]
        assert values(store.read("steps", trials=wanted)) == expected
        assert list(store.read("steps", trials=[])) == []
        assert list(store.read("steps", trials=[99])) == []

    def test_many_trials(self, store: Store) -> None:
        """``trials`` may name thousands of trials."""
        store.append([Record("steps", n, "x", body(n)) for n in range(300)])
        assert values(store.read("steps", trials=range(100, 5000))) == list(range(100, 300))

    def test_trials_and_after(self, store: Store) -> None:
        """``trials`` and ``after`` together give what both allow."""
        store.append([Record("steps", n % 3, f"x{n}", body(n)) for n in range(12)])
        middle = list(store.read("steps"))[5].position
        assert values(store.read("steps", trials=(0, 2), after=middle)) == [6, 8, 9, 11]

    def test_tail(self, open_store: MakeStore) -> None:
        """Who reads on from the last position, while others write, misses nothing."""
        reader = open_store("a")
        seen: list[Stored] = []
        deadline = time.monotonic() + 120
        with ThreadPoolExecutor(4) as pool:
            stores = [open_store("a"), open_store("a")]
            jobs = [pool.submit(_append_many, stores[n % 2], n, 40) for n in range(4)]
            while len(seen) < 160 and time.monotonic() < deadline:
                finished = all(job.done() for job in jobs)
                new = list(reader.read("steps", after=seen[-1].position if seen else 0))
                seen += new
                if finished and not new:
                    break
            for job in jobs:
                job.result()
        assert seen == list(reader.read("steps"))
        assert len(seen) == 160

    # Finding ---------------------------------------------------------------------------------

    def test_find(self, open_store: MakeStore) -> None:
        """``find`` gives the outputs that have these ids, by whom and when they were written."""
        writer, reader = open_store("a"), open_store("a")
        for n in range(7):
            writer.append([Record("outputs", 0, f"o{n}-{i}", body([n, i])) for i in range(3)])
            reader.append([Record("outputs", 0, f"o{n}-x", body(n))])
        wanted = ["o6-x", "o0-0", "o3-2"]
        for handle in (writer, reader):
            found = sorted(handle.find(wanted), key=lambda record: wanted.index(record.id))
            assert [tuple(record)[:3] for record in found] == [("outputs", 0, id) for id in wanted]
            assert [json.loads(bytes(r.body))["v"] for r in found] == [6, [0, 0], [3, 2]]

    def test_find_first(self, store: Store) -> None:
        """``find`` gives the body that was written first, at once."""
        for n in range(3):
            store.append([Record("outputs", 0, "o", body(n))])
            assert [json.loads(bytes(r.body))["v"] for r in store.find(["o"])] == [0]

    def test_find_missing(self, store: Store) -> None:
        """``find`` leaves out what is not there, whatever the collection; other trials' too."""
        assert list(store.find(["o"])) == []
        store.append([Record("outputs", 0, "o", body(1)), Record("outputs", 0, "oo", body(2))])
        store.append([Record("outputs", 1, "trial", body(3)), Record("notes", 0, "note", body(4))])
        for kind in (tuple, list, set, frozenset, dict.fromkeys):
            assert list(store.find(kind([]))) == []
            assert list(store.find(kind(["trial", "note", "O", "0:o", "", "o%", "*"]))) == []
            assert [record.id for record in store.find(kind(["trial", "o"]))] == ["o"]

    def test_find_repeated(self, store: Store) -> None:
        """An id that stands in the collection twice is found once."""
        store.append([Record("outputs", 0, "o", body(1)), Record("outputs", 0, "p", body(2))])
        assert sorted(record.id for record in store.find(["o", "p"] * 700)) == ["o", "p"]

    def test_find_many(self, store: Store) -> None:
        """``find`` takes thousands of ids and gives as many records, small and large."""
        sizes = {n: 40_000 if n % 20 == 0 else n % 50 for n in range(1200)}
        store.append([Record("outputs", 0, f"o{n}", body("x" * sizes[n])) for n in sizes])
        found = store.find([f"o{n}" for n in range(1, 4000)])
        assert len(found) == 1199
        assert {r.id: len(r.body) for r in found} == {
            f"o{n}": len(body("x" * sizes[n])) for n in range(1, 1200)
        }

    def test_find_large(self, store: Store) -> None:
        """``find`` gives records of megabytes, too."""
        store.append([Record("outputs", 0, f"o{n}", body("x" * 3_000_000)) for n in range(4)])
        assert sorted(len(record.body) for record in store.find(["o0", "o1", "o2", "o3"])) == (
            [len(body("x" * 3_000_000))] * 4
        )

    def test_find_any_id(self, store: Store) -> None:
        """``find`` takes each id that ``append`` takes, as it is."""
        ids = ["$a.b", "é ü", "a" * 200, "q\"'\\", "%_*?[a]", "1"]
        for id in ids:
            store.append([Record("outputs", 0, id, body(1)), Record("outputs", 0, id[1:], body(2))])
        for id in ids:
            assert [tuple(r)[:3] for r in store.find([id])] == [("outputs", 0, id)]

    # Objects ---------------------------------------------------------------------------------

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
        for digest in digests:
            assert bytes(store.get(digest)) == digest.encode()

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
            for job in [pool.submit(store.put, "aa", [data]) for _ in range(8)]:
                job.result()
        assert bytes(store.get("aa")) == data

    def test_sizes(self, open_store: MakeStore) -> None:
        """The sizes of objects are those of what ``get`` gives."""
        digests = {"a": 0, "ab": 1, "abc": 1000, "abcd": 1_000_001, "a" * 64: 5_000_000}
        for digest, size in digests.items():
            open_store("a").put(digest, [bytes(size)])
        sizes = open_store("a").sizes([*digests, *digests])
        assert sizes == digests
        assert sizes == {digest: len(open_store("a").get(digest)) for digest in digests}

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
        _fill(store, 1)
        before = _contents(store)
        store.discard(["aa", "bb"])
        assert _contents(store) == (*before[:3], None, None)

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

    # Life of a store -------------------------------------------------------------------------

    def test_delete(self, open_store: MakeStore) -> None:
        """Deleting empties the experiment; it can be used again and counts from one."""
        store, other = open_store("a"), open_store("a")
        for handle in (store, other):
            _fill(handle, 1)
        store.delete()
        for handle in (store, other, open_store("a")):
            assert _contents(handle) == (0, [], [], None, None)
        assert other.allocate("token1", body(2)).trial == 1
        assert values(store.read("trials")) == [2]

    def test_delete_twice(self, store: Store) -> None:
        """Deleting what is empty is no error."""
        store.delete()
        _fill(store, 1)
        store.delete()
        store.delete()
        assert store.state().latest == 0

    def test_isolation(self, open_store: MakeStore) -> None:
        """Experiments whose names are prefixes of each other share nothing, deleting included."""
        stores = [open_store(name) for name in ("a", "ab", "a_b", "b", "a1")]
        for n, store in enumerate(stores):
            _fill(store, n)
        expected = [_contents(store) for store in stores]
        assert [found[1] for found in expected] == [[0], [1], [2], [3], [4]]
        for n, store in enumerate(stores):
            store.delete()
            assert [_contents(s) for s in stores[n + 1 :]] == expected[n + 1 :]
            assert _contents(store) == (0, [], [], None, None)

    def test_close(self, store: Store) -> None:
        """A closed store opens again when it is used, and closing twice is no error."""
        store.close()
        _fill(store, 1)
        store.close()
        store.close()
        assert values(store.read("trials")) == [1]
        store.close()
        assert store.allocate("token2", body(2)).trial == 2

    def test_pickle(self, open_store: MakeStore) -> None:
        """A pickled store is on the same experiment, also one that is in use."""
        store = open_store("a")
        fresh = pickle.loads(pickle.dumps(store))
        _fill(store, 1)
        used = pickle.loads(pickle.dumps(store))
        try:
            assert fresh.address == used.address == store.address
            assert _contents(fresh) == _contents(used) == _contents(store)
        finally:
            fresh.close()
            used.close()

    def test_address(self, open_store: MakeStore) -> None:
        """The address is a URL, one for each experiment, and shows no password."""
        first, second, again = open_store("a"), open_store("ab"), open_store("a")
        assert "://" in first.address
        assert first.address == again.address != second.address
        for text in (first.address, repr(first), str(first)):
            assert self.password is None or self.password not in text

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_fork(self, store: Store) -> None:
        """A store that is in use goes on in a forked child and in its parent."""
        _fill(store, 0)
        child = os.fork()
        if child == 0:
            _exit_after(lambda: _allocate_many(store, "child", 20))
        _allocate_many(store, "parent", 20)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.state().latest == 41
        assert len(list(store.read("trials"))) == 41


def _exit_after(work: Callable[[], Any]) -> None:
    """Do a forked child's work and end it without the parent's cleaning up."""
    code = 1
    try:
        signal.alarm(120)
        work()
        code = 0
    finally:
        os._exit(code)


def _allocate_many(store: Store, name: str, count: int) -> list[int]:
    return [store.allocate(f"{name}-{n}", body(f"{name}-{n}")).trial for n in range(count)]


def _append_many(store: Store, name: int, count: int) -> None:
    for n in range(count):
        store.append([Record("steps", name, f"{n}", body([name, n]))])


def _work_in_process(store: Store, name: str, barrier: Any) -> Sequence[int]:
    barrier.wait(120)
    trials = _allocate_many(store, name, 25)
    for n, trial in enumerate(trials):
        store.append([Record("steps", trial, "x", body(f"{name}-{n}"))])
    store.close()
    return trials


def _write_and_die(store: Store) -> None:
    store.allocate("token", body("begun"))
    store.append([Record("steps", 1, f"x{n}", body(n)) for n in range(20)])
    store.put("ab", [b"ob", b"ject"])
    os.kill(os.getpid(), signal.SIGKILL)


def _keep_and_discard(store: Store, data: bytes) -> None:
    for _ in range(3):
        store.put("aa", [data])
        store.discard(["aa"])
    store.put("aa", [data])


def _pairs(stored: Iterable[Stored]) -> list[tuple[Stored, Any]]:
    found = list(stored)
    return list(zip(found, values(found), strict=True))


def _fill(store: Store, value: int) -> None:
    """Write a little of everything."""
    store.allocate("token1", body(value))
    store.append([Record("steps", 1, "x", body(value)), Record("outputs", 0, "o", body(value))])
    store.put("aa", [b"small", bytes([value])])
    store.put("bb", [b"large" * 500_000, bytes([value])])


def _contents(store: Store) -> tuple[Any, ...]:
    """Give all that `_fill` writes."""
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
