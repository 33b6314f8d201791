"""Talking to a Redis server: connections, scripts, and what goes wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import NoScriptError
from redis.retry import Retry

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError
from daskperiment.store.redis.scripts import Script
from daskperiment.store.redis.target import Target

__all__ = ["Server"]

_Client = Any
"""A ``redis.Redis`` or a ``redis.RedisCluster``."""

# The driver is annotated in part only.
_Pool: Any = redis.BlockingConnectionPool
_ClusterNode: Any = ClusterNode

_FAILURES = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
"""All that the driver raises."""

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


class Server:
    """A Redis server or cluster as one experiment sees it; raises a store's errors only.

    Parameters
    ----------
    target : Target
        The server.
    key : str
        Any key of the experiment: on a cluster it tells the node.
    address : str
        What messages call it.
    """

    def __init__(self, target: Target, key: str, address: str) -> None:
        self._target = target
        self._key = key
        self._address = address
        self._lock = Lock()
        self._client: _Client | None = None

    def call(self, *command: Any) -> Any:
        """Send one command."""
        return self._guard(lambda: self._connected().execute_command(*command))

    def run(self, script: Script, key: str, *arguments: Any) -> Any:
        """Run a script."""
        return self._guard(lambda: self._evaluate(script, 1, key, *arguments))

    def call_node(self, *command: Any) -> Any:
        """Send a command that names no key to the node that has the experiment's keys."""
        return self._guard(lambda: self._node().execute_command(*command))

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
            if self._target.kind is not None:
                client.connection_pool.disconnect()

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
                client = self._client = self._client or _connect(self._target)
        return client

    def _node(self) -> _Client:
        client = self._connected()
        if self._target.kind is None:
            return client.get_redis_connection(client.get_node_from_key(self._key))
        return client

    def _guard(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except _FAILURES as error:
            failure = _translate(error, self._target, self._address)
        # Raised out here it has no context: what the driver said may show a password.
        try:
            raise failure
        finally:
            del failure  # Its traceback refers to this frame: no cycle with the caller's buffers.


def _connect(target: Target) -> _Client:
    """Make a client with connections of its own; nothing is opened but for a cluster's layout.

    A broken connection is tried once more at once, because a server that was started again has
    closed those we hold. A timeout is not: it took its time already.
    """
    if target.kind is None:
        options = dict(target.options)
        for name in ("host", "port", "db", "path"):
            options.pop(name, None)
        nodes = [_ClusterNode(host, port) for host, port in target.nodes]
        return redis.RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 1), **options)
    pool = _Pool(
        max_connections=target.limit,
        timeout=target.options["socket_timeout"],
        connection_class=target.kind,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        retry_on_error=[redis.ConnectionError],
        **target.options,
    )
    return redis.Redis(connection_pool=pool)


def _translate(error: Exception, target: Target, address: str) -> StoreError:
    """Turn what a driver raised into what a store raises."""
    said = target.scrub(str(error) or type(error).__name__).strip()
    text = said if said.endswith((".", "!")) else f"{said}."
    if isinstance(error, _REFUSED):
        return StoreError(
            f"{address} refused us: {text} Expected a user who may use the keys daskperiment:*"
            " and scripts; check user and password."
        )
    if isinstance(error, redis.exceptions.MovedError) or text.startswith("MOVED "):
        return StoreError(
            f"{address} is a node of a Redis Cluster; expected a single server. Add"
            " ?cluster=true to the URL, or give a redis.RedisCluster."
        )
    if isinstance(error, _AWAY) or _LATER.search(text):
        return StoreUnavailableError(
            f"{address} cannot be reached or did not answer in time: {text} Check that the"
            " server runs and that the URL is right."
        )
    if "OOM " in text:
        return StoreError(
            f"{address} has no memory left for a record: {text} Raise maxmemory of the server,"
            " or delete what is no longer needed."
        )
    if "WRONGTYPE" in text:
        return CorruptRecordError(
            f"{address} holds a key of another kind than expected: {text} Some other program"
            " wrote below the experiment's prefix; remove or restore the key."
        )
    return StoreError(f"{address} refused a command: {text} See the server's log.")
