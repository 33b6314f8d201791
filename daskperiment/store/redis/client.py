"""How to talk to a Redis server or cluster, and what goes wrong with that."""

from __future__ import annotations

import inspect
import os
import re
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import NoScriptError
from redis.retry import Retry
from toolz import dissoc

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError
from daskperiment.store.redis.scripts import Script
from daskperiment.store.redis.targets import RedisTarget

__all__ = ["KeysMovingError", "RedisServer"]

T = TypeVar("T")
_Client = Any
"""A ``redis.Redis``, what sends by its connections, or a ``redis.RedisCluster``."""

# The driver is annotated in part only.
_Pool: Any = redis.BlockingConnectionPool
_ClusterNode: Any = ClusterNode
_RedisCluster: Any = redis.RedisCluster

_FAILURES = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
"""All that the driver raises."""

_MOVES = re.compile(r"\bTRYAGAIN\b|^ASK |^TTL exhausted|^MOVED ")
"""Of a cluster whose slots move: what the driver gives up after a third of a second."""
_PAUSE = 0.05
"""Seconds between two attempts."""

_REFUSED = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
)
_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    redis.exceptions.TryAgainError,
    redis.ReadOnlyError,
    OSError,
)

# Of a server that will serve us later: it starts, hands over, or cannot write to its disk now.
# Within a script the code stands somewhere in the message.
_LATER = re.compile(
    r"\b(BUSY|LOADING|MISCONF|NOREPLICAS|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b"
)

_ODD = re.compile(r"not an integer|attempt to (compare|perform arithmetic|concatenate|index)")
"""What a server says of a number that is none, within a script and outside."""
_TAKES_NO_WRITES = {
    "MISCONF": "It cannot save to its disk: look for one that is full or read-only there, and into "
    "the server's log.",
    "NOREPLICAS": "It has fewer replicas than it is set to write to: start them, or change "
    "min-replicas-to-write.",
    "READONLY": "It is a replica: give the URL of the primary, or wait until it takes over.",
}
"""What to do about a server that answers, and takes no writes now."""


class RedisServer:
    """A Redis server or cluster as one experiment sees it; raises a store's errors only.

    Any `key` of the experiment determines the node of a cluster; messages name the `address`.
    """

    def __init__(self, target: RedisTarget, key: str, address: str) -> None:
        self._target = target
        self._key = key
        self._address = address
        self._lock = Lock()
        self._client: _Client | None = None
        self._dropped: weakref.finalize[[_Client], RedisServer] | None = None

    def call(self, *command: Any) -> Any:
        """Send one command."""
        return self._guard(lambda: self._connected().execute_command(*command))

    def run(self, script: Script, keys: Sequence[str | bytes], *arguments: Any) -> Any:
        """Run a script, which touches these keys and no other."""
        return self._guard(lambda: self._evaluate(script, len(keys), *keys, *arguments))

    def call_node(self, *command: Any) -> Any:
        """Send a command that names no key to the node that has the experiment's keys."""
        return self._guard(lambda: self._node().execute_command(*command))

    def scan(self, pattern: str) -> Iterator[list[bytes]]:
        """Yield the keys of a pattern, from each node that has some of the experiment's."""
        for node in self._guard(self._holders):
            cursor: Any = None
            while cursor != 0:
                command = ("SCAN", cursor or 0, "MATCH", pattern, "COUNT", 1000)
                cursor, keys = self._guard(partial(node.execute_command, *command))
                yield keys

    def unlink(self, keys: Sequence[str | bytes]) -> None:
        """Remove keys; the server frees their memory in the background."""
        try:
            self.call("UNLINK", *keys)
        except KeysMovingError:
            # Some are gone or on another node, and there is none that has all.
            for key in keys:
                self.call("UNLINK", key)

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        with self._lock:
            client, self._client = self._client, None
            if self._dropped is not None:
                self._dropped.detach()
        if client is not None:
            _close(client)

    def _evaluate(self, script: Script, *arguments: Any) -> Any:
        client = self._connected()
        try:
            return client.execute_command("EVALSHA", script.sha, *arguments)
        except NoScriptError:
            # The server was started since, or is another one: EVAL makes it remember the script.
            return client.execute_command("EVAL", script.text, *arguments)

    def _connected(self) -> _Client:
        client = self._client
        if client is None:
            with self._lock:
                client = self._client = self._client or self._opened()
        return client

    def _opened(self) -> _Client:
        client = _connect(self._target)
        # Whoever drops it need not close it. The garbage collector, where it found a socket before
        # its connection, would warn of it, whoever runs just then.
        self._dropped = weakref.finalize(self, _close, client)
        self._dropped.atexit = False
        return client

    def _node(self) -> _Client:
        client = self._connected()
        if self._target.kind is None:
            return client.get_redis_connection(client.get_node_from_key(self._key))
        return client

    def _holders(self) -> list[_Client]:
        """Return the node that has the experiment's keys, and the one to which they move now."""
        client = self._connected()
        if self._target.kind is not None:
            return [client]
        client.execute_command("EXISTS", self._key)  # by which it learns of keys that moved
        owner, slot = self._node(), str(client.keyslot(self._key))
        known = owner.execute_command("CLUSTER NODES")
        itself = next(node for node in known.values() if "myself" in node["flags"])
        goals = {one["node_id"] for one in itself["migrations"] if one["slot"] == slot}
        moving = [place for place, node in known.items() if node["node_id"] in goals]
        nodes = [client.get_node(node_name=place) for place in moving]
        return [owner, *(client.get_redis_connection(node) for node in nodes)]

    def _guard(self, function: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._target.options["socket_timeout"]
        while True:
            try:
                return function()
            except _FAILURES as error:
                failure = _translate(error, self._target, self._address)
            moves = isinstance(failure, KeysMovingError)
            if not moves or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
        # Raised out here it has no context: what the driver said may show a password.
        try:
            raise failure
        finally:
            del failure  # Its traceback refers to this frame: no cycle with the caller's buffers.


class KeptConnections:
    """The connections to one server, each ready for the next command.

    What the driver does between two commands (to give a connection back, to look whether it is
    still there, to count for others) takes longer than to send one. A connection that is no longer
    there is found out by the command that it fails, which is tried once more.

    Parameters
    ----------
    client : redis.Redis
    limit : int
        How many connections its pool has.
    """

    def __init__(self, client: _Client, limit: int) -> None:
        self._client = client
        self._limit = limit
        self.connection_pool = client.connection_pool
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._idle: list[Any] = []
        self._taken = 0
        """How many of the pool's are here, or in use."""

    def execute_command(self, *command: Any) -> Any:
        """Send a command, and return what the driver makes of the answer."""
        connection, whole = self._take(), False
        try:
            try:
                answer = self._sent(connection, command)
            except redis.ConnectionError:
                connection.disconnect()
                answer = self._sent(connection, command)
            whole = True
            return answer
        except redis.ResponseError:
            whole = True
            raise
        finally:
            if not whole:  # an answer that is still to come would be taken for the next one
                connection.disconnect()
            self._put_back(connection)

    def close(self) -> None:
        """Close the client; whoever waits for an answer fails."""
        self._client.close()

    def _sent(self, connection: Any, command: tuple[Any, ...]) -> Any:
        connection.send_command(*command)
        return self._client.parse_response(connection, command[0])

    def _take(self) -> Any:
        if self._pid != os.getpid():  # a forked child: the connections are its parent's
            self._reset()
        with suppress(IndexError):
            return self._idle.pop()
        # It waits where all are in use. Before 5.3 the driver had to be told what for; later it
        # warns of that.
        named = inspect.signature(self.connection_pool.get_connection).parameters["command_name"]
        purpose = ("EVALSHA",) if named.default is named.empty else ()
        connection = self.connection_pool.get_connection(*purpose)
        with self._lock:
            self._taken += 1
        return connection

    def _put_back(self, connection: Any) -> None:
        if self._taken < self._limit:
            self._idle.append(connection)
            return
        with self._lock:
            self._taken -= 1
        self.connection_pool.release(connection)  # somebody may wait for it


class _Cluster(_RedisCluster):  # type: ignore[misc]  # annotated in part only
    """A client that is sent to nodes that have no slot yet, too: the driver knows none of these."""

    def get_node(self, host: Any = None, port: Any = None, node_name: Any = None) -> Any:
        node = super().get_node(host, port, node_name)
        if node is None and node_name:
            host, _, port = node_name.rpartition(":")
            node = self.nodes_manager.nodes_cache[node_name] = _ClusterNode(host, int(port))
        return node


class KeysMovingError(StoreUnavailableError):
    """The keys of an experiment are on their way from one node of a cluster to another."""


def _connect(target: RedisTarget) -> _Client:
    """Return a client with connections of its own; nothing is opened but for a cluster's layout.

    A broken connection is tried once more at once, because a server that was started again has
    closed those we hold. A timeout is not: it took its time already.
    """
    if target.kind is None:
        options = dissoc(target.options, "host", "port", "db", "path")
        nodes = [_ClusterNode(host, port) for host, port in target.nodes]
        # One experiment needs one slot, whatever the others do.
        options["require_full_coverage"] = False
        return _Cluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 1), **options)
    pool = _Pool(
        max_connections=target.limit,
        timeout=target.options["socket_timeout"],
        connection_class=target.kind,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        retry_on_error=[redis.ConnectionError],
        **target.options,
    )
    client = redis.Redis(connection_pool=pool)
    if "credential_provider" in target.options:  # which the pool may ask again at any moment
        return client
    return KeptConnections(client, target.limit)


def _close(client: _Client) -> None:
    client.close()
    if not isinstance(client, _RedisCluster):
        client.connection_pool.disconnect()


def _translate(error: Exception, target: RedisTarget, address: str) -> StoreError:
    """Return what a store raises for what the driver raised."""
    said = target.scrub(str(error) or type(error).__name__).strip()
    text = said if said.endswith((".", "!")) else f"{said}."
    if isinstance(error, _REFUSED):
        return StoreError(
            f"{address} refused us: {text} Expected a user who may use the keys daskperiment:*"
            " and scripts; check user and password."
        )
    if target.kind is None and _MOVES.search(text):
        return KeysMovingError(
            f"{address} is on its way from one node of its cluster to another, and neither has all"
            " that is asked for. Try again when its slot has moved: redis-cli --cluster check."
        )
    if isinstance(error, redis.exceptions.MovedError) or text.startswith(("MOVED ", "ASK ")):
        return StoreError(
            f"{address} is a node of a Redis Cluster; expected a single server. Add"
            " ?cluster=true to the URL, or give a redis.RedisCluster."
        )
    if no_writes := next((r for word, r in _TAKES_NO_WRITES.items() if word in text), None):
        return StoreUnavailableError(f"{address} takes no writes now: {text} {no_writes}")
    if isinstance(error, _AWAY) or _LATER.search(text):
        return StoreUnavailableError(
            f"{address} cannot be reached or did not answer in time: {text} Check that the"
            " server runs and that the URL is right."
        )
    return _refusal(error, text, address)


def _refusal(error: Exception, text: str, address: str) -> StoreError:
    """Return what a store raises for a command that a server refuses, which is there."""
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM " in text:
        return StoreError(
            f"{address} has no memory left for what is recorded: {text} Raise maxmemory of the"
            " server, or delete what is no longer needed."
        )
    if _ODD.search(text):
        return CorruptRecordError(
            f"{address} holds something else than a number where one belongs: {text} Some other"
            " program wrote below the experiment's prefix, or the server lost data; `daskperiment"
            " check` names the key: restore it."
        )
    if "WRONGTYPE" in text:
        return CorruptRecordError(
            f"{address} holds a key of another kind than expected: {text} Some other program"
            " wrote below the experiment's prefix; remove or restore the key."
        )
    return StoreError(f"{address} refused a command: {text} See the server's log.")
