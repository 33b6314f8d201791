"""The contract of a store, as far as removed trials go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from daskperiment.errors import RecordsRefusedError
from daskperiment.records import BEGUN, REMOVED, STREAMS
from daskperiment.store.protocol import Owner, Record, Store, Stored
from daskperiment.testing.record_tests import MakeStore, body, values

__all__ = ["RemovalTests"]


def _filled(store: Store, count: int = 3) -> list[Owner]:
    """Make trials with records in every stream, and outputs that they named."""
    owners = []
    for n in range(1, count + 1):
        owner = Owner(store.allocate(f"t{n}", body(n)).trial, f"t{n}")
        streams = [one for one in STREAMS if one != "outputs"]
        store.append([Record(one, n, f"{one}-{n}", body(n), owner) for one in streams])
        store.append([Record("outputs", 0, f"o{n}", body(n), owner)])
        owners.append(owner)
    return owners


def _marker(owner: Owner) -> Record:
    return Record("trials", owner.trial, REMOVED, body("gone"), owner)


def _trials(records: Iterable[Stored]) -> list[int]:
    return sorted({one.trial for one in records})


class RemovalTests:
    """What a store does with removed trials; the fixtures are those of StoreConformance."""

    def test_removed_from_every_stream(self, store: Store) -> None:
        """Only a marker is left of a removed trial, and the other trials are as they were."""
        owners = _filled(store)
        store.remove([_marker(owners[1])], ["o2", "unknown"])
        for stream in ("steps", "points", "notes", "beats"):
            assert _trials(store.read(stream)) == [1, 3]
            assert list(store.read(stream, [2])) == []
        assert [(one.trial, one.id) for one in store.read("trials", [2])] == [(2, REMOVED)]
        assert values(store.read("trials", [2])) == ["gone"]
        assert [one.id for one in store.read("outputs")] == ["o1", "o3"]
        assert sorted(one.id for one in store.find(["o1", "o2", "o3"])) == ["o1", "o3"]

    def test_marker_stands_last(self, open_store: MakeStore) -> None:
        """Who reads on from where a stream ended finds the marker, and whatever comes then."""
        store, reader = open_store("a"), open_store("a")
        owners = _filled(store)
        ends = {one: max(each.position for each in reader.read(one)) for one in STREAMS}
        store.remove([_marker(owners[2])], ["o3"])
        assert [one.id for one in reader.read("trials", after=ends["trials"])] == [REMOVED]
        for stream in sorted({*STREAMS} - {"trials", "outputs"}):
            store.append([Record(stream, 1, "later", body(1), owners[0])])
        store.append([Record("outputs", 0, "later", body(1), owners[0])])
        for stream in STREAMS[1:]:
            found = list(reader.read(stream, after=ends[stream]))
            assert [one.id for one in found] == ["later"], stream

    def test_ids_stay_given_out(self, open_store: MakeStore) -> None:
        """A removed trial's id is no other's, its token keeps it, and nothing is written."""
        store, other = open_store("a"), open_store("a")
        owners = _filled(store)
        store.remove([_marker(one) for one in owners])
        for handle in (store, other):
            again = handle.allocate("t3", body("again"))
            assert (again.trial, again.new) == (3, False)
        assert [one.id for one in store.read("trials")] == [REMOVED] * 3
        assert other.state().latest == 3
        assert other.allocate("new", body(4)).trial == 4
        assert store.allocate("newer", body(5)).trial == 5

    def test_late_records_change_nothing(self, open_store: MakeStore) -> None:
        """What is written for a removed trial is passed over, and what came with it is written."""
        store, late = open_store("a"), open_store("a")
        owners = _filled(store)
        late.append([Record("steps", 2, "before", body(0), owners[1])])
        store.remove([_marker(owners[1])], ["o2"])
        before = {stream: list(store.read(stream)) for stream in STREAMS}
        for stream in STREAMS:
            trial = 0 if stream == "outputs" else 2
            assert late.append([Record(stream, trial, "late", body(0), owners[1])]) == []
        late.append([Record("trials", 2, "ended-succeeded", body(0), owners[1])])
        assert {stream: list(store.read(stream)) for stream in STREAMS} == before
        both = [Record("steps", owner.trial, "mixed", body(0), owner) for owner in owners]
        late.append(both)
        mixed = [one.trial for one in store.read("steps") if one.id == "mixed"]
        assert mixed == [1, 3]

    def test_strangers_are_refused_all_the_same(self, store: Store) -> None:
        """An owner that never was is named; a removed one beside it is not."""
        owners = _filled(store)
        store.remove([_marker(owners[0])])
        stranger = Owner(1, "gone")
        records = [Record("steps", 1, "x", body(0), one) for one in (owners[0], stranger)]
        with pytest.raises(RecordsRefusedError) as caught:
            store.append(records)
        assert list(caught.value.owners) == [stranger]
        before = list(store.read("trials"))
        with pytest.raises(RecordsRefusedError):
            store.remove([_marker(owners[1]), _marker(Owner(3, "t2"))])
        assert list(store.read("trials")) == before

    def test_nothing_was_lost(self, open_store: MakeStore) -> None:
        """A known record of a removed trial is said to be there: it was no accident."""
        store, other = open_store("a"), open_store("a")
        owners = _filled(store)
        known = Record("trials", 2, BEGUN, b"", owners[1])
        store.remove([_marker(owners[1])])
        assert other.state(known).stands
        assert other.allocate("new", body(0), known).stands
        assert not other.state(Record("trials", 2, BEGUN, b"", Owner(2, "else"))).stands

    def test_removed_twice(self, store: Store) -> None:
        """The same call once more changes nothing, and one for more trials removes those."""
        owners = _filled(store)
        store.remove([_marker(owners[0])])
        store.remove([_marker(owners[0])])
        store.remove([_marker(owners[0]), _marker(owners[1])], ["o1", "o2"])
        assert _trials(store.read("steps")) == [3]
        assert [one.id for one in store.read("trials", [1, 2])] == [REMOVED] * 2
        assert [one.id for one in store.read("outputs")] == ["o3"]

    def test_large_and_many_records(self, store: Store) -> None:
        """A trial of many records, some of them large, goes whole."""
        owners = _filled(store, 2)
        large = [Record("notes", 1, f"n{n}", body("x" * 300_000), owners[0]) for n in range(4)]
        points = [Record("points", 1, f"p{n}", body(n), owners[0]) for n in range(1500)]
        store.append([*large, *points])
        store.remove([_marker(owners[0])])
        assert _trials(store.read("notes")) == _trials(store.read("points")) == [2]
        store.append([Record("notes", 2, "last", body(0), owners[1])])
        assert [one.id for one in store.read("notes", [2])] == ["notes-2", "last"]
