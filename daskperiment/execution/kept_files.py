"""Outputs that are not what they stand for: paths to files, and lazy Dask collections.

Of files whose paths a step returns the content is kept, and a hit brings it back.

Only what a step made itself is kept, and brought back: a path to somebody else's file is an output
like any other, but what the file holds then counts as read.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from daskperiment.capture.encoding import NoFingerprintError
from daskperiment.capture.files import content_of, file_digest, native_name, stamp_of
from daskperiment.codec import is_object, pack, unpack
from daskperiment.errors import NeverReusedWarning, StoreWarning
from daskperiment.execution.lifecycle import keep_or_explain
from daskperiment.formats import Written, early_file
from daskperiment.locked_files import mapped, reading
from daskperiment.recording.recorder import Recorder
from daskperiment.records import FileState
from daskperiment.reuse.cache_entries import NOT_KEPT
from daskperiment.reuse.reuse_plan import with_cure
from daskperiment.store.file import UnnamedObject
from daskperiment.store.protocol import Buffer
from daskperiment.warn import warn_user

__all__ = [
    "EARLY",
    "LAZY",
    "EarlyFile",
    "FilesReturned",
    "files_returned",
    "keep_files",
    "restore_files",
    "unnamed_file",
    "warn_never_reused",
    "warn_of_lazy",
    "warn_of_unkept",
]

_COARSE = 10_000_000
"""Nanoseconds by which the clock of a file system may be behind."""


class FilesReturned(NamedTuple):
    """The files whose paths a step returned."""

    made: list[str]
    """Files and folders that it made."""
    read: list[FileState]
    """What others hold that it named without having made them."""
    besides: list[FileState]
    """What it wrote besides those that it made and returned."""


def files_returned(value: Any, written: Sequence[FileState], started: float) -> FilesReturned:
    """Return the files whose paths stand in what a step returned.

    Parameters
    ----------
    value : object
        Paths are found in lists, tuples and the values of dicts; a text is one if the step wrote
        to the file of that name.
    written : sequence of FileState
        Files that the step is known to have written to.
    started : float
        When it began, in seconds since the epoch.
    """
    names = {state.name for state in written}
    made: list[str] = []
    found: list[str] = []
    for path in _paths(value, names):
        files = [path] if os.path.isfile(path) else _below(path)
        own = any(file in names or _is_newer(file, started) for file in files)
        (made if own else found).append(path)
    besides = [state for state in written if not _is_within(state.name, made)]
    return FilesReturned(made, _states_of(found), besides)


def _paths(value: Any, written: set[str]) -> Iterator[str]:
    """Yield the paths in a value, which may contain itself, in order."""
    left, seen = [value], set[int]()
    while left:
        each = left.pop()
        if not isinstance(each, (list, tuple)) and type(each) is not dict:
            yield from _path(each, written)
        elif id(each) not in seen:
            seen.add(id(each))
            left += reversed([*each.values()] if type(each) is dict else [*each])


def _path(value: Any, written: set[str]) -> Iterator[str]:
    if isinstance(value, Path):
        path = os.path.abspath(value)
        if os.path.exists(path):
            yield path
    elif isinstance(value, str):
        path = os.path.abspath(value) if value and len(value) < 4096 and "\0" not in value else ""
        if path in written or any(name.startswith(f"{path}{os.sep}") for name in written if path):
            yield path


def _below(folder: str) -> list[str]:
    with suppress(NoFingerprintError):
        content = content_of(folder)
        return [os.path.join(folder, name) for name in content.parts] if content else []
    return []


def _is_newer(path: str, started: float) -> bool:
    stamp = stamp_of(path)
    return stamp is not None and max(stamp[1:3]) + _COARSE >= int(started * 1e9)


def _is_within(path: str, paths: list[str]) -> bool:
    """Whether a path is one of others, or below one of them."""
    return any(path == each or path.startswith(f"{each}{os.sep}") for each in paths)


def _states_of(paths: list[str]) -> list[FileState]:
    """Return what files and folders hold that a step named without having made them."""
    found = []
    for path in paths:
        with suppress(NoFingerprintError):
            content = content_of(path)
            if content is not None:
                found.append(FileState(path, content.digest, "tree"))
    return found


LAZY = (
    "a lazy Dask collection, which says how to compute its content and does not hold it: return "
    "what its compute() gives, or the path of files that it was written to"
)


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def warn_never_reused(step: str, reason: str) -> None:
    """Say, once for each step and reason, that it always runs though it may be reused, and why."""
    _warn_once(step, _ADDRESS.sub("", reason))


@lru_cache(maxsize=1024)
def _warn_once(step: str, reason: str) -> None:
    warn_user(NeverReusedWarning(f"Step {step!r} is never reused, but always run: {reason}."))


def warn_of_unkept(step: str, form: Any) -> None:
    """Say so if the form of an output that may be reused tells that it is not kept."""
    if is_object(form) and form.get("digest") is None:
        if LAZY in form["reason"]:
            warn_of_lazy(step)
        else:
            warn_never_reused(step, str(with_cure(f"{NOT_KEPT}: {form['reason']}")))


@lru_cache(maxsize=1024)
def warn_of_lazy(step: str) -> None:
    """Say, once for each step, that its output cannot be kept, and so is never reused."""
    warn_user(StoreWarning(f"What step {step!r} returned is not kept or reused: it is {LAZY}."))


# Keeping and bringing back ------------------------------------------------------------------------


EARLY = 16 << 20
"""Bytes of arrays from which on a thread that writes them pays for itself."""


class EarlyFile(NamedTuple):
    """An output's file that may be written while the output is looked at."""

    file: Written
    parts: UnnamedObject
    """Those of the file, on their way to the store; to be begun by who closes them at last."""


def unnamed_file(recorder: Recorder, value: Any, name: str | None) -> EarlyFile | None:
    """Return the file of an output, which is kept as an object once its digest is known.

    None if there is none, or if the store keeps it no sooner when it is begun before; it is not
    made in vain.
    """
    if not recorder.delivery.begins_objects:
        return None
    file = early_file(value, name)
    parts = file and recorder.delivery.unnamed(file.parts)
    return EarlyFile(file, parts) if file and parts else None


def keep_files(
    recorder: Recorder, paths: list[str], signing_key: bytes | None
) -> list[dict[str, Any]]:
    """Keep files and folders, and return what tells where they stood and where they are kept."""
    return [
        {"path": path, "parts": {
            name: [file_digest(file), _kept(recorder, file, signing_key)] for name, file in each
        }}
        for path in paths
        if (each := [("", path)] if os.path.isfile(path) else
            [(os.path.relpath(file, path), file) for file in _below(path)])
    ]  # fmt: skip


def _kept(recorder: Recorder, path: str, signing_key: bytes | None) -> Any:
    with reading(path) as file:
        content = memoryview(mapped(path, file)).toreadonly()  # which is a part of what is kept
    form, blob = pack(np.frombuffer(content, np.uint8) if content else b"", signing_key)
    return keep_or_explain(recorder, form, blob)


def restore_files(
    kept: list[dict[str, Any]], get: Callable[[str], Buffer], signing_key: bytes | None
) -> None:
    """Bring files and folders back that are gone or changed.

    Whatever `unpack` raises, and OSError if a file cannot be written.
    """
    for each in kept:
        for name, (digest, form) in each["parts"].items():
            path = native_name(os.path.join(each["path"], name) if name else each["path"])
            if stamp_of(path) is None or file_digest(path) != digest:
                _write(path, bytes(unpack(form, get, signing_key)))


def _write(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    number, name = tempfile.mkstemp(dir=folder, prefix=".daskperiment-")
    try:
        with open(number, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    # Asking for it means setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
