"""Which Redis server or cluster a backend names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import redis
from dask import config

__all__ = ["RedisTarget", "redis_target"]

_URL = re.compile(
    r"(redis|rediss|unix)://((?:[^/?#]*@)?)([^/?#@]*)(/[^?#]*)?(\?[^#]*)?(?:#[^@]*)?",
    re.DOTALL | re.IGNORECASE,
)
# What describes the server and the way to it. The driver adds objects of its own to a pool's
# options, which belong to that pool and do not pickle.
_OPTIONS = {
    "host", "port", "path", "db", "username", "password", "credential_provider",
    "redis_connect_func", "client_name", "protocol", "health_check_interval",
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options",
    "socket_type", "socket_read_size",
}  # fmt: skip
_FORMS = (
    "redis://host:port/number, rediss://…, unix:///path?db=number, or redis://host:port,host:port "
    "for a cluster, with %40 for an @ and %2F for a / in a password"
)
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\[\]:\s]*))(?::([0-9]{1,5}))?")
_ODD_PORT = re.compile(r":(?![0-9]+(?:[,/]|$))[^,/]*")
_CONNECTIONS = 100
# The driver's own default, 32 or 64 kB, costs a third of the time that a large object takes.
_READ_SIZE = 1 << 20


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
        target = _target({**backend.nodes_manager.connection_kwargs, **hook}, None, nodes)
        # The nodes that a client knows change.
        return replace(target, url=_url(target.options, None, (min(nodes),)))
    pool = backend.connection_pool if isinstance(backend, redis.Redis) else backend
    if type(pool) not in (redis.ConnectionPool, redis.BlockingConnectionPool):
        raise ValueError(
            f"The backend is {type(pool).__name__}; expected a redis://, rediss:// or unix:// URL,"
            " a redis.Redis, a redis.RedisCluster, a redis.ConnectionPool or a"
            " redis.BlockingConnectionPool. Give one of these."
        )
    return _target(pool.connection_kwargs, pool.connection_class, (), pool.max_connections)


def _from_url(url: str) -> RedisTarget:
    """Return the server of a URL; that of a cluster names any number of its nodes."""
    found = _URL.fullmatch(url)
    scheme, user, hosts, name, query = found.groups("") if found else ("", "", "", "", "")
    scheme = scheme.lower()  # The driver knows no other.
    if not scheme or (hosts if scheme == "unix" else name.strip("/0123456789")):
        raise _bad_url(url, f"expected {_FORMS}")
    if "@" in user[:-1] and "," in user.partition("@")[2]:
        reason = "user and password stand once, before the first host; an @ in them is written %40"
        raise _bad_url(url, reason)
    nodes = _nodes(url, hosts)
    first = hosts.partition(",")[0]
    try:
        pool = redis.ConnectionPool.from_url(f"{scheme}://{user}{first}{name}{query}")
    except (ValueError, TypeError) as error:
        reason = str(error)
    else:
        options = dict(pool.connection_kwargs)
        wanted = str(options.pop("cluster", len(nodes) > 1)).lower() in ("true", "1", "yes")
        if not wanted and len(nodes) < 2:
            return _target(options, pool.connection_class, (), pool.max_connections)
        reason = _not_a_cluster(wanted, options.get("db", 0), scheme)
        if not reason:
            secure = {"ssl": True} if scheme == "rediss" else {}
            return _target({**options, **secure}, None, nodes)
    raise _bad_url(url, reason)


def _nodes(url: str, hosts: str) -> tuple[tuple[str, int], ...]:
    """Return the hosts and ports that stand in a URL, each once, sorted."""
    nodes = set()
    for name in hosts.split(","):
        found = _HOST.fullmatch(name)
        alone = name == hosts  # then the driver's defaults fill in what is not there
        if found is None or not (alone or found[1] or found[2]):
            raise _bad_url(url, f"one of its hosts is none; expected {_FORMS}")
        port = int(found[3] or 6379)
        if not 0 < port < 65536:
            raise _bad_url(url, f"expected ports from 1 to 65535, got {port}")
        nodes.add((unquote(found[1] or found[2] or "localhost"), port))
    return tuple(sorted(nodes))


def _not_a_cluster(wanted: bool, database: object, scheme: str) -> str:
    """Return why a URL cannot be that of a cluster, if so."""
    if not wanted:
        return "several hosts are a cluster, and it says cluster=false"
    if scheme == "unix":
        return "a cluster has no Unix socket: name hosts of it"
    return f"a cluster has database 0 alone, and it names {database!r}" if database else ""


def _bad_url(url: str, reason: str) -> ValueError:
    """Return the error for a URL that is none; what may be a password is not in it."""
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest, maxsplit=1)[0]
    # What stands before the last @, and a port that is no number, may be a password.
    shown = _ODD_PORT.sub(":…", place.rpartition("@")[2])
    if "@" in rest[len(place) :]:
        shown = "…"
    return ValueError(
        f"The backend {f'{scheme}://{shown}'!r} is no usable URL: {reason}. Correct it."
    )


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
    """Return a server's URL without password; a cluster's has the given nodes in order."""
    user = quote(str(options["username"]), safe="") + "@" if options.get("username") else ""
    database = options.get("db", 0)
    if "path" in options:
        return f"unix://{user}{quote(options['path'])}?db={database}"
    secure = options.get("ssl") or (kind is not None and issubclass(kind, redis.SSLConnection))
    scheme = "rediss" if secure else "redis"
    if nodes:
        return f"{scheme}://{user}{','.join(_host(*node) for node in nodes)}?cluster=true"
    place = _host(options.get("host", "localhost"), options.get("port", 6379))
    return f"{scheme}://{user}{place}/{database}"


def _host(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
