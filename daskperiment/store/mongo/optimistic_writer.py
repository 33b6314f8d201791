"""Writes that are plain updates behind the last write, on the guess that nobody writes meanwhile.

They go behind the last write that is known here, or that is looked for where others write, too.
The server checks that this is where it was, and the index of numbers that there is none behind it:
a guess that is wrong costs a round trip and nothing else. None of it is a pipeline, which a server
would first have to parse, plan and run for what is a list that grows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

from daskperiment.codec.trial_view import TrialView
from daskperiment.store.mongo.client import Database, update_documents
from daskperiment.store.mongo.pipelines import FULL, TRIALS, head, of_record, own
from daskperiment.store.protocol import Allocation, Owner, Record

__all__ = ["JoiningRecords", "OptimisticWriter", "as_seconds"]

_TRUSTED = 60.0
"""Seconds for which the server's clock is reckoned from what it returned before."""
_LONGEST_DOUBT = 16
"""Writes without such a try, at most, between two that were in vain."""
_TRIES = 3
"""Times that the last write is looked for, to write what joins several trials."""
# Goes on while the machine sleeps, where there is such a clock.
_TICKS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_NEVER = {"_id": 0}
"""Changes the key of a document that is inserted, which a server refuses: so none is."""

_Update = dict[str, Any]


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
    stranger: bool = False
    """Whether it was found, so that it does not tell that what was known before stands."""

    def now(self) -> float:
        # Rounded down like the server's own, which this must not be ahead of.
        return int((self.clock + _ticks() - self.asked) * 1000) / 1000

    def followed(self, key: Mapping[str, Any], token: str | None, latest: int) -> _LastWrite:
        """Return the write that came right behind this one."""
        return self._replace(key=key, token=token, number=self.number + 1, latest=latest)

    def there(self) -> dict[str, Any]:
        """Return a filter for the document that it went to, if nothing joined that since."""
        place = {"_id": self.key, "experiment": self.key.get("experiment")}
        filter_ = {**place, "daskperiment.n": self.number, "daskperiment.latest": self.latest}
        if self.token is not None:
            filter_["token"] = self.token
        return filter_


class JoiningRecords(NamedTuple):
    """Records on their way to the document of their trial."""

    document: dict[str, Any]
    """What it would be if these were its only ones."""
    view: TrialView
    """The fields that they set there."""
    owner: Owner | None

    @property
    def are_simple(self) -> bool:
        """Whether a plain update may add them."""
        of_trial = self.owner is None or self.owner.trial == self.document["trial"]
        return of_trial and not self.view.items


class _Doubt:
    """How seldom to try what was in vain before."""

    def __init__(self) -> None:
        self._doubt = self._left = 0

    def may_try(self) -> bool:
        """Whether to try it now."""
        if self._left:
            self._left -= 1
            return False
        return True

    def grow(self) -> None:
        """Try it half as often, from the second time on: it was in vain."""
        self._left, self._doubt = self._doubt, min(_LONGEST_DOUBT, max(1, 2 * self._doubt))

    def shrink(self) -> None:
        """Try it again at once, and twice as often should that be in vain: it was not."""
        self._left, self._doubt = 0, self._doubt // 2

    def clear(self) -> None:
        """Try it each time: it would not be in vain."""
        self._doubt = self._left = 0


class OptimisticWriter:
    """Writes behind the last write, without a pipeline, unless others are always faster."""

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._last: _LastWrite | None = None
        self._guesses, self._searches = _Doubt(), _Doubt()

    def forget(self) -> None:
        """Make no guess until the next write is known."""
        self._last = None

    def remember(
        self, key: Mapping[str, Any], token: str, number: int, latest: int, clock: float
    ) -> None:
        """Go on from a write, with the highest trial id and the server's clock just now."""
        if self._last is not None and self._last.number == number - 1:  # nobody came between
            self._guesses.clear()
            self._searches.clear()
        self._last = _LastWrite(key, token, number, latest, clock, _ticks())

    def insert(
        self, database: Database, document: Mapping[str, Any], known: Record | None
    ) -> Allocation | None:
        """Insert a trial's document.

        None if the token has one, a known record is lost, or others were faster each time.
        """
        for last, guessed in self._places(database, False):
            number, trial = last.number + 1, last.latest + 1
            key = {"experiment": self._experiment, "trial": trial}
            fields = {**_numbered(document, number, trial), "trial": trial}
            same = {name: fields.pop(name) for name in ("experiment", "token")}
            updates = [_check(last.there())]
            if last.stranger and known is not None and known.owner is not None:
                updates.append(_check(of_record(self._experiment, known, known.owner)))
            updates.append(
                {"q": {"_id": key, **same}, "u": {"$setOnInsert": fields}, "upsert": True}
            )
            error = self._write(database, updates)
            if error is None:
                (self._guesses if guessed else self._searches).shrink()
                written = last.followed(key, document["token"], trial)
                self._last = written._replace(stranger=False)
                return Allocation(trial, last.now(), True)
            if error["index"] and _taken(error) not in ("_id", "records.n"):
                return None
        return None

    def join(self, database: Database, several: Sequence[JoiningRecords]) -> int:
        """Add records to the documents of their trials, one after the other, and set fields there.

        Returns how many of them are there. The next one is not as simple as that: there is no room,
        one of its records is there already, or another outcome; or others were faster each time.
        """
        left = list(takewhile(lambda one: one.are_simple, several))
        done = 0
        for last, guessed in self._places(database, len(left) > 1) if left else ():
            updates = [
                _joining(records, number, last.latest)
                for number, records in enumerate(left, last.number + 1)
            ]
            # Most often the next write is one of the same trial: then one filter asks for both.
            both = guessed and last.key == left[0].document["_id"]
            if both:
                updates[0]["q"] = {**last.there(), **updates[0]["q"], "daskperiment.n": last.number}
            else:
                updates.insert(0, _check(last.there()))
            error = self._write(database, updates)
            written = len(updates) if error is None else error["index"]
            joined = max(0, written - (not both))
            for records in left[:joined]:
                owner = records.owner
                last = last.followed(records.document["_id"], owner and owner.token, last.latest)
            if joined:
                (self._guesses if guessed else self._searches).shrink()
                self._last = last
                left = left[joined:]
                done += joined
            if error is None:
                break
            if written and _taken(error) != "records.n":
                self._last = None  # a pipeline writes behind it, and so it may be with what follows
                break
        return done

    def _places(self, database: Database, several: bool) -> Iterator[tuple[_LastWrite, bool]]:
        """Yield where the last write may be, and whether it is a guess, as long as it is wrong.

        To look for it is no worse than a pipeline, and mostly better, unless others come between.
        For a single write that is rather tried by a pipeline then, which they seldom overtake, and
        where nothing is known, as at first.
        """
        guess = self._last
        if guess is not None and _ticks() - guess.asked > _TRUSTED:
            guess = None
        if guess is not None and self._guesses.may_try():
            yield guess, True
            self._guesses.grow()
        tries = _TRIES if several else self._last is not None and self._searches.may_try()
        for _ in range(tries):
            found = self._find(database)
            if found is None:
                return
            if guess is not None and found.there() == guess.there():
                self._guesses.clear()
            yield found, False
            self._searches.grow()

    def _find(self, database: Database) -> _LastWrite | None:
        """Look for the last write; None if there is none."""
        fields = {name: f"$daskperiment.{name}" for name in ("n", "latest")}
        # With a third of the calls that the driver's own method makes.
        said = database.command(
            "find", TRIALS, filter=head(self._experiment), sort={"records.n": -1}, limit=1,
            singleBatch=True, projection={**fields, "token": 1, "clock": "$$NOW"},
        )  # fmt: skip
        # The server looked before this: what is reckoned from now on is behind its clock.
        asked = _ticks()
        for found in said["cursor"]["firstBatch"]:
            key, number, latest = found["_id"], found["n"], found["latest"]
            # An odd document has the numbers all the same, as a pipeline finds.
            if isinstance(key, dict) and isinstance(number, int) and isinstance(latest, int):
                clock = as_seconds(found["clock"])
                return _LastWrite(key, found.get("token"), number, latest, clock, asked, True)
        return None

    def _write(self, database: Database, updates: list[_Update]) -> Mapping[str, Any] | None:
        """Make updates until one of them fails; return what the server says of that."""
        last, self._last = self._last, None  # until it is known what became of it
        said = update_documents(database, TRIALS, updates)
        self._last = last
        errors = said.get("writeErrors")
        return errors[0] if errors else None


def _check(filter: Mapping[str, Any]) -> _Update:
    """Return an update that changes nothing, and fails unless there is such a document.

    What follows in the same command takes place only if there is.
    """
    return {"q": filter, "u": {"$setOnInsert": _NEVER}, "upsert": True}


def _taken(error: Mapping[str, Any]) -> str:
    """Return the last field of the unique index that an update violated; empty if it is another."""
    return str(["", *error.get("keyPattern", ())][-1]) if error["code"] == 11000 else ""


def _joining(joining: JoiningRecords, number: int, latest: int) -> _Update:
    """Return the update that adds records to their trial's document, and sets fields.

    It fails if they cannot be added, so that none of those that follow is added either: their
    numbers come after its own.
    """
    document, view, owner = _numbered(joining.document, number, latest), *joining[1:]
    marker, records = document["daskperiment"], document["records"]
    filter_ = {"_id": document["_id"], **own(document["experiment"])}
    filter_["daskperiment.n"] = {"$lt": marker["n"]}
    if owner is not None:
        filter_["token"] = owner.token
    if not view.values:
        filter_["daskperiment.size"] = {"$lt": FULL}
    filter_["records.id"] = {"$nin": [record["id"] for record in records]}
    for name, stronger in view.unless.items():
        filter_[name] = {"$nin": list(stronger)}
    place = {"daskperiment.n": marker["n"], "daskperiment.latest": marker["latest"]}
    update = {
        "$push": {"records": {"$each": records}},
        "$inc": {"daskperiment.size": marker["size"]},
        "$set": {**place, **view.values},
        "$setOnInsert": _NEVER,
    }
    if view.removed:
        update["$unset"] = dict.fromkeys(view.removed, "")
    return {"q": filter_, "u": update, "upsert": True}


def _numbered(document: Mapping[str, Any], number: int, latest: int) -> dict[str, Any]:
    return {
        **document,
        "daskperiment": {**document["daskperiment"], "n": number, "latest": latest},
        "records": [{"n": number, **element} for element in document["records"]],
    }


def as_seconds(moment: datetime) -> float:
    """Return a server's time in seconds since the Unix epoch."""
    return moment.replace(tzinfo=UTC).timestamp()


def _ticks() -> float:
    return time.clock_gettime(_TICKS)
