"""Experiments in one place leave each other, and what is not ours, alone."""

from __future__ import annotations

import re

import numpy as np
import pymongo
import pytest
import redis

import daskperiment
from daskperiment.errors import StoreError, StoreWarning
from daskperiment.recording import journal_format as frames
from daskperiment.recording.journal import Journal
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Origin
from daskperiment.store.liveness import current_origin
from daskperiment.store.protocol import Record
from tests.shared.conftest import open_again

NAMES = ["ab", "a", "a_b", "_a", "A", "a1", "ä", "a-b", "a.b", "a.b-c"]


def use(name, backend):
    """Compute trials that write to every stream, and ask for them."""
    ex = daskperiment.Experiment(name, backend=backend)

    @ex.persist
    def keep(name):
        ex.save_metric("loss", 0, 1.0)
        return np.full(200_000, len(name))

    @ex.result
    def give(array):
        return list(array[:2])

    result = give(keep(ex.parameter("name", default=name)))
    result.compute()
    result.bind(name=name * 2).compute()
    assert ex.get_history()["name"].tolist() == [name, 2 * name]
    return open_again(name, backend)


def without_marks(dump):
    """Leave out what says that an experiment was deleted: a random name, and nothing else."""
    left = {name: value for name, value in dump.items() if "deletions" not in name}
    marks = [name for name in left if name.endswith(":deleted")]
    for mark in marks:
        assert re.fullmatch(rb"[0-9a-f]{32}", left.pop(mark))
    return left


def test_delete_removes_its_own(place):
    """`delete` leaves all else as it was to the byte, whatever the names, in any order."""
    place.foreign()
    dumps = [place.dump()]
    for name in NAMES:
        use(name, place.backend)
        open_again(name, place.backend)
        dumps.append(place.dump())
        assert dumps[-1].items() > dumps[-2].items() or place.kind == "redis"
    for name in reversed(NAMES):
        dumps.pop()
        open_again(name, place.backend).delete()
        assert without_marks(place.dump()) == dumps[-1]
    use("ab", place.backend)
    before = without_marks(place.dump())
    use("a", place.backend).delete()
    assert without_marks(place.dump()) == before
    assert list(daskperiment.list_experiments(place.backend)["Experiment"]) == ["ab"]


def test_what_stays_of_a_deletion(make_place):
    """A server remembers for 30 days that an experiment was deleted; a folder keeps nothing."""
    folder, redis_, mongo = make_place("folder"), make_place("redis"), make_place("mongo")
    for place in (folder, redis_, mongo):
        use("gone", place.backend).delete()
    assert [each.name for each in folder.backend.iterdir()] == []
    with redis.Redis.from_url(redis_.backend) as client:
        [key] = client.scan_iter()
        assert key == b"daskperiment:{gone}:deleted"
        assert 0 < client.ttl(key) <= 30 * 86_400
    with pymongo.MongoClient(mongo.backend) as client:
        collection = client.get_default_database()["daskperiment.deletions"]
        assert [set(each) for each in collection.find()] == [{"_id", "name", "at"}]
        assert collection.index_information()["daskperiment_at"]["expireAfterSeconds"] == 2_592_000
    assert list(daskperiment.list_experiments(redis_.backend)["Experiment"]) == []
    assert list(daskperiment.list_experiments(mongo.backend)["Experiment"]) == []


def test_deleted_experiment_begins_anew(place):
    """After `delete`, the next trial is number 1 and nothing of before is found."""
    ex = use("again", place.backend)
    ex.delete()
    assert ex.trial_id == 0
    assert len(ex.get_history()) == 0
    assert len(use("again", place.backend).get_steps()) == 4


@pytest.mark.parametrize("journal", ["written", "full"])
def test_what_waits_for_a_deleted_experiment_goes_too(place, monkeypatch, journal_root, journal):
    """Records and values that the store did not take come back under no id after `delete`."""
    ex = daskperiment.Experiment("waits", backend=place.backend)
    recorder = recorder_for(ex._store)
    monkeypatch.setattr(recorder, "wake", lambda: None)

    def refuse(*_):
        raise StoreError("it is full for a moment")

    @ex.persist
    def keep(text):
        return np.arange(3000.0)

    @ex.result
    def give(array):
        return len(array)

    give(keep("x")).compute()
    with monkeypatch.context() as full:
        for name in ("append", "put"):
            full.setattr(type(ex._store), name, refuse)
        if journal == "full":
            for target in (Journal, "write"), (Journal, "point"), (PendingObjects, "_write"):
                full.setattr(*target, refuse)
        with pytest.warns(StoreWarning, match="wait"):
            assert give(keep("x")).compute() == 3000
        assert recorder.delivery.waiting
        left = leave_journal(recorder.delivery.folder)
        with full.context() as away:
            away.setattr(type(ex._store), "delete", refuse)
            with pytest.raises(StoreError, match="full for a moment"):
                ex.delete()
        assert left.exists()  # it was not deleted: what waits for it still does
        assert recorder.delivery.waiting
        ex.delete()
    assert not recorder.delivery.waiting
    assert not list(recorder.delivery.values.find())
    ex.flush()
    assert (ex.trial_id, len(ex.get_history())) == (0, 0)
    assert give(keep("x")).compute() == 3000
    assert ex.get_history(verbose=True, running=True)["Status"].tolist() == ["succeeded"]
    assert len(ex.get_steps()) == 2


def leave_journal(folder):
    """Leave the journal of a dead process, with a record of a trial that it ran."""
    gone = Origin(current_origin().host, "another boot", 1, 0.0, "somebody")
    note = Record("notes", 1, "left", b"{}")
    data = frames.encode_header(frames.JournalHeader("b" * 32, gone)) + frames.encode_record(note)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"gone-1-{'b' * 32}.journal"
    file.write_bytes(data)
    return file
