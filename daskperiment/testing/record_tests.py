"""The contract of a store, as far as trial ids and records go."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from daskperiment.errors import RecordsRefusedError
from daskperiment.records import BEGUN, STREAMS
from daskperiment.store.opening import excerpting, read_starting
from daskperiment.store.protocol import Allocation, Owner, Record, Store, Stored

__all__ = ["MakeStore", "RecordTests", "allocate_many", "body", "values"]

MakeStore = Callable[[str], Store]


def body(value: Any) -> bytes:
    """Return the body of a record that holds a value."""
    return json.dumps({"v": value}, ensure_ascii=False).encode()


def values(stored: Iterable[Stored | Record]) -> list[Any]:
    """Return the values that bodies of records hold."""
    return [json.loads(bytes(record.body))["v"] for record in stored]


def allocate_many(store: Store, name: str, count: int) -> list[int]:
    """Allocate trials, and return their ids."""
    return [store.allocate(f"{name}-{n}", body(f"{name}-{n}")).trial for n in range(count)]


class RecordTests:
    """What a store does with ids and records; the fixtures are those of StoreConformance."""

    # Trial ids -------------------------------------------------------------------------------

    def test_is_a_store(self, store: Store) -> None:
        """The object has the methods of the protocol."""
        assert isinstance(store, Store)

    def test_empty(self, store: Store) -> None:
        """A fresh store has no trial, no record and no object, and says so without an error."""
        assert store.state().latest == 0
        assert [list(store.read(stream)) for stream in STREAMS] == [[]] * len(STREAMS)
        with pytest.raises(KeyError):
            store.get("00")

    def test_ids_count_from_one(self, store: Store) -> None:
        """Trial ids are 1, 2, 3, each marked as new."""
        found = [store.allocate(f"token{n}", body(n)) for n in range(3)]
        assert [(one.trial, one.new) for one in found] == [(1, True), (2, True), (3, True)]

    def test_begun(self, store: Store) -> None:
        """Allocating writes the trial's first record, with the id ``begun``."""
        store.allocate("token", body("x"))
        (record,) = store.read("trials")
        assert (record.trial, record.id, values([record])) == (1, BEGUN, ["x"])

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
        tokens = ["t" * 99 + last for last in "aba"]
        assert [store.allocate(token, body(0)).trial for token in tokens] == [1, 2, 1]

    def test_ids_ignore_appended_records(self, store: Store) -> None:
        """A record that names a trial does not use up its id."""
        store.append([Record("steps", 7, "s", body(0)), Record("trials", 9, "x", body(0))])
        assert store.state().latest == 0
        assert store.allocate("token", body(1)).trial == 1

    def test_state(self, open_store: MakeStore) -> None:
        """The state has the highest id given out, also by another store object."""
        first, second = open_store("a"), open_store("a")
        assert second.state().latest == 0
        for token in ("one", "two", "one"):
            first.allocate(token, body(1))
        assert second.state().latest == first.state().latest == 2

    def test_clock(self, store: Store) -> None:
        """The clock goes forward, and allocating returns the same clock as asking."""
        allocation = store.allocate("token", body(0))
        state = store.state()
        # Not the clock of this machine, perhaps; an hour covers any slow test machine.
        assert 0 <= state.clock - allocation.clock < 3600
        assert store.state().clock >= state.clock > 1.6e9

    def test_ids_of_threads(self, open_store: MakeStore) -> None:
        """Eight threads on two store objects get ids without gap or repetition."""
        stores = [open_store("a"), open_store("a")]
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(allocate_many, stores[n % 2], f"t{n}", 25) for n in range(8)]
            found = [trial for job in jobs for trial in job.result()]
        recorded = [record.trial for record in stores[0].read("trials")]
        assert sorted(found) == sorted(recorded) == list(range(1, 201))

    def test_one_token_of_threads(self, store: Store) -> None:
        """Threads that allocate one token at the same moment get one id, new for one of them."""
        barrier = threading.Barrier(8)

        def allocate(_: int) -> Allocation:
            barrier.wait(60)
            return store.allocate("token", body(0))

        with ThreadPoolExecutor(8) as pool:
            found = sorted((one.trial, one.new) for one in pool.map(allocate, range(8)))
        assert found == [(1, False)] * 7 + [(1, True)]
        assert len(list(store.read("trials"))) == 1

    def test_processes(self, store: Store) -> None:
        """Four processes, each with a pickled store, create it at once: nothing is lost."""
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager, ProcessPoolExecutor(4, mp_context=context) as pool:
            barrier = manager.Barrier(4)
            jobs = [pool.submit(_work_in_process, store, f"p{n}", barrier) for n in range(4)]
            found = [trial for job in jobs for trial in job.result()]
        begun, steps = (_by_trial(store.read(stream)) for stream in ("trials", "steps"))
        assert begun == steps
        assert sorted(found) == sorted(begun) == list(range(1, 101))

    # Owners ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("stream", STREAMS)
    def test_owner_is_there(self, store: Store, stream: str) -> None:
        """Records whose trial has the owner's token are written, of trial 0 and of its own."""
        store.allocate("one", body(1))
        owner = Owner(store.allocate("two", body(2)).trial, "two")
        records = [Record(stream, trial, "x", body(trial), owner) for trial in (0, 2)]
        for _ in range(2):
            store.append(records)
        assert [each for each in values(store.read(stream))[-2:] if each != 2] == [0]
        assert [(each.trial, each.id) for each in store.read(stream)][-2:] == [(0, "x"), (2, "x")]

    @pytest.mark.parametrize("stream", STREAMS)
    @pytest.mark.parametrize("owner", [Owner(1, "two"), Owner(2, "one"), Owner(7, "gone")])
    def test_owner_is_another(self, store: Store, stream: str, owner: Owner) -> None:
        """Records whose owner is not there are refused, and told where the token is."""
        for token in ("one", "two"):
            store.allocate(token, body(token))
        before = list(store.read(stream))
        for trial in {0, owner.trial}:
            with pytest.raises(RecordsRefusedError) as caught:
                store.append([Record(stream, trial, "x", body(0), owner)])
            number = {"one": 1, "two": 2}.get(owner.token)
            assert caught.value.owners == {owner: number}
        assert list(store.read(stream)) == before

    def test_owners_mixed(self, open_store: MakeStore) -> None:
        """Of records of several owners none joins a stranger's trial; the owner is named."""
        store = open_store("a")
        owners = [Owner(store.allocate(f"t{n}", body(n)).trial, f"t{n}") for n in range(3)]
        open_store("a").delete()
        for n in (0, 5, 2):
            open_store("a").allocate(f"t{n}", body(n))
        records = [
            Record(stream, trial, f"{stream}-x", body(trial), owner)
            for owner in owners
            for stream, trial in (("points", owner.trial), ("steps", owner.trial), ("outputs", 0))
        ]
        for _ in range(2):
            with pytest.raises(RecordsRefusedError) as caught:
                store.append(records)
            assert caught.value.owners.get(owners[1], 0) is None
            assert not {owners[0], owners[2]} & set(caught.value.owners)
        written = [each.trial for s in ("points", "steps") for each in store.read(s)]
        assert 2 not in written
        store.append([one for one in records if one.owner != owners[1]])
        assert sorted(each.trial for each in store.read("steps")) == [1, 3]
        assert sorted(each.trial for each in store.read("points")) == [1, 3]

    def test_records_set_no_fields_of_a_stranger(self, store: Store) -> None:
        """A refused end does not change the end that the other trial has, whatever its id."""
        store.allocate("one", body(1))
        ended = Record("trials", 1, "ended-succeeded", body("theirs"), Owner(1, "one"))
        store.append([ended])
        for id in ("ended-succeeded", "ended-failed"):
            with pytest.raises(RecordsRefusedError):
                store.append([Record("trials", 1, id, body("ours"), Owner(1, "gone"))])
        assert values(store.read("trials")) == [1, "theirs"]

    def test_refusal_travels(self, store: Store) -> None:
        """The error comes back equal from a pickle, as between processes."""
        with pytest.raises(RecordsRefusedError) as caught:
            store.append([Record("steps", 1, "x", body(1), Owner(1, "gone"))])
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.owners) == (str(caught.value), caught.value.owners)

    def test_known_record(self, open_store: MakeStore) -> None:
        """A known record is said to be there while it is, and not when the store lost it."""
        store, other = open_store("a"), open_store("a")
        store.allocate("one", body(1))
        one = Owner(1, "one")
        begun = Record("trials", 1, BEGUN, b"", one)
        ended = Record("trials", 1, "ended-succeeded", b"", one)
        assert store.allocate("two", body(2), begun).stands
        assert not other.allocate("three", body(3), ended).stands
        store.append([Record("trials", 1, "ended-succeeded", body("end"), one)])
        for handle in (store, other):
            assert handle.state(ended).stands
            assert handle.allocate("three", body(3), ended).stands
            stranger = Record("trials", 2, "ended-succeeded", b"", Owner(2, "two"))
            assert not handle.state(stranger).stands
        store.delete()
        assert not other.state(begun).stands
        assert not other.allocate("new", body(4), begun).stands
        assert not other.state(begun).stands  # the id is another's now
        assert other.state(Record("trials", 1, BEGUN, b"", Owner(1, "new"))).stands

    def test_nothing_known(self, store: Store) -> None:
        """Who knows of no record is told of no loss."""
        assert store.state().stands
        assert store.allocate("one", body(1)).stands

    # Records ---------------------------------------------------------------------------------

    def test_round_trip(self, store: Store) -> None:
        """Records of every stream come back with trial, id and an equal body."""
        for stream in STREAMS:
            store.append([Record(stream, 3, "x", body(stream)), Record(stream, 0, "y", body(1))])
        for stream in STREAMS:
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
        for stream in STREAMS:
            store.append([Record(stream, 1, "x", body(value))])
            assert values(store.read(stream)) == [value]

    def test_begun_with_any_body(self, store: Store) -> None:
        """The first record's body, too, may be any JSON."""
        value = {"a.b": "\u0000", "$set": 2**70, "": [None]}
        store.allocate("token", body(value))
        assert values(store.read("trials")) == [value]

    def test_ids_are_text(self, store: Store) -> None:
        """Ids of 200 characters, and ids of any characters, are different ids."""
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
        identities = [(1, "x"), (2, "x"), (1, "y"), (11, "x"), (0, "x")]
        records = [Record("steps", *one, body(n)) for n, one in enumerate(identities)]
        store.append([*records, Record("notes", 1, "x", body("note"))])
        assert values(store.read("steps")) == [0, 1, 2, 3, 4]
        assert values(store.read("notes")) == ["note"]

    def test_begun_is_a_record(self, store: Store) -> None:
        """A record with the identity of the trial's first is passed over."""
        store.allocate("token", body("first"))
        store.append([Record("trials", 1, BEGUN, body("second"))])
        assert values(store.read("trials")) == ["first"]

    def test_outputs(self, store: Store) -> None:
        """Of the stream ``outputs``, append returns what stood there before, and that alone."""
        first = Record("outputs", 0, "x", body("first"))
        assert list(store.append([first, Record("steps", 1, "x", body(1))])) == []
        again, new = (
            Record("outputs", 0, "x", body("second")),
            Record("outputs", 0, "new", body("new")),
        )
        (standing,) = store.append([Record("steps", 1, "x", body(2)), new, again])
        assert (*standing[:3], *values([standing])) == ("outputs", 0, "x", "first")
        assert values(store.read("outputs")) == ["first", "new"]

    def test_outputs_of_threads(self, store: Store) -> None:
        """Of threads that write one output at once, one writes it and the others learn it."""
        barrier = threading.Barrier(8)

        def write(n: int) -> list[Record]:
            barrier.wait(60)
            return list(store.append([Record("outputs", 0, "x", body(n))]))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(write, range(8)))
        (winner,) = values(store.read("outputs"))
        assert found[winner] == []
        assert values(record for records in found for record in records) == [winner] * 7

    def test_many_at_once(self, store: Store) -> None:
        """A thousand records of several streams in one call keep their order."""
        streams = ("steps", "points", "steps", "notes")
        store.append([Record(streams[n % 4], n % 7, f"r{n}", body(n)) for n in range(1000)])
        assert values(store.read("steps")) == [n for n in range(1000) if n % 2 == 0]
        assert values(store.read("points")) == list(range(1, 1000, 4))

    def test_nothing(self, store: Store) -> None:
        """Appending nothing is allowed and changes nothing."""
        assert [*store.append([]), *store.read("steps")] == []

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
        positions = [0, *(record.position for record in found)]
        assert values(found) == list(range(20))
        assert positions == sorted(set(positions))

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
        expected = [n for n in range(60) if n % 12 in (11, 1, 0)]
        assert values(store.read("steps", trials={11, 1, 0, 99})) == expected
        assert list(store.read("steps", trials=[])) == list(store.read("steps", trials=[99])) == []

    def test_many_trials(self, store: Store) -> None:
        """``trials`` may name thousands of trials."""
        store.append([Record("steps", n, "x", body(n)) for n in range(300)])
        assert values(store.read("steps", trials=range(100, 5000))) == list(range(100, 300))

    def test_trials_and_after(self, store: Store) -> None:
        """``trials`` and ``after`` together give what both allow."""
        store.append([Record("steps", n % 3, f"x{n}", body(n)) for n in range(12)])
        after = list(store.read("steps"))[5].position
        assert values(store.read("steps", trials=(0, 2), after=after)) == [6, 8, 9, 11]

    @pytest.mark.parametrize("start", ["a", "a-", "a%", "a_", "aé", "a\U0010ffff", "é", "2"])
    def test_beginnings_of_ids(self, store: Store, start: str) -> None:
        """Records whose ids begin with a text are the same as among all of their trial."""
        ids = ["b", "a-1", "ab-1", "A-1", "a%-1", "a_-1", "aé-1", "é", "a-2", "a\U0010ffff1", "a"]
        store.append([Record("notes", trial, id, body(id)) for trial in (2, 22, 1) for id in ids])
        wanted = [(2, id, [id]) for id in ids if id.startswith(start)]
        found = read_starting(store, "notes", 2, start)
        assert [(one.trial, one.id, values([one])) for one in found] == wanted
        every = list(read_starting(store, "notes", None, start))
        whole = [one for one in store.read("notes") if one.id.startswith(start)]
        assert [(one[1:3], values([one])) for one in every] == [
            (one[1:3], values([one])) for one in whole
        ]
        assert sorted({one.position for one in every}) == [one.position for one in every]

    def test_excerpts(self, store: Store) -> None:
        """Who gives excerpts of bodies gives the blocks with a text, where the records stand."""
        server = excerpting(store)
        if server is None:
            return
        bodies = [f'{{"a":["{n}","x!","é{n}","y!","{n % 2}","z!"]}}' for n in range(4)]
        bodies += ['{"a":"1"}', '{"a":"2"}', '{"a":"\\\\"}']
        ends = ['{"a":["1","x!","1","z!"]}', '"1","z!"]}']
        given = {"r1": ends[0], "r3": ends[1], "r4": bodies[4], "r6": bodies[6]}
        for trial in (1, 2, 3):
            named = [(f"r{n}", one.encode()) for n, one in enumerate(bodies)]
            store.append([Record("logs", trial, id, one) for id, one in named])
        whole = list(store.read("logs", [1, 3]))
        for after in (0, whole[5].position):
            every = server.read_excerpts("logs", [1, 3], after, ['"1"'], '!",')
            found = [one for one in every if one.id in given]  # others may be left out
            wanted = [one for one in whole if one.id in given and one.position > after]
            assert [one[:3] for one in found] == [one[:3] for one in wanted]
            assert [one.body.decode() for one in found] == [given[one.id] for one in found]
        assert list(server.read_excerpts("logs", [], 0, ['"1"'], '!",')) == []

    def test_tail(self, open_store: MakeStore) -> None:
        """Who reads on from the last position, while others write, misses nothing."""
        reader = open_store("a")
        seen: list[Stored] = []
        with ThreadPoolExecutor(4) as pool:
            stores = [open_store("a"), open_store("a")]
            jobs = [pool.submit(_append_many, stores[n % 2], n, 40) for n in range(4)]
            finished = False
            while not finished:
                finished = all(job.done() for job in jobs)
                seen += reader.read("steps", after=seen[-1].position if seen else 0)
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
            assert values(found) == [6, [0, 0], [3, 2]]

    def test_find_first(self, store: Store) -> None:
        """``find`` gives the body that was written first, at once."""
        for n in range(3):
            store.append([Record("outputs", 0, "o", body(n))])
            assert values(store.find(["o"])) == [0]

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
        texts = {f"o{n}": "x" * (40_000 if n % 20 == 0 else n % 50) for n in range(1200)}
        store.append([Record("outputs", 0, id, body(text)) for id, text in texts.items()])
        del texts["o0"]
        found = store.find([f"o{n}" for n in range(1, 4000)])
        ids = [record.id for record in found]
        assert sorted(zip(ids, values(found), strict=True)) == sorted(texts.items())

    def test_find_large(self, store: Store) -> None:
        """``find`` gives records of megabytes, too."""
        text, ids = "x" * 3_000_000, ["o0", "o1", "o2", "o3"]
        store.append([Record("outputs", 0, id, body(text)) for id in ids])
        assert values(store.find(ids)) == [text] * 4

    def test_find_any_id(self, store: Store) -> None:
        """``find`` takes each id that ``append`` takes, as it is."""
        ids = ["$a.b", "é ü", "a" * 200, "q\"'\\", "%_*?[a]", "1"]
        for id in ids:
            store.append([Record("outputs", 0, id, body(1)), Record("outputs", 0, id[1:], body(2))])
        for id in ids:
            assert [tuple(r)[:3] for r in store.find([id])] == [("outputs", 0, id)]


def _append_many(store: Store, name: int, count: int) -> None:
    for n in range(count):
        store.append([Record("steps", name, f"{n}", body([name, n]))])


def _work_in_process(store: Store, name: str, barrier: Any) -> Sequence[int]:
    barrier.wait(120)
    trials = allocate_many(store, name, 25)
    for n, trial in enumerate(trials):
        store.append([Record("steps", trial, "x", body(f"{name}-{n}"))])
    store.close()
    return trials


def _write_and_die(store: Store) -> None:
    store.allocate("token", body("begun"))
    store.append([Record("steps", 1, f"x{n}", body(n)) for n in range(20)])
    store.put("ab", [b"ob", b"ject"])
    os.kill(os.getpid(), signal.SIGKILL)


def _by_trial(stored: Iterable[Stored]) -> dict[int, Any]:
    found = list(stored)
    return dict(zip([one.trial for one in found], values(found), strict=True))
