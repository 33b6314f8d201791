"""Talking to a MongoDB server: clients, time limits, and what goes wrong with them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple, TypeVar, TypeVarTuple
from urllib.parse import unquote

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import BSONError, InvalidBSON
from dask import config
from gridfs.errors import CorruptGridFile, GridFSError
from pymongo import ReadPreference, WriteConcern
from pymongo.database import Database as DatabaseOf
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    CursorNotFound,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from daskperiment.errors import CorruptRecordError, StoreError, StoreUnavailableError
from daskperiment.store.shared_clients import SharedClient, shared_client

__all__ = ["Database", "MongoServer", "MongoTarget", "mongo_target", "update_documents"]

Database = DatabaseOf[dict[str, Any]]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_URL = re.compile(
    r"(mongodb(?:\+srv)?)://(?:[^@/?]*@)?([^@/?]+)/([^@/?]+)(?:\?.*)?", re.DOTALL | re.IGNORECASE
)
_KEY_PASSWORD = re.compile(r"[?&]tlsCertificateKeyFilePassword=([^&]+)", re.IGNORECASE)
_FAILURES = (PyMongoError, BSONError, GridFSError, UnicodeError, OverflowError)
"""All that the driver raises."""
_ODD = (KeyError, TypeError, ValueError, AttributeError)
"""What comes of a document that somebody changed."""
_REFUSED = (13, 18, 8000)
"""Not authorised, or not authenticated."""
_COMMAND = " to execute command"
"""In what the server says to a user who is who they say, and may not do it."""
_FULL = (12501, 14031)
"""The quota, or the disk of the server, is used up."""
_SAYS_FULL = re.compile(r"no space left|out ?of ?disk ?space|space quota|quota exceeded", re.I)
_ANOTHER = (91, 189, 10107, 11600, 11602, 13435, 13436)
"""Of a server that stops, or is not the one that takes writes any more."""
_LATER = (50, 64, 89, 202, 262, 9001, *_ANOTHER)
"""Of one that is too slow now, or starts, too."""


class MongoTarget(NamedTuple):
    """A database and how to connect to it; may hold a password."""

    place: str
    """A URL without password and options."""
    database: str
    options: Mapping[str, Any] | None
    """What ``MongoClient`` is called with; ``None`` if that cannot be found out of the client."""
    client: Any = None
    """A client to use as long as this is its process."""

    def portable(self) -> MongoTarget:
        """Return the target without the client, for another process."""
        try:
            portable = self.options is not None and pickle.dumps(self.options)
        except Exception:
            portable = False
        if not portable:
            raise StoreError(
                f"The client of {self.place} cannot be made again in another process from what it"
                " was made of. Give a URL as backend."
            )
        return MongoTarget(self.place, self.database, self.options)


def mongo_target(backend: Any) -> MongoTarget:
    """Return the database behind a URL or a ``Database``."""
    if isinstance(backend, str):
        return _from_url(backend)
    if not isinstance(backend, DatabaseOf):
        raise ValueError(
            f"The backend is {type(backend).__name__}; expected a URL such as"
            " mongodb://host/database, or a pymongo Database. Give one of these."
        )
    client = backend.client
    seeds = sorted(client.topology_description.server_descriptions())
    hosts = ",".join(host if port is None else f"{host}:{port}" for host, port in seeds)
    return MongoTarget(f"mongodb://{hosts}/{backend.name}", backend.name, _options(client), client)


def _from_url(url: str) -> MongoTarget:
    found = _URL.fullmatch(url)
    if found is None:
        # What stands before the last @ may be a password with characters that need escaping.
        shown = f"{url.partition('://')[0]}://{url.rpartition('@')[2].partition('?')[0]}"
        raise ValueError(
            f"The backend is {shown!r}; expected mongodb://host:port/database or"
            " mongodb+srv://host/database, with %40 for an @ and %2F for a / in a password."
            " Correct the URL and name a database."
        )
    scheme, hosts, name = found.groups()
    return MongoTarget(f"{scheme.lower()}://{hosts}/{name}", unquote(name), {"host": url})


def _options(client: Any) -> Mapping[str, Any] | None:
    """Return what a client was called with; the driver has no public way to ask for it."""
    fields = vars(client)
    found = fields.get("_init_kwargs", fields.get("_MongoClient__init_kwargs"))
    if not isinstance(found, Mapping):
        return None
    unwanted = ("document_class", "type_registry", "event_listeners", "connect")
    return {
        name: value for name, value in found.items() if value is not None and name not in unwanted
    }


class MongoServer:
    """A database as one experiment sees it; raises a store's errors only, which name `address`."""

    losses: int
    """How often the server turned out to be away: what was seen of it before may be gone."""

    def __init__(self, target: MongoTarget, address: str) -> None:
        self._target = target
        self._address = address
        self.losses = 0
        self._home = self._pid = os.getpid()
        self._lock = Lock()
        self._database: Database | None = None
        self._shared: SharedClient | None = None
        """The client, if it was not given."""

    def run(self, work: Callable[[Database, *Ts], T], *args: *Ts) -> T:
        """Return the result of some work on the database, all of it within the time limit.

        A broken connection is tried once more at once, because a server that was started again
        has closed those we hold, and another one may take the writes now: the work has to be
        such that a second time does no harm. A timeout is not, it took its time already.
        """
        return self.run_long(0, work, *args)

    def run_long(self, seconds: float, work: Callable[[Database, *Ts], T], *args: *Ts) -> T:
        """Return the result of work that needs `seconds` beyond the time limit."""
        return self._run(lambda database: work(database, *args), seconds, 2)

    def run_once(self, work: Callable[[], T]) -> T:
        """Return the result of work that cannot be tried again, such as to go on with a cursor."""
        return self._run(lambda _: work(), 0, 1)

    def close(self) -> None:
        """Let go of the client, closed if it was made here and no other store has it.

        A later call makes another one.
        """
        with self._lock:
            self._shared = self._database = None

    def _run(self, work: Callable[[Database], T], seconds: float, attempts: int) -> T:
        while True:
            attempts -= 1
            try:
                return self._attempt(work, seconds)
            except _FAILURES as error:
                failure = error
            except _ODD as error:
                raise CorruptRecordError(
                    f"{self._address} holds a document that is not as it was written"
                    f" ({type(error).__name__}: {error}). `daskperiment check` names it; restore"
                    " it from a backup, or remove it."
                ) from error
            # The server that comes back may be another one, or have lost what it had.
            self.losses += self._is_away(failure)
            if not attempts or not _is_broken(failure):
                raise self._translate(failure) from None

    def _attempt(self, work: Callable[[Database], T], seconds: float) -> T:
        database = self._connected()
        if database.client.options.timeout is not None:
            return work(database)  # The URL has timeoutMS, which the driver keeps by itself.
        limit = float(config.get("daskperiment.timeout", 5))
        with pymongo.timeout(limit + seconds):
            return work(database)

    def _connected(self) -> Database:
        if self._pid != os.getpid():
            # A forked child: the parent's client and lock are not for us.
            self._lock, self._pid = Lock(), os.getpid()
            self.close()
        database = self._database
        if database is None:
            with self._lock:
                database = self._database
                if database is None:
                    database = self._database = self._open()
        return database

    def _open(self) -> Database:
        client = self._target.client
        if client is None or self._home != os.getpid():
            way = (self._target.options,)
            self._shared = shared_client(way, self._connect, _close)
            client = self._shared.client
        return _configured(client, self._target.database)

    def _connect(self) -> Any:
        if self._target.options is None:
            raise InvalidOperation("the client that was given cannot be made again; give a URL")
        try:
            return pymongo.MongoClient(**self._target.options, connect=False)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(str(error)) from None

    def _translate(self, error: Exception) -> StoreError:
        text = _scrubbed(error, self._target.options or {})
        code = _code(error)
        if isinstance(error, PyMongoError) and (code in _FULL or _SAYS_FULL.search(text)):
            return StoreError(
                f"{self._address} has no space left for what is recorded: {text} Make room on the"
                " disk of the server or raise the quota, or delete what is no longer needed."
            )
        if isinstance(error, OperationFailure) and code in _REFUSED and _COMMAND in text:
            # What follows is the command, with all that is to be written.
            return StoreError(
                f"{self._address} refused us: {text.partition(_COMMAND)[0]}. Have the"
                " role readWrite on the database granted to this user, or give another one."
            )
        if isinstance(error, OperationFailure) and code in _REFUSED:
            return StoreError(
                f"{self._address} refused us: {text} Expected a user who may read and write the"
                " database; check user, password and authSource."
            )
        if self._is_away(error) or code in _LATER:
            return StoreUnavailableError(
                f"{self._address} cannot be reached or did not answer in time: {text} Check that"
                " the server runs and that the URL is right."
            )
        if isinstance(error, ConfigurationError):
            return StoreError(f"{self._address} cannot be used: {text} Correct the URL.")
        if isinstance(error, (InvalidBSON, CorruptGridFile)):
            return CorruptRecordError(
                f"{self._address} holds something that cannot be read: {text} Remove or restore"
                " the document."
            )
        return StoreError(f"{self._address} refused a command: {text} See the server's log.")

    def _is_away(self, error: Exception) -> bool:
        if isinstance(error, ConfigurationError):
            # The name of such a URL is looked up before there is a connection.
            return self._target.place.startswith("mongodb+srv:")
        timeout = isinstance(error, PyMongoError) and error.timeout
        return timeout or isinstance(error, (AutoReconnect, CursorNotFound))


def _close(client: Any) -> None:
    # It tells the server which sessions end, and would wait half a minute for one that is away.
    with suppress(PyMongoError), pymongo.timeout(1):
        client.close()


def _configured(client: Any, name: str) -> Database:
    given = dict(client.write_concern.document)
    if not given.get("w", True):
        given.pop("w")
    # On the disk, so that a server that is killed has lost nothing that it said it had.
    concern = WriteConcern(**{"w": "majority", "j": True, **given})
    options: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict)
    database: Database = client.get_database(
        name, codec_options=options, read_preference=ReadPreference.PRIMARY, write_concern=concern
    )
    return database


def update_documents(
    database: Database, collection: str, updates: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Make updates, each after the one before, in one command, until one of them fails.

    Returns what the server says. The driver's own method for several updates makes a thousand
    calls for it, and this one a third. It tries nothing again, which `MongoServer.run` does.
    """
    said = database.command(
        "update", collection, updates=updates, writeConcern=database.write_concern.document
    )
    failure = said.get("writeConcernError")
    if failure is not None:
        text, code = str(failure.get("errmsg")), failure.get("code")
        if (failure.get("errInfo") or {}).get("wtimeout"):
            raise WTimeoutError(text, code, failure)
        if code in _ANOTHER:
            raise NotPrimaryError(text, failure)
        raise WriteConcernError(text, code, failure)
    return said


def _is_broken(error: Exception) -> bool:
    """Return whether the same call, made again at once, may succeed."""
    if isinstance(error, InvalidOperation):
        # Another thread closed the client just now.
        return "after close" in str(error)
    if isinstance(error, (NetworkTimeout, ServerSelectionTimeoutError)):
        return False
    return isinstance(error, AutoReconnect) and not error.timeout


def _code(error: Exception) -> int | None:
    details = getattr(error, "details", None) or {}
    if not isinstance(details, Mapping):
        return None
    concern = details.get("writeConcernErrors") or [details.get("writeConcernError") or {}]
    code = getattr(error, "code", None)
    found = concern[0].get("code", code)
    return found if isinstance(found, int) else None


def _scrubbed(error: Exception, options: Mapping[str, Any]) -> str:
    """Return the driver's message, short, and without the password should it be there."""
    text = str(error).partition(", Timeout:")[0].partition(", full error:")[0]
    for secret in _secrets(options):
        text = text.replace(secret, "***")
    return text[:500] + ("" if text.endswith(".") else ".")


def _secrets(options: Mapping[str, Any]) -> list[str]:
    hosts = options.get("host")
    urls = [hosts] if isinstance(hosts, str) else hosts or []
    found = [str(options.get("password") or "")]
    for url in urls:
        user = url.partition("://")[2].rpartition("@")[0]
        found += [user.partition(":")[2], *_KEY_PASSWORD.findall(url)]
    return [secret for text in found if text for secret in {text, unquote(text)}]
