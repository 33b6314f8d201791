"""The store that a caller names as backend.

Drivers are loaded when a backend asks for them, and never here.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable
from urllib.parse import unquote, urlsplit

import dask

from daskperiment.records import record_kind
from daskperiment.store.faults import explained
from daskperiment.store.file import FileStore, FolderState, UnnamedObject
from daskperiment.store.protocol import Buffer, Store, Stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from daskperiment.store.record_pages import RecordPage

__all__ = [
    "CLAIMS",
    "Excerpting",
    "Selective",
    "begins_objects",
    "cache_folder",
    "check_arrival",
    "columns_folder",
    "excerpting",
    "folder_state",
    "has_spare_folder",
    "journal_folder",
    "let_go",
    "list_experiments",
    "open_store",
    "opened_object",
    "read_at_rest",
    "read_notes",
    "read_pages",
    "read_starting",
    "resolve",
    "seen_file",
    "spare_folders",
    "spare_names",
    "unnamed_object",
]

CLAIMS = "claims"
"""What stands beside the journals, and waits for no store."""

_FOLDER = "daskperiment_cache"
_EXPECTED = (
    "Expected None, a pathlib.Path, 'file:///path', 'redis://host', 'rediss://host', "
    "'unix:///socket', redis.Redis, redis.RedisCluster, redis.ConnectionPool, "
    "'mongodb://host/database', 'mongodb+srv://host/database', a pymongo Database or a Store"
)
_METHODS = [name for name, method in vars(Store).items() if name[0] != "_" and callable(method)]
_REDIS = ("redis", "rediss", "unix")
_MONGO = ("mongodb", "mongodb+srv")
_HOST = re.compile(r"[:@;]|^[0-9]{1,3}(\.[0-9]{1,3}){3}$")
"""What is in the name of a host with a port or a user, in a mistyped URL, or is an address."""
# Drivers, and what other trackers call theirs.
_NO_FOLDERS = {
    *_REDIS, *_MONGO, "mongo", "pymongo", "file", "sqlite", "local", "localhost", "mysql",
    "postgres", "postgresql",
}  # fmt: skip


def open_store(backend: Any, id: str) -> Store:
    """Return the store of one experiment. Nothing is created or connected before it is used.

    A backend is a folder, a URL, a ``Store`` or an object of redis-py or pymongo; ``None`` is the
    Dask configuration value ``daskperiment.backend``, else the folder ``daskperiment_cache``.
    Anything else is a ValueError or TypeError.
    """
    target = resolve(backend)
    if isinstance(target, Path):
        return FileStore(target / id)
    family = _family(target)
    if family is None:
        return cast(Store, target)
    if family == "redis":
        from daskperiment.store.redis.store import open_redis  # noqa: PLC0415  # loads the driver

        return open_redis(target, id)
    from daskperiment.store.mongo.store import open_mongo  # noqa: PLC0415  # loads the driver

    return open_mongo(target, id)


def list_experiments(backend: Any = None) -> list[str]:
    """List the ids of the experiments that a backend holds, sorted.

    Parameters
    ----------
    backend : None, pathlib.Path, str, or an object of redis-py or pymongo
        As in `open_store`, but a ``Store``, which holds a single experiment.
    """
    target = resolve(backend)
    if isinstance(target, Path):
        return sorted(_folders(target))
    family = _family(target)
    if family is None:
        raise TypeError(
            f"Cannot list the experiments of {target!r}: a Store holds a single one. Give the "
            f"folder, URL or client that it was made from"
        )
    if family == "redis":
        from daskperiment.store.redis.store import list_redis  # noqa: PLC0415  # loads the driver

        return list_redis(target)
    from daskperiment.store.mongo.store import list_mongo  # noqa: PLC0415  # loads the driver

    return list_mongo(target)


def resolve(backend: Any) -> Any:
    """Return a backend after a check that it is one; whatever names a folder, as absolute path."""
    if backend is None:
        backend = dask.config.get("daskperiment.backend", None)
    if backend is None:
        backend = Path(_FOLDER)
    if isinstance(backend, os.PathLike):
        return Path(os.path.abspath(os.fspath(backend)))
    if isinstance(backend, str):
        return _resolve_text(backend)
    if _family(backend) or _is_store(backend):
        return backend
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    # A client of the right driver is of a right type, and names too much or too little.
    error = ValueError if _classes(backend) & _NEARLY else TypeError
    raise error(f"Cannot use an object of type {name} as backend. {_advice(backend)}")


def check_arrival(store: Store, place: str) -> None:
    """Raise StoreError if a folder that came from another process is missing or another one here.

    `place` is where this is, for the message. A server is the same everywhere.
    """
    if isinstance(store, FileStore):
        store.check_arrival(place)


def let_go(store: Store) -> None:
    """Close the files of a folder that nobody needs now; a later call opens them again.

    The connections to a server stay: all its experiments have them in common.
    """
    if isinstance(store, FileStore):
        store.close()


def opened_object(store: Store, digest: str) -> int | None:
    """Return a descriptor of a folder's file of a large object; None where there is no such file.

    What is read by it stays as it is, though the file is removed.
    """
    return store.opened_object(digest) if isinstance(store, FileStore) else None


def begins_objects(store: Store) -> bool:
    """Return whether large objects can be begun before their digests are known."""
    return isinstance(store, FileStore) and store.begins_objects


def unnamed_object(store: Store, parts: Sequence[Buffer]) -> UnnamedObject | None:
    """Return a large object that can be begun before its digest is known; None where none can.

    It is its parts for `Store.put`, and to be closed at last.
    """
    return store.unnamed_object(parts) if isinstance(store, FileStore) else None


def journal_folder(store: Store) -> Path:
    """Return the folder of the journals of a store's writers.

    A file store has them beside its database. Those of a server are on this machine: in the
    folder of the Dask configuration value ``daskperiment.journal``, else in the user's folder for
    state, by the store's address.
    """
    if isinstance(store, FileStore):
        return store.folder / "journal"
    return Path(_local_root(), _digest(store))


def cache_folder() -> Path:
    """Return the folder of what this user's processes worked out of stores, and may lose.

    It is that of the Dask configuration value ``daskperiment.cache``, else one in the user's folder
    for such things.
    """
    root = dask.config.get("daskperiment.cache", None)
    if root is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(cache) / "daskperiment"
    return Path(os.path.abspath(root))


def folder_state(store: Store) -> FolderState | None:
    """Return what changes with each write to a store that is a folder; ``None`` of others."""
    return store.folder_state() if isinstance(store, FileStore) else None


def read_at_rest(store: Store, stream: str, state: FolderState | None) -> list[Stored] | None:
    """Return the records of a stream of a folder, if it is short and nobody has written lately.

    That is quick, and leaves nothing open. Of all else ``None``: the store is to be read.

    `state` is what the folder was in a moment ago.
    """
    if state is None or not isinstance(store, FileStore):
        return None
    return store.read_at_rest(stream, state)


def read_pages(store: Store, stream: str, size: int) -> Iterator[RecordPage]:
    """Return all records of a stream in pages, as the store reads them quickest.

    `size` is how many records a page has if the store knows no way of its own.
    """
    from daskperiment.store.record_pages import (  # noqa: PLC0415  # who records reads nothing
        Paged,
        pages_of,
    )

    # The class is asked: what stands around a store, and looks at each record, passes much on.
    if issubclass(type(store), Paged):
        return cast(Paged, store).read_pages(stream)
    return pages_of(store.read(stream), size)


@runtime_checkable
class Selective(Protocol):
    """A store that finds records by what their ids begin with; others need not."""

    def read_starting(self, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
        """Read what `read` does, of a trial or of all, whose ids begin with a text, in order."""


def read_starting(store: Store, stream: str, trial: int | None, start: str) -> Iterable[Stored]:
    """Return the records whose ids begin with a text, of a trial or of all, in order.

    The stores of the package look for these alone; one that reads them among all others does too.
    """
    # The class, as in `read_pages`. Half a character can be told to none of them.
    if issubclass(type(store), Selective) and not re.search("[\ud800-\udfff]", start):
        return cast(Selective, store).read_starting(stream, trial, start)
    trials = None if trial is None else [trial]
    return [one for one in store.read(stream, trials) if one.id.startswith(start)]


def read_notes(
    store: Store, kind: str, trials: Collection[int] | None = None
) -> Iterable[Stored]:  # fmt: skip
    """Return the notes of a kind, of some trials or of all: of all other notes may be many."""
    if trials is None:
        return read_starting(store, "notes", None, f"{kind}-")
    return (one for one in store.read("notes", trials) if record_kind(one.id) == kind)


@runtime_checkable
class Excerpting(Protocol):
    """A store that gives what it is asked for of long bodies; others need not."""

    def read_excerpts(
        self, stream: str, trials: Collection[int], after: int, texts: Collection[str], mark: str
    ) -> Iterable[Stored]:
        """Read what `read` does, and of a body that has marks no more than is wanted.

        Each mark ends a block. Of such a body the blocks are given that have one of the texts, and
        what stands behind the last mark. A record that has none of them may be left out, if it has
        a mark or no backslash: a backslash may spell a text in another way.
        """


def excerpting(store: Store) -> Excerpting | None:
    """Return a store if it gives excerpts of bodies: a server, of which the rest need not come."""
    # The class is asked, as in `read_pages`.
    return cast(Excerpting, store) if issubclass(type(store), Excerpting) else None


def columns_folder(store: Store) -> Path:
    """Return the folder of the columns that histories are made of: beside a file store's records.

    Those of a server's are among what this user may lose.
    """
    if isinstance(store, FileStore):
        return store.folder / "columns"
    return cache_folder() / "columns" / _digest(store)


def seen_file(store: Store) -> Path:
    """Return the file of this user that says what was seen last of a store with signed trials."""
    return Path(_local_root(), "seen", f"{_digest(store)}.json")


def spare_folders(store: Store) -> list[Path]:
    """Return folders of this machine where records may wait that the journal's does not take.

    The folder of the journals of servers, and one of this user's among the temporary files.
    """
    digest = _digest(store)
    # Journals of servers have their own folder on this machine.
    return [Path(root, digest) for root in _spare_roots()[not isinstance(store, FileStore) :]]


def spare_names() -> frozenset[str]:
    """Return the names of all folders, of any store, that are there for such records now."""
    found: set[str] = set()
    for root in _spare_roots():
        with suppress(OSError):  # there is none, or it is somebody else's
            found.update(os.listdir(root))
    return frozenset(found)


def has_spare_folder(store: Store, names: frozenset[str]) -> bool:
    """Whether one of the store's is among the folders that `spare_names` found."""
    return bool(names) and _digest(store) in names


def _spare_roots() -> list[str]:
    user = os.getuid() if os.name == "posix" else "user"
    folders = [os.path.join(_local_root(), "folders")]
    with suppress(OSError):  # there is none that can be written
        folders.append(os.path.join(tempfile.gettempdir(), f"daskperiment-{user}"))
    return folders


def _local_root() -> str:
    root = dask.config.get("daskperiment.journal", None)
    if root is None:
        state = os.environ.get("XDG_STATE_HOME")
        home = os.path.expanduser("~")
        state = state or os.path.join(Path.home() if home == "~" else home, ".local", "state")
        root = os.path.join(state, "daskperiment", "journal")
    return os.path.abspath(str(root))


def _digest(store: Store) -> str:
    return hashlib.sha256(store.address.encode()).hexdigest()[:32]


def _resolve_text(backend: str) -> Any:
    scheme, separator, _ = backend.partition("://")
    if not separator:
        if not backend.strip() or _looks_like_server(backend):
            shown = backend.rpartition("@")[2]
            raise ValueError(
                f"Cannot use {shown!r} as backend. {_EXPECTED}. A folder of that name is "
                f"pathlib.Path({shown!r})"
            )
        return Path(os.path.abspath(os.path.expanduser(backend)))
    scheme = scheme.lower()
    if scheme == "file":
        return _resolve_file(backend)
    if scheme in _MONGO and not _database(backend):
        raise ValueError(
            f"The backend {_without_password(backend)!r} names no database: add one, as in "
            f"'mongodb://host/database'"
        )
    if scheme in _REDIS + _MONGO:
        return backend
    raise ValueError(f"Cannot use {_without_password(backend)!r} as backend. {_EXPECTED}")


def _looks_like_server(text: str) -> bool:
    """Whether a text without :// is rather a mistyped URL, a host or a driver than a folder.

    Taken for a folder, it would keep a team's trials on one machine without a word.
    """
    first = re.split(r"[/\\]", text.strip())[0].lower()
    drive = os.name == "nt" and len(first) == 2
    return first in _NO_FOLDERS or (_HOST.search(first) is not None and not drive)


def _resolve_file(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise ValueError(
            f"Cannot use {_without_password(url)!r} as backend: expected a URL with an absolute "
            f"path, as in 'file:///home/me/experiments'"
        )
    # A folder may have ? and # in its name, and a path has neither query nor fragment.
    path = url.partition("://")[2].removeprefix(parts.netloc)
    return Path(os.path.abspath(unquote(path)))


def _database(url: str) -> str:
    return url.partition("://")[2].partition("?")[0].partition("/")[2]


def _without_password(url: str) -> str:
    """Return a URL without user and password, even if it is malformed."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _family(backend: Any) -> str | None:
    """Return the driver that an object or a URL is for, without loading it."""
    if isinstance(backend, str):
        return "redis" if backend.partition("://")[0].lower() in _REDIS else "mongo"
    classes = _classes(backend)
    if classes & {("redis", name) for name in ("Redis", "RedisCluster", "ConnectionPool")}:
        return "redis"
    return "mongo" if ("pymongo", "Database") in classes else None


def _is_store(backend: Any) -> bool:
    # Objects of pymongo seem to have any attribute that is asked for.
    foreign = any(package == "pymongo" for package, _ in _classes(backend))
    # Not isinstance: a store may wrap another and pass its methods on as they are asked for.
    return not foreign and all(callable(getattr(backend, name, None)) for name in _METHODS)


def _classes(value: Any) -> set[tuple[str, str]]:
    """Return the classes of a value as pairs of package and name.

    Asynchronous clients, which do not serve, have a package name of their own.
    """
    names = set()
    for kind in type(value).__mro__:
        package, _, rest = kind.__module__.partition(".")
        names.add((f"{package}.asyncio" if rest.startswith("asyncio") else package, kind.__name__))
    return names


_NEARLY = {("pymongo", "MongoClient"), ("pymongo", "Collection")}


def _advice(backend: Any) -> str:
    classes = _classes(backend)
    if ("pymongo", "MongoClient") in classes:
        return "Name a database of it: client['name']"
    if ("pymongo", "Collection") in classes:
        return "Give its database: collection.database"
    if ("redis.asyncio", "Redis") in classes or ("pymongo", "AsyncMongoClient") in classes:
        return "Give a client that is not asynchronous, or a URL"
    lacking = [name for name in _METHODS if not callable(getattr(backend, name, None))]
    if len(lacking) < len(_METHODS) // 2:
        return f"A Store has the methods {', '.join(lacking)} too; add them"
    return _EXPECTED


def _folders(root: Path) -> Iterator[str]:
    with explained(root / "records.sqlite"), suppress(FileNotFoundError):
        for entry in os.scandir(root):
            # Neither Path.exists nor entry.is_dir, which raise for what is somebody else's and
            # private, or a link to itself: it would hide all others.
            if os.path.exists(os.path.join(entry.path, "records.sqlite")):
                yield entry.name
