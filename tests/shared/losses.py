"""Ways in which a store loses records behind the backs of those who write to it; what is then."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import redis

import daskperiment
from daskperiment.codec import encode
from daskperiment.errors import StoreWarning
from daskperiment.records import Begun, Ended, Point, ended_id
from daskperiment.store.liveness import current_origin
from daskperiment.store.opening import open_store
from daskperiment.store.protocol import Owner, Record
from tests.helpers.folders import remove_folder
from tests.shared.places import Place

__all__ = [
    "LOSSES",
    "check_rows",
    "deleted",
    "emptied",
    "experiment",
    "only",
    "restorer",
    "stranger",
    "told",
]


def deleted(place: Place, id: str) -> None:
    """Somebody else deletes the experiment."""
    store = open_store(place.backend, id)
    store.delete()
    store.close()


def emptied(place: Place, id: str) -> None:
    """All is gone at once: a removed folder, FLUSHDB, a dropped database with its indexes."""
    if place.kind == "folder":
        remove_folder(place.backend)
    place.clear()


LOSSES = [deleted, emptied]


def restorer(place: Place, drop: bool = False) -> Callable[[], None]:
    """Take a backup of all that is there; return what puts it back in the place of all.

    With `drop` a database of MongoDB is dropped before, so that it comes back without indexes.
    """
    if place.kind == "folder":
        return _folder(place.backend)
    if place.kind == "redis":
        return _redis(place.backend)
    return _mongo(place.backend, drop)


def _folder(folder: Path) -> Callable[[], None]:
    backup = folder.with_name(f"{folder.name}-backup")
    shutil.copytree(folder, backup)

    def restore() -> None:
        os.rename(folder, folder.with_name(f"{folder.name}-away"))
        shutil.copytree(backup, folder)

    return restore


def _redis(url: str) -> Callable[[], None]:
    with redis.Redis.from_url(url) as client:
        kept: list[tuple[bytes, Any]] = [(key, client.dump(key)) for key in client.scan_iter()]

    def restore() -> None:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
            for key, value in kept:
                client.restore(key, 0, value)

    return restore


def _mongo(url: str, drop: bool = False) -> Callable[[], None]:
    with pymongo.MongoClient(url) as client:
        database = client.get_default_database()
        names = database.list_collection_names()
        kept = {name: list(database[name].find()) for name in names}

    def restore() -> None:
        with pymongo.MongoClient(url) as client:
            database = client.get_default_database()
            for name in database.list_collection_names():
                # A database that is dropped loses its indexes, and documents bring none back.
                if drop:
                    database.drop_collection(name)
                else:
                    database[name].delete_many({})
            for name, documents in kept.items():
                if documents:
                    database[name].insert_many(documents)

    return restore


def stranger(place, n=-1):
    """Run a trial as another client would, by a store object of its own."""
    store, token = open_store(place.backend, "gone"), uuid.uuid4().hex
    begun = Begun(token, "theirs", 0.0, 0, {"n": n}, "", "", "", current_origin())
    owner = Owner(store.allocate(token, encode(begun)).trial, token)
    body = b'{"points":[%b]}' % encode(Point("loss", 0, n, 0.0))
    ended = encode(Ended("succeeded", 1.0, 1.0, str(str), f"theirs of {n}"))
    store.append(
        [
            Record("points", owner.trial, "p", body, owner),
            Record("trials", owner.trial, ended_id("succeeded"), ended, owner),
        ]
    )
    store.close()


def experiment(place, during):
    """Define an experiment whose step calls a function while it runs."""
    ex = daskperiment.Experiment("gone", backend=place.backend)
    n = ex.parameter("n", default=0)

    @ex.persist(reuse=True)
    def keep(n):
        return {"keep of": n}

    @ex
    def train(n, kept):
        ex.save_metric("loss", 0, n)
        during(n)
        ex.save_metric("loss", 1, n)
        return n

    @ex.result
    def ours(n):
        return f"ours of {n}"

    return ex, ours(train(n, keep(n)))


def told(caught, what="it lacks what was written here"):
    """Return what was said of losses."""
    texts = [str(each.message) for each in caught if issubclass(each.category, StoreWarning)]
    return [text for text in texts if what in text]


def only(texts):
    """Return the one text that there is."""
    assert len(texts) == 1, texts
    return texts[0]


def check_rows(ex, expected):
    """Check that each row is of one trial, and ours with code, environment, graph and steps."""
    history = ex.get_history(verbose=True, running=True)
    assert history["n"].tolist() == expected
    for trial, row in history.iterrows():
        side = "theirs" if row["n"] < 0 else "ours"
        assert (row["Result"], row["Status"]) == (f"{side} of {row['n']}", "succeeded")
        points = ex.load_metric("loss", trial)[trial].tolist()
        assert points == [row["n"]] * (1 if side == "theirs" else 2)
        if side == "ours":
            assert ex.get_code(trial)
            assert len(ex.get_environment(trial))
            assert ex.get_persisted("keep", trial) == {"keep of": row["n"]}
            assert len(ex.get_steps(trial)) == 3
    ours = [trial for trial, n in history["n"].items() if n > 0]
    assert ex.compare(ours[0], ours[-1]) is not None
