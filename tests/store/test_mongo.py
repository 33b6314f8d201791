"""The MongoDB store, on real servers."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import dask
import numpy
import pymongo
import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from pymongo import monitoring
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError

from daskperiment import codec, records
from daskperiment.errors import (
    CorruptRecordError,
    RecordsRefusedError,
    StoreError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.history.tables import get_history
from daskperiment.store.mongo import objects as mongo_objects
from daskperiment.store.mongo import store as mongo_stores
from daskperiment.store.mongo import trials as mongo_trials
from daskperiment.store.mongo.client import MongoServer as Connected
from daskperiment.store.mongo.client import mongo_target
from daskperiment.store.mongo.store import CHUNKS, RECORDS, MongoStore, list_mongo, open_mongo
from daskperiment.store.protocol import Owner, Record
from daskperiment.testing import StoreConformance
from tests.helpers.calls import calls_of
from tests.helpers.garbage import collect, without_collector
from tests.helpers.late_reads import printed_late
from tests.store.mongo_server import MongoServer, running
from tests.store.patience import once_back

T = TypeVar("T")

MakeStore = Callable[[str], MongoStore]
Client = pymongo.MongoClient[dict[str, Any]]

_NUMBERS = itertools.count(1)
_PASSWORD = "pass:word/of@the?tests"
_ORIGIN = records.Origin("host", "boot", 123, 1.5, "me")


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    """Wait for servers as long as they take on a busy machine, where no test says how long."""
    with dask.config.set({"daskperiment.timeout": 60}):
        yield


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with running(tmp_path_factory.mktemp("standalone")) as server:
        yield server


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    with running(tmp_path_factory.mktemp("set"), replica_set="rs") as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of an empty database on a single server."""
    number = next(_NUMBERS)
    given = os.environ.get("DASKPERIMENT_TEST_MONGO_URL")
    if given:
        # A database of our own beside the one that is named, which stays as it is.
        parts = urlsplit(given)
        url = parts._replace(path=f"{parts.path.rstrip('/') or '/test'}_{number}").geturl()
    else:
        url = request.getfixturevalue("standalone").url(f"test{number}")
    yield url
    _drop(url)


@pytest.fixture
def set_url(replica_set: MongoServer) -> Iterator[str]:
    """Give the URL of an empty database on a replica set."""
    url = replica_set.url(f"test{next(_NUMBERS)}")
    yield url
    _drop(url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Give a client of the test's own on the single server."""
    with Client(url) as client:
        yield client


@pytest.fixture
def database(client: Client) -> Any:
    return client.get_default_database()


@pytest.fixture
def store(url: str) -> Iterator[MongoStore]:
    store = open_mongo(url, "a")
    yield store
    store.close()


def _drop(url: str) -> None:
    with Client(url) as client:
        client.drop_database(client.get_default_database())


class TestStandalone(StoreConformance):
    """The contract on a single server, which has no transactions."""

    @pytest.fixture
    def make_store(self, url: str) -> MakeStore:
        return lambda name: open_mongo(url, name)


class TestReplicaSet(StoreConformance):
    """The contract on a replica set, where the driver repeats writes; all is found by indexes."""

    @pytest.fixture
    def make_store(self, set_url: str) -> Iterator[MakeStore]:
        with found_by_indexes(set_url):
            yield lambda name: open_mongo(set_url, name)


class TestDatabase(StoreConformance):
    """The contract on a pymongo Database that the user made."""

    @pytest.fixture
    def make_store(self, database: Any) -> MakeStore:
        return lambda name: open_mongo(database, name)


def begun(token: str = "token", **parameters: Any) -> bytes:
    plain = {name: codec.to_plain(value) for name, value in parameters.items()}
    digest = "0" * 64
    return codec.encode(
        records.Begun(token, "score", 1.7e9, 7, plain, digest, digest, digest, _ORIGIN)
    )


def ended(trial: int, status: str, value: Any = None, id: str = "ended") -> Record:
    failure = records.Failure("E", "E(why)", "", "fit") if status == "failed" else None
    end = records.Ended(status, 1.7e9 + 2, 2.0, str(type(value)), value, failure)  # type: ignore[arg-type]
    return Record("trials", trial, id, codec.encode(end))


def steps(trial: int, count: int, prefix: str = "s") -> list[Record]:
    return [
        Record("steps", trial, f"{prefix}{n}", json.dumps({"n": n}).encode()) for n in range(count)
    ]


@contextmanager
def found_by_indexes(url: str) -> Iterator[list[dict[str, Any]]]:
    """Assert that no query looks through a whole collection; give what the server noted at last."""
    noted: list[dict[str, Any]] = []
    with Client(url) as client:
        database = client.get_default_database()
        # As it is made else, it forgets what is older than some hundred commands.
        database.create_collection("system.profile", capped=True, size=64 << 20)
        database.command("profile", 2)
        yield noted
        database.command("profile", 0)
        noted += database["system.profile"].find({"ns": {"$not": {"$regex": "system"}}})
    # The driver's GridFS looks whether there is any document, for one.
    scans = [
        (one["ns"], one["command"])
        for one in noted
        if "COLLSCAN" in one.get("planSummary", "")
        and (one["command"].get("filter"), one["command"].get("limit")) != ({}, 1)
    ]
    assert not scans


# What a person sees ------------------------------------------------------------------------------


def test_query(store: MongoStore, database: Any) -> None:
    """One document per trial answers the query that the documentation shows."""
    for n in range(5):
        trial = store.allocate(f"t{n}", begun(lr=n / 10, model={"depth": n})).trial
        store.append([*steps(trial, 2), ended(trial, "failed" if n == 4 else "succeeded", n)])
    store.allocate("t5", begun(lr=0.9))
    wanted = {"parameters.lr": {"$gt": 0.1}, "status": "succeeded"}
    assert [found["trial"] for found in database.trials.find(wanted)] == [3, 4]
    assert database.trials.count_documents({}) == 6
    assert database.trials.find_one({"parameters.model.depth": 2})["result"] == 2
    running = database.trials.find_one({"status": "running"})
    assert (running["trial"], running["host"], running["user"]) == (6, "host", "me")
    failed = database.trials.find_one({"status": "failed"})
    assert (failed["description"], failed["failed_step"]) == ("E(why)", "fit")
    assert failed["finished"] - failed["started"] == timedelta(seconds=2)
    assert "result" not in failed


_VALUES = {
    "a.b": 1,
    "$set": 2,
    "": 3,
    "nul\0": 4,
    "数": "é",
    "huge": 10**400,
    "big": 2**80,
    "nan": float("nan"),
    "inf": float("-inf"),
    "set": {3, 1, 2},
    "tuple": (1, (2, 3)),
    "bytes": b"\0\xff",
    "surrogate": "\ud800",
    "when": datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=5))),
    "day": date(2024, 2, 29),
    "early": datetime(1, 1, 1),
    "decimal": Decimal("0.10"),
    "path": Path("/tmp/é"),
    "numpy": numpy.float64(0.25),
    "complex": 1 + 2j,
    "none": None,
    "keys": {1: 2, ("a",): 3, "$x.y": 4},
    "id": {"$": {"$literal": "$$ROOT"}, "v": "$_id"},
    "deep": [[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]],
}


def test_values_come_back(store: MongoStore) -> None:
    """Parameters of any name and value come back equal and of the same type."""
    store.allocate("token", begun(**_VALUES))
    (record,) = store.read("trials")
    found = codec.from_plain(json.loads(record.body)["parameters"])
    assert repr(found) == repr(_VALUES)


@pytest.mark.parametrize("name", sorted(_VALUES))
def test_any_parameter_is_shown(store: MongoStore, database: Any, name: str) -> None:
    """No name or value keeps a trial's document from being written, and each shows as a field."""
    trial = store.allocate("token", begun(**{name: _VALUES[name], "lr": 0.5})).trial
    assert database.trials.find_one({"parameters.lr": 0.5})["trial"] == trial
    assert len(database.trials.find_one()["parameters"]) == 2


def test_native_values(store: MongoStore, database: Any) -> None:
    """Values show in MongoDB's own types where these fit."""
    store.allocate("token", begun(**_VALUES))
    shown = database.trials.find_one()["parameters"]
    assert shown["a．b"] == 1
    assert shown["＄set"] == 2
    assert shown["big"] == Decimal128(str(2**80))
    assert sorted(shown["set"]) == [1, 2, 3]
    assert shown["tuple"] == [1, [2, 3]]
    assert shown["when"] == datetime(2024, 2, 29, 7)
    assert shown["day"] == datetime(2024, 2, 29)
    assert shown["decimal"] == Decimal128("0.10")
    assert shown["path"] == "/tmp/é"
    assert shown["numpy"] == 0.25
    assert shown["nan"] != shown["nan"]


def test_large_parameter(store: MongoStore, database: Any) -> None:
    """A parameter of 100 MB comes back; the document shows its size."""
    text = "é" * 50_000_000
    trial = store.allocate("token", begun(text=text)).trial
    assert "bytes" in database.trials.find_one()["parameters"]["text"]
    (record,) = store.read("trials")
    assert (record.trial, json.loads(record.body)["parameters"]["text"] == text) == (trial, True)


def test_outcomes(store: MongoStore, database: Any) -> None:
    """Of several outcomes the document shows the weightiest, whichever was written first."""
    orders = list(itertools.permutations(["succeeded", "failed", "interrupted"]))
    for n, order in enumerate(orders):
        trial = store.allocate(f"t{n}", begun()).trial
        for status in order:
            store.append([ended(trial, status, 5, id=status)])
    shown = database.trials.find({}, {"status": 1, "result": 1, "description": 1, "_id": 0})
    assert list(shown) == [{"status": "succeeded", "result": 5}] * len(orders)


def test_outcomes_at_once(store: MongoStore, database: Any) -> None:
    """The same holds for outcomes in one call."""
    trial = store.allocate("t", begun()).trial
    store.append([ended(trial, s, 5, id=s) for s in ("interrupted", "failed")])
    assert database.trials.find_one()["status"] == "failed"


def test_computed_parameter(store: MongoStore, database: Any) -> None:
    """A computed parameter joins the others."""
    trial = store.allocate("t", begun(lr=0.5)).trial
    body = codec.encode(records.Computed("batch.size", 64))
    store.append([Record("trials", trial, "computed", body)])
    assert database.trials.find_one()["parameters"] == {"lr": 0.5, "batch．size": 64}


def test_result_that_is_an_object(store: MongoStore, database: Any) -> None:
    """A result that is kept as an object shows its type and repr."""
    trial = store.allocate("t", begun()).trial
    ref = {"$": "object", "type": "Model", "repr": "Model()", "size": 5, "digest": "ab"}
    store.append([ended(trial, "succeeded", ref)])
    assert database.trials.find_one()["result"] == {
        "type": "Model",
        "repr": "Model()",
        "size": 5,
        "digest": "ab",
    }


# Indexes -----------------------------------------------------------------------------------------


def long_trial(store: MongoStore, n: int) -> Owner:
    """Add a trial with bodies that are objects, and with outputs."""
    owner = Owner(store.allocate(f"t{n}", begun(f"t{n}")).trial, f"t{n}")
    text, long = (json.dumps([n, "x" * size]).encode() for size in (70_000, 1_100_000))
    given = [Record(stream, owner.trial, "s", text, owner) for stream in ("steps", "notes")]
    store.append([*given, Record("points", owner.trial, "p", long, owner)])
    store.append([Record("outputs", 0, f"o{n}", long, owner), *steps(owner.trial, 3)])
    return owner


def test_nothing_of_other_experiments_is_looked_at(set_url: str) -> None:
    """What one experiment asks grows not with what is kept of others."""
    examined = {}
    for others in (1, 4):
        with found_by_indexes(set_url) as noted:
            for name in [f"other{n}" for n in range(others)]:
                with closing(open_mongo(set_url, name)) as other:
                    for n in range(1, 4):
                        long_trial(other, n)
            store = open_mongo(set_url, "a")
            owners = [long_trial(store, n) for n in range(1, 5)]
            since = datetime.now(UTC).replace(tzinfo=None)
            assert not store.has_aside()
            store.remove([Record("trials", 2, "removed", b"{}", owners[1])], ["o2"])
            for stream in ("trials", "points"):
                store.set_aside(stream, next(iter(store.read(stream, [3]))))
            assert store.has_aside()
            for stream in records.STREAMS:
                assert list(store.read(stream)) is not None
                assert list(store.read_pages(stream)) is not None
                assert list(store.read_starting(stream, None, "s")) is not None
                assert list(store.read_excerpts(stream, [1, 3], 0, ["x"], "y")) is not None
            assert list(store.faults(60.0)) == []
            assert len(list(store.digests())) == 3 * 2, "bodies that are equal are kept once"
            assert [one.id for one in store.find(["o1", "o2"])] == ["o1"]
            with pytest.raises(RecordsRefusedError):
                store.append([Record("points", 1, "q", b"{}", Owner(1, "t3"))])
            assert set(list_mongo(set_url)) >= {"a", "other0"}
            store.delete()
            assert store.last_deletion()
            store.close()
        mine = [one for one in noted if one["ts"] >= since and "other" not in str(one["command"])]
        examined[others] = sum(one.get("docsExamined", 0) for one in mine)
        _drop(set_url)
    assert examined[4] <= examined[1] + 2 * 3, examined


# Round trips -------------------------------------------------------------------------------------


class _Counter(monitoring.CommandListener):
    """Counts the commands that a client sends."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.in_vain = 0
        """How many of them wrote nothing, or not all."""

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)
        self.sent.append(event.command)

    def succeeded(self, event: Any) -> None:
        self.in_vain += bool(event.reply.get("writeErrors"))

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture
def counted(url: str) -> Iterator[tuple[MongoStore, list[str]]]:
    """Give a store that has its indexes, and the commands that it sends from now on."""
    counter = _Counter()
    with Client(url, event_listeners=[counter]) as client:
        store = open_mongo(client.get_default_database(), "a")
        _trial(store, 0)
        counter.names.clear()
        yield store, counter.names


def _trial(store: MongoStore, n: int) -> None:
    trial = store.allocate(f"t{n}", begun(lr=n)).trial
    outputs = [Record("outputs", 0, f"o{k}", b"{}") for k in range(2)]
    store.append([*steps(trial, 2), *outputs, ended(trial, "succeeded", n)])


def test_trial_takes_three_round_trips(counted: tuple[MongoStore, list[str]]) -> None:
    """A trial of two steps, outputs included, takes three commands."""
    store, commands = counted
    for n in range(1, 6):
        _trial(store, n)
        assert len(commands) <= 3, commands
        commands.clear()


def test_trial_is_plain_updates(url: str) -> None:
    """Beginning and end of a trial are plain updates, on the disk of a majority, of few calls."""
    counter = _Counter()
    with Client(url, event_listeners=[counter]) as client:
        store = open_mongo(client.get_default_database(), "a")
        _end(store, store.allocate("t0", begun(lr=0)).trial)
        counter.sent.clear()
        _end(store, store.allocate("t1", begun(lr=1)).trial)
        first, second = counter.sent
    # A check that the last write is there, and an insertion; then one that is both.
    assert [len(each["updates"]) for each in (first, second)] == [2, 1]
    for each in (first, second):
        assert each["writeConcern"] == {"w": "majority", "j": True}
        assert all(isinstance(one["u"], dict) for one in each["updates"]), "no pipelines"


def _end(store: MongoStore, trial: int) -> None:
    store.append([*steps(trial, 2), ended(trial, "succeeded", trial)])


def test_writes_are_few_calls_of_the_driver(store: MongoStore, database: Any) -> None:
    """The beginning and the end of a trial make hardly more calls than two pings."""
    base = os.path.dirname(pymongo.__file__) + os.sep

    def ping() -> None:
        with pymongo.timeout(5):
            database.command("ping")

    for n in range(2):  # the first opens connections, and asks for indexes
        _end(store, store.allocate(f"t{n}", begun()).trial)
        ping()
    made = calls_of(lambda: _end(store, store.allocate("t2", begun()).trial), base)
    assert made < 2.5 * calls_of(ping, base)


@pytest.mark.parametrize("token", ["other", "t0"], ids=["another owner", "the owner"])
def test_guess_names_the_owner(store: MongoStore, token: str) -> None:
    """Records behind the last write join its trial only if that is their owner's."""
    trial = store.allocate("t0", begun()).trial
    records = [one._replace(owner=Owner(trial, token)) for one in steps(trial, 1)]
    if token == "t0":
        store.append(records)
    else:
        with pytest.raises(RecordsRefusedError):
            store.append(records)
    assert len(list(store.read("steps"))) == (token == "t0")


_BEHIND = {
    "a trial": lambda other: [ended(other, "succeeded", 1)],
    "a note": lambda other: [Record("notes", other, "note", b"{}")],
    "documents beside it": lambda other: steps(other, 3000),
}
"""What another writer adds to its trial, before that is removed."""


@pytest.mark.parametrize("added", _BEHIND.values(), ids=_BEHIND)
@pytest.mark.parametrize("first", [True, False], ids=["an older trial", "a younger trial"])
def test_guess_behind_a_removal(store: MongoStore, url: str, added: Any, first: bool) -> None:
    """Where a trial was removed nobody writes: who has read on would not see it."""
    writer, other = store, open_mongo(url, "a")
    beginners = [(other, "o"), (writer, "w")]
    for each, token in beginners if first else beginners[::-1]:
        each.allocate(token, begun(token=token))
    removed, mine = (1, 2) if first else (2, 1)
    owner = Owner(removed, "o")
    # What nobody read yet is there to be seen, and so are the numbers of what is gone.
    other.append([one._replace(owner=owner) for one in added(removed)])
    other.remove([Record("trials", removed, "removed", b"{}", owner)])
    last = list(other.read("trials"))[-1]
    writer.append([ended(mine, "succeeded", 1)._replace(owner=Owner(mine, "w"))])
    (new,) = other.read("trials", after=last.position)
    assert (new.trial, new.id) == (mine, "ended")
    other.remove([Record("trials", removed, "removed", b"{}", owner)])  # again: nothing changes
    assert writer.allocate("x", begun()).trial == 3
    assert [one.trial for one in other.read("trials")][-3:] == [removed, mine, 3]
    assert not list(other.faults(10))
    other.close()


def test_removal_while_a_guess_is_looked_at(store: MongoStore, url: str, client: Client) -> None:
    """Where a server has found that nobody wrote, it writes though others did, before a removal.

    Between the two it may do anything else. Who has read on by then would not see it.
    """
    other = open_mongo(url, "a")
    owner = Owner(store.allocate("o", begun(token="o")).trial, "o")
    notes = [Record("notes", owner.trial, f"note{n}", b"{}", owner) for n in range(2)]
    store.append(notes[:1])
    point = "hangBeforeUpsertPerformsInsert"
    entered = client.admin.command({"configureFailPoint": point, "mode": "alwaysOn"})["count"]
    last = None
    with ThreadPoolExecutor(2) as pool:
        try:
            begins = pool.submit(store.allocate, "w", begun(token="w"))
            client.admin.command(
                "waitForFailPoint", point, timesEntered=entered + 1, maxTimeMS=60_000
            )
            other.append(notes[1:])
            removes = pool.submit(
                other.remove, [Record("trials", owner.trial, "removed", b"{}", owner)]
            )
            while not removes.done() and (last is None or last.id != "removed"):
                # Behind the marker it stops, too, before what it inserts there.
                last = next(reversed(list(other.read("trials"))), None)
        finally:
            client.admin.command({"configureFailPoint": point, "mode": "off"})
        removes.result()
        assert begins.result().trial == 2
    assert last is not None
    assert last.id == "removed"
    assert [one.trial for one in other.read("trials", after=last.position)] == [2]
    other.close()


def test_trial_beside_others(counted: tuple[MongoStore, list[str]], url: str) -> None:
    """After another writer's trial it takes few more, and the ids stay without gap."""
    store, commands = counted
    other = open_mongo(url, "a")
    for n in range(1, 8, 2):
        _trial(other, n)
        commands.clear()
        _trial(store, n + 1)
        assert len(commands) <= 5, commands
    other.close()
    assert [r.trial for r in store.read("trials") if r.id == "begun"] == list(range(1, 10))


_ODD_ENDS: dict[str, tuple[Callable[[list[Record]], list[Record]], list[str]]] = {
    "none": (lambda ends: [], ["update"]),
    "a step that is there": (lambda ends: ends[6:7], ["update", "aggregate", "find", "update"]),
    "a stronger end": (
        lambda ends: [ended(ends[6].trial, "succeeded", id="other")],
        ["update", "aggregate", "find", "update"],
    ),
    "the last is there": (lambda ends: ends[-3:], ["update", "aggregate"]),
}
"""What there is already of the ends of eight trials -> the commands that write them."""


@pytest.mark.parametrize(("before", "expected"), _ODD_ENDS.values(), ids=_ODD_ENDS)
def test_ends_of_several_trials(
    counted: tuple[MongoStore, list[str]], url: str, before: Any, expected: list[str]
) -> None:
    """Ends of many trials are one command; what is not as simple goes apart, and leaves no gap."""
    store, commands = counted
    trials = [store.allocate(f"o{n}", begun()).trial for n in range(8)]
    assert commands == ["update"] * 8
    ends = [one for trial in trials for one in [*steps(trial, 2), ended(trial, "failed")]]
    store.append(before(ends))
    commands.clear()
    store.append(ends)
    assert commands == expected
    commands.clear()
    store.append(ends)  # again, as after a connection that broke: nothing changes
    found = {(r.trial, r.id) for name in ("steps", "trials") for r in store.read(name)}
    assert {(one.trial, one.id) for one in ends} <= found
    assert len([one for one in store.read("steps") if one.trial in trials]) == 16
    numbers = {r.position >> 16 for name in ("steps", "trials") for r in store.read(name)}
    assert numbers == set(range(1, max(numbers) + 1))


@pytest.mark.parametrize("together", [2, 8])
def test_round_trips_beside_other_writers(
    counted: tuple[MongoStore, list[str]], url: str, together: int
) -> None:
    """Beside others a trial's beginning takes two round trips, and the ends of many two."""
    store, commands = counted
    others = [open_mongo(url, "a") for _ in range(together - 1)]

    def between(n: int, k: int) -> None:
        for m, other in enumerate(others):
            _end(other, other.allocate(f"{m}-{n}-{k}", begun()).trial)

    for n in range(5):
        ends: list[Record] = []
        commands.clear()
        for k in range(8):
            trial = store.allocate(f"{n}-{k}", begun()).trial
            ends += [*steps(trial, 2), ended(trial, "succeeded", 1)]
            between(n, k)
        store.append(ends)
    # A guess is tried now and then all the same.
    assert len(commands) <= 2 * 9 + 1
    assert "aggregate" not in commands
    for other in others:
        other.close()
    ids = [one.trial for one in store.read("trials") if one.id == "begun"]
    assert ids == list(range(1, 2 + 5 * 8 * together))


@pytest.mark.parametrize("there", [True, False])
def test_outputs_that_others_had(
    counted: tuple[MongoStore, list[str]], url: str, there: bool
) -> None:
    """Who repeats what others computed looks for outputs first, until they are new."""
    store, commands = counted
    outputs = [[Record("outputs", 0, f"x{n}-{k}", b"{}") for k in range(3)] for n in range(4)]
    other = open_mongo(url, "a")
    for batch in outputs if there else outputs[:1]:
        other.append(batch)
    other.close()
    store.append(outputs[0])
    taken = []
    for batch in outputs[1:]:
        commands.clear()
        assert len(store.append(batch)) == 3 * there
        taken.append(list(commands))
    assert taken == ([["find"]] * 3 if there else [["find", "aggregate"], *[["aggregate"]] * 2])


def test_guesses_that_are_wrong_most_often(url: str) -> None:
    """Beside a writer who always comes between, few writes are tried by a guess; alone, all are."""
    counter = _Counter()
    other = open_mongo(url, "a")
    with Client(url, event_listeners=[counter]) as client:
        store = open_mongo(client.get_default_database(), "a")
        for n in range(40):
            trial = store.allocate(f"t{n}", begun()).trial
            _end(other, other.allocate(f"o{n}", begun()).trial)
            _end(store, trial)
            _end(other, other.allocate(f"p{n}", begun()).trial)
        beside = counter.in_vain
        for n in range(40, 60):
            counter.names.clear()
            _end(store, store.allocate(f"t{n}", begun()).trial)
        assert counter.names == ["update", "update"]
    other.close()
    assert beside <= 40 / 4


def test_history_takes_two_reads(counted: tuple[MongoStore, list[str]]) -> None:
    """All trials are read with two commands."""
    store, commands = counted
    for n in range(1, 300):
        store.allocate(f"t{n}", begun(lr=n))
    commands.clear()
    assert len(list(store.read("trials"))) == 301
    assert len(commands) == 2


def test_guess_after_delete_by_another(store: MongoStore, url: str) -> None:
    """A store whose last trial somebody deleted begins at one, although it knew of others."""
    for n in range(3):
        store.allocate(f"t{n}", begun())
    other = open_mongo(url, "a")
    other.delete()
    other.close()
    assert store.allocate("t3", begun()).trial == 1
    assert store.state().latest == 1


@pytest.mark.parametrize("collection", [RECORDS, CHUNKS])
def test_deleting_while_somebody_writes(
    collection: str, store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a trial that begins during a deletion nothing is there then, or all of it."""
    other, body, run, met = open_mongo(url, "a"), bytes(2_000_000), Connected.run, []
    store.allocate("old", begun())
    store.append([Record("points", 1, "x", b"{}")])
    store.put("ab", [body])

    def meeting(self: Connected, work: Any, *args: Any) -> Any:
        if work is mongo_stores._delete and args[0] == collection and not met:
            met.append(other.allocate("new", begun()).trial)
            other.append([Record("points", 1, "y", b"{}")])
            other.put("ab", [body])
        return run(self, work, *args)

    monkeypatch.setattr(Connected, "run", meeting)
    store.delete()
    monkeypatch.undo()
    assert met == [1]
    assert list(other.read("trials")) == list(other.read("points")) == []
    assert other.sizes(["ab"]) == {}
    assert list_mongo(url) == []
    assert other.allocate("next", begun()).trial == 1
    other.put("ab", [body])
    assert bytes(other.get("ab")) == body
    assert list(other.faults(10)) == []
    other.close()


def test_deleting_what_never_rests(
    store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes what somebody writes to all the time comes to an end."""
    other, run, met = open_mongo(url, "a"), Connected.run, []

    def meeting(self: Connected, work: Any, *args: Any) -> Any:
        if work is mongo_stores._delete and args[0] == RECORDS:
            met.append(other.allocate(f"t{len(met)}", begun()).trial)
        return run(self, work, *args)

    monkeypatch.setattr(Connected, "run", meeting)
    store.allocate("old", begun())
    store.delete()
    assert len(met) == mongo_stores._ROUNDS
    other.close()


# Order -------------------------------------------------------------------------------------------


def test_one_trial_of_many_writers(url: str) -> None:
    """Who follows a stream misses nothing, while many write to one and the same trial."""
    stores = [open_mongo(url, "a") for _ in range(4)]
    trials = [stores[0].allocate(f"t{n}", begun()).trial for n in range(2)]
    seen: list[Any] = []

    def write(n: int) -> None:
        for k in range(25):
            stores[n % 4].append(steps(trials[k % 2], 2, prefix=f"{n}-{k}-"))

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(write, n) for n in range(8)]
        while not all(job.done() for job in jobs):
            seen += stores[0].read("steps", after=seen[-1].position if seen else 0)
        for job in jobs:
            job.result()
    seen += stores[0].read("steps", after=seen[-1].position if seen else 0)
    assert seen == list(stores[1].read("steps"))
    assert len({(one.trial, one.id) for one in seen}) == len(seen) == 400
    for one in stores:
        one.close()


def test_writes_during_a_read(
    store: MongoStore, url: str, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written during a read, before and behind the place it has reached, is read later."""
    for n in range(50):
        store.append(steps(store.allocate(f"t{n}", begun()).trial, 1))

    def documents(_: Any, collection: str, filter: Any, projection: Any) -> Iterator[Any]:
        cursor = database[collection].find(filter, projection, hint="_id_", batch_size=2)
        yield next(cursor)
        other = open_mongo(url, "a")
        other.append(steps(1, 1, prefix="before"))
        other.append(steps(50, 1, prefix="behind"))
        other.close()
        yield from cursor

    with monkeypatch.context() as patch:
        patch.setattr(mongo_trials, "documents", documents)
        seen = list(store.read("steps"))
    assert len(seen) >= 50
    seen += store.read("steps", after=seen[-1].position)
    assert [one.id for one in seen] == ["s0"] * 50 + ["before0", "behind0"]


def test_many_steps(store: MongoStore, database: Any) -> None:
    """A trial of thousands of steps goes on in further documents, in order and only once."""
    trial = store.allocate("t", begun()).trial
    batch = steps(trial, 3000)
    for start in (0, 50, 40, 1500, 1000):
        store.append(batch[start : start + 1500])
    store.append([*batch, ended(trial, "succeeded", 1)])
    assert sorted(r.id for r in store.read("steps")) == sorted(r.id for r in batch)
    assert database.trials.count_documents({"status": "succeeded"}) == 1
    assert database.trials.count_documents({"part": {"$exists": True}}) > 1


def test_notes_are_found_without_a_look_at_trials(store: MongoStore, database: Any) -> None:
    """Who asks what was said of trials has the server look at those of which something was said."""
    for number in range(30):
        _trial(store, number)
    store.append([Record("notes", 7, "n", b"{}")])
    database.command("profile", 2)
    assert [one.id for one in store.read("notes")] == ["n"]
    database.command("profile", 0)
    asked = database["system.profile"].find({"ns": f"{database.name}.trials", "op": "query"})
    assert [each["docsExamined"] for each in asked][-1] == 1


def test_full_document(store: MongoStore, database: Any) -> None:
    """A trial's document stays small, however many records come one by one."""
    trial = store.allocate("t", begun()).trial
    body = json.dumps({"note": "x" * 60_000}).encode()
    for n in range(12):
        store.append([Record("notes", trial, f"n{n}", body)])
    store.append([ended(trial, "succeeded", 1)])
    store.append([Record("notes", trial, f"n{n}", body) for n in range(12)])
    assert [r.id for r in store.read("notes")] == [f"n{n}" for n in range(12)]
    sizes = database.trials.aggregate([{"$project": {"size": {"$bsonSize": "$$ROOT"}}}])
    assert max(found["size"] for found in sizes) < 1_000_000
    assert database.trials.find_one({"trial": trial, "part": None})["status"] == "succeeded"


def test_end_without_beginning(store: MongoStore, database: Any) -> None:
    """What is delivered for a trial that was deleted is kept, and never takes a trial's place."""
    for _ in range(2):
        store.append([ended(1, "succeeded", 1), Record("trials", 1, "begun", begun())])
    assert database.trials.count_documents({}) == 1
    assert store.allocate("t", begun(lr=1)).trial == 1
    assert [r.id for r in store.read("trials")] == ["ended", "begun"]


def test_points_in_buckets(store: MongoStore, database: Any) -> None:
    """Batches of points lie in documents far below 16 MB, and come back in order."""
    points = [["loss", n, 0.5, 1.7e9] for n in range(2000)]
    body = json.dumps({"points": points}).encode()
    batch = [Record("points", 1, f"b{n}", body) for n in range(200)]
    store.append(batch)
    store.append(batch[:3])
    assert [r.id for r in store.read("points")] == [r.id for r in batch]
    sizes = database["daskperiment.records"].aggregate(
        [{"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    )
    assert max(found["size"] for found in sizes) < 5_000_000


# Foreign documents -------------------------------------------------------------------------------


def _foreign() -> dict[str, list[dict[str, Any]]]:
    return {
        "trials": [
            {"_id": ObjectId(), "experiment": "a", "trial": 1, "status": "succeeded"},
            {"_id": ObjectId(), "experiment": "a", "trial": 1, "token": "t0", "records": [1]},
            {"_id": {"experiment": "a", "arm": 3}, "experiment": "a", "token": "t0"},
            {"_id": {"experiment": "a", "trial": "x"}, "records": [{"n": 1}, {"n": 1}]},
            {"_id": "a", "daskperiment": "mine"},
        ],
        "fs.files": [{"_id": {"experiment": "a"}, "filename": "aa", "length": 1}],
        "a": [{"_id": 1}],
        "daskperiment": [{"_id": 1, "experiment": "a"}],
    }


def test_foreign_documents(store: MongoStore, url: str, database: Any) -> None:
    """Foreign documents and collections stay as they are, and are never taken for ours."""
    foreign = _foreign()
    for name, found in foreign.items():
        database[name].insert_many(found)
    ours = [store, *(open_mongo(url, name) for name in ("a1", "aa", "b"))]
    for one in ours:
        assert one.state().latest == 0
        for n in range(3):
            _trial(one, n)
        one.put("aa", [b"x" * 2_000_000])
    assert list_mongo(url) == ["a", "a1", "aa", "b"]
    for one in ours:
        one.delete()
        one.close()
    assert list_mongo(url) == []
    for name in database.list_collection_names():
        found = list(database[name].find())
        if name == "daskperiment.deletions":
            assert all(set(one) == {"_id", "name", "at"} for one in found)
            continue
        assert found == foreign.get(name, []), name


def test_experiments_of_another_database(store: MongoStore, url: str, client: Client) -> None:
    """Experiments are listed for one database, including one that only keeps an object."""
    assert list_mongo(url) == []
    store.put("aa", [b"x"])
    assert list_mongo(url) == list_mongo(client.get_default_database()) == ["a"]
    assert list_mongo(client["elsewhere"]) == []


def test_upload_that_was_cut_off(store: MongoStore, database: Any) -> None:
    """Chunks without a file are no object, are no hindrance, and go when the experiment goes."""
    store.put("aa", [b"x" * 3_000_000])
    database["daskperiment.objects.files"].delete_many({})
    with pytest.raises(KeyError):
        store.get("aa")
    store.put("aa", [b"y" * 3_000_000])
    assert bytes(store.get("aa")) == b"y" * 3_000_000
    store.delete()
    assert database["daskperiment.objects.chunks"].count_documents({}) == 0


@pytest.mark.parametrize("again", [False, True])
def test_discarded_while_read(store: MongoStore, url: str, again: bool) -> None:
    """An object that is discarded while it is read is not there; one kept again is read."""
    data = os.urandom(3_000_000)
    other = open_mongo(url, "a")
    store.put("ab", [data])
    find = store._objects._find
    found: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        found.append(find(*arguments))
        if len(found) == 1:
            other.discard(["ab"])
            if again:
                other.put("ab", [data])
        return found[-1]

    store._objects._find = interrupted  # type: ignore[method-assign]
    if again:
        assert bytes(store.get("ab")) == data
    else:
        with pytest.raises(KeyError, match="ab"):
            store.get("ab")
    other.close()


def test_discard_leaves_nothing(
    store: MongoStore, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discarding removes all uploads of an object, with their bytes, and no other's."""
    for digest in ("a", "ab", "abc"):
        store.put(digest, [bytes(2_500_000)])
    with monkeypatch.context() as patch:
        patch.setattr(store._objects, "_find", lambda *_: None)  # as one of two at once sees it
        store.put("ab", [bytes(2_500_000)])
    assert database["daskperiment.objects.files"].count_documents({}) == 4
    assert store.sizes(["ab"]) == {"ab": 2_500_000}
    store.discard(["ab"])
    for name, field, count in (("files", "_id", 2), ("chunks", "files_id", 6)):
        collection = database[f"daskperiment.objects.{name}"]
        assert collection.find().distinct(f"{field}.digest") == ["a", "abc"]
        assert collection.count_documents({}) == count


def test_found_by_indexes(store: MongoStore, database: Any) -> None:
    """Finding outputs and sizes looks at few more keys and documents than it gives."""
    for start in range(0, 3000, 3):
        names = [f"o{number}" for number in range(start, start + 3)]
        store.append([Record("outputs", 0, name, b"{}") for name in names])
    for number in range(100):
        store.put(f"{number:04x}", [b"x"])
    database.command("profile", 2)
    try:
        assert len(store.find([f"o{number}" for number in range(0, 3000, 6)])) == 500
        assert len(store.sizes([f"{number:04x}" for number in range(50)])) == 50
    finally:
        database.command("profile", 0)
    profile = list(database["system.profile"].find({"op": {"$in": ["query", "command"]}}))
    looked = [
        (each["keysExamined"], each["docsExamined"]) for each in profile if "keysExamined" in each
    ]
    assert len(looked) == 2
    assert all(keys <= 1500 and documents <= 500 for keys, documents in looked)


def test_large_object(store: MongoStore) -> None:
    """An array of 200 MB comes back equal, in writable memory."""
    array = numpy.arange(25_000_000, dtype="f8")
    store.put("ab", [b"head", array])
    found = memoryview(store.get("ab"))
    assert not found.readonly
    assert bytes(found[:4]) == b"head"
    assert numpy.array_equal(numpy.frombuffer(found, "f8", offset=4), array)


def test_object_while_the_experiment_is_deleted(
    store: MongoStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent of it before the deletion is sent again, or it would never be whole."""
    other, reads = open_mongo(url, "a"), itertools.count()
    read = mongo_objects._PartsReader.read

    def reading(self: Any, size: int) -> bytes:
        if next(reads) == 50:  # the driver has sent most of the others
            other.delete()
        return read(self, size)

    monkeypatch.setattr(mongo_objects._PartsReader, "read", reading)
    content = bytes(60 << 20)
    store.put("aa", [content])
    assert next(reads) > 100
    assert store.sizes(["aa"]) == {"aa": len(content)}
    assert bytes(store.get("aa")) == content
    assert list(store.faults(10)) == []
    other.close()


# Damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"length": None}, {"length": "7"}, {"chunkSize": 0}])
def test_object_of_unknown_length(store: MongoStore, database: Any, change: dict[str, Any]) -> None:
    """An object whose document was changed is damaged to who reads it, and can be replaced."""
    store.put("a", [b"content"])
    database["daskperiment.objects.files"].update_one({}, {"$set": change})
    with pytest.raises(CorruptRecordError, match="how long"):
        store.get("a")
    assert store.sizes(["a"]) == {}
    store.discard(["a"])
    store.put("a", [b"content"])
    assert bytes(store.get("a")) == b"content"


def test_object_that_lost_a_chunk(store: MongoStore, database: Any) -> None:
    """An object that lacks a chunk is reported as damaged."""
    store.put("aa", [os.urandom(3_000_000)])
    database["daskperiment.objects.chunks"].delete_one({"n": 1})
    with pytest.raises(CorruptRecordError, match="chunk"):
        store.get("aa")


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"records": 1}},
        {"$set": {"records": "gone"}},
        {"$unset": {"records.$[].body": 1}},
        {"$set": {"records.$[].body": 5.5}},
        {"$set": {"records.$[].object": "ff"}},
    ],
)
def test_damaged_document(store: MongoStore, database: Any, change: dict[str, Any]) -> None:
    """A document of another form than ours is named by its key, and hides no other."""
    for n in (1, 2, 3):
        store.append([Record("points", n, "x", b"{}")])
        store.allocate(f"t{n}", begun())
    for name, stream in (("trials", "trials"), ("daskperiment.records", "points")):
        database[name].update_one({}, change)
        with pytest.warns(StoreWarning, match="'experiment': 'a'"):
            assert [each.trial for each in store.read(stream)] == [2, 3]
    faults = list(store.faults(60))
    assert len(faults) >= 2
    assert all("'experiment': 'a'" in fault.what for fault in faults)


@pytest.mark.parametrize(
    "odd",
    [
        {"daskperiment": {"format": 1}},
        {"daskperiment": {"format": 1, "n": "x", "latest": []}, "records": [{"n": "z"}]},
        {"daskperiment": {"format": 1, "n": None}, "records": "x", "trial": -1},
    ],
)
def test_odd_document_hides_no_experiment(
    store: MongoStore, database: Any, odd: dict[str, Any]
) -> None:
    """Documents that others put among ours keep nobody from listing, reading and recording."""
    store.allocate("t1", begun())
    for key in ("x", {"experiment": "a", "trial": "?"}, {"experiment": "not one"}, 7):
        with suppress(DuplicateKeyError):  # the indexes take one such document
            database["trials"].insert_one({"_id": key, "experiment": "a", **odd})
    database["trials"].insert_one({"_id": {"experiment": "not one"}, "experiment": "b", **odd})
    assert list_mongo(database) == ["a"]
    assert store.state().latest == 1
    assert store.allocate("t2", begun()).trial == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        assert [each.trial for each in store.read("trials")] == [1, 2]


# Pages -------------------------------------------------------------------------------------------


def test_pages_hold_what_a_read_gives(store: MongoStore, database: Any) -> None:
    """Pages have all that a read has, of documents of every kind, and name the last record."""
    for n in range(1, 12):
        trial = store.allocate(f"t{n}", begun(lr=n)).trial
        store.append(
            [*steps(trial, 3), Record("notes", trial, "nöte", b"{}"), ended(trial, "lost")]
        )
    # In documents of their own, as objects, of one write, removed, set aside, and without an end.
    store.append(steps(1, 3000))
    long = json.dumps({"note": "x" * 70_000}).encode()
    store.append([Record("trials", 2, f"computed-{n}", long if n else b"{}") for n in range(3)])
    store.remove([Record("trials", 3, "removed", b"{}", Owner(3, "t3"))])
    store.set_aside("trials", next(iter(store.read("trials", [4]))))
    store.allocate("t12", begun())
    wide = {"$mergeObjects": ["$$this", {"n": {"$toLong": "$$this.n"}}]}
    in_64_bit = [{"$set": {"records": {"$map": {"input": "$records", "in": wide}}}}]
    database["trials"].update_one({"trial": 5}, in_64_bit)
    database["trials"].update_one({"trial": 6}, {"$set": {"trial": 70}})
    database["trials"].update_one({"trial": 8}, {"$unset": {"records.$[].body": 1}})
    database["trials"].insert_one({"_id": 5, "experiment": "a", "mine": True})
    for stream in ("trials", "steps", "notes", "points"):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            expected = list(store.read(stream))
        with warnings.catch_warnings(record=True) as told_again:
            warnings.simplefilter("always")
            pages = list(store.read_pages(stream))
        assert sorted(one for page in pages for one in page.records) == expected
        assert sorted(str(one.message) for one in told_again) == sorted(
            str(o.message) for o in told
        )
        assert [page.last for page in pages][-1:] == expected[-1:]


def test_first_reader_decodes_no_document(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a history for the first time makes no object of each document."""
    for n in range(5):
        _trial(store, n)
    monkeypatch.delattr("daskperiment.store.mongo.raw_documents.decode_all")
    monkeypatch.delattr("daskperiment.store.mongo.documents.decode_all")
    assert len(get_history(store, ())) == 5


def test_the_next_answer_is_asked_for_meanwhile(
    counted: tuple[MongoStore, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an answer is gone through the next one comes, and no more; no thread stays."""
    monkeypatch.setattr("daskperiment.store.mongo.raw_documents._BATCH", 10)
    store, commands = counted
    for n in range(1, 35):
        store.allocate(f"t{n}", begun(lr=n))
    commands.clear()
    pages = iter(store.read_pages("trials"))
    first = next(pages)
    deadline = time.monotonic() + 30
    while len(commands) < 3 and time.monotonic() < deadline:
        pass
    assert commands == ["find", "find", "getMore"]
    rest = list(pages)
    assert commands == ["find", "find", "getMore", "getMore", "getMore"]
    assert sum(len(page.records) for page in (first, *rest)) == 36
    broken_off = iter(store.read_pages("trials"))
    next(broken_off)
    broken_off.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("daskperiment-page")]


def test_pages_while_the_interpreter_ends(store: MongoStore, url: str) -> None:
    """Who reads a history when no thread can be started any more gets all of it."""
    for n in range(8):
        store.allocate(f"t{n}", begun(lr=n))
    opening = (
        "from daskperiment.store.mongo import raw_documents, store\n"
        "raw_documents._BATCH = 3\n"
        "opened = store.open_mongo(sys.argv[2], 'a')\n"
        "begin, finish = lambda: opened.read_pages('trials'), opened.close\n"
        "size_of = lambda page: len(page.records)\n"
    )
    assert printed_late("exit", opening, url) == [8]


# Outages -----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoServer]:
    """Give a server that a test may kill."""
    with running(tmp_path / "server") as server:
        yield server


@contextmanager
def impatient() -> Iterator[None]:
    """Wait for half a second only: for servers that are away, as others may need longer."""
    with dask.config.set({"daskperiment.timeout": 0.5}):
        yield


def test_server_is_killed(server: MongoServer) -> None:
    """With its server killed a store says so; with the server back it goes on and lost nothing."""
    store = open_mongo(server.url("lab"), "a")
    for n in range(20):
        _trial(store, n)
    expected = list(store.read("trials"))
    server.kill()
    calls: list[Callable[[], Any]] = [
        lambda: store.allocate("t20", begun()),
        lambda: store.append(steps(1, 1)),
        lambda: list(store.read("trials")),
        lambda: store.put("aa", [b"x"]),
        lambda: store.get("aa"),
        store.state,
        store.delete,
        lambda: list_mongo(server.url("lab")),
    ]
    for call in calls:
        with impatient(), pytest.raises(StoreUnavailableError, match=f"{server.host}/lab"):
            call()
    server.start()
    assert once_back(lambda: list(store.read("trials"))) == expected
    assert store.allocate("t20", begun()).trial == 21
    found = store.allocate("t19", begun())
    assert (found.trial, found.new) == (20, False)
    store.close()


def test_server_is_back_before_it_is_missed(server: MongoServer) -> None:
    """Connections that a server's end broke are opened again without an error."""
    store = open_mongo(server.url("lab"), "a")
    _trial(store, 0)
    server.kill()
    server.start()
    once_back(lambda: _trial(store, 1))
    assert store.state().latest == 2
    store.close()


def test_server_lost_its_data(server: MongoServer) -> None:
    """On a server that came back empty the indexes are made again."""
    store = open_mongo(server.url("lab"), "a")
    _trial(store, 0)
    server.kill()
    with impatient(), pytest.raises(StoreUnavailableError):
        store.state()
    server.wipe()
    server.start()
    assert once_back(lambda: store.allocate("t1", begun())).trial == 1
    with Client(server.url("lab")) as client:
        assert len(client.get_default_database().trials.index_information()) == 5
    store.close()


@pytest.mark.timeout(25)
def test_server_never_answers() -> None:
    """A server that accepts connections and never answers is unavailable, in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/lab"
        store = open_mongo(url, "a")
        with impatient(), pytest.raises(StoreUnavailableError):
            store.allocate("token", begun())
        store.close()


@contextmanager
def _failing(url: str, mode: Any, commands: list[str], **data: Any) -> Iterator[None]:
    """Let the server fail at commands: of the store, as our own client sends none of these."""
    with Client(url) as client:
        point = {"configureFailPoint": "failCommand", "data": {"failCommands": commands, **data}}
        client.admin.command({**point, "mode": mode})
        try:
            yield
        finally:
            client.admin.command({**point, "mode": "off"})


_COMMANDS = ["aggregate", "update", "insert", "find"]


def test_server_stalls(standalone: MongoServer) -> None:
    """A server that stops answering on an open connection is unavailable, in time."""
    url = standalone.url("stalled")
    store = open_mongo(url, "a")
    _trial(store, 0)
    with _failing(url, "alwaysOn", _COMMANDS, blockConnection=True, blockTimeMS=3000):
        for call in (lambda: store.allocate("t1", begun()), lambda: store.append(steps(1, 1))):
            with impatient(), pytest.raises(StoreUnavailableError):
                call()
    assert store.state().latest in (1, 2)
    store.delete()
    store.close()


@pytest.mark.parametrize("commands", [[name] for name in _COMMANDS], ids=_COMMANDS)
@pytest.mark.parametrize("kind", ["standalone", "replica_set"])
def test_connection_breaks(request: pytest.FixtureRequest, kind: str, commands: list[str]) -> None:
    """A connection that breaks during a command costs nothing, and nothing is written twice."""
    url = request.getfixturevalue(kind).url("broken")
    store = open_mongo(url, "a")
    _trial(store, 0)
    for n in range(1, 4):
        store.close()
        with _failing(url, {"times": 1}, commands, closeConnection=True):
            _trial(store, n)
            store.put(f"{n}", [b"x"])
            assert bytes(store.get(f"{n}")) == b"x"
    assert [r.trial for r in store.read("trials") if r.id == "begun"] == [1, 2, 3, 4]
    assert len(list(store.read("steps"))) == 8
    store.delete()
    store.close()


_CONCERNS: list[tuple[dict[str, Any], type[StoreError] | None]] = [
    ({"code": 64, "errInfo": {"wtimeout": True}}, StoreUnavailableError),
    ({"code": 91}, None),
    ({"code": 11602}, None),
    ({"code": 100}, StoreError),
]
"""What may be said of a write that took place -> what comes of it; None if it is made again."""


@pytest.mark.parametrize(("concern", "expected"), _CONCERNS)
def test_write_is_not_confirmed(set_url: str, concern: dict[str, Any], expected: Any) -> None:
    """What a majority does not confirm is not taken as written, and made again costs nothing."""
    store = open_mongo(set_url, "a")
    for n, call in enumerate((lambda: store.allocate("t1", begun()), lambda: _end(store, 2))):
        _end(store, store.allocate(f"t{2 * n}", begun()).trial)
        said = {"errmsg": "not confirmed", **concern}
        raised = pytest.raises(expected) if expected else nullcontext()
        with _failing(set_url, {"times": 1}, ["update"], writeConcernError=said), raised:
            call()
        call()
    assert [r.trial for r in store.read("trials") if r.id == "begun"] == [1, 2, 3]
    assert [r.trial for r in store.read("steps")] == [1, 1, 3, 3, 2, 2]
    store.close()


@pytest.mark.timeout(120)
def test_primary_steps_down(replica_set: MongoServer, set_url: str) -> None:
    """Writers go on when the primary steps down and another, here the same, is elected."""
    store = open_mongo(set_url, "a")
    _trial(store, 0)
    with Client(replica_set.host, directConnection=True) as client:
        client.admin.command("replSetStepDown", 1, force=True)
    for n in range(1, 4):
        _trial(store, n)
    assert [r.trial for r in store.read("trials") if r.id == "begun"] == [1, 2, 3, 4]
    store.close()


# Addresses and passwords -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://host",
        "mongodb://host/",
        "mongodb://host/?w=1",
        "mongodb://me:secret@host:27017",
        "mongodb+srv://me:secret@host/?w=1",
        "mongodb://me:secret/word@host",
        "http://me:secret@host/db",
    ],
)
def test_url_without_database(url: str) -> None:
    """A URL that names no database is refused, without its password."""
    with pytest.raises(ValueError, match="database") as caught:
        open_mongo(url, "a")
    assert "secret" not in str(caught.value)


def test_wrong_backend() -> None:
    """Anything but a URL and a Database is refused."""
    with pytest.raises(ValueError, match="int"):
        open_mongo(5, "a")


@pytest.mark.parametrize("url", ["mongodb://host:99999/db", "mongodb://a:b:c@host/db"])
def test_url_that_the_driver_refuses(url: str) -> None:
    """What the driver finds wrong with a URL is a store's error."""
    store = open_mongo(url, "a")
    with pytest.raises(StoreError):
        store.state()


def test_passwords(tmp_path: Path) -> None:
    """A password shows in no address, repr, error or traceback, but reaches the worker."""
    with running(tmp_path, auth=True) as server:
        with Client(server.host) as client:
            client.admin.command("createUser", "root", pwd="root", roles=["root"])
        with Client(server.host, username="root", password="root") as client:
            role = {"role": "readWrite", "db": "lab"}
            client.admin.command("createUser", "me", pwd=_PASSWORD, roles=[role])
        secret = quote(_PASSWORD, safe="")
        good = f"mongodb://me:{secret}@{server.host}/lab?authSource=admin"
        texts = []
        with Client(good) as client:
            for backend in (good, client["lab"]):
                store = open_mongo(backend, "a")
                store.allocate("token", begun())
                store = pickle.loads(pickle.dumps(store))
                assert store.state().latest == 1
                texts += [store.address, repr(store), str(store)]
                store.close()
        bad = open_mongo(good.replace("me:", "you:"), "a")
        texts.append(_error(StoreError, bad.state))
        assert "refused us" in texts[-1]
        bad.close()
        server.kill()
        store = open_mongo(good, "a")
        with impatient():
            texts.append(_error(StoreUnavailableError, store.state))
        store.close()
    for text in texts:
        assert server.host in text
        assert _PASSWORD not in text
        assert secret not in text


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("No space left on device", code=14031),
        OperationFailure("you are over your space quota, using 512 MB of 512 MB", code=8000),
        WriteError("Quota exceeded", code=12501),
    ],
)
def test_full_server(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose disk or quota is used up refuses with a message that says so."""

    def refuse(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr("daskperiment.store.mongo.client.MongoServer._attempt", refuse)
    store = open_mongo("mongodb://127.0.0.1:1/lab", "a")
    text = _error(StoreError, lambda: store.put("aa", [b"x"]))
    assert "no space left for what is recorded" in text
    assert "Make room on the disk" in text
    assert "password" not in text


def _error(kind: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    return "".join(traceback.format_exception(type(error), error, None))


def test_address_of_a_database(url: str, database: Any) -> None:
    """A Database has the address that its URL has."""
    assert open_mongo(database, "a").address == open_mongo(url, "a").address == f"{url}#a"


def test_database_that_cannot_be_made_again(url: str) -> None:
    """A client made of what cannot be pickled is told to be given as a URL."""
    with Client(url, server_selector=lambda servers: servers) as client:
        store = open_mongo(client.get_default_database(), "a")
        with pytest.raises(StoreError, match="Give a URL"):
            pickle.dumps(store)


# Clients -----------------------------------------------------------------------------------------


def test_given_client_stays_open(url: str, client: Client, database: Any) -> None:
    """Closing a store closes no client that it was given."""
    store = open_mongo(database, "a")
    _trial(store, 0)
    store.close()
    assert database.trials.count_documents({}) == 1


def test_no_threads_stay(url: str) -> None:
    """A store that was closed, or is forgotten, leaves no thread behind."""
    before = set(threading.enumerate())
    closed, forgotten = open_mongo(url, "a"), open_mongo(url, "b")
    _trial(closed, 0)
    _trial(forgotten, 0)
    closed.close()
    del forgotten
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_options_of_the_user(url: str) -> None:
    """A time limit in the URL counts instead of the configured one."""
    with dask.config.set({"daskperiment.timeout": 1e-9}):
        store = open_mongo(f"{url}?timeoutMS=30000", "a")
        assert store.allocate("token", begun()).trial == 1
        store.close()


def test_unacknowledged_writes_are_not_used(url: str) -> None:
    """A URL that asks for unacknowledged writes does not get them here."""
    store = open_mongo(f"{url}?w=0", "a")
    _trial(store, 0)
    assert len(list(store.read("steps"))) == 2
    store.close()


def test_clock_is_the_servers(store: MongoStore, client: Client) -> None:
    """The clock is the server's, and in UTC."""
    told = client.admin.command("hello")["localTime"].replace(tzinfo=UTC).timestamp()
    clocks = [store.allocate(f"t{n}", begun()).clock for n in range(3)] + [store.state().clock]
    assert clocks == sorted(clocks)
    assert clocks[0] >= told
    later = client.admin.command("hello")["localTime"].replace(tzinfo=UTC).timestamp()
    assert clocks[-1] <= later


def test_clock_where_the_last_write_was_looked_for(store: MongoStore, url: str) -> None:
    """It is never ahead of the server's, though that took its time to look for the last write."""
    other = open_mongo(url, "a")
    other.allocate("t0", begun())
    store.allocate("t1", begun())
    other.allocate("t2", begun())
    with _failing(url, {"times": 1}, ["find"], blockConnection=True, blockTimeMS=200):
        told = store.allocate("t3", begun()).clock
    assert told <= store.state().clock
    other.close()


def test_a_forgotten_store_leaves_context_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the garbage collector closes, in the middle of anything, sets no variable there."""
    var, closed = ContextVar("var", default=0), list[Any]()

    def close(client: Any) -> None:
        var.set(1)  # as the driver does, for the time that it takes at most
        closed.append(client)

    collect()  # what other tests left
    monkeypatch.setattr(pymongo.MongoClient, "close", close)
    with without_collector():
        server = Connected(mongo_target("mongodb://127.0.0.1:1/nowhere"), "here")
        server._connected()
        vars(server)["itself"] = server
        del server
        before = copy_context()
        collect()
    assert len(closed) == 1
    assert var.get() == 0
    assert dict(copy_context().items()) == dict(before.items())
