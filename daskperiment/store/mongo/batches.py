"""The collection ``daskperiment.records``: documents of some records of a stream each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure
from toolz import unique

from daskperiment.store.mongo.client import Database, MongoServer
from daskperiment.store.mongo.documents import (
    ASIDE,
    POSITIONS,
    DocumentDamage,
    Elements,
    attempts,
    chunks,
    clashing_index,
    damage_of,
    documents,
    elements_of,
    keep_aside,
    pack_text,
    set_aside,
)
from daskperiment.store.mongo.objects import MongoObjects
from daskperiment.store.mongo.pipelines import (
    RECORDS,
    add_batch,
    check_owners,
    excerpts,
    head_of_stream,
)
from daskperiment.store.protocol import Record, Stored

__all__ = ["RECORD_INDEXES", "RecordBatches"]

RECORD_INDEXES = (
    IndexModel(
        [(field, ASCENDING) for field in ("experiment", "stream", "records.trial", "records.id")],
        name="daskperiment_identity",
        unique=True,
    ),
)
_INLINE = 1 << 20
"""Bytes of a record above which it becomes an object."""
_HINTS = 10_000
"""Identities remembered as being there."""
_SOUGHT = 10_000
"""Records looked for in one round trip."""
_FEW = 100
"""Trials that a server picks out of its documents; of more it gives whatever stands beside them."""

_Identity = tuple[int, str]
_identity_of = attrgetter("trial", "id")


class RecordBatches:
    """The documents of one experiment's other streams."""

    def __init__(
        self, server: MongoServer, experiment: str, objects: MongoObjects, address: str
    ) -> None:
        self._server = server
        self._experiment = experiment
        self._address = address
        self._elements = Elements(objects, _INLINE, f"{address}, collection {RECORDS!r},")
        self._hints: set[_Identity] = set()
        self._repeats = False
        """Whether the latest ones were there already: so may be the next."""

    def append(self, stream: str, records: Sequence[Record]) -> None:
        """Write records; those that are there already are passed over."""
        self._append(stream, records, known={})

    def append_or_get(self, stream: str, records: Sequence[Record]) -> list[Record]:
        """Write records, and return those that were there already as they stand there."""
        # One round trip if all are new, as the latest were, and also if all have been there, and
        # are known to, or the latest had.
        known: dict[_Identity, bytes] = {}
        if self._repeats or not self._hints.isdisjoint(map(_identity_of, records)):
            known = self._server.run(self._find, stream, records)
        written = self._append(stream, records, known)
        self._repeats = bool(known)
        if len(self._hints) > _HINTS:
            self._hints.clear()
        self._hints.update(map(_identity_of, records))
        standing = []
        for record in records:
            identity = _identity_of(record)
            if written.get(identity) is record:
                continue
            body = known[identity] if identity in known else written[identity].body
            standing.append(Record(*record[:3], body))
        return standing

    def read(
        self, stream: str, trials: Collection[int] | None, after: int, records: Any = 1
    ) -> Iterator[Stored]:
        """Yield the stream's records in order, as they arrive.

        `records` is what is wanted of that field.
        """
        name = pack_text(stream)
        filter_: dict[str, Any] = {}
        last = float("inf")
        if trials is not None:
            # Found in the order of trials: of what is written meanwhile, a part might be missed.
            last = self._server.run(_last, head_of_stream(self._experiment, name))
            filter_ = {"experiment": self._experiment, "stream": name}
            trials = frozenset(trials)
            filter_["records.trial"] = {"$in": sorted(trials)}
        key = {"experiment": self._experiment, "stream": name}
        filter_["_id"] = {"$gte": {**key, "n": after // POSITIONS}, "$lte": {**key, "n": last}}
        found = documents(
            self._server, RECORDS, filter_, {"records": records}, [("_id", ASCENDING)]
        )
        for document in found:
            for one in self._elements.read(document, self._unpack):
                if one.position > after and (trials is None or one.trial in trials):
                    yield one

    def read_excerpts(
        self, stream: str, trials: Collection[int], after: int, texts: Collection[str], mark: str
    ) -> Iterator[Stored]:
        """Yield records as `read` does, and of bodies with marks the blocks that have a text."""
        # Of many the server would go through all for each record.
        few = sorted(trials) if len(trials) <= _FEW else None
        return self.read(stream, trials, after, excerpts(few, texts, mark))

    def find(self, stream: str, ids: Collection[str]) -> list[Record]:
        """Return the records of trial 0 with these ids, by the index that keeps them unique."""
        found: list[Record] = []
        wanted = list(dict.fromkeys(map(pack_text, ids)))  # in slices: toolz lays out whole batches
        for start in range(0, len(wanted), _SOUGHT):
            some = wanted[start : start + _SOUGHT]
            for document in self._server.run(_pick, self._experiment, stream, some):
                stored = self._elements.read(document, self._unpack_one)
                found += [Record(stream, 0, one.id, one.body) for one in stored]
        return found

    def damage(self, stream: str) -> Iterator[tuple[DocumentDamage, Callable[[], object]]]:
        """Yield what is wrong with documents of a stream, and what sets it aside."""
        filter_ = head_of_stream(self._experiment, pack_text(stream))
        for document in documents(self._server, RECORDS, filter_, {"records": 1}):
            found = damage_of(self._elements, document, self._unpack)
            if found is not None:
                changes = {"records": found.records} if found.odd else None
                named = {**document, "experiment": self._experiment}
                mend = partial(self._server.run, keep_aside, RECORDS, named, changes)
                yield found, mend

    def set_aside(self, stream: str, record: Stored) -> None:
        """Mark a record as set aside."""
        self.forget()
        filter_ = {"experiment": self._experiment, "stream": pack_text(stream)}
        element = {"trial": record.trial, "id": pack_text(record.id)}
        self._server.run(set_aside, RECORDS, filter_, element)

    def remove(self, trials: Collection[int], outputs: Collection[str]) -> None:
        """Put placeholders in the places of trials' records, and of outputs of trial 0."""
        self.forget()
        self._server.run(self._remove, {"records.trial": {"$in": sorted(trials)}}, set(trials))
        names = list(map(pack_text, outputs))
        for start in range(0, len(names), _SOUGHT):
            some = names[start : start + _SOUGHT]
            any_ = {"stream": "outputs", "records": {"$elemMatch": _of_zero(some)}}
            self._server.run(self._remove, any_, {0}, frozenset(some))

    def _remove(
        self, database: Database, where: dict[str, Any], trials: set[int],
        ids: frozenset[str | bytes] | None = None,
    ) -> None:  # fmt: skip
        # No document goes: the last one says which number comes next.
        filter_ = {"experiment": self._experiment, **where}
        for document in database[RECORDS].find(filter_, {"records": 1}):
            changes = {
                f"records.{place}": {"trial": 0, "id": f"removed-{ObjectId()}", ASIDE: None}
                for place, one in enumerate(elements_of(document))
                if one.get("trial") in trials and (ids is None or one.get("id") in ids)
            }
            if changes:
                database[RECORDS].update_one({"_id": document["_id"]}, {"$set": changes})

    def _unpack_one(self, document: dict[str, Any]) -> list[Stored]:
        return [self._elements.unpack(document["records"], 0, 0)]

    def _pack(self, record: Record) -> dict[str, Any]:
        return {"trial": record.trial, **self._elements.pack(record)}

    def _unpack(self, document: dict[str, Any]) -> Iterator[Stored]:
        elements = elements_of(document)
        for place, element in enumerate(elements):
            if ASIDE not in element:
                position = document["_id"]["n"] * POSITIONS + element.get("place", place)
                yield self._elements.unpack(element, element["trial"], position)

    def forget(self) -> None:
        """Remember nothing of what is there."""
        self._hints.clear()
        self._repeats = False

    def _append(
        self, stream: str, records: Sequence[Record], known: dict[_Identity, bytes]
    ) -> dict[_Identity, Record]:
        """Write what is not known; add to `known`, and return what was written."""
        # Of records with one identity the first counts.
        fresh = {_identity_of(one): one for one in unique(records, key=_identity_of)}
        written = {}
        for chunk in chunks(fresh[identity] for identity in fresh if identity not in known):
            elements = {_identity_of(one): self._pack(one) for one in chunk}
            self._server.run(self._insert, stream, chunk, elements, known)
            written.update({identity: fresh[identity] for identity in elements})
        return written

    def _insert(
        self,
        database: Database,
        stream: str,
        chunk: Sequence[Record],
        elements: dict[_Identity, dict[str, Any]],
        known: dict[_Identity, bytes],
    ) -> None:
        """Insert one document with those of the elements that turn out not to be there."""
        owners = {record.owner for record in chunk if record.owner is not None}
        for _ in attempts(self._address):
            document = {
                "_id": None,
                "experiment": self._experiment,
                "stream": pack_text(stream),
                "daskperiment": {"format": 1},
                "records": list(elements.values()),
            }
            try:
                database.aggregate(add_batch(self._experiment, pack_text(stream), document, owners))
            except OperationFailure as error:
                index = clashing_index(error)
                check_owners(database, self._experiment, owners, self._address)
                if index != "records.id":
                    continue
            else:
                return
            # One record that is there already stops the whole document: go on without it.
            known |= self._find(database, stream, chunk)
            for identity in known.keys() & elements.keys():
                del elements[identity]
            if not elements:
                return

    def _find(
        self, database: Database, stream: str, records: Sequence[Record]
    ) -> dict[_Identity, bytes]:
        """Return the bodies of those records that are there."""
        wanted = set(map(_identity_of, records))
        any_ = {
            "trial": {"$in": sorted({trial for trial, _ in wanted})},
            "id": {"$in": [pack_text(id_) for _, id_ in wanted]},
        }
        filter_ = {
            "experiment": self._experiment,
            "stream": pack_text(stream),
            "records": {"$elemMatch": any_},
        }
        found: list[Stored] = []
        for document in database[RECORDS].find(filter_, {"records": 1}):
            found += self._elements.read(document, self._unpack)
        return {_identity_of(one): one.body for one in found if _identity_of(one) in wanted}


def _of_zero(ids: list[str | bytes]) -> dict[str, Any]:
    return {"trial": 0, "id": {"$in": ids}}


def _pick(
    database: Database, experiment: str, stream: str, ids: list[str | bytes]
) -> list[dict[str, Any]]:
    """Find such elements, each in a document of its own."""
    within = {"experiment": experiment, "stream": stream}
    any_ = _of_zero(ids)
    pipeline: list[dict[str, Any]] = [
        {"$match": {**within, "records": {"$elemMatch": any_}}},
        {"$project": {"records": 1}},
        # A match looks ids up by bisection; $filter would go through all of them each time.
        {"$unwind": "$records"},
        {"$match": {f"records.{name}": value for name, value in any_.items()}},
    ]
    return list(database[RECORDS].aggregate(pipeline, batchSize=len(ids) + 1))


def _last(database: Database, stream: dict[str, Any]) -> int:
    found = database[RECORDS].find_one(stream, {"_id": 1}, sort=[("_id", -1)])
    return found["_id"]["n"] if found else 0
