"""How a record gets its place: the aggregations that the server runs in one go.

Each write to a collection takes the number ``n`` after the highest one there, for the experiment
(and stream) in question. A unique index on ``n`` lets one of several writers through, the others
try again. So at the moment when ``n`` appears nothing above it is there, and nothing below it
can come any more: records become visible in the order of their numbers, without a transaction.
The highest trial id travels along with the number, from each write to the next.

Filters name the experiment even where the key would do, for it is what one shards by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from daskperiment.codec.trial_view import TrialView
from daskperiment.records import REMOVED
from daskperiment.store.mongo.client import Database
from daskperiment.store.mongo.documents import pack_text
from daskperiment.store.protocol import Owner, Record, refused, removed_token

__all__ = [
    "FULL",
    "FORMAT",
    "Pipeline",
    "RECORDS",
    "TRIALS",
    "add_batch",
    "add_records",
    "add_trial",
    "as_removed",
    "as_taken",
    "check_owners",
    "excerpts",
    "glance",
    "head",
    "head_of_stream",
    "numbered",
    "of_record",
    "of_removed",
    "own",
    "set_fields",
    "stands",
]

TRIALS = "trials"
RECORDS = "daskperiment.records"
FORMAT = {"daskperiment.format": 1}
"""Marks our documents, which may live beside foreign ones."""

FULL = 256 << 10
"""Bytes of records in a trial's document beyond which further ones get documents of their own."""

Pipeline = list[dict[str, Any]]


def own(experiment: str) -> dict[str, Any]:
    """Filter for an experiment's documents."""
    return {"experiment": experiment, **FORMAT}


def head(experiment: str) -> dict[str, Any]:
    """Filter for those of an experiment's documents that can be the last write."""
    numbers = {name: {"$type": "number"} for name in ("daskperiment.n", "daskperiment.latest")}
    return {**own(experiment), **numbers}


def numbered(experiment: str, number: int) -> dict[str, Any]:
    """Filter for documents of ``trials`` that have a record with this number, or a later one."""
    # From the beginning all count, also those that somebody took the records out of.
    return {**own(experiment), **({"records.n": {"$gte": number}} if number else {})}


def head_of_stream(experiment: str, stream: str | bytes) -> dict[str, Any]:
    """Filter for all of a stream's documents in ``daskperiment.records`` by their key."""
    key = {"experiment": experiment, "stream": stream}
    return {"_id": {"$gt": key, "$lt": {**key, "n": float("inf")}}}


def glance(experiment: str, known: Record | None) -> Pipeline:
    """Highest number and trial id, the server's clock, and whether a record is there."""
    fields = {"n": {"$subtract": ["$n", 1]}, "latest": 1, "clock": "$$NOW", "stands": 1}
    return [
        {"$documents": [{}]},
        *_following(experiment),
        *stands(experiment, known),
        {"$project": fields},
    ]


def stands(experiment: str, known: Record | None) -> Pipeline:
    """Add ``stands``, whether a record of a trial's own document is there."""
    if known is None or known.owner is None:
        return [{"$set": {"stands": True}}]
    filter_ = of_record(experiment, known, known.owner)
    found = _lookup("stands", [{"$match": filter_}, {"$project": {"_id": 1}}])
    return [found, {"$set": {"stands": {"$ne": ["$stands", []]}}}]


def of_record(experiment: str, record: Record, owner: Owner) -> dict[str, Any]:
    """Filter for the document of a trial that has a record, or had it before it was removed."""
    element = {"stream": pack_text(record.stream), "id": pack_text(record.id)}
    there = {"token": owner.token, "records": {"$elemMatch": element}}
    return {
        "_id": {"experiment": experiment, "trial": record.trial},
        **own(experiment),
        "$or": [there, {"token": removed_token(owner.token)}],
    }


def add_trial(experiment: str, document: Mapping[str, Any]) -> Pipeline:
    """Insert a trial's document under the next id."""
    return [
        {"$documents": [{"$literal": document}]},
        *_following(experiment),
        {"$set": {"trial": {"$add": ["$latest", 1]}}},
        {
            "$set": {
                "_id": {"experiment": "$experiment", "trial": "$trial"},
                "daskperiment": _with_place("$trial"),
                "records": _with_number("$records"),
            }
        },
        {"$unset": ["n", "latest"]},
        {"$merge": {"into": TRIALS, "whenMatched": "fail"}},
    ]


def add_records(
    experiment: str,
    document: Mapping[str, Any],
    update: Pipeline,
    owner: Owner | None,
    *,
    own_document: bool,
) -> Pipeline:
    """Put records into the document of their trial, or into one of their own.

    `document` is what the latter would be, with the ``_id`` of the trial's; `update` is what
    `set_fields` returned. Without `own_document` they go to the trial's, unless that is full and
    they set nothing in it, or there is none. It fails where the trial has another owner.
    """
    # Records that set fields must be where the fields are, full or not.
    limit = 0 if own_document else float("inf") if update else FULL
    own_trial = owner is not None and owner.trial == document["trial"]
    joined = _join("$$new.records", "$$new.daskperiment", owner if own_trial else None)
    merged = [*joined, *update]
    return [
        {"$documents": [{"$literal": document}]},
        *_following(experiment),
        _lookup("home", [{"$match": {"_id": document["_id"], **FORMAT}}, {"$project": _SIZE}]),
        {"$set": {"_id": _target(limit), "records": _with_number("$records")}},
        *_of_owner(experiment, document["trial"], owner),
        {"$set": {"part": "$_id.part", "daskperiment": _with_place("$latest")}},
        {"$unset": ["n", "latest", "home"]},
        {"$merge": {"into": TRIALS, "whenMatched": merged}},
    ]


def set_fields(view: TrialView) -> Pipeline:
    """Update of a trial's document that sets what its records determine; empty if nothing."""
    new: dict[str, Any] = dict.fromkeys(view.removed, "$$REMOVE")
    new |= {name: {"$literal": value} for name, value in view.values.items()}
    # The server decides, for it alone knows what stands there by now.
    stands = {"$or": [{"$in": [f"${name}", list(of)]} for name, of in view.unless.items()]}
    update: dict[str, Any] = {
        name: {"$cond": [stands, f"${name}", value]} for name, value in new.items()
    }
    for name, items in view.items.items():
        update[name] = {"$mergeObjects": [f"${name}", {"$literal": items}]}
    return [{"$set": update}] if update else []


def as_removed(token: str) -> Pipeline:
    """Update of a trial's document that leaves of its records only those of its removal."""
    marker = {"$and": [
        {"$eq": ["$$this.stream", "trials"]}, {"$eq": ["$$this.id", REMOVED]},
    ]}  # fmt: skip
    names = ("_id", "experiment", "trial", "daskperiment")
    kept: dict[str, Any] = {name: f"${name}" for name in names}
    kept["token"] = {"$literal": removed_token(token)}
    markers = {"$filter": {"input": "$records", "cond": marker}}
    kept["records"] = {"$concatArrays": [_taken_numbers(), markers]}
    return [{"$replaceWith": kept}]


def as_taken() -> Pipeline:
    """Update of another document of a removed trial that leaves the number it took."""
    names = ("_id", "experiment", "trial")
    kept: dict[str, Any] = {name: f"${name}" for name in names}
    return [{"$replaceWith": {**kept, "daskperiment": _MARK, "records": _taken_numbers()}}]


def _taken_numbers() -> dict[str, Any]:
    """Return what keeps the numbers of a document's records taken, and is in no stream.

    Who guesses that nobody wrote behind a number would else write there, when others have read on.
    All of them stay: while a server looks whether the guess is right, others may write several.
    """
    numbers = {"$setUnion": [
        {"$filter": {"input": "$records.n", "cond": {"$isNumber": "$$this"}}}, [],
    ]}  # fmt: skip
    one = {"n": "$$this", "stream": "", "id": {"$toString": "$$this"}}
    return {"$map": {"input": numbers, "in": one}}


def of_removed(experiment: str, owner: Owner) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and contents of the document that keeps a removed trial's token from another id."""
    key = {"experiment": experiment, "trial": owner.trial, "part": REMOVED}
    # Each document has a number of its own; this one is below all others.
    records = [{"n": -owner.trial, "stream": "", "id": REMOVED}]
    fields = {"experiment": experiment, "trial": owner.trial, "token": owner.token}
    return key, {"$setOnInsert": {**fields, "daskperiment": _MARK, "records": records}}


def add_batch(
    experiment: str, stream: str | bytes, document: Mapping[str, Any], owners: Collection[Owner]
) -> Pipeline:
    """Insert a document of records into ``daskperiment.records``.

    It fails unless all owners are there.
    """
    last: Pipeline = [
        {"$match": head_of_stream(experiment, stream)},
        {"$sort": {"_id": -1}},
        {"$limit": 1},
        {"$project": {"_id": 0, "n": "$_id.n"}},
    ]
    number = {"$add": [{"$ifNull": [{"$first": "$head.n"}, 0]}, 1]}
    return [
        {"$documents": [{"$literal": document}]},
        {"$lookup": {"from": RECORDS, "pipeline": last, "as": "head"}},
        {"$set": {"_id": {"experiment": "$experiment", "stream": "$stream", "n": number}}},
        {"$unset": "head"},
        *_with_owners(experiment, owners),
        {"$merge": {"into": RECORDS, "whenMatched": "fail"}},
    ]


def excerpts(
    trials: Sequence[int] | None, texts: Collection[str], mark: str
) -> dict[str, Any]:  # fmt: skip
    """Of a field ``records``, elements of trials: those with one of some texts, and their places.

    Without trials, of all.

    Of a body with marks only the blocks with a text, and what stands behind the last block.
    Elements of another form are given as they are.
    """
    body = "$$one.body"
    mine = True if trials is None else {"$in": ["$$one.trial", list(trials)]}
    odd_trial = {"$not": {"$in": [{"$type": "$$one.trial"}, ["int", "long"]]}}
    no_text = {"$ne": [{"$type": body}, "string"]}
    backslash = {"$and": [_has(body, "\\"), {"$not": _has(body, mark)}]}
    placed = {"$mergeObjects": ["$$one", {"place": "$$at"}]}
    cut = {"$mergeObjects": [placed, {"body": _blocks(body, texts, mark)}]}
    element = {"$switch": {"branches": [
        {"case": {"$ne": [{"$type": "$$one"}, "object"]}, "then": "$$one"},
        {"case": odd_trial, "then": placed},
        {"case": {"$not": mine}, "then": None},
        {"case": no_text, "then": placed},
        {"case": {"$or": [_has_text(body, texts), backslash]}, "then": cut},
    ], "default": None}}  # fmt: skip
    one = {"$let": {"vars": {"one": {"$arrayElemAt": ["$records", "$$at"]}}, "in": element}}
    every = {"$map": {"input": {"$range": [0, {"$size": "$records"}]}, "as": "at", "in": one}}
    found = {"$filter": {"input": every, "cond": {"$ne": ["$$this", None]}}}
    return {"$cond": [{"$isArray": "$records"}, found, "$records"]}


def _blocks(body: str, texts: Collection[str], mark: str) -> dict[str, Any]:
    """Return the wanted blocks of a body, and what follows; all where it has no marks."""
    count = {"$subtract": [{"$size": "$$parts"}, 1]}
    blocks = {"$slice": ["$$parts", {"$max": [1, count]}]}
    chosen = {"$filter": {"input": blocks, "as": "part", "cond": _has_text("$$part", texts)}}
    marked = {"$concat": ["$$value", "$$this", {"$literal": mark}]}
    joined = {"$reduce": {"input": chosen, "initialValue": "", "in": marked}}
    cut = {"$concat": [joined, {"$last": "$$parts"}]}
    split = {"$split": [body, {"$literal": mark}]}
    return {"$let": {"vars": {"parts": split}, "in": {"$cond": [{"$eq": [count, 0]}, body, cut]}}}


def _has_text(body: str, texts: Collection[str]) -> dict[str, Any]:
    return {"$or": [_has(body, text) for text in texts]}


def _has(body: str, text: str) -> dict[str, Any]:
    return {"$gte": [{"$indexOfBytes": [body, {"$literal": text}]}, 0]}


_MARK = {"format": 1}
"""Of a document that cannot be the last write."""
_SIZE = {"_id": 0, "size": "$daskperiment.size", "token": 1}


def check_owners(
    database: Database, experiment: str, owners: Collection[Owner] | None, address: str
) -> None:
    """Raise RecordsRefusedError if owners are not there: a write failed, and that may be why."""
    if owners:
        found = database[TRIALS].aggregate(_of_tokens(experiment, owners))
        numbers: dict[str, int] = {one["token"]: one["trial"] for one in found}
        strangers = {one: numbers.get(one.token) for one in owners}
        if any(number != one.trial for one, number in strangers.items()):
            raise refused(address, {one: now for one, now in strangers.items() if now != one.trial})


def _of_tokens(experiment: str, owners: Collection[Owner]) -> Pipeline:
    """Ids and tokens of the trials that have the tokens of some owners."""
    tokens = {"$in": sorted({owner.token for owner in owners})}
    return [
        {"$match": {**own(experiment), "token": tokens, "_id.part": {"$exists": False}}},
        {"$project": {"_id": 0, "trial": 1, "token": 1}},
    ]


def _with_owners(experiment: str, owners: Collection[Owner]) -> Pipeline:
    """Fail unless all owners are there."""
    if not owners:
        return []
    pairs = {"$map": {"input": "$owners", "in": ["$$this.trial", "$$this.token"]}}
    there = {"$setIsSubset": [{"$literal": [list(owner) for owner in owners]}, pairs]}
    return [
        _lookup("owners", _of_tokens(experiment, owners)),
        {"$set": {"owners": {"$cond": [there, 0, {"$toInt": "$experiment"}]}}},
        {"$unset": "owners"},
    ]


def _of_owner(experiment: str, trial: int, owner: Owner | None) -> Pipeline:
    """Fail unless the trial's document, ``home``, has the owner's token."""
    if owner is None:
        return []
    if owner.trial != trial:
        return _with_owners(experiment, [owner])
    same = {"$eq": [{"$first": "$home.token"}, {"$literal": owner.token}]}
    return [{"$set": {"home": {"$cond": [same, "$home", {"$toInt": "$_id"}]}}}]


def _lookup(name: str, pipeline: Pipeline) -> dict[str, Any]:
    return {"$lookup": {"from": TRIALS, "pipeline": pipeline, "as": name}}


def _following(experiment: str) -> Pipeline:
    """Add ``n``, the next number, and ``latest``, the highest trial id."""
    last: Pipeline = [
        {"$match": head(experiment)},
        {"$sort": {"records.n": -1}},
        {"$limit": 1},
        {"$project": {"_id": 0, "n": "$daskperiment.n", "latest": "$daskperiment.latest"}},
    ]
    return [
        _lookup("head", last),
        {
            "$set": {
                "n": {"$add": [{"$ifNull": [{"$first": "$head.n"}, 0]}, 1]},
                "latest": {"$ifNull": [{"$first": "$head.latest"}, 0]},
            }
        },
        {"$unset": "head"},
    ]


def _with_place(latest: str) -> dict[str, Any]:
    return {"$mergeObjects": ["$daskperiment", {"n": "$n", "latest": latest}]}


def _with_number(records: str) -> dict[str, Any]:
    return {"$map": {"input": records, "in": {"$mergeObjects": [{"n": "$n"}, "$$this"]}}}


def _target(limit: float) -> dict[str, Any]:
    """Key of the trial's document if it has room, else of a new one."""
    size = {"$ifNull": [{"$first": "$home.size"}, float("inf")]}
    another = {"$mergeObjects": ["$_id", {"part": "$n"}]}
    return {"$cond": [{"$lt": [size, limit]}, "$_id", another]}


def _join(records: Any, marker: Any, owner: Owner | None = None) -> Pipeline:
    """Update of a trial's document that adds those records which it does not have.

    It fails if the document got the same number, or a later one, meanwhile: an index sees no two
    equal numbers in one document. It also fails if the document is another owner's by now.
    """
    identity = ["$$this.stream", "$$this.id"]
    fresh = {
        "$let": {
            "vars": {"known": {"$map": {"input": "$records", "in": identity}}},
            "in": {"$filter": {"input": records, "cond": {"$not": {"$in": [identity, "$$known"]}}}},
        }
    }
    later = {"$gt": [{"$getField": {"field": "n", "input": marker}}, "$daskperiment.n"]}
    ours = True if owner is None else {"$eq": ["$token", {"$literal": owner.token}]}
    grown = {"$cond": [{"$and": [later, ours]}, _grown(marker), {"$toInt": "$_id"}]}
    return [
        {"$set": {"fresh": fresh}},
        {
            "$set": {
                "records": {"$concatArrays": ["$records", "$fresh"]},
                "daskperiment": {"$cond": [{"$eq": ["$fresh", []]}, "$daskperiment", grown]},
            }
        },
        {"$unset": "fresh"},
    ]


def _grown(marker: Any) -> dict[str, Any]:
    size = {"$add": ["$daskperiment.size", {"$getField": {"field": "size", "input": marker}}]}
    return {"$mergeObjects": ["$daskperiment", marker, {"size": size}]}
