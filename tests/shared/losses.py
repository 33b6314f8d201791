"""Ways in which a store loses records behind the backs of those who write to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import redis

from daskperiment.store.opening import open_store
from tests.shared.places import Place

__all__ = ["LOSSES", "emptied", "restorer"]


def deleted(place: Place, id: str) -> None:
    """Somebody else deletes the experiment."""
    store = open_store(place.backend, id)
    store.delete()
    store.close()


def emptied(place: Place, id: str) -> None:
    """All is gone at once: a removed folder, FLUSHDB, a dropped database with its indexes."""
    if place.kind == "folder":
        shutil.rmtree(place.backend)
    place.clear()


LOSSES = [deleted, emptied]


def restorer(place: Place) -> Callable[[], None]:
    """Take a backup of all that is there; return what puts it back in the place of all."""
    if place.kind == "folder":
        return _folder(place.backend)
    if place.kind == "redis":
        return _redis(place.backend)
    return _mongo(place.backend)


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


def _mongo(url: str) -> Callable[[], None]:
    with pymongo.MongoClient(url) as client:
        database = client.get_default_database()
        names = database.list_collection_names()
        kept = {name: list(database[name].find()) for name in names}

    def restore() -> None:
        with pymongo.MongoClient(url) as client:
            database = client.get_default_database()
            for name in database.list_collection_names():
                database[name].delete_many({})
            for name, documents in kept.items():
                if documents:
                    database[name].insert_many(documents)

    return restore
