"""Records as elements of documents, and back."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from typing import Any

from bson import decode_all
from pymongo.errors import DuplicateKeyError, OperationFailure

from daskperiment.errors import CorruptRecordError, StoreUnavailableError
from daskperiment.store.mongo.client import Database, Server
from daskperiment.store.mongo.objects import Objects
from daskperiment.store.protocol import Record, Stored

__all__ = [
    "POSITIONS",
    "Elements",
    "attempts",
    "chunks",
    "clashing_index",
    "documents",
]

POSITIONS = 1 << 16
"""Positions between one write and the next: more than there are records in one."""
_MANY = 1000
"""Records in one document."""
_LARGE = 4 << 20
"""Bytes of records in one document, far below the 16 MB that a server takes."""
_CHANGED = (112, 241)
"""Codes that say that another writer came in between: conflict, and our own failed check."""


class Elements:
    """Makes elements of records, and records of elements.

    Parameters
    ----------
    objects : Objects
        Where bodies are kept that are too large for a document.
    limit : int
        Bytes of a body that is kept in the document.
    place : str
        What messages call the collection.
    """

    def __init__(self, objects: Objects, limit: int, place: str) -> None:
        self._objects = objects
        self._limit = limit
        self._place = place

    def pack(self, record: Record) -> dict[str, Any]:
        """Give a record's id and body; a large one is kept as an object first."""
        element: dict[str, Any] = {"id": pack_text(record.id)}
        if len(record.body) <= self._limit:
            return element | {"body": _pack_body(record.body)}
        digest = blake2b(record.body, digest_size=32).hexdigest()
        self._objects.put(digest, [record.body])
        return element | {"object": digest, "size": len(record.body)}

    def unpack(self, element: dict[str, Any], trial: int, position: int) -> Stored:
        """Give the record."""
        id_, body = element["id"], self._body(element)
        text = id_ if isinstance(id_, str) else id_.decode("utf-8", "surrogatepass")
        return Stored(position, int(trial), text, body)

    @contextmanager
    def reading(self, document: dict[str, Any]) -> Iterator[None]:
        """Tell which document it is that has not the form that is expected."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptRecordError(
                f"{self._place} holds the document with _id {document.get('_id')!r} that cannot"
                f" be read ({type(error).__name__}: {error}). Restore it from a backup, or remove"
                " it."
            ) from error

    def _body(self, element: dict[str, Any]) -> bytes:
        if "object" in element:
            return bytes(self._objects.get(element["object"]))
        body = element["body"]
        return body.encode() if isinstance(body, str) else bytes(body)


def pack_text(text: str) -> str | bytes:
    """Give text as it is, or as bytes where it holds what UTF-8 does not."""
    if text.isascii():
        return text
    encoded = text.encode("utf-8", "surrogatepass")
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return encoded
    return text


def _pack_body(body: bytes) -> str | bytes:
    # Text can be read in the shell; what is no text is not ours to refuse.
    try:
        return bytes(body).decode()
    except UnicodeDecodeError:
        return bytes(body)


def chunks(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Cut records, in order, into what one document can hold."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        if chunk and (len(chunk) == _MANY or size + len(record.body) > _LARGE):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.body)
    if chunk:
        yield chunk


def attempts(address: str) -> Iterator[int]:
    """Count attempts at a write that others may get in the way of, ever longer apart."""
    for attempt in range(300):
        if attempt:
            time.sleep(random.random() * min(2.0**attempt, 40) / 1000)
        yield attempt
    raise StoreUnavailableError(
        f"{address} is busy: other writers were faster each time. Try again, with fewer of them."
    )


def clashing_index(error: OperationFailure) -> str:
    """Name the last field of the unique index that a write violated.

    Empty if it was another writer's document that changed meanwhile.

    Raises
    ------
    OperationFailure
        If the write failed for another reason.
    """
    if error.code in _CHANGED:
        return ""
    if not isinstance(error, DuplicateKeyError):
        raise error
    pattern = (error.details or {}).get("keyPattern") or {"": 1}
    return str(list(pattern)[-1])


def documents(
    server: Server,
    collection: str,
    filter: dict[str, Any],
    projection: dict[str, Any],
    sort: list[tuple[str, int]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Find documents, as many at a time as the server puts into one answer (16 MB)."""

    def find(database: Database) -> Any:
        cursor = database[collection].find_raw_batches(
            filter, projection, sort=sort, batch_size=1_000_000
        )
        return cursor, next(cursor, None)

    cursor, batch = server.run(find)
    try:
        while batch is not None:
            yield from server.run_once(partial(decode_all, batch))
            batch = server.run_once(partial(next, cursor, None))
    finally:
        cursor.close()
