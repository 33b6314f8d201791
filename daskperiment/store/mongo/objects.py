"""Objects of an experiment in GridFS: whole from the moment when they can be found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from bson.max_key import MaxKey
from bson.objectid import ObjectId
from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile
from gridfs.grid_file import GridOut
from pymongo.errors import PyMongoError
from toolz import partition_all

from daskperiment.errors import CorruptRecordError, StoreError
from daskperiment.store.mongo.client import Database, MongoServer
from daskperiment.store.protocol import Buffer, flat

__all__ = ["CHUNKS", "FILES", "MongoObjects"]

_BUCKET = "daskperiment.objects"
FILES = f"{_BUCKET}.files"
CHUNKS = f"{_BUCKET}.chunks"
_CHUNK = 1 << 20
_UPLOADS = 5
"""Times that an object is written at most, while others delete the experiment."""
_LARGEST = 1 << 50
"""Bytes that no object has."""
_MANY = 500
"""Objects looked for in one round trip."""
_SPEED = 1e6
"""Bytes per second below which a transfer counts as stalled."""


class MongoObjects:
    """The objects of one experiment.

    An upload has a key of its own. The file's document, by which an object is found, is written
    after all chunks; what an upload leaves behind that was cut off is found by nobody, and removed
    when the experiment is deleted.
    """

    def __init__(self, server: MongoServer, experiment: str) -> None:
        self._server = server
        self._experiment = experiment

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object unless it is there."""
        views = list(map(flat, parts))
        seconds = sum(map(len, views)) / _SPEED
        self._server.run_long(seconds, self._put, digest, views)

    def get(self, digest: str) -> memoryview:
        """Return an object's bytes, in memory of the caller's own."""
        file = self._server.run(self._find, digest)
        while file is not None:
            self._check(file)
            try:
                return self._server.run_long(file["length"] / _SPEED, _read, file)
            except CorruptRecordError:
                missed, file = file, self._server.run(self._find, digest)
                if file is not None and file["_id"] == missed["_id"]:
                    raise
                # Else it was discarded meanwhile, and perhaps kept again.
        raise KeyError(digest)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those objects that are there."""
        files = filter(_is_intact, self._files(digests))
        return {file["_id"]["digest"]: file["length"] for file in files}

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects; a call that is cut off may leave bytes, but nothing that is found."""
        for some in partition_all(_MANY, self._files(digests)):
            keys = [file["_id"] for file in some]
            seconds = sum(file["length"] for file in some if _is_intact(file)) / _SPEED
            self._server.run(_delete, FILES, "_id", keys)
            self._server.run_long(seconds, _delete, CHUNKS, "files_id", keys)

    def _check(self, file: dict[str, Any]) -> None:
        if not _is_intact(file):
            raise CorruptRecordError(
                f"The document of the object {file['_id']['digest']!r} in {FILES!r} does not say "
                "how long the object is: somebody changed it. Restore it from a copy of the "
                "database, or remove it: then the step that returned it can run again."
            )

    def _files(self, digests: Collection[str]) -> list[dict[str, Any]]:
        """Return the documents of all uploads of these objects."""
        return [
            file
            for some in partition_all(_MANY, dict.fromkeys(digests))
            for file in self._server.run(self._find_many, some)
        ]

    def _find_many(self, database: Database, digests: Sequence[str]) -> list[dict[str, Any]]:
        uploads = {"$or": [self._uploads(digest) for digest in digests]}
        wanted = {"length": 1, "chunkSize": 1}
        found = database[FILES].find(uploads, wanted, batch_size=2 * len(digests))
        return list(found)

    def _find(self, database: Database, digest: str) -> dict[str, Any] | None:
        return database[FILES].find_one(self._uploads(digest), sort=[("_id", 1)])

    def _uploads(self, digest: str) -> dict[str, Any]:
        key = {"experiment": self._experiment, "digest": digest}
        return {"_id": {"$gt": key, "$lt": {**key, "upload": MaxKey()}}}

    def _put(self, database: Database, digest: str, views: Sequence[memoryview]) -> None:
        if self._find(database, digest) is not None:
            return
        size = sum(map(len, views))
        for _ in range(_UPLOADS):
            key = {"experiment": self._experiment, "digest": digest, "upload": ObjectId()}
            _upload(database, key, digest, views)
            # Of one chunk the document comes at once: to ask would take as long again.
            if size <= _CHUNK or not _lost_chunks(database, key, size):
                return
            # The experiment was deleted before all were there: nobody may find what is left.
            _delete(database, FILES, "_id", [key])
            _delete(database, CHUNKS, "files_id", [key])
        raise StoreError(
            f"The object {digest!r} cannot be kept, for the experiment is deleted again and again: "
            "see who does that"
        )


class _PartsReader:
    """Views as a file that the driver reads chunk by chunk: none is copied as a whole."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = iter(views)
        self._view = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer than `size` only at the end."""
        pieces = []
        while size:
            if not self._view:
                following = next(self._views, None)
                if following is None:
                    break
                self._view = following
                continue
            pieces.append(self._view[:size])
            self._view = self._view[size:]
            size -= len(pieces[-1])
        return b"".join(pieces)


def _upload(
    database: Database, key: dict[str, Any], digest: str, views: Sequence[memoryview]
) -> None:
    bucket = GridFSBucket(database, _BUCKET, _CHUNK)
    stream = bucket.open_upload_stream_with_id(key, digest)
    try:
        stream.write(_PartsReader(views))
        stream.close()
    except BaseException:
        with suppress(PyMongoError):
            stream.abort()
        raise


def _lost_chunks(database: Database, key: dict[str, Any], size: int) -> bool:
    """Whether an upload that can be found lacks a part."""
    count = database[CHUNKS].count_documents({"files_id": key})
    return count * _CHUNK < size and database[FILES].find_one({"_id": key}) is not None


def _is_intact(file: dict[str, Any]) -> bool:
    length, chunk = file.get("length"), file.get("chunkSize")
    if not isinstance(length, int) or not isinstance(chunk, int):
        return False
    return 0 <= length <= _LARGEST and 0 < chunk <= _LARGEST


def _delete(database: Database, collection: str, field: str, keys: list[Any]) -> None:
    database[collection].delete_many({field: {"$in": keys}})


def _read(database: Database, file: dict[str, Any]) -> memoryview:
    # Grown as chunks arrive: what the document says of the length may be wrong by any amount.
    buffer = bytearray()
    stream = GridOut(database[_BUCKET], file_document=file)
    while chunk := stream.readchunk():
        buffer += chunk
    if len(buffer) != file["length"]:
        raise CorruptGridFile(f"{len(buffer)} bytes of {file['length']} are there")
    return memoryview(buffer)
