"""The collection ``trials``: a document for each trial, with its records and fields to query."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure
from toolz import partition_all, unique

from daskperiment.codec.trial_view import TrialView, added_view, begun_view
from daskperiment.records import BEGUN
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
    queryable,
    set_aside,
)
from daskperiment.store.mongo.objects import MongoObjects
from daskperiment.store.mongo.optimistic_writer import (
    JoiningRecords,
    OptimisticWriter,
    as_seconds,
)
from daskperiment.store.mongo.pipelines import (
    FORMAT,
    TRIALS,
    Pipeline,
    add_records,
    add_trial,
    as_removed,
    as_taken,
    check_owners,
    glance,
    head,
    numbered,
    of_removed,
    own,
    set_fields,
    stands,
)
from daskperiment.store.protocol import Allocation, Owner, Record, State, Stored, removed_token

if TYPE_CHECKING:
    from daskperiment.store.record_pages import RecordPage

__all__ = ["TRIAL_INDEXES", "TRIAL_STREAMS", "TrialDocuments"]

TRIAL_STREAMS = ("trials", "steps", "notes")
"""Streams whose records are in this collection."""
_FEW = frozenset({"notes"})
"""Those of which most trials have no record: an index leads to the others' documents."""
_TOGETHER = 100
"""Records that may join a trial's document in one write."""
_TOGETHER_SIZE = 128 << 10
_TRIALS = 50
"""Trials whose records are written by one command."""
_INLINE = 64 << 10
"""Bytes of a record above which it becomes an object."""
_NOTHING = {"stream": "", "id": BEGUN}
"""Takes a number, and is in no stream."""


def _index(name: str, *fields: str, unique: bool = True, **present: Any) -> IndexModel:
    return IndexModel(
        [(field, ASCENDING) for field in ("experiment", *fields)],
        name=f"daskperiment_{name}",
        unique=unique,
        partialFilterExpression={**FORMAT, **present},
    )


TRIAL_INDEXES = (
    _index("number", "records.n"),
    _index("identity", "trial", "records.stream", "records.id"),
    _index("token", "token", token={"$exists": True}),
    # With keys of its own, as servers before 5.0 have one partial index of any keys.
    *(
        _index(stream, "trial", "records.n", unique=False, **{"records.stream": stream})
        for stream in sorted(_FEW)
    ),
)


class TrialDocuments:
    """The documents of one experiment's trials."""

    def __init__(
        self,
        server: MongoServer,
        experiment: str,
        objects: MongoObjects,
        address: str,
    ) -> None:
        self._allocating = threading.Lock()
        self._server = server
        self._experiment = experiment
        self._address = address
        self._elements = Elements(objects, _INLINE, f"{address}, collection {TRIALS!r},")
        self._optimistic = OptimisticWriter(experiment)

    def allocate(
        self, token: str, body: bytes, known: Record | None, on_loss: Callable[[], None]
    ) -> Allocation:
        """Insert a trial's document, unless the token has one; say so if the known one is lost."""
        elements = [self._pack(Record("trials", 0, BEGUN, body))]
        view = _in_mongo_types(begun_view(body))
        document = {
            "experiment": self._experiment,
            "trial": 0,
            **view.items,
            **view.values,
            "token": token,
            "daskperiment": {**_marker(elements), "attempt": ObjectId()},
            "records": elements,
        }
        made = self._server.run(self._optimistic.insert, document, known)
        if made is None:
            # Threads that ask for one trial wait for the index that makes it one.
            with self._allocating:
                made = self._server.run(self._allocate, document, known)
                if not made.stands:
                    on_loss()
        return made

    def append(self, records: Sequence[Record]) -> None:
        """Write records; those of the stream ``trials`` set fields, too."""
        small: list[list[Record]] = []
        for _, run in groupby(records, attrgetter("trial", "owner")):
            batch = list(run)
            size = sum(len(record.body) for record in batch)
            if len(batch) <= _TOGETHER and size <= _TOGETHER_SIZE:
                small.append(batch)
                continue
            self._join_each(small)
            small = []
            # A document takes 16 MB at most. Those that set fields go where the fields are.
            for chunk in chunks(record for record in batch if record.stream != "trials"):
                self._join(self._joining(chunk), own_document=True)
            for chunk in chunks(record for record in batch if record.stream == "trials"):
                self._join_each([chunk])
        self._join_each(small)

    def _join_each(self, batches: Sequence[Sequence[Record]]) -> None:
        """Write records of a trial each, in order, in as few commands as it goes."""
        for some in partition_all(_TRIALS, batches):
            left = [self._joining(batch) for batch in some]
            while left:
                left = left[self._server.run(self._optimistic.join, left) :]
                if left:
                    self._join(left.pop(0))

    def read(
        self, stream: str, trials: Collection[int] | None, after: int, start: str = ""
    ) -> list[Stored]:
        """Return the stream's records up to the last number at this moment.

        Those whose ids begin with a text, at positions that tell no more than their order.
        """
        number = after // POSITIONS
        last = self._server.run(self._last)
        if last < number:
            return []
        filter_ = numbered(self._experiment, number)
        if trials is not None:
            filter_["trial"] = {"$in": sorted(trials)}
        if stream in _FEW:  # not of a million documents what none of them has
            filter_["records.stream"] = stream
        projection = {"trial": 1, "records": _of_stream(stream, start)}
        places = range(after + 1, (last + 1) * POSITIONS)
        found: list[Stored] = []
        for document in documents(self._server, TRIALS, filter_, projection):
            found += self._elements.read(document, lambda one: self._unpack(one, places))
        # A trial's document has records of many writes, between those of other trials.
        return sorted(found)

    def pages(self, stream: str) -> Iterator[RecordPage]:
        """Yield what `read` returns of a whole stream, in any order."""
        from daskperiment.store.mongo import raw_documents  # noqa: PLC0415  # who records reads nothing

        upto = (self._server.run(self._last) + 1) * POSITIONS
        read = partial(self._elements.read, unpack=partial(self._unpack, places=range(1, upto)))
        form = raw_documents.DocumentForm(self._experiment, stream, upto)
        return raw_documents.pages(self._server, form, _of_stream(stream), read)

    def remove(self, marker: Record, owner: Owner) -> None:
        """Leave of a trial its marker, in one step, and remove its other documents."""
        self.forget()
        trial, update = marker.trial, as_removed(owner.token)
        document = self._document(trial, [self._pack(marker)])
        self._server.run(self._write, document, owner, update, False)

    def clear(self, owner: Owner) -> None:
        """Remove what is left of a trial beside its own document, whose marker stands."""
        self._server.run(self._clear, owner)

    def removed(self, owners: Collection[Owner]) -> set[Owner]:
        """Return those of some owners whose trials were removed."""
        return self._server.run(self._removed, owners)

    def _clear(self, database: Database, owner: Owner) -> None:
        documents = database[TRIALS]
        key, fields = of_removed(self._experiment, owner)
        documents.update_one({"_id": key}, fields, upsert=True)
        parts = {**own(self._experiment), "trial": owner.trial, "_id.part": {"$type": "number"}}
        documents.update_many(parts, as_taken())

    def _removed(self, database: Database, owners: Collection[Owner]) -> set[Owner]:
        tokens = {removed_token(one.token): one for one in owners}
        filter_ = {**own(self._experiment), "token": {"$in": sorted(tokens)}}
        found = database[TRIALS].find(filter_, {"token": 1, "trial": 1})
        pairs = [(tokens[one["token"]], one["trial"]) for one in found]
        return {owner for owner, trial in pairs if owner.trial == trial}

    def damage(self) -> Iterator[tuple[DocumentDamage, Callable[[], object]]]:
        """Yield what is wrong with documents, and what sets it aside."""
        projection = {"trial": 1, "records": 1}
        for document in documents(self._server, TRIALS, own(self._experiment), projection):
            number = document["_id"]["trial"]
            inner = {**document, "trial": number}
            found = damage_of(self._elements, inner, self._unpack_all)
            if found is None and document.get("trial") == number:
                continue
            told = found or DocumentDamage(
                f"{self._address}, collection {TRIALS!r}, has the wrong id"
                f" {document.get('trial')!r} in the field 'trial' of the document with _id"
                f" {document['_id']!r}", document["records"], [],
            )  # fmt: skip
            # The document stays, as it may say which number and which id come next.
            changes = {"trial": number, "records": told.records}
            named = {**document, "experiment": self._experiment}
            yield told, partial(self._server.run, keep_aside, TRIALS, named, changes)

    def _unpack_all(self, document: dict[str, Any]) -> Iterator[Stored]:
        """Unpack the records of all streams, but for what only takes a number."""
        for place, element in _places(elements_of(document)):
            if ASIDE not in element and element["stream"] != _NOTHING["stream"]:
                if not isinstance(element["stream"], str | bytes):
                    raise TypeError(f"its stream is {element['stream']!r}")
                yield self._elements.unpack(element, document["trial"], place)

    def set_aside(self, stream: str, record: Stored) -> None:
        """Mark a record as set aside."""
        filter_ = {**own(self._experiment), "trial": record.trial}
        element = {"stream": pack_text(stream), "id": pack_text(record.id)}
        self._server.run(set_aside, TRIALS, filter_, element)

    def _unpack(self, document: dict[str, Any], places: range | None = None) -> Iterator[Stored]:
        if document["trial"] != document["_id"]["trial"]:
            raise ValueError(f"its field 'trial' is {document['trial']!r}")
        for place, element in _places(elements_of(document)):
            if ASIDE not in element and (places is None or place in places):
                yield self._elements.unpack(element, document["trial"], place)

    def state(self, known: Record | None) -> State:
        """Return the highest trial id and the server's clock."""
        found = self._server.run(self._glance, known)
        return State(found["latest"], as_seconds(found["clock"]), found["stands"])

    def forget(self) -> None:
        """Remember nothing of the last write."""
        self._optimistic.forget()

    def _allocate(
        self, database: Database, document: Mapping[str, Any], known: Record | None
    ) -> Allocation:
        """Insert the document behind the last write, whosever; two round trips."""
        pipeline = add_trial(self._experiment, document)
        for _ in attempts(self._address):
            try:
                database.aggregate(pipeline)
            except OperationFailure as error:
                index = clashing_index(error)
                if index == "records.id":
                    # Somebody appended that record before: it stays as it is.
                    pipeline = add_trial(self._experiment, {**document, "records": [_NOTHING]})
                if index != "token":
                    continue
            found = self._by_token(database, document["token"], known)
            if found is not None:
                break
        clock = as_seconds(found["clock"])
        token = document["token"]
        if "n" not in found:  # the trial was removed
            return Allocation(found["_id"]["trial"], clock, False, found["stands"])
        self._optimistic.remember(found["_id"], token, found["n"], found["latest"], clock)
        new = found["attempt"] == document["daskperiment"]["attempt"]
        return Allocation(found["_id"]["trial"], clock, new, found["stands"])

    def _by_token(self, database: Database, token: str, known: Record | None) -> Any:
        fields = {name: f"$daskperiment.{name}" for name in ("n", "latest", "attempt")}
        pipeline = [
            {"$match": {**own(self._experiment), "token": token}},
            {"$project": {**fields, "clock": "$$NOW"}},
            *stands(self._experiment, known),
        ]
        return next(database[TRIALS].aggregate(pipeline), None)

    def _joining(self, records: Sequence[Record]) -> JoiningRecords:
        """Return records of one trial and owner on their way."""
        view = added_view(one.body for one in records if one.stream == "trials")
        # Of records with one identity the first counts.
        elements = [self._pack(one) for one in unique(records, key=attrgetter("stream", "id"))]
        document = self._document(records[0].trial, elements)
        return JoiningRecords(document, _in_mongo_types(view), records[0].owner)

    def _document(self, trial: int, elements: list[dict[str, Any]]) -> dict[str, Any]:
        key = {"experiment": self._experiment, "trial": trial}
        return {"_id": key, **key, "daskperiment": _marker(elements), "records": elements}

    def _join(self, records: JoiningRecords, *, own_document: bool = False) -> None:
        document, update = records.document, set_fields(records.view)
        self._server.run(self._write, document, records.owner, update, own_document)

    def _write(
        self,
        database: Database,
        document: dict[str, Any],
        owner: Owner | None,
        update: Pipeline,
        own_document: bool,
    ) -> None:
        """Write records behind the last write, whosever."""
        trial = document["trial"]
        for _ in attempts(self._address):
            if not document["records"]:
                if update:
                    token = {} if owner is None else {"token": owner.token}
                    filter_ = {"_id": document["_id"], **own(self._experiment), **token}
                    database[TRIALS].update_one(filter_, update)
                return
            pipeline = add_records(
                self._experiment, document, update, owner, own_document=own_document
            )
            try:
                database.aggregate(pipeline)
            except OperationFailure as error:
                if clashing_index(error) == "records.id":
                    elements = self._missing(database, trial, document["records"])
                    document = self._document(trial, elements)
                check_owners(database, self._experiment, owner and [owner], self._address)
            else:
                return

    def _missing(
        self, database: Database, trial: int, elements: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Leave out the elements that any document of the trial has."""
        ids = [element["id"] for element in elements]
        filter_ = {**own(self._experiment), "trial": trial, "records.id": {"$in": ids}}
        found = database[TRIALS].find(filter_, {"records.stream": 1, "records.id": 1})
        there = {(one["stream"], one["id"]) for document in found for one in document["records"]}
        return [one for one in elements if (one["stream"], one["id"]) not in there]

    def _glance(self, database: Database, known: Record | None) -> dict[str, Any]:
        return next(database.aggregate(glance(self._experiment, known)))

    def _last(self, database: Database) -> int:
        found = database[TRIALS].find_one(
            head(self._experiment), {"_id": 0, "daskperiment.n": 1}, sort=[("records.n", -1)]
        )
        return found["daskperiment"]["n"] if found else 0

    def _pack(self, record: Record) -> dict[str, Any]:
        return {"stream": pack_text(record.stream), **self._elements.pack(record)}


def _places(elements: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Any]]:
    """Elements with their positions: those of one write stand together, in order."""
    for number, group in groupby(elements, _number):
        for place, element in enumerate(group):
            yield number * POSITIONS + place, element


def _number(element: Mapping[str, Any]) -> int:
    """Return the number of an element's write; what was set aside may have lost it."""
    return element.get("n", 0) if ASIDE in element else element["n"]  # type: ignore[no-any-return]


def _in_mongo_types(view: TrialView) -> TrialView:
    items = {name: queryable(items) for name, items in view.items.items()}
    return TrialView(queryable(view.values), view.removed, view.unless, items)


def _marker(elements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"format": 1, "size": sum(100 + len(element.get("body", "")) for element in elements)}


def _of_stream(stream: str, start: str = "") -> dict[str, Any]:
    where: dict[str, Any] = {"$eq": ["$$this.stream", stream]}
    if start:
        text = {"$cond": [{"$eq": [{"$type": "$$this.id"}, "string"]}, "$$this.id", ""]}
        begins = {"$eq": [{"$indexOfBytes": [text, {"$literal": start}]}, 0]}
        where = {"$and": [where, begins]}
    same = {"$filter": {"input": "$records", "cond": where}}
    return {"$cond": [{"$isArray": "$records"}, same, "$records"]}
