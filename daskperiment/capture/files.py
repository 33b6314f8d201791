"""What files hold: digests of files, folders, patterns and URLs, and what they are known by.

A file is told by its size, its times and its inode; while they stay, so does its digest. The time
of its last change of any kind counts as well, which nobody can set back.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from xxhash import xxh3_128

from daskperiment.capture.encoding import NoFingerprintError, combine
from daskperiment.capture.members import ATOMS
from daskperiment.errors import InputFileError
from daskperiment.locked_files import reading
from daskperiment.records import FileState

__all__ = [
    "Content",
    "FileParts",
    "FileSource",
    "Stamp",
    "by_content",
    "by_stamp",
    "changed_files",
    "changed_reads",
    "content_of",
    "difference",
    "file_digest",
    "is_glob",
    "is_settled",
    "is_url",
    "names_within",
    "native_name",
    "paths_in",
    "source_of",
    "stamp_of",
    "stamps_within",
    "take_file",
    "value_of_variable",
    "variable_digest",
]

MOST_FILES = 100_000
"""A folder of more files has no fingerprint: it would take minutes to look at them."""

_RECENT = 2_000_000_000
"""Nanoseconds in which a file may change once more without another time: as coarse as FAT's."""

_CHUNK = 1 << 20
_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_MOST_ITEMS = 1000
_DEEPEST = 20

Stamp = tuple[int, int, int, int]
"""Size, time of modification and of change in nanoseconds, inode."""


class Content(NamedTuple):
    """What a path leads to."""

    digest: str
    parts: Mapping[str, str]
    """Of a folder, a glob or several files: name -> digest. Empty for one file."""


def stamp_of(path: str) -> Stamp | None:
    """Return what a file is told by; None if it is not there or no ordinary file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def is_settled(stamp: Stamp) -> bool:
    """Whether a file that changes from now on would get another stamp."""
    return max(stamp[1:3]) + _RECENT < time.time_ns()


def file_digest(path: str) -> str:
    """Return the digest of an ordinary file's content; OSError if it cannot be read."""
    stamp = stamp_of(path)
    if stamp is None:
        raise FileNotFoundError(f"no file {path!r}")
    return _known_digest(path, stamp) if is_settled(stamp) else _read_digest(path)


@lru_cache(maxsize=65536)
def _known_digest(path: str, stamp: Stamp) -> str:
    return _read_digest(path)


def _read_digest(path: str) -> str:
    found = xxh3_128()
    with reading(path) as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def content_of(path: str) -> Content | None:
    """Return what a file or a folder holds; None if it is not there.

    NoFingerprintError if it cannot be read, or is a folder of too many files.
    """
    try:
        if os.path.isdir(path):
            return _together({name: file_digest(file) for name, file in _walk(path)})
        return Content(file_digest(path), {}) if os.path.exists(path) else None
    except OSError as error:
        raise NoFingerprintError(f"{path} cannot be read: {error}") from None


def _together(parts: dict[str, str]) -> Content:
    parts = dict(sorted(parts.items()))
    return Content(combine(*(text for item in parts.items() for text in item)), parts)


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the files below a folder: name within it, and path. Links to folders are followed."""
    waiting, seen, count = [("", folder)], {os.path.realpath(folder)}, 0
    while waiting:
        before, path = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = before + entry.name
                if entry.is_dir():
                    if not entry.is_symlink() or (real := os.path.realpath(entry.path)) not in seen:
                        seen.update([real] if entry.is_symlink() else [])
                        waiting.append((f"{name}/", entry.path))
                elif entry.is_file():
                    count += 1
                    if count > MOST_FILES:
                        raise NoFingerprintError(f"{folder} holds more than {MOST_FILES:,} files")
                    yield name, entry.path


def stamps_within(folder: str) -> dict[str, Stamp | None]:
    """Return what the files below a folder are told by, by their names within it."""
    with suppress(OSError, NoFingerprintError):
        return {name: stamp_of(path) for name, path in _walk(folder)}
    return {}


def names_within(folder: str) -> str:
    """Return the digest of the names in a folder; empty if it is not there."""
    try:
        return combine(*sorted(os.listdir(folder)))
    except OSError:
        return ""


# What steps read and wrote ------------------------------------------------------------------------


def changed_reads(old: Sequence[FileState], new: Sequence[FileState]) -> list[str]:
    """Return the names of files and variables that a step found otherwise than before."""
    before = {(state.kind, native_name(state.known_as)): state for state in old}
    return [
        f"environment variable {state.name}" if state.kind == "variable" else f"file {state.name}"
        for state in new
        if _differ(before.get((state.kind, native_name(state.known_as)), state), state)
    ]


def _differ(old: FileState, new: FileState) -> bool:
    """Whether something is known to have been another; equal times may hide what was set back."""
    if old.digest is not None and new.digest is not None:
        return new.digest not in (old.digest, old.left)
    return None not in (old.stamp, new.stamp) and old.stamp != new.stamp


def native_name(name: str) -> str:
    """Return the name of a file as the system has it, from its record.

    Records escape what is no text in names: the bytes of names that are not UTF-8.
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name) if "\\udc" in name else name


def variable_digest(value: str | None) -> str:
    """Return the digest of an environment variable's value; empty if it is not set."""
    return "" if value is None else combine("variable", value)


def value_of_variable(name: str, values: Mapping[str, str] | None = None) -> str | None:
    """Return the value of a variable, or of all whose names begin in a way: ``A_*``."""
    values = os.environ if values is None else values
    if not name.endswith("*"):
        return values.get(name)
    begin = name[:-1].lower()
    found = {key: values[key] for key in sorted(values)
             if key.lower().startswith(begin) and not _OF_A_TERMINAL.match(key)}  # fmt: skip
    return repr(found)


_OF_A_TERMINAL = re.compile(
    "(_|SHLVL|PWD|OLDPWD|COLUMNS|LINES|WINDOWID|STY|INVOCATION_ID|JOURNAL_STREAM)$|PYTEST_CURRENT_TEST"
    "|TERM|COLORTERM|SSH_|TMUX|XDG_SESSION|DBUS_|VSCODE_|JPY_|ITERM|KITTY_"
)
"""Names of variables that differ between any two terminals."""


def difference(state: FileState) -> str | None:
    """Return in what way something is not as it was read or written; None if it is."""
    if state.kind == "variable":
        same = variable_digest(value_of_variable(state.name)) in (state.digest, state.left)
        return None if same else f"environment variable {state.name} changed"
    name = os.path.basename(state.name) or state.name
    # Computed elsewhere, the step would read another file.
    path = os.path.abspath(native_name(state.known_as))
    if state.kind == "names":
        same = names_within(path) == state.digest
        return None if same else f"the files in folder {name} are others"
    if state.kind == "tree":
        content = content_of(path)
        same = content is not None and content.digest == state.digest
        return None if same else f"{name} {'changed' if content else 'is gone'}"
    stamp = stamp_of(path)
    if stamp is not None and state.stamp is not None and tuple(state.stamp) == stamp:
        return None
    if stamp is None:
        return None if state.digest == "" else f"file {name} is gone"
    return _content_difference(state, path)


def _content_difference(state: FileState, path: str) -> str | None:
    name = os.path.basename(state.name) or state.name
    if state.digest is None:
        return f"file {name} may have changed, only its time was kept"
    try:
        same = file_digest(path) == state.digest
    except OSError as error:
        return f"file {name} cannot be read: {error}"
    return None if same else f"file {name} {'changed' if state.digest else 'is there now'}"


# Paths among arguments ---------------------------------------------------------------------------


def paths_in(value: Any) -> Iterator[Path]:
    """Yield the paths in a value: itself, or those in containers and in fields of settings.

    Such are those of dataclasses, attrs and pydantic. A list that begins with something plain is
    not gone through, nor is a large dict.
    """
    left = [(value, _DEEPEST)]
    seen: dict[int, Any] = {}  # something may contain itself, or one thing many times
    while left:
        each, depth = left.pop()
        if isinstance(each, Path):
            yield each
        elif depth and not isinstance(each, ATOMS) and id(each) not in seen:
            seen[id(each)] = each  # held: what a property returns may go, and leave its place
            left += [(item, depth - 1) for item in reversed(_items_of(each))]


def _items_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values()) if len(value) <= _MOST_ITEMS else []
    if isinstance(value, (list, tuple)):
        return list(value) if value and not isinstance(value[0], ATOMS) else []
    return [getattr(value, name, None) for name in _fields_of(type(value))]


def _fields_of(kind: type) -> list[str]:
    """Return the names of the fields that a class of settings declares."""
    attributes = [each.name for each in getattr(kind, "__attrs_attrs__", ())]
    declared = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "model_fields", None)
    return attributes or list(declared or ())


def by_content(path: PurePath) -> str:
    """Return what a path stands for as an argument: a file's own name and content.

    Of a folder the names and contents within; of what is not there, the path itself.
    """
    content = content_of(str(path)) if isinstance(path, Path) else None
    if content is None:
        return str(path)
    return combine("content", "" if content.parts else path.name, content.digest)


def by_stamp(path: PurePath) -> str:
    """Return what a path stands for where reading the file would cost too much: when it changed."""
    stamp = stamp_of(str(path)) if isinstance(path, Path) else None
    return str(path) if stamp is None else combine("stamp", str(path), repr(stamp))


FileParts = Mapping[str, Mapping[str, str]]
"""Path, pattern or URL -> name of a file there -> digest of its content."""


def changed_files(old: FileParts, new: FileParts) -> list[str]:
    """Return which files among a step's inputs are others than before, in words.

    Examples
    --------
    >>> changed_files({"d": {"a": "1", "b": "1"}}, {"d": {"a": "2", "b": "1"}})
    ['file d changed (1 of 2 parts)']
    """
    lines = [_change(text, old[text], new[text]) for text in new if text in old]
    # What was moved stands in the same place of the call.
    moved = zip([t for t in old if t not in new], [t for t in new if t not in old], strict=False)
    lines += [_change(second, old[first], new[second]) for first, second in moved]
    return [line for line in lines if line]


def _change(text: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    names = {**old, **new}
    changed = [name for name in names if old.get(name) != new.get(name)]
    if not changed:
        return ""
    if len(old) == len(new) == 1 and len(names) == 2:
        return f"file {' → '.join(names)}"
    parts = f" ({len(changed)} of {len(names)} parts)" if len(names) > 1 else ""
    return f"file {FileSource(text).name} changed{parts}"


# The sources of ex.file --------------------------------------------------------------------------


def is_url(source: str) -> bool:
    """Whether a source is a URL, which fsspec opens."""
    scheme, mark, _ = source.partition("://")
    return bool(mark) and scheme.replace("+", "").isalnum()


def is_glob(source: str) -> bool:
    """Whether a source is a pattern, and no file of just that name."""
    return glob.has_magic(source) and not (is_url(source) or os.path.lexists(source))


class FileSource(NamedTuple):
    """Where the files of one input are: a path, a folder, a pattern or a URL."""

    text: str

    @property
    def name(self) -> str:
        """What people call it: its last part."""
        return self.text.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or self.text

    def value(self) -> Any:
        """Return what a step gets: a path, for a pattern a sorted list of them, or the URL."""
        if is_url(self.text):
            return self.text
        if is_glob(self.text):
            paths = [Path(path) for path in sorted(glob.glob(self.text, recursive=True))]
            if paths:
                return paths
        elif os.path.exists(self.text):
            return Path(self.text)
        raise InputFileError(self._missing())

    def check_url(self) -> None:
        """Refuse a URL with an InputFileError if nothing is there, or nobody can tell."""
        try:
            found = _objects_of_url(self.text)
        except Exception as error:  # whatever a file system of fsspec raises
            text = f"ex.file({self.text!r}) cannot be read: {type(error).__name__}: {error}"
            raise InputFileError(text) from error
        if found is None:
            raise InputFileError(self._missing())

    def content(self) -> Content:
        """Return what is there; NoFingerprintError if nothing is, or it cannot be read."""
        if is_url(self.text):
            found = _content_of_url(self.text)
        elif is_glob(self.text):
            found = self._content_of_glob()
        else:
            found = content_of(self.text)
        if found is None:
            raise NoFingerprintError(self._missing())
        return found

    def parts(self) -> dict[str, str]:
        """Return the digest of each file that is there, by its name."""
        content = self.content()
        return dict(content.parts) or {self.name: content.digest}

    def identity(self, content: Content) -> str:
        """Return what determines outputs: the content, and the own name of a single file."""
        return combine("file", "" if content.parts else self.name, content.digest)

    def _content_of_glob(self) -> Content | None:
        parts: dict[str, str] = {}
        root = os.path.dirname(self.text.partition("*")[0].partition("?")[0].partition("[")[0])
        for path in glob.glob(self.text, recursive=True):
            found = content_of(path)
            if found is not None:
                parts[os.path.relpath(path, root or os.curdir)] = found.digest
        return _together(parts) if parts else None

    def _missing(self) -> str:
        pattern = is_glob(self.text) or (is_url(self.text) and glob.has_magic(self.text))
        what = "there is nothing of that name" if not pattern else "no name fits the pattern"
        return (
            f"ex.file({self.text!r}) names no file or folder: {what}. Give the path of one that is "
            "there, a pattern such as 'data/*.csv', or a URL."
        )


def _objects_of_url(url: str) -> tuple[Any, dict[str, str]] | None:
    """Return the file system of a URL, and what is there: name -> path, the name of one is empty.

    None if nothing is there; whatever fsspec raises if it cannot tell.
    """
    import fsspec  # noqa: PLC0415  # it takes a while, and few need it

    files, root = fsspec.core.url_to_fs(url)
    if glob.has_magic(root):
        base, found = root.partition("*")[0].rpartition("/")[0], sorted(files.glob(root))
    elif files.isdir(root):
        base, found = root, sorted(files.find(root))
    else:
        return (files, {"": root}) if files.exists(root) else None
    names = {name.removeprefix(base).lstrip("/"): name for name in found}
    return (files, names) if found or not glob.has_magic(root) else None


def _content_of_url(url: str) -> Content | None:
    try:
        found = _objects_of_url(url)
        if found is None:
            return None
        files, names = found
        parts = {name: _digest_of_object(files, path) for name, path in names.items()}
    except Exception as error:  # whatever a file system of fsspec raises
        raise NoFingerprintError(f"{url} cannot be read: {error}") from None
    return Content(parts[""], {}) if "" in parts else _together(parts)


_VERSIONS = ("ETag", "etag", "VersionId", "version_id", "md5Hash", "md5", "content_md5", "crc32c")
"""Under which names object stores tell the version of an object."""


def _digest_of_object(files: Any, path: str) -> str:
    if "file" in ([files.protocol] if isinstance(files.protocol, str) else files.protocol):
        return file_digest(path)
    about = files.info(path)
    versions = [str(about[name]) for name in _VERSIONS if about.get(name)]
    if versions:
        return combine("version", *versions)
    found = xxh3_128()
    with files.open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def take_file(source: Any) -> Any:
    """Return what a step gets for a source of ``ex.file``; InputFileError if it is not there."""
    found = source_of(source)
    if is_url(found.text):
        found.check_url()
    return found.value()


def source_of(source: Any) -> FileSource:
    """Return the source that a text or a path names; TypeError for anything else."""
    if isinstance(source, FileSource):
        return source
    if not isinstance(source, str | bytes | os.PathLike):
        raise TypeError(
            f"ex.file got {source!r} ({type(source).__name__}); expected a path, a pattern such as "
            "'data/*.csv', a URL such as 's3://bucket/key', or a node that gives one."
        )
    text = os.fspath(source)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text:
        raise ValueError("ex.file got an empty path; give the path of a file or folder.")
    return FileSource(text if is_url(text) else os.path.abspath(os.path.expanduser(text)))
