"""The collection ``trials``: a document for each trial, with its records and fields to query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from bson.objectid import ObjectId
from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure
from pymongo.results import BulkWriteResult
from toolz import unique

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
from daskperiment.store.mongo.pipelines import (
    FORMAT,
    TRIALS,
    Pipeline,
    add_next_records,
    add_records,
    add_trial,
    as_removed,
    behind,
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
_INLINE = 64 << 10
"""Bytes of a record above which it becomes an object."""
_NOTHING = {"stream": "", "id": BEGUN}
"""Takes a number, and is in no stream."""
_TRUSTED = 60.0
"""Seconds for which the server's clock is reckoned from what it returned before."""
# Goes on while the machine sleeps, where there is such a clock.
_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


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
        made = self._server.run(self._optimistic.insert, document)
        if made is None:
            # Threads that ask for one trial wait for the index that makes it one.
            with self._allocating:
                made = self._server.run(self._allocate, document, known)
                if not made.stands:
                    on_loss()
        return made

    def append(self, records: Sequence[Record]) -> None:
        """Write records; those of the stream ``trials`` set fields, too."""
        for _, run in groupby(records, attrgetter("trial", "owner")):
            batch = list(run)
            size = sum(len(record.body) for record in batch)
            if len(batch) <= _TOGETHER and size <= _TOGETHER_SIZE:
                self._join(batch)
                continue
            # A document takes 16 MB at most. Those that set fields go where the fields are.
            for chunk in chunks(record for record in batch if record.stream != "trials"):
                self._join(chunk, own_document=True)
            for chunk in chunks(record for record in batch if record.stream == "trials"):
                self._join(chunk)

    def read(self, stream: str, trials: Collection[int] | None, after: int) -> list[Stored]:
        """Return the stream's records up to the last number at this moment."""
        number = after // POSITIONS
        last = self._server.run(self._last)
        if last < number:
            return []
        filter_ = numbered(self._experiment, number)
        if trials is not None:
            filter_["trial"] = {"$in": sorted(trials)}
        if stream in _FEW:  # not of a million documents what none of them has
            filter_["records.stream"] = stream
        projection = {"trial": 1, "records": _of_stream(stream)}
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
        self._server.run(self._write, trial, owner, [self._pack(marker)], update, False)

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
        documents.delete_many(parts)

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
        return State(found["latest"], _seconds(found["clock"]), found["stands"])

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
        clock = _seconds(found["clock"])
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

    def _join(self, records: list[Record], *, own_document: bool = False) -> None:
        """Write records of one trial and owner."""
        view = added_view(one.body for one in records if one.stream == "trials")
        update = set_fields(_in_mongo_types(view))
        # Of records with one identity the first counts.
        elements = [self._pack(one) for one in unique(records, key=attrgetter("stream", "id"))]
        first = records[0]
        self._server.run(self._write, first.trial, first.owner, elements, update, own_document)

    def _write(
        self,
        database: Database,
        trial: int,
        owner: Owner | None,
        elements: list[dict[str, Any]],
        update: Pipeline,
        own_document: bool,
    ) -> None:
        key = {"experiment": self._experiment, "trial": trial}
        for _ in attempts(self._address):
            if not elements:
                if update:
                    token = {} if owner is None else {"token": owner.token}
                    filter_ = {"_id": key, **own(self._experiment), **token}
                    database[TRIALS].update_one(filter_, update)
                return
            document = {"_id": key, **key, "daskperiment": _marker(elements), "records": elements}
            joins = not own_document and (owner is None or owner.trial == trial)
            if joins and self._optimistic.join(database, document, update, owner):
                return
            pipeline = add_records(
                self._experiment, document, update, owner, own_document=own_document
            )
            try:
                database.aggregate(pipeline)
            except OperationFailure as error:
                if clashing_index(error) == "records.id":
                    elements = self._missing(database, trial, elements)
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


def _of_stream(stream: str) -> dict[str, Any]:
    same = {"$filter": {"input": "$records", "cond": {"$eq": ["$$this.stream", stream]}}}
    return {"$cond": [{"$isArray": "$records"}, same, "$records"]}


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


# Optimistic writes -------------------------------------------------------------------------------


class _LastWrite(NamedTuple):
    """The last write that is known of."""

    key: Mapping[str, Any]
    """Of the document that it went to."""
    token: str | None
    """The token of that document's trial, None where it is not known."""
    number: int
    latest: int
    """The highest trial id with it."""
    clock: float
    """The server's clock when it was last asked, at `asked` of our own."""
    asked: float

    def now(self) -> float:
        # Rounded down like the server's own, which this must not be ahead of.
        return int((self.clock + _ticks() - self.asked) * 1000) / 1000

    def followed(self, key: Mapping[str, Any], token: str | None, latest: int) -> _LastWrite:
        """Return the write that came right behind this one."""
        return _LastWrite(key, token, self.number + 1, latest, self.clock, self.asked)


class OptimisticWriter:
    """Writes behind the last write, in one round trip, on the guess that nobody else wrote.

    The server checks that the last write is where it was and that there is none behind it: a
    guess that is wrong costs a round trip and nothing else.
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._last: _LastWrite | None = None

    def forget(self) -> None:
        """Make no guess until the next write is known."""
        self._last = None

    def remember(
        self, key: Mapping[str, Any], token: str, number: int, latest: int, clock: float
    ) -> None:
        """Go on from a write, with the highest trial id and the server's clock just now."""
        self._last = _LastWrite(key, token, number, latest, clock, _ticks())

    def insert(self, database: Database, document: Mapping[str, Any]) -> Allocation | None:
        """Insert a trial's document; None if the guess was wrong or the token has one."""
        last = self._last
        if last is None or _ticks() - last.asked > _TRUSTED:
            return None
        number, trial = last.number + 1, last.latest + 1
        key = {"experiment": self._experiment, "trial": trial}
        fields = {**_numbered(document, number, trial), "trial": trial}
        same = {name: fields.pop(name) for name in ("experiment", "token")}
        insert = UpdateOne({"_id": key, **same}, {"$setOnInsert": fields}, upsert=True)
        result = self._write(database, last, insert)
        if result is None or 1 not in (result.upserted_ids or {}):
            return None
        self._last = last.followed(key, document["token"], trial)
        return Allocation(trial, last.now(), True)

    def join(
        self,
        database: Database,
        document: Mapping[str, Any],
        update: Pipeline,
        owner: Owner | None,
    ) -> bool:
        """Add records to their trial's document; False if the guess was wrong or it has no room."""
        last = self._last
        if last is None:
            return False
        records = _numbered(document, last.number + 1, last.latest)
        joining = UpdateOne(*add_next_records(records, update, owner))
        result = self._write(database, last, joining)
        if result is None or result.matched_count < 2:
            return False
        self._last = last.followed(document["_id"], owner and owner.token, last.latest)
        return True

    def _write(
        self, database: Database, last: _LastWrite, write: UpdateOne
    ) -> BulkWriteResult | None:
        filter_, check = behind(last.key, last.token, last.number, last.latest)
        try:
            return database[TRIALS].bulk_write([UpdateOne(filter_, check, upsert=True), write])
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise
            self._last = None
            return None


def _numbered(document: Mapping[str, Any], number: int, latest: int) -> dict[str, Any]:
    return {
        **document,
        "daskperiment": {**document["daskperiment"], "n": number, "latest": latest},
        "records": [{"n": number, **element} for element in document["records"]],
    }


def _ticks() -> float:
    return time.clock_gettime(_TICKS)
