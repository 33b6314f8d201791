"""Objects in a bucket or folder that fsspec opens: whole from the moment when they can be found.

::

    <root>/ab/<digest>     objects, by the first two digits of their digests
    <root>/ab/….tmp        what is being written, where a file system shows half of a file
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from dask import config

from daskperiment.errors import (
    CorruptRecordError,
    MissingLibraryError,
    ObjectsUnavailableError,
    StoreError,
)
from daskperiment.formatting import install_command
from daskperiment.store import rights
from daskperiment.store.protocol import Buffer, flat

__all__ = ["Bucket", "BucketPlace", "named_place", "recorded_place"]

T = TypeVar("T")

_S3 = ("s3", "s3a")
_LOCAL = ("file", "local")
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Where a file appears whole, or not at all."""
_TRUSTED = (*_WHOLE, *_LOCAL)
"""Where the record of a place may lead those who did not name it: to no host of its own choice."""
_AWAY = {
    "ConnectionError", "HTTPClientError", "ClientConnectionError", "ConnectionClosedError",
    "TimeoutError", "FSTimeoutError", "HttpProcessingError",
}  # fmt: skip
"""Names of classes of errors that say that a service cannot be reached."""
_AT_ONCE = 64 << 20
"""Bytes that are read, or written, in one request."""
_MANY = 50
"""Objects beyond which the list of all is read, and not the size of each."""
_OPTIONS = "daskperiment.objects-options"


class BucketPlace(NamedTuple):
    """A place that somebody named: it may hold secrets, and is written nowhere."""

    url: str
    """Without a secret, and without a slash at its end."""
    options: Mapping[str, Any] = {}
    """Keyword arguments of the file system."""

    def below(self, root: str) -> BucketPlace:
        """Return a place below this one, opened with the same options."""
        return self._replace(url=root)

    @property
    def protocol(self) -> str:
        """What fsspec calls the kind of file system."""
        return self.url.partition("://")[0]

    @property
    def is_trusted(self) -> bool:
        """Whether it may be opened by those who know it from a record alone."""
        return self.protocol in _TRUSTED and "::" not in self.url


def named_place(named: Any) -> BucketPlace | None:
    """Return the place that a caller named, else the configured one, if any.

    It is a URL that fsspec opens, or the path of a folder.

    Nothing is created or connected before it is used.

    Raises
    ------
    TypeError, ValueError
        If it names no place.
    MissingLibraryError
        If the library for it is not installed.
    """
    if named is None:
        named = config.get("daskperiment.objects", None)
    if named is None:
        return None
    if isinstance(named, os.PathLike):
        named = os.fspath(named)
    if not isinstance(named, str):
        kind = type(named).__qualname__
        raise TypeError(f"objects has the type {kind}; {_EXPECTED}")
    protocol, mark, rest = named.partition("://")
    if not mark:
        if not named or re.match(r"[a-z0-9+]{2,}:", named):
            raise ValueError(f"objects={named!r}: {_EXPECTED}")
        return BucketPlace(_local(named), _configured())
    protocol = protocol.lower()
    shown = f"{protocol}://{rest.rpartition('@')[2].partition('?')[0]}"
    if "::" in named or "?" in rest or not rest.strip("/"):
        raise ValueError(
            f"objects={shown!r}: {_EXPECTED}. Options of a file system are the Dask configuration "
            f"{_OPTIONS!r}"
        )
    _check_protocol(protocol, shown)
    if protocol in _LOCAL:
        return BucketPlace(_local(unquote(rest)), _configured())
    secret = _secret_of(protocol, named)
    return BucketPlace(shown.rstrip("/"), {**_configured(), **secret})


def recorded_place(root: str) -> BucketPlace:
    """Return a place that is known from a record, with the options that are configured here."""
    return BucketPlace(root, _configured())


_EXPECTED = "expected a URL of fsspec such as 's3://bucket/folder', or the path of a folder"


def _local(path: str) -> str:
    return f"file://{os.path.abspath(path)}"


def _configured() -> dict[str, Any]:
    return dict(config.get(_OPTIONS, None) or {})


def _secret_of(protocol: str, url: str) -> dict[str, Any]:
    """Return what a URL says besides the place, as options of its file system."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return {}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    names = ("key", "secret") if protocol in _S3 else ("username", "password")
    return dict(zip(names, map(unquote, (user, password)), strict=True))


def _file_systems() -> Any:
    try:
        import fsspec  # noqa: PLC0415  # it takes a while, and few need it
    except ImportError as error:
        text = "objects=… takes fsspec, which is not installed: pip install fsspec"
        raise MissingLibraryError(text) from error
    return fsspec


def _check_protocol(protocol: str, shown: str) -> None:
    try:
        _file_systems().get_filesystem_class(protocol)
    except ValueError as error:
        raise ValueError(f"objects={shown!r}: fsspec knows no {protocol!r}; {_EXPECTED}") from error
    except ImportError as error:
        if isinstance(error, MissingLibraryError):
            raise
        advice = install_command("s3") if protocol in _S3 else str(error)
        text = f"objects={shown!r} takes a library that is not installed: {advice}"
        raise MissingLibraryError(text) from error


class Bucket:
    """The objects of one experiment below a place.

    Used by many threads and processes at once; a fork opens a file system of its own.
    """

    def __init__(self, place: BucketPlace) -> None:
        self._place = place
        self._opened: tuple[int, Any, str] | None = None

    def put(self, digest: str, parts: Sequence[Buffer]) -> None:
        """Keep an object unless it is there, of the same size."""
        views = [flat(part) for part in parts]
        size = sum(map(len, views))
        self._run(lambda files, root: _put(files, root, digest, views, size, self._is_whole))

    def get(self, digest: str) -> Buffer:
        """Return an object's bytes in memory of the caller's own, or raise KeyError."""
        found = self._run(lambda files, root: _get(files, _path(root, digest)))
        if found is None:
            raise KeyError(digest)
        return found

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the sizes of those objects that are there."""
        wanted = list(filter(_is_digest, dict.fromkeys(digests)))
        if len(wanted) > _MANY:
            listed = self._run(_listed)
            return {digest: listed[digest] for digest in wanted if digest in listed}
        sizes = self._run(
            lambda files, root: {each: _size(files, _path(root, each)) for each in wanted}
        )
        return {digest: size for digest, size in sizes.items() if size is not None}

    def discard(self, digests: Collection[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        paths = list(filter(_is_digest, digests))
        self._run(lambda files, root: _remove(files, *(_path(root, each) for each in paths)))

    def digests(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        yield from self._run(_listed)

    def delete(self) -> None:
        """Remove all objects, and nothing that is none."""
        self._run(_delete)

    @property
    def _is_whole(self) -> bool:
        return self._place.protocol in _WHOLE

    def _run(self, ask: Callable[[Any, str], T]) -> T:
        try:
            return ask(*self._files())
        except StoreError:
            raise
        except Exception as error:  # whatever a file system of fsspec raises
            raise self._told(error) from error

    def _files(self) -> tuple[Any, str]:
        """Return the file system, of this process, and the path of the root in it."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._check()
            options = _patient(self._place) | dict(self._place.options)
            # Others write, too: what was listed before says nothing. And nobody shares it, as who
            # has given other options would get them.
            files, root = _file_systems().core.url_to_fs(
                self._place.url, use_listings_cache=False, skip_instance_cache=True, **options
            )
            if self._place.protocol in _S3:
                files.retries = 1  # who delivers tries again
            self._opened = os.getpid(), files, root
        return self._opened[1:]

    def _check(self) -> None:
        try:
            _check_protocol(self._place.protocol, self._place.url)
        except (MissingLibraryError, ValueError) as error:  # objects wait for it, as for a server
            raise StoreError(str(error)) from error

    def _told(self, error: Exception) -> StoreError:
        names = {kind.__name__ for kind in type(error).__mro__}
        text = f"{type(error).__name__}: {error}"
        for name, value in self._place.options.items():
            if isinstance(value, str) and value and not name.endswith("url"):
                text = text.replace(value, "***")
        if names & _AWAY:
            return ObjectsUnavailableError(f"{self._place.url} cannot be reached: {text}")
        if isinstance(error, FileNotFoundError):
            text += "; is there such a bucket?"
        return StoreError(f"{self._place.url} cannot be used: {text}")


def _patient(place: BucketPlace) -> dict[str, Any]:
    """Return options by which a service that is away is found to be so in seconds."""
    if place.protocol not in _S3:
        return {"auto_mkdir": True} if place.protocol in _LOCAL else {}
    timeout = float(config.get("daskperiment.timeout", 5))
    retries = {"max_attempts": 1, "mode": "standard"}
    return {"config_kwargs": {"connect_timeout": timeout, "read_timeout": 60, "retries": retries}}


def _path(root: str, digest: str) -> str:
    return f"{root.rstrip('/')}/{digest[:2]}/{digest}"


def _size(files: Any, path: str) -> int | None:
    try:
        found = files.info(path)
    except FileNotFoundError:
        return None
    return None if found["type"] != "file" else int(found["size"])


def _put(
    files: Any, root: str, digest: str, views: list[memoryview], size: int, is_whole: bool
) -> None:
    if not _is_digest(digest):
        raise StoreError(f"Digest {digest!r}: expected 1 to 64 lower-case hexadecimal digits")
    path = _path(root, digest)
    # Of another size is what was cut off, where that can be seen: it is written again.
    if _size(files, path) == size:
        return
    if is_whole:
        _write(files, path, views, size)
        return
    temporary = f"{path.rpartition('/')[0]}/{uuid.uuid4().hex}.tmp"
    _make_folder(files, path)
    try:
        _write(files, temporary, views, size)
        _give_rights(files, temporary)
        files.mv(temporary, path)
    except BaseException:
        with suppress(Exception):
            files.rm_file(temporary)
        raise


def _make_folder(files: Any, path: str) -> None:
    folder = path.rpartition("/")[0]
    if _is_local(files):
        rights.make_folder(Path(folder))
    else:
        files.makedirs(folder, exist_ok=True)


def _give_rights(files: Any, path: str) -> None:
    if _is_local(files):
        rights.share(Path(path))


def _is_local(files: Any) -> bool:
    return "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)


def _write(files: Any, path: str, views: list[memoryview], size: int) -> None:
    # At once where that is one request: such files appear whole in all file systems of fsspec.
    if size <= _AT_ONCE or files.protocol == "memory":
        files.pipe_file(path, b"".join(views))
        return
    file = files.open(path, "wb", autocommit=False, block_size=_AT_ONCE)
    try:
        for view in views:
            for start in range(0, len(view), _AT_ONCE):
                file.write(view[start : start + _AT_ONCE])
        file.close()
        file.commit()
    except BaseException:
        with suppress(Exception):
            file.discard()
        raise


def _get(files: Any, path: str) -> memoryview | None:
    size = _size(files, path)
    if size is None:
        return None
    # Read in parts, so that it is not in memory twice.
    buffer = bytearray()
    try:
        while len(buffer) < size:
            end = min(size, len(buffer) + _AT_ONCE)
            part = files.cat_file(path, start=len(buffer), end=end)
            if not part:
                raise CorruptRecordError(f"{path} ends after {len(buffer)} of {size} bytes")
            buffer += part
    except FileNotFoundError:
        return None  # removed meanwhile
    return memoryview(buffer)


def _remove(files: Any, *paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError, KeyError):
            files.rm_file(path)


def _found(files: Any, root: str) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        found: dict[str, Any] = files.find(root, detail=True)
        return found
    return {}


def _listed(files: Any, root: str) -> dict[str, int]:
    """Return the sizes of all objects."""
    return {
        path.rpartition("/")[2]: int(each["size"])
        for path, each in _found(files, root).items()
        if _is_object(path)
    }


def _delete(files: Any, root: str) -> None:
    found = _found(files, root)
    _remove(files, *(path for path in found if _is_object(path) or path.endswith(".tmp")))
    if _is_local(files):  # elsewhere there are no folders without files
        with suppress(OSError):
            for folder in Path(root).iterdir():
                folder.rmdir()
            Path(root).rmdir()


def _is_object(path: str) -> bool:
    folder, _, digest = path.rpartition("/")
    return _is_digest(digest) and folder.endswith(f"/{digest[:2]}")


def _is_digest(digest: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{1,64}", digest) is not None
