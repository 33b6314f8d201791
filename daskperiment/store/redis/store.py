"""A store in a Redis server or a Redis Cluster.

One experiment lives under the prefix ``daskperiment:{<id>}:``. The braces are a hash tag: on a
cluster all of its keys are in one slot, and no id's prefix is the beginning of another's.

==============================  ======================================================
key                             value
==============================  ======================================================
``counters``                    hash: ``latest`` trial id, last position per stream
``tokens``                      hash: token -> trial id
``stream:<name>``               stream: entry ``<position>-0``, ``<trial>:<id>`` -> body
``index:<name>:<number>``       hash: ``<trial>:<id>`` -> position
``object:<digest>``             string: ``=`` and the bytes, or ``#<size> <chunk size>``
``object:<digest>:<offset>``    string: a chunk
``deleted``                     string: a random name of the last deletion, for 30 days
==============================  ======================================================

Besides, the set ``daskperiment:experiments`` holds the ids of all experiments of the server.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from heapq import merge
from itertools import chain, islice
from struct import Struct
from typing import Any

from toolz import partition_all

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError, StoreWarning
from daskperiment.records import STREAMS, is_experiment_id
from daskperiment.store.object_methods import ObjectMethods
from daskperiment.store.protocol import (
    Allocation,
    Fault,
    Owner,
    Record,
    State,
    Stored,
    batches,
    refused,
    removed_token,
)
from daskperiment.store.reading_ahead import ask_ahead
from daskperiment.store.redis.client import KeysMovingError, RedisServer
from daskperiment.store.redis.inspection import RedisInspection, count_or_none, is_count, pairs
from daskperiment.store.redis.objects import RedisObjects
from daskperiment.store.redis.scripts import (
    ALLOCATE,
    APPEND,
    DELETE,
    ERASE,
    EXCERPT,
    FIND,
    PAGE,
    REMOVE,
    SELECT,
    SET_ASIDE,
    STARTING,
    STATE,
)
from daskperiment.store.redis.targets import RedisTarget, redis_target
from daskperiment.warn import warn_user

__all__ = ["RedisStore", "list_redis", "open_redis"]

_EXPERIMENTS = "daskperiment:experiments"
_BATCH = 1000
"""Records, or trials, in one call of a script: a server does nothing else meanwhile."""
_SOUGHT = 10_000
"""Outputs that one call of a script looks for."""
_PAGE = 4 << 20
"""Bytes of records in one call, either way."""
_LIMIT = 256 << 20
"""Bytes of one record: a server takes no more than 512 MB in one string."""
_LISTED_AGAIN = 30.0
"""Seconds until an experiment is listed that could not be."""
_REMEMBERED = 30 * 86_400
"""Seconds for which a deletion is known of."""
_TRIES = (False,) * 5 + (True,)
"""Of deleting what others write to; the last one is ``True``."""
_YOUNG = 50
"""Trials before and after the latest one that somebody may write to meanwhile."""
_UNNAMED = 2
"""What the script says that deletes, of a server that did not take the deletion's name."""
_AT_ONCE = 100_000
"""Keys of records that go at one moment."""
_END = 10**14
_WIDTH = 16
_BUCKETS = 4
"""Indexes of trials that are named to the server when it gives out an id."""
_SIZES = Struct("<III")


def open_redis(backend: Any, id: str) -> RedisStore:
    """Return an experiment's store on the server of a URL, a client or a connection pool.

    Nothing is connected before it is used, and then by connections of its own.
    """
    return RedisStore(redis_target(backend), id)


def list_redis(backend: Any) -> list[str]:
    """List the ids of all experiments of a server, sorted."""
    target = redis_target(backend)
    server = RedisServer(target, _EXPERIMENTS, target.url)
    try:
        names = [name.decode(errors="replace") for name in server.call("SMEMBERS", _EXPERIMENTS)]
        return sorted(name for name in names if is_experiment_id(name))  # Others no store can open.
    finally:
        server.close()


class RedisStore(ObjectMethods):
    """One experiment's records and objects in Redis. See :class:`~.protocol.Store`."""

    def __init__(self, target: RedisTarget, id: str) -> None:
        if not is_experiment_id(id):
            raise ValueError(
                f"The id is {id!r}; expected letters, digits, '_', '-' or '.': rename it"
            )
        self._target = target
        self._id = id
        self._prefix = f"daskperiment:{{{id}}}:"
        self._counters = self._prefix + "counters"
        self._server = RedisServer(target, self._counters, self.address)
        self._tokens = self._prefix + "tokens"
        self._objects = RedisObjects(self._server, self._prefix, self._corrupt)
        self._inspection = RedisInspection(
            self._server, self._prefix, self.address, lambda stream: self._index(stream, 0)
        )
        self._register_at = 0.0
        """When to see to the listing of experiments, by this process's clock."""
        self._next = 1
        """The trial id that is given out next, as far as is known here."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RedisStore, (self._target, self._id), self.carried()

    def __repr__(self) -> str:
        return f"RedisStore({self.address!r})"

    @property
    def address(self) -> str:
        """The server's URL without password, and the experiment's id."""
        return f"{self._target.url}#{self._id}"

    def allocate(self, token: str, body: bytes, known: Record | None = None) -> Allocation:
        """Allocate the token's trial id, and write the trial's first record."""
        self._check(body)
        if time.monotonic() >= self._register_at:
            self._register()
        trial, new, seconds, micros, stands = self._allocate(token, body, known)
        self._next = max(self._next, trial + 1) if not new else trial + 1
        if new and trial == 1:
            # Somebody may have deleted the experiment since we registered it.
            self._list()
        return Allocation(trial, int(seconds) + int(micros) / 1e6, bool(new), bool(stands))

    def _allocate(self, token: str, body: bytes, known: Record | None) -> list[Any]:
        index, *witness = self._witness(known)
        while True:
            # Which index the id goes into is known when the server gives it out, and not before.
            first = _bucket("trials", self._next)
            indexes = [f"{self._prefix}index:trials:{first + n}" for n in range(_BUCKETS)]
            keys = [self._counters, self._tokens, self._stream("trials"), index, *indexes]
            found = self._server.run(ALLOCATE, keys, token, body, _WIDTH, first, *witness)
            if found[0]:
                return list(found)
            self._next = found[1]

    def _witness(self, known: Record | None) -> tuple[str, str, str | bytes]:
        """Return index, token and member of a record of the stream of trials."""
        if known is None or known.owner is None:
            return self._index("trials", 0), "", ""
        return self._index("trials", known.trial), known.owner.token, _member(known)

    def _stream(self, stream: str) -> str:
        return f"{self._prefix}stream:{stream}"

    def _index(self, stream: str, trial: int) -> str:
        return f"{self._prefix}index:{stream}:{_bucket(stream, trial)}"

    def append(self, records: Sequence[Record]) -> list[Record]:
        """Write records in one round trip, or one for each 1,000 of them or 4 MB."""
        known: list[Record] = []
        for batch in batches(records, _BATCH, _PAGE):
            found = self._append(batch)
            while isinstance(found, dict):  # all of these owners were removed, and maybe others
                batch = [one for one in batch if one.owner not in found]
                found = self._append(batch)
            for number, body in zip(found[::2], found[1::2], strict=True):
                known.append(self._first(batch[number], body))
        return known

    def _append(self, batch: Sequence[Record]) -> list[Any] | dict[Owner, int | None]:
        """Return the outputs that were there; or owners whose trials were removed."""
        keys = {self._counters: 1, self._tokens: 2}
        owners = list({one.owner: None for one in batch if one.owner is not None})
        arguments: list[Any] = [len(owners)]
        for owner in owners:
            arguments += owner
        for record in batch:
            self._check(record.body)
            for key in (self._stream(record.stream), self._index(record.stream, record.trial)):
                arguments.append(keys.setdefault(key, len(keys) + 1))
            arguments += (record.stream, _member(record), record.body)
        taken, found = self._server.run(APPEND, list(keys), *arguments)
        if not taken:
            numbers = zip(found[::2], found[1::2], strict=True)
            strangers = {owners[n]: count_or_none(now) for n, now in numbers}
            self._check_removed(strangers)
            return strangers
        return list(found)

    def _check_removed(self, strangers: dict[Owner, int | None]) -> None:
        """Raise RecordsRefusedError if an owner that is not there was not removed either."""
        tokens = [removed_token(one.token) for one in strangers]
        found = self._server.call("HMGET", self._tokens, *tokens)
        pairs = zip(strangers, found, strict=True)
        lost = {one: strangers[one] for one, now in pairs if now != str(one.trial).encode()}
        if lost:
            raise refused(self.address, lost)

    def remove(self, markers: Sequence[Record], outputs: Collection[str] = ()) -> None:
        """Remove trials, one round trip for each; all of a trial at one moment."""
        owners = {one.owner: None for one in markers if one.owner is not None}
        tokens = self._server.call("HMGET", self._tokens, *(one.token for one in owners))
        pairs = zip(owners, tokens, strict=True)
        strangers = {
            one: count_or_none(now) for one, now in pairs if now != str(one.trial).encode()
        }
        if strangers:
            self._check_removed(strangers)
        names = set(self._server.call("HKEYS", self._counters)) - {b"latest"}
        streams = sorted(name.decode().partition(":")[2] for name in names)
        for marker in markers:
            self._remove(marker, [stream for stream in streams if stream != "trials"])
        ids = [id.encode("utf-8", "surrogatepass") for id in outputs]
        for some in partition_all(_BATCH, ids):
            self._server.run(ERASE, [self._stream("outputs"), self._index("outputs", 0)], *some)

    def _remove(self, marker: Record, streams: list[str]) -> None:
        self._check(marker.body)
        keys = [self._counters, self._tokens]
        for stream in ("trials", *streams):
            keys += [self._stream(stream), self._index(stream, marker.trial)]
        owner = marker.owner or Owner(0, "")
        arguments = (owner.token, marker.trial, _member(marker), marker.body)
        found = self._server.run(REMOVE, keys, *arguments)
        if found != 1:
            raise refused(self.address, {owner: count_or_none(found)})

    def read(
        self, stream: str, trials: Collection[int] | None = None, after: int = 0
    ) -> Iterable[Stored]:
        """Read a stream in order of position, up to 4 MB in one round trip."""
        if trials is None:
            return self._page(stream, after)
        if stream == "outputs":
            # All of them belong to trial 0: their index is as large as the stream.
            return (one for one in self._page(stream, after) if one.trial in trials)
        return self._by_trials(stream, sorted(set(trials)), after)

    def read_starting(self, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
        """Read the records whose ids begin with a text, which the server picks out."""
        if trial is None:
            return self._starting(stream, start)
        return self._select(stream, [trial], 0, _END, start)

    def read_excerpts(
        self, stream: str, trials: Collection[int], after: int, texts: Collection[str], mark: str
    ) -> Iterable[Stored]:
        """Read records, and of bodies with marks the blocks that have one of some texts."""
        if stream == "outputs":
            return self.read(stream, trials, after)
        return self._by_trials(stream, sorted(set(trials)), after, (mark, *texts))

    def find(self, ids: Collection[str]) -> list[Record]:
        """Find outputs: one round trip for 10,000 of them or 4 MB."""
        names = [id.encode("utf-8", "surrogatepass") for id in dict.fromkeys(ids)]
        found: list[Record] = []
        keys = [self._stream("outputs"), self._index("outputs", 0)]
        while names:
            done, sizes, entries = self._server.run(FIND, keys, _PAGE, *names[:_SOUGHT])
            if done < 0:
                self._first(Record("outputs", 0, entries.decode(errors="replace"), b""), None)
            found += [
                Record("outputs", 0, one.id, one.body)
                for one in _stored(sizes, entries, self.address)
            ]
            names = names[done:]
        return found

    def state(self, known: Record | None = None) -> State:
        """Return the highest trial id and the server's clock."""
        index, *witness = self._witness(known)
        keys = [self._counters, self._tokens, index]
        latest, seconds, micros, stands = self._server.run(STATE, keys, *witness)
        if not is_count(latest):
            raise self._corrupt(f"The field 'latest' of {self._counters!r} is no number")
        return State(int(latest), int(seconds) + int(micros) / 1e6, bool(stands))

    def delete(self) -> None:
        """Remove the experiment's keys: all below its prefix, and its id from the listing.

        For 30 days one stays, with a random name of this deletion. All records go at one moment,
        for somebody may write on: nothing of them may be found in the next experiment, and nothing
        of that may go.
        """
        self.delete_elsewhere()
        for last in _TRIES:
            if self._delete(uuid.uuid4().hex, last):
                break
        self._server.call("SREM", _EXPERIMENTS, self._id)
        if self._server.call("EXISTS", self._counters):
            self._list()  # somebody began the next one, and had listed it before

    def _delete(self, name: str, last: bool) -> bool:
        """Remove all keys; False if records were written meanwhile, unless it is the last try."""
        counted: dict[bytes, bytes] = {}
        exact = not last
        if exact:
            try:
                counted = pairs(self._server.call("HGETALL", self._counters))
            except CorruptRecordError:  # what is in its place goes, too
                exact = False
        mark = f"{self._prefix}deleted"
        keys = self._delete_most({self._counters.encode(), mark.encode()})
        if last:
            keys = [*dict.fromkeys((*keys, *self._young_keys()))]
        fields = chain.from_iterable(counted.items())
        arguments = (name, _REMEMBERED, int(exact), *fields)
        try:
            done = self._server.run(DELETE, [self._counters, mark, *keys], *arguments)
        except KeysMovingError:
            # Some are gone or on another node, and there is none that has all.
            for key in (*keys, self._counters.encode()):
                self._server.unlink([key])
            done = _UNNAMED
        if done == _UNNAMED:
            with suppress(StoreError):  # a server without memory for it can be emptied all the same
                self._server.call("SET", mark, name, "EX", _REMEMBERED)
        return bool(done)

    def _young_keys(self) -> list[bytes]:
        """Return the keys that records may have been given while the others were looked for.

        An index that stays would tell of its records in the next experiment that they are there.
        """
        latest = 0
        with suppress(CorruptRecordError):
            latest = count_or_none(self._server.call("HGET", self._counters, "latest")) or 0
        trials = (0, *range(max(1, latest - _YOUNG), latest + _YOUNG))
        indexes = {self._index(stream, trial) for stream in STREAMS for trial in trials}
        return [key.encode() for key in (self._tokens, *map(self._stream, STREAMS), *indexes)]

    def _delete_most(self, others: set[bytes]) -> list[bytes]:
        """Remove all keys but those of records and a few others, and return those that are left."""
        left: list[bytes] = []
        objects = f"{self._prefix}object:".encode()
        for keys in self._server.scan(self._prefix + "*"):
            gone = [key for key in keys if key.startswith(objects)]
            left += [key for key in keys if key not in others and not key.startswith(objects)]
            if gone:
                self._server.unlink(gone)
        # A server takes only so many names at once. What records are found by goes before these.
        left.sort(key=lambda key: not key.startswith(f"{self._prefix}index:".encode()))
        while len(left) > _AT_ONCE:
            self._server.unlink(left[:_BATCH])
            del left[:_BATCH]
        return left

    def last_deletion(self) -> str:
        """Return what names the last deletion of the experiment, for 30 days."""
        found = self._server.call("GET", f"{self._prefix}deleted")
        return "" if found is None else str(found, "ascii", "replace")

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._server.close()

    def faults(self, seconds: float) -> Iterator[Fault]:
        """Yield keys of another kind, counters that are none, and entries that are missing."""
        return self._inspection.faults(seconds)

    def digests(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        for key in self._inspection.keys("object:*"):
            digest = key[len(self._prefix) :].split(":")
            if len(digest) == 2:  # else it is a chunk
                yield digest[1]
        yield from self.digests_elsewhere()

    def set_aside(self, stream: str, record: Stored) -> None:
        """Move a record from its stream to a hash of those that were set aside."""
        index = self._index(stream, record.trial)
        keys = [self._stream(stream), index, f"{self._prefix}aside"]
        self._server.run(SET_ASIDE, keys, f"{record.position}-0", stream)

    def has_aside(self) -> bool:
        """Whether any record was set aside."""
        return bool(self._server.call("EXISTS", f"{self._prefix}aside"))

    def _register(self) -> None:
        self._register_at = math.inf
        self._list()
        try:
            memory = self._server.call_node("INFO", "memory")
        except StoreUnavailableError:
            self._register_at = 0.0
            raise
        except StoreError:
            memory = {}  # Some servers show it to their operators only.
        policy = str(memory.get("maxmemory_policy", ""))
        if int(memory.get("maxmemory", 0)) and policy.startswith("allkeys"):
            _warn_of_eviction(self._target.url, policy, int(memory["maxmemory"]))

    def _list(self) -> None:
        """Add the experiment to the listing, which may be on another node of a cluster."""
        try:
            self._server.call("SADD", _EXPERIMENTS, self._id)
        except StoreUnavailableError:
            self._register_at = 0.0
            if self._target.kind is not None:
                raise
            # That node is down. It stops no trial, and is tried again now and then.
            self._register_at = time.monotonic() + _LISTED_AGAIN

    def _page(self, stream: str, after: int) -> Iterator[Stored]:
        keys = [self._stream(stream)]
        end, sizes, entries = self._server.run(PAGE, keys, after, _PAGE)
        if end:  # as of most streams
            yield from _stored(sizes, entries, self.address)
            return
        # The server gathers a page for as long as it takes here to make something of one.
        while not end:
            records = _stored(sizes, entries, self.address)
            yield from islice(records, 1)  # who wants no more causes no more work
            ask = partial(self._server.run, PAGE, keys, _last_position(sizes, entries), _PAGE)
            # For one page: in a child that is forked meanwhile its thread is not there.
            with ThreadPoolExecutor(1, "daskperiment-page") as threads:
                answer = ask_ahead(threads, ask)
                yield from records
                end, sizes, entries = answer()
        yield from _stored(sizes, entries, self.address)

    def _starting(self, stream: str, start: str) -> Iterator[Stored]:
        keys, given = [self._stream(stream)], start.encode("utf-8", "surrogatepass")
        after, end = 0, 0
        while not end:
            end, sizes, entries, after = self._server.run(STARTING, keys, after, _PAGE, given)
            yield from _stored(sizes, entries, self.address)

    def _written(self, stream: str) -> int | None:
        """Return the position of a stream's last record, None if its counter is none or damaged."""
        return count_or_none(self._server.call("HGET", self._counters, f"stream:{stream}"))

    def _by_trials(
        self, stream: str, trials: list[int], after: int, excerpt: Sequence[str] = ()
    ) -> Iterable[Stored]:
        if len(trials) <= _BATCH:
            return self._select(stream, trials, after, _END, "", excerpt)
        # The groups are read one after the other: none may see what came after the first began.
        upto = self._written(stream)
        groups = partition_all(_BATCH, trials)
        return merge(
            *(
                self._select(stream, group, after, _END if upto is None else upto, "", excerpt)
                for group in groups
            )
        )

    def _select(
        self, stream: str, trials: Sequence[int], after: int, upto: int, start: str = "",
        excerpt: Sequence[str] = (),
    ) -> Iterator[Stored]:  # fmt: skip
        try:
            for one in self._by_index(stream, trials, after, upto, start, excerpt):
                yield one
                after = one.position
        except CorruptRecordError as error:
            # The index is a shortcut: what it leads to stands in the stream itself.
            _warn_of_damage(f"{error} What is left of the stream is read as a whole.")
            wanted = set(trials)
            for one in self._page(stream, after):
                if one.trial in wanted and one.position <= upto and one.id.startswith(start):
                    yield one

    def _by_index(
        self, stream: str, trials: Sequence[int], after: int, upto: int, start: str,
        excerpt: Sequence[str],
    ) -> Iterator[Stored]:  # fmt: skip
        indexes = dict.fromkeys(self._index(stream, trial) for trial in trials)
        keys = [self._stream(stream), *indexes]
        names = ",".join(map(str, trials))
        # The beginning of an id is that of one trial alone.
        member = f"{names}:{start}".encode("utf-8", "surrogatepass") if start else b""
        script, end = EXCERPT if excerpt else SELECT, not trials
        while not end:
            given = (names, after, upto, _PAGE, member, *excerpt)
            end, sizes, entries, *reached = self._server.run(script, keys, *given)
            if end < 0:
                name = entries.decode(errors="replace")
                raise self._corrupt(f"The entry {name} of {keys[0]!r} is missing")
            for one in _stored(sizes, entries, self.address):
                yield one
                after = one.position
            after = next(iter(reached), after)  # behind it others may have been left out

    def _first(self, record: Record, body: bytes | None) -> Record:
        if body is None:
            raise self._corrupt(f"The first output {record.id!r} is missing from its stream")
        return Record(*record[:3], body)

    def _check(self, body: bytes) -> None:
        if len(body) > _LIMIT:
            raise StoreError(
                f"A record has {len(body):,} bytes; expected at most {_LIMIT:,} for {self.address}."
                " Persist large values instead of making them parameters or results."
            )

    def _corrupt(self, what: str) -> CorruptRecordError:
        return CorruptRecordError(
            f"{what} in {self.address}; somebody removed it or the server lost it. Restore the"
            " server's data, or delete the experiment."
        )


def _bucket(stream: str, trial: int) -> int:
    """Return the number of the index that has a trial's records.

    One hash serves a few trials: that shares out the cost of a key. Points and heartbeats can be
    many in one trial, so that each trial has its own.
    """
    width = 1 if stream in ("points", "logs", "beats") else _WIDTH
    return (trial + width - 1) // width


def _member(record: Record) -> bytes:
    return f"{record.trial}:{record.id}".encode("utf-8", "surrogatepass")


def _text_of(id: bytes) -> str:
    try:
        return id.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return id.decode("utf-8", "replace")


def _last_position(sizes: bytes, entries: bytes) -> int:
    """Return the position of the last of a page's entries."""
    lengths = _SIZES.unpack_from(sizes, len(sizes) - _SIZES.size)
    return int(entries[len(entries) - sum(lengths) :].partition(b"-")[0])


def _stored(sizes: bytes, entries: bytes, address: str) -> Iterator[Stored]:
    place = 0
    for name, member, body in _SIZES.iter_unpack(sizes):
        after_name, after_member = place + name, place + name + member
        end = after_member + body
        trial, _, id = entries[after_name:after_member].partition(b":")
        position = int(entries[place:after_name].partition(b"-")[0])
        if is_count(trial):
            yield Stored(
                position,
                int(trial),
                _text_of(id),
                entries[after_member:end],
            )
        else:
            _warn_of_damage(f"{address} has an entry {position} that is no record: it is left out")
        place = end


def _warn_of_damage(what: str) -> None:
    warn_user(StoreWarning(what))


@cache
def _warn_of_eviction(url: str, policy: str, limit: int) -> None:
    # Cached: once per server and process.
    text = (
        f"{url} has maxmemory-policy {policy!r}: once {limit:,} bytes are full, it removes records"
        " of experiments. Expected 'noeviction' or a 'volatile-' policy; set it with CONFIG SET"
        " maxmemory-policy noeviction."
    )
    warn_user(StoreWarning(text))
