"""The collection ``trials``: a document for each trial, with its records and fields to query."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from daskperiment.store.mongo.chain import Chain
from daskperiment.store.mongo.client import Database, Server
from daskperiment.store.mongo.documents import begun_fields, computed_fields, ended_fields
from daskperiment.store.mongo.elements import (
    POSITIONS,
    Elements,
    attempts,
    chunks,
    clashing_index,
    documents,
    pack_text,
)
from daskperiment.store.mongo.objects import Objects
from daskperiment.store.mongo.pipelines import (
    FORMAT,
    TRIALS,
    add_records,
    add_trial,
    glance,
    numbered,
    own,
    set_fields,
)
from daskperiment.store.protocol import Allocation, Record, State, Stored

__all__ = ["STREAMS", "TRIAL_INDEXES", "Trials"]

STREAMS = ("trials", "steps", "notes")
"""Streams whose records are in this collection."""
_TOGETHER = 100
"""Records that may join a trial's document in one write."""
_TOGETHER_SIZE = 128 << 10
_INLINE = 64 << 10
"""Bytes of a record above which it becomes an object."""
_NOTHING = {"stream": "", "id": "begun"}
"""Takes a number, and is in no stream."""


def _index(name: str, *fields: str, **present: Any) -> IndexModel:
    return IndexModel(
        [(field, ASCENDING) for field in ("experiment", *fields)],
        name=f"daskperiment_{name}",
        unique=True,
        partialFilterExpression={**FORMAT, **present},
    )


TRIAL_INDEXES = (
    _index("number", "records.n"),
    _index("identity", "trial", "records.stream", "records.id"),
    _index("token", "token", token={"$exists": True}),
)


class Trials:
    """The documents of one experiment's trials."""

    def __init__(self, server: Server, experiment: str, objects: Objects, address: str) -> None:
        self._server = server
        self._experiment = experiment
        self._address = address
        self._elements = Elements(objects, _INLINE, f"{address}, collection {TRIALS!r},")
        self._chain = Chain(experiment)

    def allocate(self, token: str, body: bytes) -> Allocation:
        """Insert a trial's document, unless the token has one."""
        elements = [self._pack(Record("trials", 0, "begun", body))]
        document = {
            "experiment": self._experiment,
            "trial": 0,
            **begun_fields(body),
            "token": token,
            "daskperiment": {**_marker(elements), "attempt": ObjectId()},
            "records": elements,
        }
        return self._server.run(self._insert, document)

    def append(self, records: Sequence[Record]) -> None:
        """Write records; those of the stream ``trials`` set fields, too."""
        for trial, run in groupby(records, attrgetter("trial")):
            batch = list(run)
            size = sum(len(record.body) for record in batch)
            if len(batch) <= _TOGETHER and size <= _TOGETHER_SIZE:
                self._join(trial, batch, apart=False)
                continue
            for chunk in chunks([record for record in batch if record.stream != "trials"]):
                self._join(trial, chunk, apart=True)
            for chunk in chunks([record for record in batch if record.stream == "trials"]):
                self._join(trial, chunk, apart=False)

    def read(self, stream: str, trials: Collection[int] | None, after: int) -> list[Stored]:
        """Give the stream's records up to the last number at this moment."""
        number = after // POSITIONS
        head = self._server.run(self._last)
        if head < number:
            return []
        filter_ = numbered(self._experiment, number)
        if trials is not None:
            filter_["trial"] = {"$in": sorted(trials)}
        projection = {"trial": 1, "records": _of_stream(stream)}
        places = range(after + 1, (head + 1) * POSITIONS)
        found: list[Stored] = []
        for document in documents(self._server, TRIALS, filter_, projection):
            with self._elements.reading(document):
                found += (
                    self._elements.unpack(element, document["trial"], place)
                    for place, element in _places(document["records"])
                    if place in places
                )
        return sorted(found)

    def state(self) -> State:
        """Ask for the highest trial id and the clock."""
        told = self._server.run(self._glance)
        return State(told["latest"], _seconds(told["clock"]))

    def forget(self) -> None:
        """Remember nothing about the last write."""
        self._chain.forget()

    def _insert(self, database: Database, document: Mapping[str, Any]) -> Allocation:
        return self._chain.insert(database, document) or self._allocate(database, document)

    def _allocate(self, database: Database, document: Mapping[str, Any]) -> Allocation:
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
            found = self._by_token(database, document["token"])
            if found is not None:
                break
        clock = _seconds(found["clock"])
        self._chain.tell(found["_id"], found["n"], found["latest"], clock)
        new = found["attempt"] == document["daskperiment"]["attempt"]
        return Allocation(found["_id"]["trial"], clock, new)

    def _by_token(self, database: Database, token: str) -> Any:
        fields = {name: f"$daskperiment.{name}" for name in ("n", "latest", "attempt")}
        pipeline = [
            {"$match": {**own(self._experiment), "token": token}},
            {"$project": {**fields, "clock": "$$NOW"}},
        ]
        return next(database[TRIALS].aggregate(pipeline), None)

    def _join(self, trial: int, records: list[Record], *, apart: bool) -> None:
        ended: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        for record in records:
            if record.stream == "trials":
                computed |= computed_fields(record.body)
                ended = _weightier(ended, ended_fields(record.body))
        elements = {(one.stream, one.id): self._pack(one) for one in reversed(records)}
        fresh = list(reversed(elements.values()))
        self._server.run(self._write, trial, fresh, ended, computed, apart)

    def _write(
        self,
        database: Database,
        trial: int,
        elements: list[dict[str, Any]],
        ended: Mapping[str, Any],
        computed: Mapping[str, Any],
        apart: bool,
    ) -> None:
        key = {"experiment": self._experiment, "trial": trial}
        for _ in attempts(self._address):
            if not elements:
                self._set_fields(database, key, ended, computed)
                return
            document = {"_id": key, **key, "daskperiment": _marker(elements), "records": elements}
            if not apart and self._chain.join(database, document, ended, computed):
                return
            pipeline = add_records(self._experiment, document, ended, computed, apart=apart)
            try:
                database.aggregate(pipeline)
            except OperationFailure as error:
                if clashing_index(error) == "records.id":
                    elements = self._missing(database, trial, elements)
            else:
                return

    def _set_fields(
        self,
        database: Database,
        key: Mapping[str, Any],
        ended: Mapping[str, Any],
        computed: Mapping[str, Any],
    ) -> None:
        update = set_fields(ended, computed)
        if update:
            database[TRIALS].update_one({"_id": key, **own(self._experiment)}, update)

    def _missing(
        self, database: Database, trial: int, elements: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Leave out the elements that any document of the trial has."""
        ids = [element["id"] for element in elements]
        filter_ = {**own(self._experiment), "trial": trial, "records.id": {"$in": ids}}
        found = database[TRIALS].find(filter_, {"records.stream": 1, "records.id": 1})
        there = {(one["stream"], one["id"]) for document in found for one in document["records"]}
        return [one for one in elements if (one["stream"], one["id"]) not in there]

    def _glance(self, database: Database) -> dict[str, Any]:
        return next(database.aggregate(glance(self._experiment)))

    def _last(self, database: Database) -> int:
        found = database[TRIALS].find_one(
            own(self._experiment), {"_id": 0, "daskperiment.n": 1}, sort=[("records.n", -1)]
        )
        return found["daskperiment"]["n"] if found else 0

    def _pack(self, record: Record) -> dict[str, Any]:
        return {"stream": pack_text(record.stream), **self._elements.pack(record)}


def _places(elements: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Any]]:
    """Give elements with their positions: those of one write stand together, in order."""
    for number, group in groupby(elements, lambda element: element["n"]):
        for place, element in enumerate(group):
            yield number * POSITIONS + place, element


def _weightier(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    ranks = {"succeeded": 0, "failed": 1, "interrupted": 2, None: 3}
    return second if ranks[second.get("status")] < ranks[first.get("status")] else first


def _marker(elements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"format": 1, "size": sum(100 + len(element.get("body", "")) for element in elements)}


def _of_stream(stream: str) -> dict[str, Any]:
    same = {"$filter": {"input": "$records", "cond": {"$eq": ["$$this.stream", stream]}}}
    return {"$cond": [{"$isArray": "$records"}, same, "$records"]}


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
