"""Which Redis server a backend names, and with which options to connect to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from dask import config

__all__ = ["Target", "target"]

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


@dataclass(frozen=True)
class Target:
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
        """Take passwords out of a message: a server may echo the command that it refuses."""
        for name in ("password", "ssl_password"):
            secret = self.options.get(name)
            if secret:
                text = text.replace(str(secret), "***")
        return text


def target(backend: Any) -> Target:
    """Describe the server behind a URL, a client or a connection pool."""
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


def _from_url(url: str) -> Target:
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
) -> Target:
    options = {
        name: value
        for name, value in given.items()
        if (name in _OPTIONS or name.startswith("ssl")) and value is not None
    }
    if not isinstance(options.get("socket_keepalive_options"), Mapping):
        options.pop("socket_keepalive_options", None)
    timeout = float(config.get("daskperiment.timeout", 5))
    options.setdefault("socket_timeout", timeout)
    options.setdefault("socket_connect_timeout", timeout)
    if options.get("socket_read_size", 0) < _READ_SIZE:
        options["socket_read_size"] = _READ_SIZE
    return Target(_url(options, kind, nodes), options, kind, nodes, min(limit, _CONNECTIONS))


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
