"""A store in a MongoDB database.

====================================  ===================================================
collection                            a document
====================================  ===================================================
``trials``                            a trial: fields to query, and its records
``daskperiment.records``              some records of another stream, such as points
``daskperiment.objects.files``        an object (GridFS)
``daskperiment.objects.chunks``       a piece of an object (GridFS)
``daskperiment.aside``                what was damaged: a document as it was, or a record's id
``daskperiment.deletions``            a random name of the last deletion, for 30 days
====================================  ===================================================

The key of each document begins with the experiment's id. Those in ``trials``, which may be a
collection that others use too, are marked by the field ``daskperiment.format``. The page
``stores-mongo`` of the documentation describes fields and indexes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from bson.max_key import MaxKey
from pymongo import IndexModel

from daskperiment.errors import RecordsRefusedError, StoreError
from daskperiment.records import STREAMS, is_experiment_id
from daskperiment.store.mongo.batches import RECORD_INDEXES, RecordBatches
from daskperiment.store.mongo.client import Database, MongoServer, MongoTarget, mongo_target
from daskperiment.store.mongo.documents import ASIDE_DOCUMENTS
from daskperiment.store.mongo.objects import CHUNKS, FILES, MongoObjects
from daskperiment.store.mongo.pipelines import FORMAT, RECORDS, TRIALS, Pipeline, check_owners
from daskperiment.store.mongo.trials import TRIAL_INDEXES, TRIAL_STREAMS, TrialDocuments
from daskperiment.store.object_methods import ObjectMethods
from daskperiment.store.protocol import (
    Allocation,
    Fault,
    Owner,
    Record,
    State,
    Stored,
)

if TYPE_CHECKING:
    from daskperiment.store.record_pages import RecordPage

__all__ = ["MongoStore", "list_mongo", "open_mongo"]

_INDEXES: dict[str, Sequence[IndexModel]] = {TRIALS: TRIAL_INDEXES, RECORDS: RECORD_INDEXES}
_KEYS = {
    TRIALS: "_id", RECORDS: "_id", FILES: "_id", CHUNKS: "files_id", ASIDE_DOCUMENTS: "_id",
}  # fmt: skip
"""Collection -> the field that begins with the experiment's id."""
_ASIDE_REMEDY = (
    "all others are read without it; restore it from a backup, or run `daskperiment check --repair`"
    " to set it aside"
)
_DELETIONS = "daskperiment.deletions"
_REMEMBERED = 30 * 86_400
"""Seconds for which a deletion is known of."""
_PAGE = 1_000
"""Records of other streams that are gone through together."""
_DELETED = 500
"""Documents deleted in one round trip: few enough for the time limit."""
_ROUNDS = 10
"""Times that collections are emptied at most, while others write."""
_INDEXING = 600.0
"""Seconds that it may take to index what is in a collection already."""


def open_mongo(backend: Any, id: str) -> MongoStore:
    """Return an experiment's store in the database of a URL or of pymongo; nothing is connected."""
    return MongoStore(mongo_target(backend), id)


def list_mongo(backend: Any) -> list[str]:
    """List the ids of all experiments of a database, sorted."""
    target = mongo_target(backend)
    server = MongoServer(target, target.place)
    try:
        return sorted(
            {
                name
                for collection in (TRIALS, RECORDS, FILES)
                for name in _names(server, collection)
                if is_experiment_id(name)  # others no store can open
            }
        )
    finally:
        server.close()


class MongoStore(ObjectMethods):
    """One experiment's records and objects in MongoDB. See :class:`~.protocol.Store`."""

    def __init__(self, target: MongoTarget, id: str) -> None:
        if not is_experiment_id(id):
            raise ValueError(
                f"The id is {id!r}; expected letters, digits, '_', '-' or '.': rename it"
            )
        self._target = target
        self._id = id
        self._server = MongoServer(target, self.address)
        self._objects = MongoObjects(self._server, id)
        self._trials = TrialDocuments(self._server, id, self._objects, self.address)
        self._batches = RecordBatches(self._server, id, self._objects, self.address)
        self._prepared: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return MongoStore, (self._target.portable(), self._id), self.carried()

    def __repr__(self) -> str:
        return f"MongoStore({self.address!r})"

    @property
    def address(self) -> str:
        """The database's URL without password, and the experiment's id."""
        return f"{self._target.place}#{self._id}"

    def allocate(self, token: str, body: bytes, known: Record | None = None) -> Allocation:
        """Allocate the token's trial id, and write the trial's first record.

        One round trip if this store object made the last write in ``trials``, else two.
        """
        self._prepare()
        return self._trials.allocate(token, body, known, self._prepare_again)

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Write records: one round trip for those of a trial's document, one per other stream.

        Other streams go first, so that a trial's end is there after all else.
        """
        self._prepare()
        try:
            return self._append(records)
        except RecordsRefusedError as error:
            removed = self._trials.removed({Owner(*pair) for pair in error.owners})
            if removed:
                return self.append([one for one in records if one.owner not in removed])
            self._prepared = None
            self._batches.forget()
            raise

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        """Remove trials, each in one step, and then what stands beside their documents."""
        self._prepare()
        owners = {one.owner: one for one in markers if one.owner is not None}
        removed = self._trials.removed(owners)
        self._server.run(check_owners, self._id, owners.keys() - removed, self.address)
        bodies = self._server.run_long(_INDEXING, _bodies, self._id, list(owners))
        for owner in owners.keys() - removed:
            self._trials.remove(owners[owner], owner)
        for owner in owners:
            self._trials.clear(owner)
        self._batches.remove([one.trial for one in markers], outputs)
        left = self._server.run_long(_INDEXING, _still_named, self._id, bodies)
        self._objects.discard(set(bodies) - left)

    def _append(self, records: Sequence[Record]) -> list[Record]:
        streams: dict[str, list[Record]] = {}
        for record in records:
            if record.stream not in TRIAL_STREAMS:
                streams.setdefault(record.stream, []).append(record)
        standing = self._batches.append_or_get("outputs", streams.pop("outputs", []))
        for stream, batch in streams.items():
            self._batches.append(stream, batch)
        self._trials.append([record for record in records if record.stream in TRIAL_STREAMS])
        return standing

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream in order of position, up to 16 MB in one round trip."""
        if trials is not None and not trials:
            return []
        part = self._trials if stream in TRIAL_STREAMS else self._batches
        return part.read(stream, trials, after)

    def read_starting(self, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
        """Read the records whose ids begin with a text, which the server picks out."""
        trials = None if trial is None else [trial]
        if stream in TRIAL_STREAMS:
            return self._trials.read(stream, trials, 0, start)
        return [one for one in self.read(stream, trials) if one.id.startswith(start)]

    def read_excerpts(
        self, stream: str, trials: Collection[int], after: int, texts: Collection[str], mark: str
    ) -> Iterable[Stored]:
        """Read records, and of bodies with marks the blocks that have one of some texts."""
        if not trials or stream in TRIAL_STREAMS:
            return self.read(stream, trials, after)
        return self._batches.read_excerpts(stream, trials, after, texts, mark)

    def read_pages(self, stream: str) -> Iterator[RecordPage]:
        """Read a stream of trials as a whole, in any order, while the server gathers what follows.

        Other streams are read as `read` does.
        """
        from daskperiment.store.record_pages import pages_of  # noqa: PLC0415  # who records reads nothing

        if stream in TRIAL_STREAMS:
            return self._trials.pages(stream)
        return pages_of(self.read(stream), _PAGE)

    def find(self, ids: Collection[str]) -> list[Record]:
        """Find outputs: one round trip for 10,000 of them."""
        return self._batches.find("outputs", ids)

    def state(self, known: Record | None = None) -> State:
        """Return the highest trial id and the server's clock; one round trip."""
        found = self._trials.state(known)
        if not found.stands:
            self._prepared = None
        return found

    def delete(self) -> None:
        """Remove the experiment's documents, and no other; collections and indexes stay.

        For 30 days one document stays, with a random name of this deletion. Collections are emptied
        one after the other, again until there was nothing: of a trial that somebody began meanwhile
        a part may be gone, and then all of it goes.
        """
        self.delete_elsewhere()
        with suppress(StoreError):  # a server without room for it can be emptied all the same
            self._server.run(_note_deletion, self._id, uuid.uuid4().hex)
        self._trials.forget()
        self._batches.forget()
        for _ in range(_ROUNDS):
            found = [self._empty(collection) for collection in _KEYS]
            if not any(found):
                break

    def _empty(self, collection: str) -> bool:
        """Remove the experiment's documents from a collection; return whether there was one."""
        filter_ = {_KEYS[collection]: _range(self._id), **(FORMAT if collection == TRIALS else {})}
        was_there = False
        while self._server.run(_delete, collection, filter_):
            was_there = True
        return was_there

    def last_deletion(self) -> str:
        """Return what names the last deletion of the experiment, for 30 days."""
        return self._server.run(_last_deletion, self._id)

    def close(self) -> None:
        """Close the client, unless it was given; a later call makes another one."""
        self._server.close()

    def _prepare_again(self) -> None:
        """Make the indexes again: whatever took the records may have taken them too."""
        self._prepared = None
        self._prepare()

    def faults(self, seconds: float) -> Iterator[Fault]:
        """Yield documents that cannot be read, and pieces of objects that nothing leads to."""
        deadline = time.monotonic() + seconds
        others = [stream for stream in STREAMS if stream not in TRIAL_STREAMS]
        for found, mend in chain(self._trials.damage(), *map(self._batches.damage, others)):
            if time.monotonic() > deadline:
                return
            yield Fault(self.address, found.what, _ASIDE_REMEDY, mend)
        pieces = self._server.run_long(max(seconds, 0), _uploads, CHUNKS, "files_id", self._id)
        files = self._server.run_long(max(seconds, 0), _uploads, FILES, "_id", self._id)
        left = [key for name, key in pieces.items() if name not in files]
        if left:
            remedy = "run `daskperiment check --repair` while nobody writes, to remove them"
            what = f"pieces of {len(left)} objects that were never written to the end"
            mend = partial(self._server.run_long, 60.0, _remove_pieces, left)
            yield Fault(f"{self.address}, collection {CHUNKS!r}", what, remedy, mend)

    def digests(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        for key in self._server.run_long(_INDEXING, _uploads, FILES, "_id", self._id).values():
            if isinstance(key.get("digest"), str):
                yield key["digest"]
        yield from self.digests_elsewhere()

    def set_aside(self, stream: str, record: Stored) -> None:
        """Mark a record as set aside, under another id."""
        part = self._trials if stream in TRIAL_STREAMS else self._batches
        part.set_aside(stream, record)

    def has_aside(self) -> bool:
        """Whether any record was set aside."""
        return self._server.run(_has_aside, self._id)

    def _prepare(self) -> None:
        """Make the indexes, which keep ids unique, again after the connection was lost."""
        losses = self._server.losses
        if self._prepared == losses:
            return
        for collection, indexes in _INDEXES.items():
            there = self._server.run(_indexes, collection)
            wanted = [index for index in indexes if index.document["name"] not in there]
            if wanted:
                self._server.run_long(_INDEXING, _make_indexes, collection, wanted)
        self._prepared = losses


def _range(experiment: str) -> dict[str, Any]:
    """Filter for keys of an experiment, by the index of the keys."""
    return {"$gt": {"experiment": experiment}, "$lt": {"experiment": experiment, "": MaxKey()}}


def _has_aside(database: Database, experiment: str) -> bool:
    return database[ASIDE_DOCUMENTS].find_one({"_id": _range(experiment)}, {"_id": 1}) is not None


def _bodies(database: Database, experiment: str, owners: Sequence[Owner]) -> list[str]:
    """Return the digests of the records of trials that are too large for their documents."""
    trials = [owner.trial for owner in owners]
    named: set[str] = set()
    # The index of trials is of documents with the mark alone: without it all would be looked at.
    for collection, field, mark in ((TRIALS, "trial", FORMAT), (RECORDS, "records.trial", {})):
        filter_ = {"experiment": experiment, **mark, field: {"$in": trials}}
        named |= _named(database, collection, filter_)
    return sorted(named)


def _still_named(database: Database, experiment: str, digests: Sequence[str]) -> set[str]:
    # No index has them: all of the experiment is looked through, and nothing of others.
    filter_ = {
        "_id": _range(experiment), "experiment": experiment,
        "records.object": {"$in": list(digests)},
    }  # fmt: skip
    found: set[str] = set()
    for collection in (TRIALS, RECORDS) if digests else ():
        found |= _named(database, collection, filter_)
    return found


def _named(database: Database, collection: str, filter: dict[str, Any]) -> set[str]:
    found = database[collection].find(filter, {"records.object": 1})
    return {
        one["object"]
        for document in found
        for one in document.get("records", ())
        if isinstance(one, dict) and "object" in one
    }


def _delete(database: Database, collection: str, filter: dict[str, Any]) -> int:
    found = database[collection].find(filter, {"_id": 1}, limit=_DELETED)
    keys = [document["_id"] for document in found]
    if keys:
        database[collection].delete_many({"_id": {"$in": keys}})
    return len(keys)


def _note_deletion(database: Database, experiment: str, name: str) -> None:
    collection = database[_DELETIONS]
    collection.create_index("at", name="daskperiment_at", expireAfterSeconds=_REMEMBERED)
    note = {"$set": {"name": name}, "$currentDate": {"at": True}}
    collection.update_one({"_id": {"experiment": experiment}}, note, upsert=True)


def _last_deletion(database: Database, experiment: str) -> str:
    found = database[_DELETIONS].find_one({"_id": {"experiment": experiment}})
    return "" if found is None else str(found.get("name", ""))


def _uploads(
    database: Database, collection: str, field: str, experiment: str
) -> dict[str, dict[str, Any]]:
    """Return the keys of an experiment's uploads, by their text."""
    pipeline: Pipeline = [{"$match": {field: _range(experiment)}}, {"$group": {"_id": f"${field}"}}]
    found = [one["_id"] for one in database[collection].aggregate(pipeline)]
    return {repr(key): key for key in found if isinstance(key, dict)}


def _remove_pieces(database: Database, keys: list[dict[str, Any]]) -> None:
    database[CHUNKS].delete_many({"files_id": {"$in": keys}})


def _first(database: Database, collection: str, filter: dict[str, Any]) -> dict[str, Any] | None:
    return database[collection].find_one(filter, {"_id": 1}, sort=[("_id", 1)])


def _indexes(database: Database, collection: str) -> set[str]:
    return set(database[collection].index_information())


def _make_indexes(database: Database, collection: str, indexes: Sequence[IndexModel]) -> None:
    database[collection].create_indexes(indexes)


def _names(server: MongoServer, collection: str) -> Iterable[str]:
    """Yield the experiments of a collection, jumping from one to the next by the index."""
    marked = FORMAT if collection == TRIALS else {}
    key: dict[str, Any] = {"$gt": {"experiment": ""}}
    while True:
        filter_ = {"_id": key, "_id.experiment": {"$type": "string"}, **marked}
        found = server.run(_first, collection, filter_)
        if found is None:
            return
        name = found["_id"]["experiment"]
        yield name
        key = {"$gt": {"experiment": name, "": MaxKey()}}
