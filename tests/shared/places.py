"""Where the tests of this folder keep experiments: a folder, Redis and MongoDB."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import redis
from bson import encode
from gridfs import GridFSBucket

from daskperiment.store.mongo.objects import CHUNKS, FILES
from tests.store.mongo_server import MongoServer
from tests.store.redis_server import RedisServer

__all__ = ["FolderPlace", "MongoPlace", "Place", "RedisPlace"]


class Place:
    """A backend, and a way to see and change what it holds behind the store's back."""

    kind: str
    backend: Any

    def dump(self) -> dict[str, bytes]:
        """Give everything that is there: name -> bytes."""
        raise NotImplementedError

    def objects(self, id: str) -> list[str]:
        """List the digests of an experiment's objects."""
        raise NotImplementedError

    def overwrite(self, id: str, digest: str, data: bytes) -> None:
        """Put other bytes in the place of an object."""
        raise NotImplementedError

    def foreign(self) -> None:
        """Put something there that is not ours."""
        raise NotImplementedError

    def clear(self) -> None:
        """Remove everything."""


class FolderPlace(Place):
    """A folder."""

    kind = "folder"

    def __init__(self, folder: Path) -> None:
        self.backend = folder

    def dump(self) -> dict[str, bytes]:
        found = {}
        for file in sorted(self.backend.rglob("*")):
            if file.is_file() and "records.sqlite" not in file.name:
                found[str(file.relative_to(self.backend))] = file.read_bytes()
        for file in self.backend.rglob("records.sqlite"):
            with self._connected(file) as connection:
                for number, line in enumerate(connection.iterdump()):
                    found[f"{file.relative_to(self.backend)}:{number}"] = line.encode()
        return found

    def objects(self, id: str) -> list[str]:
        with self._connected(self.backend / id / "records.sqlite") as connection:
            small = [row[0] for row in connection.execute("SELECT digest FROM _objects")]
        return small + [path.name for path in self._files(id)]

    def overwrite(self, id: str, digest: str, data: bytes) -> None:
        for path in self._files(id):
            if path.name == digest:
                path.write_bytes(data)
        with self._connected(self.backend / id / "records.sqlite") as connection:
            connection.execute("UPDATE _objects SET body = ? WHERE digest = ?", (data, digest))
            connection.commit()

    def foreign(self) -> None:
        self.backend.mkdir(parents=True, exist_ok=True)
        (self.backend / "notes.txt").write_bytes(b"mine")
        (self.backend / "a.b").mkdir()
        (self.backend / "a.b" / "records.txt").write_bytes(b"mine")

    def _files(self, id: str) -> Iterator[Path]:
        return (path for path in (self.backend / id / "objects").rglob("*") if path.is_file())

    @staticmethod
    def _connected(file: Path) -> Any:
        return _Closing(sqlite3.connect(file))


class _Closing:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *exception: object) -> None:
        self._connection.close()


class RedisPlace(Place):
    """A database of a Redis server."""

    kind = "redis"

    def __init__(self, server: RedisServer, number: int = 0, password: str | None = None) -> None:
        secret = f":{password}@" if password else ""
        self.server = server
        self.backend = f"redis://{secret}127.0.0.1:{server.port}/{number}"
        self._options = {"port": server.port, "db": number, "password": password}

    def dump(self) -> dict[str, bytes]:
        with self._connected() as client:
            return {key.decode(): self._value(client, key) for key in sorted(client.scan_iter())}

    @staticmethod
    def _value(client: Any, key: bytes) -> bytes:
        # Not DUMP: what a person could read, so that a search finds it.
        kind = client.type(key)
        read = {
            b"string": client.get,
            b"hash": lambda key: sorted(client.hgetall(key).items()),
            b"set": lambda key: sorted(client.smembers(key)),
            b"stream": client.xrange,
            b"list": lambda key: client.lrange(key, 0, -1),
        }[kind]
        value = read(key)
        return value if isinstance(value, bytes) else repr(value).encode()

    def objects(self, id: str) -> list[str]:
        with self._connected() as client:
            keys = client.scan_iter(f"daskperiment:{{{id}}}:object:*")
            return sorted({key.decode().split(":")[3] for key in keys})

    def overwrite(self, id: str, digest: str, data: bytes) -> None:
        with self._connected() as client:
            client.set(f"daskperiment:{{{id}}}:object:{digest}", b"=" + data)

    def foreign(self) -> None:
        with self._connected() as client:
            client.set("mine", b"1")
            client.set("daskperiment", b"2")
            client.set("daskperiment:{ab", b"3")
            client.hset("daskperiment:{a}b:counters", "latest", 7)
            client.rpush("daskperiment:a:tokens", b"4")

    def clear(self) -> None:
        with self._connected() as client:
            client.flushdb()

    def _connected(self) -> Any:
        return redis.Redis(**self._options)


class MongoPlace(Place):
    """A database of a MongoDB server."""

    def __init__(self, server: MongoServer, name: str, kind: str = "mongo") -> None:
        self.kind = kind
        self.server = server
        self.name = name
        self.backend = server.url(name)

    def dump(self) -> dict[str, bytes]:
        with self._connected() as client:
            database = client[self.name]
            return {
                f"{collection}/{document['_id']}": encode(document)
                for collection in sorted(database.list_collection_names())
                for document in database[collection].find(sort=[("_id", 1)])
            }

    def objects(self, id: str) -> list[str]:
        with self._connected() as client:
            found = client[self.name][FILES].find({"_id.experiment": id})
            return [document["_id"]["digest"] for document in found]

    def overwrite(self, id: str, digest: str, data: bytes) -> None:
        with self._connected() as client:
            database = client[self.name]
            key = {"_id.experiment": id, "_id.digest": digest}
            upload = database[FILES].find_one_and_delete(key)["_id"]
            database[CHUNKS].delete_many({"files_id": upload})
            bucket = GridFSBucket(database, FILES.rpartition(".")[0])
            bucket.upload_from_stream_with_id(upload, digest, data)

    def foreign(self) -> None:
        with self._connected() as client:
            database = client[self.name]
            database["mine"].insert_one({"_id": "a", "experiment": "a"})
            database["trials"].insert_one({"_id": {"experiment": "a"}, "number": 1})
            database["trials"].insert_one({"_id": 7, "experiment": "a"})
            database["daskperiment"].insert_one({"_id": {"experiment": "a"}})

    def clear(self) -> None:
        with self._connected() as client:
            client.drop_database(self.name)

    def _connected(self) -> Any:
        return pymongo.MongoClient(self.backend)
