"""Dropping the least recently used reusable objects."""

from __future__ import annotations

import math
import re
import tracemalloc
import warnings
from datetime import UTC, datetime, timedelta

import dask
import msgspec
import numpy as np
import pandas as pd
import pytest

from daskperiment.codec import encode, pack
from daskperiment.errors import (
    CorruptRecordError,
    PersistedResultNotFoundError,
    StoreUnavailableError,
    StoreWarning,
)
from daskperiment.history.steps import get_persisted
from daskperiment.pruning import prune
from daskperiment.recording.registry import recorder_for
from daskperiment.records import Computed, Ended, Output, Recipe, StepRun, digests_within
from tests.helpers.shop import Shop, Value
from tests.history.lab import ELSEWHERE, NOW, Lab

COLUMNS = ["Step", "Trial ID", "Size", "Last Used", "Digest"]


@pytest.fixture(autouse=True)
def _journals(tmp_path):
    with dask.config.set({"daskperiment.journal": str(tmp_path / "journals")}):
        yield


@pytest.fixture
def shop():
    """Make an experiment without trials, in a store in memory."""
    return Shop()


# Choosing --------------------------------------------------------------------------------------


def test_older_than(shop):
    """What was last used longer ago goes, by the end of its run and the store's clock."""
    old, middle, new = (shop.keep(Value(f"{ago}"), ago=ago) for ago in (30, 20, 10))
    assert shop.prune(older_than=20) == [old]
    assert not shop.has(old)
    assert shop.has(middle, new)
    assert shop.prune(older_than=timedelta(seconds=19.5)) == [middle]
    assert shop.prune(older_than=np.timedelta64(9, "s")) == [new]
    assert shop.prune(older_than=0) == []


def test_max_bytes(shop):
    """The least recently used go until what stays fits, and no more of them."""
    ages = {"a": 20, "b": 40, "c": 10, "d": 30}
    digests = {name: shop.keep(Value(name), ago=ago) for name, ago in ages.items()}
    size = shop.store.sizes(digests.values())[digests["a"]]
    assert shop.prune(max_bytes=4 * size) == []
    assert shop.prune(max_bytes=3 * size) == [digests["b"]]
    assert shop.prune(max_bytes=2 * size - 1) == [digests["d"], digests["a"]]
    assert shop.prune(max_bytes=np.int64(0)) == [digests["c"]]


def test_both_limits(shop):
    """With both limits goes what is too old, and then what is too much."""
    digests = [shop.keep(Value(f"{ago}"), ago=ago) for ago in (40, 30, 20, 10)]
    size = shop.store.sizes(digests)[digests[0]]
    assert shop.prune(max_bytes=3 * size, older_than=25) == digests[:2]
    assert shop.prune(max_bytes=size, older_than=1000) == [digests[2]]


def test_reuse_is_a_use(shop):
    """An object that was kept long ago and reused lately outlives one that was not."""
    first, second = shop.keep(Value("a"), ago=100), shop.keep(Value("b"), ago=50)
    shop.reuse(Value("a"), ago=10, source=1)
    assert shop.prune(older_than=20) == [second]
    assert shop.has(first)
    assert shop.prune(older_than=9) == [first]


def test_kept_twice(shop):
    """An object that two trials kept is dropped once, as the first one's, by its last use."""
    digest = shop.keep(Value("a"), ago=10)
    assert shop.keep(Value("a"), ago=100) == digest
    frame = prune(shop.store, max_bytes=0)
    assert frame["Trial ID"].tolist() == [1]
    assert frame["Last Used"][0] == pd.Timestamp(NOW - 10, unit="s", tz="UTC")


def test_plain_values(shop):
    """Plain values are part of their records: there is nothing to drop."""
    trial = shop.begin()
    shop.step(trial, "prepare", kept={"value": [1, 2]}, reusable=True)
    shop.step(trial, "describe", kept={"value": shop.form({"$": "object", "digest": "aa"})})
    shop.store.put("aa", [b"x"])
    assert shop.prune(max_bytes=0) == []
    assert get_persisted(shop.store, "prepare", 1) == [1, 2]


def test_what_was_not_kept(shop):
    """A value that could not be kept, and an object that is gone already, are passed over."""
    trial = shop.begin()
    shop.step(trial, "prepare", kept={"value": shop.form(Lab().store._lock)}, reusable=True)
    gone = shop.keep(Value("a"), ago=10)
    shop.store.discard([gone])
    assert shop.prune(max_bytes=0) == []


# What stays ------------------------------------------------------------------------------------


def test_needed_elsewhere(shop):
    """An object that is also a result, a parameter or a persisted value stays."""
    values = {name: Value(name) for name in ("result", "given", "computed", "persisted", "free")}
    digests = {name: shop.keep(value, ago=50) for name, value in values.items()}
    trial = shop.begin({"a": values["given"]})
    shop.compute(trial, "b", values["computed"])
    shop.succeed(trial, values["result"])
    shop.keep(values["persisted"], ago=50, reusable=False)
    assert shop.prune(max_bytes=0, older_than=0) == [digests["free"]]
    assert shop.has(*(digest for name, digest in digests.items() if name != "free"))


def test_code_and_environment(shop):
    """A trial's code, environment and graph stay even if a step persisted the same bytes."""
    trial = shop.begin()
    digests = list(shop.store._objects)
    assert len(digests) == 3
    for digest in digests:
        reference = {"$": "object", "type": "t", "repr": "r", "size": 1, "digest": digest}
        shop.step(trial, f"prepare#{digest}", kept={"value": reference}, reusable=True)
    shop.succeed(trial, 0)
    assert shop.prune(max_bytes=0) == []


def test_recipes_do_not_hold(shop):
    """What is known of a recipe's output does not keep the output."""
    digest = shop.keep(Value("a"), ago=10)
    kept = {"value": shop.form(Value("a"))}
    shop.add("outputs", 0, "r-1", Recipe(1, "prepare", "prepare", kept=kept))
    assert shop.prune(max_bytes=0) == [digest]


def test_running_trials(shop):
    """What a running trial kept or reused stays until it has ended, and counts as room taken."""
    used, kept = shop.keep(Value("a"), ago=100), None
    shop.reuse(Value("a"), ago=90, source=1, ended=False)
    kept = shop.keep(Value("b"), ago=80, ended=False)
    free = shop.keep(Value("c"), ago=10)
    size = shop.store.sizes([free])[free]
    assert shop.prune(older_than=0) == [free]
    assert shop.prune(max_bytes=2 * size - 1) == []
    assert shop.has(used, kept)
    shop.succeed(2, 0)
    assert shop.prune(max_bytes=0) == [used]
    shop.succeed(3, 0)
    assert shop.prune(max_bytes=0) == [kept]


def test_lost_trials(shop):
    """A trial that will never end holds nothing."""
    trial = shop.begin(origin=ELSEWHERE)
    shop.beat(trial, NOW - 30)
    digest = shop.keep(Value("a"), ago=10, trial=trial, ended=False)
    assert shop.prune(max_bytes=0) == []
    shop.store.clock += 1000
    assert shop.prune(max_bytes=0) == [digest]


def test_used_meanwhile(shop):
    """A trial that begins to use an object while it is being looked at saves it."""
    digest = shop.keep(Value("a"), ago=100)
    asked = shop.store.sizes

    def sizes(digests):
        shop.reuse(Value("a"), ago=0, source=1, ended=False)
        return asked(digests)

    shop.store.sizes = sizes
    assert shop.prune(max_bytes=0) == []
    assert asked([digest])


@pytest.mark.parametrize("moment", ["get", "discard"])
def test_kept_while_it_is_dropped(shop, monkeypatch, moment):
    """What a running trial keeps for good at the moment when it would be dropped is still there."""
    digest = shop.keep(Value("a"), ago=10)
    other = shop.keep(Value("b"), ago=20)
    method = getattr(shop.store, moment)

    def keep_meanwhile(*arguments):
        found = method(*arguments)
        monkeypatch.setattr(shop.store, moment, method)
        shop.step(shop.begin(), "late", kept={"value": shop.form(Value("a"))})
        return found

    monkeypatch.setattr(shop.store, moment, keep_meanwhile)
    assert shop.prune(max_bytes=0) == [other]
    assert shop.has(digest)
    assert not shop.has(other)


def test_record_before_the_object(ex, monkeypatch):
    """An object that is dropped before its record has come is kept again at once."""
    store, append = ex._store, type(ex._store).append

    def drop_first(store, records):
        for record in records:
            if record.stream == "steps":
                store.discard(list(digests_within(msgspec.json.decode(record.body))))
        return append(store, records)

    @ex.persist
    def keep():
        return np.arange(1000.0)

    @ex.result
    def use(x):
        return np.zeros(10)

    monkeypatch.setattr(type(store), "append", drop_first)
    use(keep()).compute(scheduler="synchronous")
    assert ex.get_persisted("keep", 1).tolist() == list(range(1000))


def test_waiting_records(shop):
    """Records that wait in this process's journal are delivered first, and count."""
    shop.keep(Value("a"), ago=100)
    run = StepRun(
        "other", "other", "succeeded", NOW, 1.0, 1.0, 1, "h", 1, "t", "c0de",
        kept={"value": shop.form(Value("a"))},
    )  # fmt: skip
    recorder_for(shop.store).write("steps", shop.begin(), "other-1", run)
    assert shop.prune(max_bytes=0) == []


def test_kept_again(shop):
    """What was dropped is kept again by a process that had kept it before."""
    recorder = recorder_for(shop.store)
    digest = shop.keep(Value("a"), ago=100)
    _, blob = pack(Value("a"))
    recorder.delivery.put(blob)
    assert shop.prune(max_bytes=0) == [digest] == [blob.digest]
    recorder.delivery.put(blob)
    assert shop.has(digest)


def test_store_away(shop, monkeypatch):
    """Nothing is dropped while records of this process cannot be delivered."""
    digest = shop.keep(Value("a"), ago=100)
    recorder = recorder_for(shop.store)
    recorder.output("o", Output(1, "k", "s", "f"))
    monkeypatch.setattr(shop.store, "append", _away)
    with pytest.raises(StoreUnavailableError):
        shop.prune(max_bytes=0)
    monkeypatch.undo()
    assert shop.has(digest)


def _away(records):
    raise StoreUnavailableError("away")


# What is told ----------------------------------------------------------------------------------


def test_frame(shop):
    """The table tells what was dropped, the least recently used first."""
    shop.run()
    second = shop.keep(Value("b"), ago=10, step="train#2")
    first = shop.keep(Value("a", 5000), ago=20)
    sizes = shop.store.sizes([first, second])
    frame = prune(shop.store, older_than=0)
    assert list(frame.columns) == COLUMNS
    assert frame.values.tolist() == [
        ["prepare", 3, sizes[first], pd.Timestamp(NOW - 20, unit="s", tz="UTC"), first],
        ["train", 2, sizes[second], pd.Timestamp(NOW - 10, unit="s", tz="UTC"), second],
    ]
    assert frame["Last Used"][0] == datetime.fromtimestamp(NOW - 20, UTC)


def test_nothing_to_drop(shop):
    """With nothing to drop the table is empty and has the same columns and types."""
    empty = prune(shop.store, max_bytes=0)
    shop.keep(Value("a"), ago=10)
    full = prune(shop.store, max_bytes=0)
    assert (len(empty), len(full)) == (0, 1)
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.dtypes[["Trial ID", "Size"]].tolist() == ["int64", "int64"]
    assert empty.index.equals(pd.RangeIndex(0))


def test_dry_run(shop):
    """A dry run tells the same and drops nothing."""
    digest = shop.keep(Value("a"), ago=10)
    told = prune(shop.store, max_bytes=0, dry_run=True)
    assert shop.has(digest)
    pd.testing.assert_frame_equal(told, prune(shop.store, max_bytes=0))
    assert not shop.has(digest)


def test_get_persisted(shop):
    """Who asks for a dropped value learns that it was dropped, and how to have it again."""
    shop.keep(Value("a"), ago=10)
    assert get_persisted(shop.store, "prepare", 1).name == "a"
    shop.prune(max_bytes=0)
    with pytest.raises(PersistedResultNotFoundError, match=r"dropped.*prune.*run the trial again"):
        get_persisted(shop.store, "prepare", 1)
    shop.form(Value("a"))
    assert get_persisted(shop.store, "prepare", 1).name == "a"


# Bad input and damage --------------------------------------------------------------------------


def test_no_limit(shop):
    """Without a limit nothing happens, and the message says what to give."""
    digest = shop.keep(Value("a"), ago=10)
    with pytest.raises(ValueError, match=r"max_bytes=.*older_than=timedelta"):
        prune(shop.store)
    with pytest.raises(ValueError, match="max_bytes"):
        prune(shop.store, None, None, dry_run=True)
    assert shop.has(digest)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_bytes": -1}, ValueError),
        ({"max_bytes": 1e9}, TypeError),
        ({"max_bytes": "1 GB"}, TypeError),
        ({"max_bytes": True}, TypeError),
        ({"older_than": -0.1}, ValueError),
        ({"older_than": timedelta(days=-1)}, ValueError),
        ({"older_than": math.nan}, ValueError),
        ({"older_than": "30"}, TypeError),
        ({"older_than": False}, TypeError),
        ({"older_than": datetime(2020, 1, 1)}, TypeError),
        ({"older_than": [1], "max_bytes": 1}, TypeError),
        ({"older_than": np.timedelta64("NaT", "s")}, ValueError),
    ],
)
def test_bad_limits(shop, limits, error):
    """A limit that makes no sense is refused by name and value, and nothing is dropped."""
    digest = shop.keep(Value("a"), ago=10)
    name, value = next(iter(limits.items()))
    with pytest.raises(error, match=rf"^{name} is {re.escape(repr(value))}.*expected"):
        prune(shop.store, **limits)
    assert shop.has(digest)


def test_endless_limits(shop):
    """Limits that everything keeps drop nothing."""
    shop.keep(Value("a"), ago=10)
    assert shop.prune(older_than=math.inf) == []
    assert shop.prune(max_bytes=10**30) == []


@pytest.mark.parametrize(
    ("stream", "id"),
    [("trials", "ended-failed-x"), ("trials", "computed-a"), ("steps", "train-1")],
)
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_records(shop, stream, id, cut):
    """With a damaged record nothing is dropped, and the message names the record."""
    digest = shop.keep(Value("a"), ago=10)
    records = {"trials": Computed("a", 1), "steps": Ended("failed", 1.0, 1.0)}
    damaged = encode(records[stream])[:-5] if cut else b"[1]"
    shop.add(stream, 1, id, damaged)
    with pytest.raises(CorruptRecordError, match=rf"Nothing was dropped.*'{id}' of trial 1"):
        shop.prune(max_bytes=0)
    assert shop.has(digest)


def test_damaged_beginning(shop):
    """A trial whose first record is damaged may need anything."""
    digest = shop.keep(Value("a"), ago=10)
    shop.store.allocate("damaged", b'{"token": "damaged"}')
    with pytest.raises(CorruptRecordError, match="'begun' of trial 2"):
        shop.prune(max_bytes=0)
    assert shop.has(digest)


def test_hidden_records(shop, monkeypatch):
    """A store that shows a stream without a part, with a warning, keeps all of its objects."""
    digest = shop.keep(Value("a"), ago=10)
    read = shop.store.read

    def read_partly(stream, *arguments, **keywords):
        if stream == "steps":
            warnings.warn("a part cannot be read", StoreWarning, stacklevel=2)
        return read(stream, *arguments, **keywords)

    monkeypatch.setattr(shop.store, "read", read_partly)
    with pytest.raises(CorruptRecordError, match=r"Nothing was dropped.*a part cannot be read"):
        shop.prune(max_bytes=0)
    assert shop.has(digest)


def test_bounded_memory(shop, monkeypatch):
    """The records of all trials are never in memory at once."""
    read, text = shop.store.read, "x" * 10_000
    for number in range(2500):
        trial = shop.begin()
        shop.succeed(trial, text)
        run = StepRun(
            "s", "s", "succeeded", NOW, 1.0, 1.0, 1, "h", 1, "t", "c0de",
            kept={"value": text}, reusable=True,
        )  # fmt: skip
        shop.add("steps", trial, f"s-{number}", run)
    monkeypatch.setattr(shop.store, "read", lambda *a, **k: map(_fresh, read(*a, **k)))
    tracemalloc.start()
    try:
        assert shop.prune(older_than=0) == []
        assert tracemalloc.get_traced_memory()[1] < 40_000_000 < 2 * 2500 * len(text)
    finally:
        tracemalloc.stop()


def _fresh(stored):
    return stored._replace(body=bytes(bytearray(stored.body)))
