"""``daskperiment check``: damage is found in every store, and mended where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.codec import decode
from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Begun
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Record
from tests.shared.places import Place

ID = "checked"
ODD = "f" * 32


@pytest.fixture
def store(place: Place, forget: Callable[[], None]) -> Iterator[Any]:
    """Return the store of an experiment with two trials, in a process that did not run them."""
    ex = daskperiment.Experiment(ID, seed=1, backend=place.backend)
    x = ex.parameter("x", default=1)

    @ex.persist
    def load(x: int) -> Any:
        return np.arange(500) * x

    @ex.result
    def total(values: Any) -> int:
        ex.save_metric("loss", 0, 0.5)
        return int(values.sum())

    for value in (1, 2):
        assert total(load(x)).bind(x=value).compute(scheduler="synchronous") == 124750 * value
    forget()
    opened = open_store(place.backend, ID)
    yield opened
    opened.close()


def lines(store: Any) -> list[str]:
    return [str(one) for one in examine(store).findings]


def begun_of(store: Any, trial: int) -> Begun:
    (record,) = [one for one in store.read("trials", [trial]) if one.id == "begun"]
    return decode(record.body, Begun)


def test_nothing_is_found_where_nothing_is_wrong(store: Any) -> None:
    """A healthy store has no finding, and all of it is looked at."""
    found = examine(store)
    assert found.findings == []
    assert found.complete
    assert found.records > 6
    assert found.objects >= 5  # code, environment, graph and two outputs


def test_missing_object(store: Any) -> None:
    """An object that a trial names and that is gone is one line: what, where and the remedy."""
    digest = begun_of(store, 2).environment
    store.discard([digest])
    (line,) = lines(store)
    assert f"object {digest}: missing" in line
    assert "'begun' of trial" in line
    assert "restore the store from a backup" in line


def test_damaged_object(store: Any, place: Place) -> None:
    """An object of other bytes than its digest says is found, and named by who needs it."""
    digest = begun_of(store, 1).graph
    place.overwrite(ID, digest, b"other bytes")
    (line,) = lines(store)
    assert f"object {digest}: damaged" in line
    assert "named by 'begun'" in line


@pytest.mark.parametrize("size", [0, 11, 150_000, 6_000_000])
def test_damaged_object_is_set_aside_if_asked_for(size: int, store: Any, place: Place) -> None:
    """Its bytes are kept, and the sound ones can be written; what is sound by then stays."""
    digest = begun_of(store, 1).graph
    sound, damaged = bytes(store.get(digest)), b"x" * size
    place.overwrite(ID, digest, damaged)
    (finding,) = examine(store).findings
    assert "--repair` to set it aside" in str(finding)
    assert finding.mend is not None
    finding.mend()
    finding.mend()  # again, as two at once would
    store.put(digest, [sound])
    finding.mend()  # by somebody who looked before
    assert bytes(store.get(digest)) == sound
    assert examine(store).findings == [], "nor is what was set aside removed as named by nothing"
    aside = [one for one in place.objects(ID) if one.startswith(digest) and one != digest]
    assert [bytes(store.get(one)) for one in aside] == [damaged]


def test_damaged_object_stays_if_it_cannot_be_set_aside(
    store: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room to keep its bytes it is not removed."""
    digest = begun_of(store, 1).graph
    place.overwrite(ID, digest, b"other bytes")
    (finding,) = examine(store).findings
    assert finding.mend is not None
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put", _refuse)
        with pytest.raises(StoreError, match="full"):
            finding.mend()
    assert bytes(store.get(digest)) == b"other bytes"


def _refuse(*args: object) -> None:
    raise CorruptRecordError("full")


@pytest.mark.parametrize("body", [b"{", b'{"time":1}', b"[]", b"\xff"])
def test_damaged_record(store: Any, body: bytes) -> None:
    """A record that is none is one line that names it, and hides nothing else."""
    store.append([Record("steps", 1, "odd-1", body)])
    found = examine(store)
    (line,) = map(str, found.findings)
    assert "record 'odd-1' of trial 1 in 'steps'" in line
    assert "restore it from a backup" in line
    assert found.objects >= 5


DAMAGED = {
    "steps": ("steps", "odd-1", b"{"),
    "points": ("points", "odd-1", b'{"points":[],"checksum":"0123456789abcdef"}'),
    "beats": ("beats", "odd-1", b'{"when":1}'),
    "notes": ("notes", "impure-ä", b"\xff"),
    "computed": ("trials", "computed-x", b"[1]"),
    "outputs": ("outputs", "r-odd", b'{"trial":"x"}'),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_record_is_set_aside_if_asked_for(kind: str, store: Any) -> None:
    """A single damaged record is taken out of the way and kept; all others stay as they are."""
    stream, id, body = DAMAGED[kind]
    trial = 0 if stream == "outputs" else 1
    before = everything(store)
    store.append([Record(stream, trial, id, body)])
    healthy = Record(stream, trial, "healthy", b'{"points":[]}')
    store.append([healthy] if stream == "points" else [])
    between = [one.position for one in store.read(stream) if one.id == "healthy"]
    (finding,) = examine(store).findings
    assert f"record {id!r} of trial {trial}" in str(finding)
    assert "--repair` to set it aside" in str(finding)
    assert finding.mend is not None
    finding.mend()
    finding.mend()  # again, as two at once would
    assert examine(store).findings == []
    assert [one.position for one in store.read(stream) if one.id == "healthy"] == between
    left = {key: value for key, value in everything(store).items() if key[2] != "healthy"}
    assert left == before
    store.append([Record(stream, trial, id, b'{"a":1}')])
    bodies = [one.body for one in store.read(stream, [trial]) if one.id == id]
    assert [b'"a"' in one for one in bodies] == [True], "the identity is free again"
    store.append([Record(stream, trial, f"{id}-2", b"{")])
    store.put(ODD, [b"x"])
    store.append([])
    assert store.has_aside()
    assert not any("no record names" in line for line in lines(store))


def everything(store: Any) -> dict[tuple[str, int, str], bytes]:
    streams = ("trials", "steps", "points", "outputs", "notes", "beats")
    return {(s, one.trial, one.id): one.body for s in streams for one in store.read(s)}


def test_damaged_first_record_is_set_aside(store: Any, place: Place) -> None:
    """A trial whose first record is set aside is not shown; the others are, and the next begins."""
    begun = next(one for one in store.read("trials", [1]) if one.id == "begun")
    store.set_aside("trials", begun)
    damaged = begun.body.replace(b'"result":"total"', b'"result":"totem"')
    assert damaged != begun.body
    store.append([Record("trials", 1, "begun", damaged)])
    (finding,) = examine(store).findings
    assert finding.mend is not None
    finding.mend()
    assert examine(store).findings == []
    ex = daskperiment.Experiment(ID, seed=1, backend=place.backend)
    assert ex.get_history().index.tolist() == [2]
    assert ex.result(lambda: 1)().compute(scheduler="synchronous") == 1
    assert ex.trial_id == 3


def test_a_damaged_end_stays(store: Any) -> None:
    """An end whose id says how the trial ended is worth more where it is, and is not set aside."""
    store.append([Record("trials", 1, "ended-interrupted-x", b"{")])
    (finding,) = examine(store).findings
    assert finding.mend is None


def test_changed_digit(store: Any) -> None:
    """A record that is JSON as ever, but for a digit, is found by its checksum."""
    (ended,) = [one for one in store.read("trials", [1]) if one.id.startswith("ended")]
    changed = ended.body.replace(b"124750", b"124751")
    assert changed != ended.body
    store.append([Record("trials", 1, "ended-failed-x", changed)])
    (line,) = lines(store)
    assert "checksum" in line


def test_orphan_is_removed_if_asked_for(store: Any) -> None:
    """An object that nothing names is found, and its mending removes it and nothing else."""
    before = sorted(store.digests())
    store.put(ODD, [b"x" * 1000])
    (finding,) = examine(store).findings
    assert "1 objects of 1,000 bytes that no record names" in str(finding)
    assert finding.mend is not None
    finding.mend()
    assert sorted(store.digests()) == before
    assert lines(store) == []


def test_no_orphan_is_named_while_a_trial_runs(store: Any) -> None:
    """Where a trial runs or a record is damaged it is not known what is needed."""
    store.put(ODD, [b"x"])
    store.append([Record("steps", 1, "odd-1", b"{")])
    assert not any("no record names" in line for line in lines(store))


def test_waiting_journal_is_delivered_if_asked_for(store: Any) -> None:
    """Records that wait on this machine are found, with the command that delivers them."""
    recorder_for(store)._journal.write(Record("notes", 1, "other-x", b'{"a":1}'))
    (finding,) = examine(store).findings
    assert "1 records and objects wait" in str(finding)
    assert "daskperiment flush" in str(finding)
    assert finding.mend is not None
    finding.mend()
    assert lines(store) == []


def test_no_time(store: Any) -> None:
    """A check that has no time ends at once, and says that it is not complete."""
    assert not examine(store, 0).complete


def test_a_large_object_is_no_orphan_of_itself(store: Any) -> None:
    """What a store keeps as objects of its own, such as large records, is not called an orphan."""
    store.append([Record("notes", 1, "other-large", b'{"text":"%b"}' % (b"x" * 2_000_000))])
    assert lines(store) == []
