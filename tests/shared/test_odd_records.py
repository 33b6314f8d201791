"""What stands where a record belongs and is none: left out, named by ``check``, set aside."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pymongo
import pytest
import redis

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import StoreWarning
from daskperiment.history.trial_records import read_trials
from daskperiment.store.opening import open_store
from tests.shared.conftest import open_again
from tests.shared.places import Place

ID = "odd"


def in_folder(statement: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        with closing(sqlite3.connect(place.backend / ID / "records.sqlite")) as connection:
            assert connection.execute(statement).rowcount == 1
            connection.commit()

    return change


def in_redis(*command: Any) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        with redis.Redis.from_url(place.backend) as client:
            client.execute_command(
                *(str(word).replace("@", "daskperiment:{odd}:") for word in command)
            )

    return change


def in_mongo(collection: str, which: dict[str, Any], update: Any) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        with pymongo.MongoClient(place.backend) as client:
            done = client.get_default_database()[collection].update_one(which, update)
            assert done.modified_count == 1

    return change


SECOND, POINTS = {"_id.trial": 2}, {"_id.stream": "points"}
CASES = {
    "folder, trial": ("folder", in_folder("UPDATE steps SET trial = 'x' WHERE position = 3")),
    "folder, id": ("folder", in_folder("UPDATE points SET id = x'00' WHERE position = 2")),
    "redis, foreign entry": ("redis", in_redis("XADD", "@stream:steps", "*", "mine", "1")),
    "redis, no trial": ("redis", in_redis("XADD", "@stream:trials", "7-0", "x:begun", "{}")),
    "redis, counter lost": ("redis", in_redis("HDEL", "@counters", "stream:steps")),
    "mongo, body": ("mongo", in_mongo("trials", SECOND, {"$set": {"records.1.body": 5}})),
    "mongo, no id": ("mongo", in_mongo("trials", SECOND, {"$unset": {"records.1.id": 1}})),
    "mongo, no element": ("mongo", in_mongo("trials", SECOND, {"$set": {"records.1": 7}})),
    "mongo, no stream": ("mongo", in_mongo("trials", SECOND, {"$set": {"records.1.stream": 7}})),
    "mongo, number": ("mongo", in_mongo("trials", SECOND, {"$unset": {"records.1.n": 1}})),
    "mongo, large record": (
        "mongo", in_mongo("trials", SECOND, {"$set": {"records.1.object": "ab"}}),
    ),
    "mongo, other trial": ("mongo", in_mongo("trials", SECOND, {"$set": {"trial": 99}})),
    "mongo, no list": ("mongo", in_mongo("trials", SECOND, {"$set": {"records": "gone"}})),
    "mongo, points": (
        "mongo", in_mongo("daskperiment.records", POINTS, {"$set": {"records.0.trial": "x"}}),
    ),
    "mongo, no points": (
        "mongo", in_mongo("daskperiment.records", POINTS, {"$set": {"records": {}}}),
    ),
}  # fmt: skip


def define(ex: daskperiment.Experiment) -> Any:
    n = ex.parameter("n", default=0)

    @ex
    def step(n: int) -> int:
        ex.save_metric("loss", 0, n)
        return n

    @ex.result
    def last(n: int) -> int:
        return 10 * n

    return last(step(n))


@pytest.mark.parametrize("case", CASES)
def test_odd_record(case: str, make_place: Callable[[str], Place]) -> None:
    """It costs no other record, is told of, is found and mended, and trials go on behind it."""
    kind, change = CASES[case]
    place = make_place(kind)
    result = define(open_again(ID, place.backend))
    for n in (1, 2, 3):
        assert result.bind(n=n).compute(scheduler="synchronous") == 10 * n
    daskperiment.recording.registry.close_recorders()
    change(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ex = open_again(ID, place.backend)
        history = ex.get_history(running=True)
        assert history["Result"][[1, 3]].tolist() == [10, 30]
        store = open_store(place.backend, ID)
        left = sum(len(list(store.read(stream))) for stream in ("trials", "steps", "points"))
    counter = case == "redis, counter lost"
    warned = any(issubclass(one.category, StoreWarning) for one in caught)
    assert warned != (counter or case in ("mongo, no stream", "mongo, no element"))
    whole = case in ("mongo, other trial", "mongo, no list")
    assert left == 15 - (
        0 if counter or "entry" in case or "no trial" in case else 4 if whole else 1
    )
    found = examine(store).findings
    assert any(one.mend is not None and "--repair" in one.remedy for one in found), found
    for one in found:
        if one.mend is not None:
            one.mend()
    assert all(one.mend is None for one in examine(store).findings)
    assert store.has_aside() or counter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = define(open_again(ID, place.backend))
        assert result.bind(n=4).compute(scheduler="synchronous") == 40
        again = open_again(ID, place.backend)
        history = again.get_history(verbose=True, running=True)
    assert history["Result"][[1, 3, 4]].tolist() == [10, 30, 40]
    assert read_trials(again._store)[4].status == "succeeded"
    again.delete()
    if kind == "mongo":
        with pymongo.MongoClient(place.backend) as client:
            assert client.get_default_database()["daskperiment.aside"].count_documents({}) == 0
    store.close()
