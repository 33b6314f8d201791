"""Writing to ``trials`` in one round trip, on the guess that nobody else wrote meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.results import BulkWriteResult

from daskperiment.store.mongo.client import Database
from daskperiment.store.mongo.pipelines import TRIALS, add_next_records, behind
from daskperiment.store.protocol import Allocation

__all__ = ["Chain"]

_TRUSTED = 60.0
"""Seconds for which the server's clock is reckoned from what it told before."""
# Goes on while the machine sleeps, where there is such a clock.
_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Head(NamedTuple):
    """The last write that is known of: where it went, and what the server told with it."""

    key: Mapping[str, Any]
    number: int
    latest: int
    clock: float
    told: float

    def now(self) -> float:
        # Rounded down like the server's own, which this must not be ahead of.
        return int((self.clock + _ticks() - self.told) * 1000) / 1000


class Chain:
    """Remembers the last write, and puts the next one behind it.

    The server checks that the last write is where it was and that there is none behind it: a
    guess that is wrong costs a round trip and nothing else.
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._head: _Head | None = None

    def forget(self) -> None:
        """Make no guess until a write is told."""
        self._head = None

    def tell(self, key: Mapping[str, Any], number: int, latest: int, clock: float) -> None:
        """Take a write, the highest trial id with it, and the server's clock just now."""
        self._head = _Head(key, number, latest, clock, _ticks())

    def insert(self, database: Database, document: Mapping[str, Any]) -> Allocation | None:
        """Insert a trial's document; None if the guess was wrong or the token has one."""
        head = self._head
        if head is None or _ticks() - head.told > _TRUSTED:
            return None
        number, trial = head.number + 1, head.latest + 1
        key = {"experiment": self._experiment, "trial": trial}
        fields = {**_numbered(document, number, trial), "trial": trial}
        same = {name: fields.pop(name) for name in ("experiment", "token")}
        insert = UpdateOne({"_id": key, **same}, {"$setOnInsert": fields}, upsert=True)
        result = self._write(database, head, insert)
        if result is None or 1 not in (result.upserted_ids or {}):
            return None
        self._head = head._replace(key=key, number=number, latest=trial)
        return Allocation(trial, head.now(), True)

    def join(
        self,
        database: Database,
        document: Mapping[str, Any],
        ended: Mapping[str, Any],
        computed: Mapping[str, Any],
    ) -> bool:
        """Add records to their trial's document; False if the guess was wrong or it has no room."""
        head = self._head
        if head is None:
            return False
        number = head.number + 1
        records = _numbered(document, number, head.latest)
        update = UpdateOne(*add_next_records(records, ended, computed))
        result = self._write(database, head, update)
        if result is None or result.matched_count < 2:
            return False
        self._head = head._replace(key=document["_id"], number=number)
        return True

    def _write(self, database: Database, head: _Head, write: UpdateOne) -> BulkWriteResult | None:
        filter_, check = behind(head.key, head.number, head.latest)
        try:
            return database[TRIALS].bulk_write([UpdateOne(filter_, check, upsert=True), write])
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise
            self._head = None
            return None


def _numbered(document: Mapping[str, Any], number: int, latest: int) -> dict[str, Any]:
    return {
        **document,
        "daskperiment": {**document["daskperiment"], "n": number, "latest": latest},
        "records": [{"n": number, **element} for element in document["records"]],
    }


def _ticks() -> float:
    return time.clock_gettime(_TICKS)
