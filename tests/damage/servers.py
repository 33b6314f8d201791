"""Servers as targets of the fuzzer: keys of Redis and documents of MongoDB are changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError

from tests.damage.fuzz import forget, mutated, record_trials

__all__ = ["MongoTarget", "RedisTarget"]

_ODD = [None, -1, 10**15, "x", b"\xff\xfe", 1.5, "", [], {}, [1], {"experiment": "x"}, True]


class RedisTarget:
    """A database of a Redis server."""

    def __init__(self, backend: str, scratch: Path) -> None:
        self.backend, self.canary = backend, scratch / "canary"
        self.rows = record_trials(backend, self.canary)
        forget()
        self._client = redis.Redis.from_url(backend)
        keys = sorted(self._client.scan_iter())
        self._healthy = {key: self._client.dump(key) for key in keys}

    def restore(self) -> None:
        """Make everything as it was."""
        self._client.flushdb()
        for key, value in self._healthy.items():
            self._client.restore(key, 0, value)

    def mutate(self, rng: random.Random) -> str:
        """Change a key in some way, and say which."""
        key = rng.choice(sorted(self._healthy))
        kind = self._client.type(key)
        way = rng.choice(["delete", "kind", "content", "content", "content", "content"])
        if way == "delete":
            self._client.delete(key)
        elif way == "kind":
            self._client.delete(key)
            rng.choice(
                [
                    lambda: self._client.set(key, b"\xff"),
                    lambda: self._client.lpush(key, b"x"),
                    lambda: self._client.hset(key, "x", "y"),
                ]
            )()
        else:
            self._change(key, kind, rng)
        return f"{way} of {key!r}"

    def _change(self, key: bytes, kind: bytes, rng: random.Random) -> None:
        if kind == b"string":
            self._client.set(key, mutated(self._client.get(key), rng))
        elif kind == b"hash":
            field = rng.choice(sorted(self._client.hkeys(key)))
            values = [b"x", b"-1", b"9" * 30, b"", b"\xff", b"1.5", None]
            value = rng.choice(values)
            if value is None:
                self._client.hdel(key, field)
            else:
                self._client.hset(key, field, value)
        elif kind == b"stream":
            self._entry(key, rng)
        else:
            self._client.sadd(key, b"\xff\xfe", b"not an id", b"")

    def _entry(self, key: bytes, rng: random.Random) -> None:
        entries = self._client.xrange(key)
        number = rng.randrange(len(entries))
        self._client.delete(key)
        for place, (id, fields) in enumerate(entries):
            ((member, body),) = fields.items()
            if place == number:
                way = rng.randrange(4)
                if not way:
                    continue
                # The number in front of the colon is not covered by the record's checksum.
                trial, _, name = member.partition(b":")
                member = trial + b":" + mutated(name, rng) if way == 1 else member
                body = mutated(body, rng) if way > 1 else body
            self._client.xadd(key, {member: body}, id)


class MongoTarget:
    """A database of a MongoDB server."""

    def __init__(self, backend: str, name: str, scratch: Path) -> None:
        self.backend, self.canary = backend, scratch / "canary"
        self.rows = record_trials(backend, self.canary)
        forget()
        self._client: Any = pymongo.MongoClient(backend)
        self._database = self._client[name]
        names = sorted(self._database.list_collection_names())
        self._healthy = {name: list(self._database[name].find()) for name in names}

    def restore(self) -> None:
        """Make everything as it was."""
        for name, documents in self._healthy.items():
            self._database[name].delete_many({})
            if documents:
                self._database[name].insert_many(documents)

    def mutate(self, rng: random.Random) -> str:
        """Change a field of a document in some way, and say which."""
        name = rng.choice([name for name, documents in self._healthy.items() if documents])
        document = rng.choice(self._healthy[name])
        path, value = rng.choice(list(_fields(document)))
        collection = self._database[name]
        way = rng.choice(["delete", "unset", "odd", "odd", "content", "content"])
        key = {"_id": document["_id"]}
        with suppress(PyMongoError):  # an index does not take it, or the field is the key
            if way == "delete":
                collection.delete_one(key)
            elif way == "unset":
                collection.update_one(key, {"$unset": {path: 1}})
            elif way == "content" and isinstance(value, str | bytes | int):
                collection.update_one(key, {"$set": {path: mutated(value, rng)}})
            else:
                collection.update_one(key, {"$set": {path: rng.choice(_ODD)}})
        return f"{way} of {path} in {name} {document['_id']!r}"

    def close(self) -> None:
        """Close the client."""
        self._client.close()


def _fields(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the paths of all fields of a document, at any depth."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in items:
        here = f"{path}.{name}" if path else str(name)
        yield here, value
        if isinstance(value, dict | list) and not here.startswith("_id"):
            yield from _fields(value, here)
