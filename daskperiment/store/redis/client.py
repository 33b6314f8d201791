"""Which Redis server a backend names, how to talk to it, and what goes wrong with that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from dask import config
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import NoScriptError
from redis.retry import Retry
from toolz import dissoc

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError
from daskperiment.store.redis.scripts import Script

__all__ = ["RedisServer", "RedisTarget", "redis_target"]

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

_SCHEMES = ("redis", "rediss", "unix")
# What describes the server and the way to it. The driver adds objects of its own to a pool's
# options, which belong to that pool and do not pickle.
_OPTIONS = {
    "host", "port", "path", "db", "username", "password", "credential_provider",
    "redis_connect_func", "client_name", "protocol", "health_check_interval",
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options",
    "socket_type", "socket_read_size",
}  # fmt: skip
_CONNECTIONS = 100
# The driver's own default, 32 or 64 kB, costs a third of the time that a large object takes.
_READ_SIZE = 1 << 20


# Targets -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RedisTarget:
    """A server, and all that is needed to connect to it. It pickles with its password."""

    url: str
    """For people: without password."""
    options: dict[str, Any] = field(repr=False)
    """Of the connections."""
    kind: type | None = None
    """Class of the connections; ``None`` for a cluster, which has its own."""
    nodes: tuple[tuple[str, int], ...] = ()
    """Where to ask for the layout of a cluster."""
    limit: int = _CONNECTIONS
    """How many connections a store may have open at once."""

    def scrub(self, text: str) -> str:
        """Return a message without passwords: a server may echo the command that it refuses."""
        for name in ("password", "ssl_password"):
            secret = self.options.get(name)
            if secret:
                text = text.replace(str(secret), "***")
        return text


def redis_target(backend: Any) -> RedisTarget:
    """Return the server behind a URL, a client or a connection pool."""
    if isinstance(backend, str):
        return _from_url(backend)
    if isinstance(backend, redis.RedisCluster):
        # The client hooks itself into its connections; behind it is the user's own hook.
        hook = {"redis_connect_func": backend.user_on_connect_func}
        known: Any = backend.get_nodes  # The driver is annotated in part only.
        nodes = tuple((node.host, int(node.port)) for node in known())
        return _target({**backend.nodes_manager.connection_kwargs, **hook}, None, nodes)
    pool = backend.connection_pool if isinstance(backend, redis.Redis) else backend
    if type(pool) not in (redis.ConnectionPool, redis.BlockingConnectionPool):
        raise ValueError(
            f"The backend is {type(pool).__name__}; expected a redis://, rediss:// or unix:// URL,"
            " a redis.Redis, a redis.RedisCluster, a redis.ConnectionPool or a"
            " redis.BlockingConnectionPool. Give one of these."
        )
    return _target(pool.connection_kwargs, pool.connection_class, (), pool.max_connections)


def _from_url(url: str) -> RedisTarget:
    parts = urlsplit(url)
    url = parts.scheme + url[len(parts.scheme) :]  # The driver knows lower case only.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    name = parts.path.strip("/")
    if parts.scheme not in _SCHEMES or (parts.scheme != "unix" and name and not name.isdigit()):
        raise ValueError(
            f"The backend is {place!r}; expected redis://host:port/number, rediss://… or"
            " unix:///path?db=number, where number is that of a database. Correct the URL."
        )
    try:
        pool = redis.ConnectionPool.from_url(url)
    except (ValueError, TypeError) as error:
        reason = str(error)
    else:
        options = dict(pool.connection_kwargs)
        if options.pop("cluster", "false").lower() not in ("true", "1", "yes"):
            return _target(options, pool.connection_class, (), pool.max_connections)
        node = (options.get("host", "localhost"), options.get("port", 6379))
        secure = {"ssl": True} if parts.scheme == "rediss" else {}
        return _target({**options, **secure}, None, (node,))
    raise ValueError(f"The backend {place!r} is no usable URL ({reason}). Correct it.")


def _target(
    given: Mapping[str, Any],
    kind: type | None,
    nodes: tuple[tuple[str, int], ...],
    limit: int = _CONNECTIONS,
) -> RedisTarget:
    wanted = [name for name in given if name in _OPTIONS or name.startswith("ssl")]
    options = {name: given[name] for name in wanted if given[name] is not None}
    if not isinstance(options.get("socket_keepalive_options"), Mapping):
        options.pop("socket_keepalive_options", None)
    timeout = float(config.get("daskperiment.timeout", 5))
    options.setdefault("socket_timeout", timeout)
    options.setdefault("socket_connect_timeout", timeout)
    if options.get("socket_read_size", 0) < _READ_SIZE:
        options["socket_read_size"] = _READ_SIZE
    return RedisTarget(_url(options, kind, nodes), options, kind, nodes, min(limit, _CONNECTIONS))


def _url(options: Mapping[str, Any], kind: type | None, nodes: tuple[tuple[str, int], ...]) -> str:
    user = quote(str(options["username"]), safe="") + "@" if options.get("username") else ""
    database = options.get("db", 0)
    if "path" in options:
        return f"unix://{user}{quote(options['path'])}?db={database}"
    secure = options.get("ssl") or (kind is not None and issubclass(kind, redis.SSLConnection))
    scheme = "rediss" if secure else "redis"
    if nodes:
        return f"{scheme}://{user}{_host(*min(nodes))}?cluster=true"
    place = _host(options.get("host", "localhost"), options.get("port", 6379))
    return f"{scheme}://{user}{place}/{database}"


def _host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Servers -----------------------------------------------------------------------------------------


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

    def call(self, *command: Any) -> Any:
        """Send one command."""
        return self._guard(lambda: self._connected().execute_command(*command))

    def run(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a script, which touches these keys and no other."""
        return self._guard(lambda: self._evaluate(script, len(keys), *keys, *arguments))

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


def _connect(target: RedisTarget) -> _Client:
    """Return a client with connections of its own; nothing is opened but for a cluster's layout.

    A broken connection is tried once more at once, because a server that was started again has
    closed those we hold. A timeout is not: it took its time already.
    """
    if target.kind is None:
        options = dissoc(target.options, "host", "port", "db", "path")
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


def _translate(error: Exception, target: RedisTarget, address: str) -> StoreError:
    """Return what a store raises for what the driver raised."""
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
    if no_writes := next((r for word, r in _TAKES_NO_WRITES.items() if word in text), None):
        return StoreUnavailableError(f"{address} takes no writes now: {text} {no_writes}")
    if isinstance(error, _AWAY) or _LATER.search(text):
        return StoreUnavailableError(
            f"{address} cannot be reached or did not answer in time: {text} Check that the"
            " server runs and that the URL is right."
        )
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
