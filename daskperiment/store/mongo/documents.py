"""What documents hold: records as elements of a list, and fields to query in MongoDB's own types.

The records stay as they are. The fields are a view of them, where the queries that people ask
matter more than that every value comes back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, NamedTuple

from bson import decode_all
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from pymongo.errors import DuplicateKeyError, OperationFailure

from daskperiment.errors import CorruptRecordError, StoreUnavailableError, StoreWarning
from daskperiment.records import ObjectRef
from daskperiment.store.mongo.client import Database, MongoServer
from daskperiment.store.mongo.objects import MongoObjects
from daskperiment.store.protocol import Record, Stored, batches
from daskperiment.warn import warn_user

__all__ = [
    "ASIDE",
    "ASIDE_DOCUMENTS",
    "POSITIONS",
    "DocumentDamage",
    "Elements",
    "attempts",
    "chunks",
    "clashing_index",
    "damage_of",
    "documents",
    "elements_of",
    "keep_aside",
    "pack_text",
    "queryable",
    "set_aside",
]

ASIDE = "aside"
"""Field that an element has which was set aside: the id that it had, or all of it."""
ASIDE_DOCUMENTS = "daskperiment.aside"
"""Collection of what was damaged: documents as they were before they were mended, and which records
were set aside."""
POSITIONS = 1 << 16
"""Positions between one write and the next: more than there are records in one."""
_MANY = 1000
"""Records in one document."""
_LARGE = 4 << 20
"""Bytes of records in one document, far below the 16 MB that a server takes."""
_CHANGED = (112, 241)
"""Codes that say that another writer came in between: conflict, and our own failed check."""
_DEPTH = 20
"""Levels shown of a nested value: a server takes no more than 100 in one document."""
_INT64 = 2**63
_DAMAGED = (
    KeyError, TypeError, ValueError, AttributeError, OverflowError, CorruptRecordError,
)  # fmt: skip
"""What comes of a document that somebody changed."""
_CHARACTERS = str.maketrans({".": "．", "\0": "␀"})


# Reading and writing -----------------------------------------------------------------------------


def documents(
    server: MongoServer,
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


def attempts(address: str) -> Iterator[int]:
    """Count attempts at a write that others may get in the way of, with ever longer pauses."""
    for attempt in range(300):
        if attempt:
            time.sleep(random.random() * min(2.0**attempt, 40) / 1000)
        yield attempt
    raise StoreUnavailableError(
        f"{address} is busy: other writers were faster each time. Try again, with fewer of them."
    )


def clashing_index(error: OperationFailure) -> str:
    """Return the last field of the unique index that a write violated.

    Empty if another writer changed the document meanwhile; any other error is raised again.
    """
    if error.code in _CHANGED:
        return ""
    if not isinstance(error, DuplicateKeyError):
        raise error
    pattern = (error.details or {}).get("keyPattern") or {"": 1}
    return str(list(pattern)[-1])


# Records -----------------------------------------------------------------------------------------


class Elements:
    """The form of records in documents: each is an element of a list.

    A body of more bytes than `limit` becomes an object. `place` names the collection in messages.
    """

    def __init__(self, objects: MongoObjects, limit: int, place: str) -> None:
        self._objects = objects
        self._limit = limit
        self._place = place

    def pack(self, record: Record) -> dict[str, Any]:
        """Return a record's id and body; a large one is kept as an object first."""
        element: dict[str, Any] = {"id": pack_text(record.id)}
        if len(record.body) <= self._limit:
            return element | {"body": _text_or_bytes(record.body)}
        digest = blake2b(record.body, digest_size=32).hexdigest()
        self._objects.put(digest, [record.body])
        return element | {"object": digest, "size": len(record.body)}

    def unpack(self, element: dict[str, Any], trial: int, position: int) -> Stored:
        """Return the record of an element."""
        id_, body = element["id"], self._body(element)
        text = id_ if isinstance(id_, str) else id_.decode("utf-8", "surrogatepass")
        return Stored(position, int(trial), text, body)

    def read(
        self, document: dict[str, Any], unpack: Callable[[dict[str, Any]], Iterable[Stored]]
    ) -> list[Stored]:
        """Return the records of a document; those that cannot be read are warned of."""
        try:
            return list(unpack(document))
        except _DAMAGED as error:
            found = self.damage(document, unpack, error)
        what = f"{found.what}. Restore it from a backup, or run `daskperiment check --repair` to"
        warn_user(StoreWarning(f"{what} set aside what cannot be read."))
        try:
            return list(unpack({**document, "records": found.records}))
        except _DAMAGED:
            return []

    def damage(
        self,
        document: dict[str, Any],
        unpack: Callable[[dict[str, Any]], Iterable[Stored]],
        error: Exception,
    ) -> DocumentDamage:
        """Return what is wrong with a document that raises an error when it is read."""
        records, place = document.get("records"), f"{self._place} holds"
        which = f"the document with _id {document.get('_id')!r}"
        said = f"({type(error).__name__}: {error})"
        if not isinstance(records, list):
            return DocumentDamage(f"{place} {which} that cannot be read {said}", [], [])
        cleaned: list[Any] = []
        odd = []
        for at, element in enumerate(records):
            if _is_odd(document, element, unpack):
                odd.append(at)
                element = _placeholder(element, cleaned[-1:])
            cleaned.append(element)
        what = f"{place} {len(odd)} of {len(records)} records in {which} that cannot be read {said}"
        return DocumentDamage(what, cleaned, odd)

    def _body(self, element: dict[str, Any]) -> bytes:
        if "object" in element:
            return bytes(self._objects.get(element["object"]))
        body = element["body"]
        if not isinstance(body, str | bytes):
            raise TypeError(f"the body of a record is a {type(body).__name__}")
        return body.encode() if isinstance(body, str) else bytes(body)


def elements_of(document: dict[str, Any]) -> list[Any]:
    """Return the elements of a document; TypeError if it has no list of them."""
    found = document["records"]
    if not isinstance(found, list):
        raise TypeError(f"its field 'records' is a {type(found).__name__}")
    return found


def damage_of(
    elements: Elements,
    document: dict[str, Any],
    unpack: Callable[[dict[str, Any]], Iterable[Stored]],
) -> DocumentDamage | None:
    """Return what is wrong with a document; None if it can be read."""
    try:
        list(unpack(document))
    except _DAMAGED as error:
        return elements.damage(document, unpack, error)
    return None


class DocumentDamage(NamedTuple):
    """What is wrong with a document of records."""

    what: str
    records: list[Any]
    """Its elements, with placeholders for those that cannot be read."""
    odd: list[int]
    """Which these are; none if it is the document that cannot be read."""


def _is_odd(
    document: dict[str, Any],
    element: Any,
    unpack: Callable[[dict[str, Any]], Iterable[Stored]],
) -> bool:
    try:
        return not list(unpack({**document, "records": [element]})) and ASIDE not in element
    except _DAMAGED:
        return True


def _placeholder(element: Any, before: list[Any]) -> dict[str, Any]:
    """Return an element that readers pass over, and that keeps the places of those behind it."""
    fields = element if isinstance(element, dict) else {}
    number = fields.get("n")
    if type(number) is not int:
        number = before[0]["n"] if before and "n" in before[0] else None
    kept = {} if number is None else {"n": number}
    return {**kept, "trial": 0, "id": f"aside-{ObjectId()}", ASIDE: element}


def keep_aside(
    database: Database, collection: str, document: dict[str, Any], changes: dict[str, Any] | None
) -> None:
    """Keep a damaged document where nobody reads it, and change what is in its place, or nothing.

    Without changes it is removed there.
    """
    found = database[collection].find_one({"_id": document["_id"]})
    if found is None:
        return
    _note_aside(database, document["experiment"], {"collection": collection, "was": found})
    if changes is None:
        database[collection].delete_one({"_id": document["_id"]})
    else:
        database[collection].update_one({"_id": document["_id"]}, {"$set": changes})


def set_aside(
    database: Database, collection: str, filter: dict[str, Any], element: dict[str, Any]
) -> None:
    """Give such an element of a document another id, and a mark by which readers pass it over."""
    changes = {"records.$.id": f"aside-{ObjectId()}", f"records.$.{ASIDE}": element["id"]}
    where = {**filter, "records": {"$elemMatch": element}}
    found = database[collection].find_one(where, {"_id": 1})
    if found is None:
        return
    # Before: to find a mark among all records would take a look at each of them.
    noted = {"collection": collection, "in": found["_id"], "element": element}
    _note_aside(database, filter["experiment"], noted)
    database[collection].update_one({**where, "_id": found["_id"]}, {"$set": changes})


def _note_aside(database: Database, experiment: str, what: dict[str, Any]) -> None:
    key = {"experiment": experiment, "document": ObjectId()}
    database[ASIDE_DOCUMENTS].insert_one({"_id": key, **what})


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Cut records, in order, into what one document can hold."""
    return batches(records, _MANY, _LARGE)


def pack_text(text: str) -> str | bytes:
    """Return text as it is, or as bytes where it holds what UTF-8 does not."""
    return text if text.isascii() else _text_or_bytes(text.encode("utf-8", "surrogatepass"))


def _text_or_bytes(encoded: bytes) -> str | bytes:
    # Text can be read in the shell; what is no text is not ours to refuse.
    try:
        return bytes(encoded).decode()
    except UnicodeDecodeError:
        return bytes(encoded)


# Fields to query ---------------------------------------------------------------------------------


def queryable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return named values in MongoDB's types; None for one that has no such form.

    Examples
    --------
    >>> queryable({"layer.size": (1, 2), "$lr": 0.5})
    {'layer．size': [1, 2], '＄lr': 0.5}
    """
    return {_field_name(name): _native_or_none(value) for name, value in values.items()}


def _field_name(name: str) -> str:
    """Return the field for a name: no dot, no dollar first, no NUL."""
    name = _text(name).translate(_CHARACTERS)
    return "＄" + name[1:] if name.startswith("$") else name


def _native_or_none(value: Any) -> Any:
    try:
        return _native(value, _DEPTH)
    except Exception:
        # A Decimal beyond MongoDB's range, say: the record itself has it.
        return None


def _native(value: Any, depth: int) -> Any:
    if value is None or type(value) in (bool, float):
        return value
    if not depth:
        return "…"
    if isinstance(value, dict):
        return {_key(key): _native(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_native(item, depth - 1) for item in value]
    for type_, convert in _CONVERSIONS:
        if isinstance(value, type_):
            return convert(value)
    return _native(value.item(), depth - 1) if hasattr(value, "item") else _text(str(value))


def _key(key: Any) -> str:
    return _field_name(key if isinstance(key, str) else str(key))


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _integer(value: int) -> Any:
    return value if -_INT64 <= value < _INT64 else _decimal(Decimal(value))


def _decimal(value: Decimal) -> Any:
    return Decimal128(value) if len(value.as_tuple().digits) <= 34 else str(value)


def _reference(value: ObjectRef) -> dict[str, Any]:
    shown = {"type": _text(value.type), "repr": _text(value.repr), "size": value.size}
    return shown | ({} if value.digest is None else {"digest": value.digest})


def _plain_datetime(value: datetime) -> datetime:
    # A subclass of another library, such as a pandas Timestamp, may not be taken by the driver.
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second)
    return datetime(*parts, value.microsecond, value.tzinfo, fold=value.fold)


_CONVERSIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, _text),
    (int, _integer),
    (bytes, bytes),
    (bytearray, bytes),
    (datetime, _plain_datetime),
    (date, lambda value: datetime(value.year, value.month, value.day)),
    (Decimal, _decimal),
    (PurePath, lambda value: _text(str(value))),
    (ObjectRef, _reference),
)
"""Type -> what stands for its values; a datetime is a date, and the first that fits counts."""
