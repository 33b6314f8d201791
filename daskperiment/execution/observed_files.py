"""What a step reads and writes besides its arguments: files, folders and environment variables.

Python tells of each file that it opens by an audit event, and our own subclass of ``os.environ`` of
each variable. Both are watched from the first step on that is to be observed; while none runs here,
an event costs one look at a dict. What other languages open by themselves is not seen, nor what
processes do that a step starts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import currentframe
from types import FrameType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from daskperiment.capture.files import (
    Stamp,
    file_digest,
    is_settled,
    names_within,
    paths_in,
    stamp_of,
    stamps_within,
    value_of_variable,
    variable_digest,
)
from daskperiment.capture.origin import origin_of_file
from daskperiment.execution.context import ACTIVE, CURRENT
from daskperiment.execution.environment_reads import variables_meant
from daskperiment.records import FileState
from daskperiment.secret_values import Secret, quoted
from daskperiment.store.liveness import current_directory

__all__ = ["HIDDEN_NAME", "ObservedFiles", "watch_files", "without_secrets"]

HIDDEN_NAME = "it read a file or variable that tells a secret"
"""Why an output is not reused that depends on what no record may tell."""

_WRITING = os.O_WRONLY | os.O_RDWR
_APPENDING = os.O_APPEND
_SMALL = 1 << 20
"""Bytes of a file that is read where its time alone would not tell whether it changed."""

_NOT_FILES = ("/dev/", "/proc/", "/sys/")
_NOT_READERS = ("distributed", "zict", __name__.partition(".")[0])
"""Packages that read what a cluster and we ourselves keep in files."""
_FOR_SOURCES = ("importlib", "importlib_metadata", "linecache", "pkgutil")
"""Modules that read source code, what packages say of themselves, and data for those who ask."""
_FOR_PYTHON = sys.stdlib_module_names | {"zipp"}
"""Modules that read for whoever calls them: Python's own, and what stands in for a later one."""


@dataclass(slots=True, eq=False)
class ObservedFiles:
    """What one step read and wrote, from its begin on."""

    directory: str = ""
    """The working directory where the trial was planned: a path that is relative to it is that of
    another file when a later trial is planned elsewhere."""
    noted: bool = False
    """Whether there is anything to tell."""
    _given: dict[str, Stamp | None] = field(default_factory=dict)
    """Paths among the arguments, whose content is known besides -> their stamps at the begin."""
    _read: dict[str, Stamp | str | None] = field(default_factory=dict)
    """Path -> its stamp when it was opened, or the digest that was taken then."""
    _listed: dict[str, str] = field(default_factory=dict)
    _variables: dict[str, str | None] = field(default_factory=dict)
    _left: dict[str, str | None] = field(default_factory=dict)
    """Variable -> what a library set it to."""
    _counts: Counter[str] = field(default_factory=Counter)
    """How often each variable was read."""
    _copied: list[set[str]] = field(default_factory=list)
    """The names in the environment, whenever they were gone through."""
    _folders: dict[str, dict[str, Stamp | None]] = field(default_factory=dict)
    """Folders among the arguments -> the stamps of the files in them at the begin."""
    _written: set[str] = field(default_factory=set)
    _touched: set[str] = field(default_factory=set)
    """What else it changed: files that it added to, and those that it took away."""
    _forms: dict[str, set[str | None]] = field(default_factory=dict)
    """Path -> how the step gave it: as a relative path, or None for the path itself."""
    _temporary: tuple[str, ...] = ()
    _databases: set[str] = field(default_factory=set)

    def give(self, value: Any, folders: bool = False) -> None:
        """Note the paths in an argument, and what is in folders if that is asked for."""
        for path in paths_in(value):
            self.noted = True
            name = os.path.abspath(path)
            self._given[name] = stamp_of(name)
            if folders and os.path.isdir(name):
                self._folders[name] = stamps_within(name)

    def opened(self, path: Any, flags: int, mode: str | None = None) -> None:
        """Note that a file is about to be opened."""
        name = self._name(path)
        if name is None:
            return
        writes = bool(flags & _WRITING)
        if not writes:
            if name not in self._read and name not in self._written:
                self._read[name] = stamp_of(name)
        elif not flags & _APPENDING:  # a log that grows is nobody's output
            self._note_read_before(name, flags)
            self._written.add(name)
        else:
            self._touched.add(name)

    def _note_read_before(self, name: str, flags: int) -> None:
        """Keep what a file held that was read, or might be, before it is written to."""
        stamp = self._read.get(name)
        if name in self._written or (stamp is None and (flags & os.O_TRUNC or flags & os.O_EXCL)):
            return
        if name in self._read or flags & os.O_RDWR:
            self._read[name] = _digest(name)

    def moved(self, path: Any, old: Any = None) -> None:
        """Note that a file gets its content from elsewhere at once."""
        if (name := self._name(path)) is not None:
            self._written.add(name)
        self.removed(old)

    def removed(self, path: Any) -> None:
        """Note that a file is taken away."""
        if (name := self._name(path)) is not None:
            self._touched.add(name)

    def listed(self, path: Any) -> None:
        """Note that the names in a folder are read."""
        name = self._name(os.curdir if path is None else path)
        if name is not None and name not in self._listed:
            self._listed[name] = names_within(name)

    def connected(self, database: Any) -> None:
        """Note that an SQLite database is opened, with the log of what was not merged yet."""
        text = os.fsdecode(database)
        if text.startswith("file:"):
            text = unquote(urlsplit(text).path)
        if text and text != ":memory:":
            for path in (text, f"{text}-wal"):
                self.opened(path, os.O_RDONLY)
                self._databases.add(os.path.abspath(path))

    def made_temporary(self, path: Any) -> None:
        """Note that `tempfile` made a file or a folder."""
        self._temporary += (os.path.abspath(os.fsdecode(path)),)

    def variable(self, name: str, value: str | None) -> None:
        """Note that an environment variable is read."""
        self._variables.setdefault(name, value)
        self._counts[name] += 1

    def variable_set(self, name: str, value: str | None) -> None:
        """Note that a library sets an environment variable, or takes it away."""
        self._left[name] = value

    def gone_through(self, values: Mapping[str, str], meant: Iterable[str]) -> None:
        """Note that all variables are gone through, of which the code means some."""
        self._copied.append(set(values))
        for name in meant:
            self.noted = True
            self.variable(name, value_of_variable(name, values))

    def _name(self, path: Any) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        text = os.fsdecode(path)
        name = os.path.abspath(text)
        if f"{name}/".startswith(_NOT_FILES) or not _is_users(name):
            return None
        relative = (
            not os.path.isabs(text) and self.directory and self.directory == current_directory()
        )
        self._forms.setdefault(name, set()).add(text if relative else None)
        return name

    def _as_given(self, state: FileState) -> Iterator[FileState]:
        """Yield the state of what was read or written once for each way in which it was named."""
        for relative in self._forms.get(state.name, {None}):
            yield state if relative is None else replace(state, relative=relative)

    # What came of it

    def changed_meanwhile(self) -> str | None:
        """Return the file that somebody else changed while the step ran."""
        self._written.update([
            name for name in self._databases & self._read.keys()
            if stamp_of(name) != self._read[name]
        ])  # fmt: skip
        stamps = {**self._given, **self._read}
        for name, stamp in stamps.items():
            if name in self._written or isinstance(stamp, str) or self._is_temporary(name):
                continue
            if stamp_of(name) != stamp:
                return name
        return None

    def told(
        self, digests: bool, secrets: Sequence[Secret]
    ) -> tuple[list[FileState], list[FileState], str | None]:
        """Return what was read and written, and why what was made of it is not to be trusted."""
        changed = self.changed_meanwhile()
        doubt = None if changed is None else f"file {changed} changed while it ran"
        found = self.reads(digests), self.written(digests)
        reads, written = (without_secrets(each, secrets) if secrets else each for each in found)
        hidden = len(reads) + len(written) < sum(map(len, found))
        return reads, written, HIDDEN_NAME if hidden else doubt

    def folders_changed(self) -> bool:
        """Return whether folders among the arguments hold something else now, by the step alone."""
        changed: set[str] = set()
        for folder, before in self._folders.items():
            now = stamps_within(folder)
            names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
            changed.update(os.path.join(folder, name) for name in names)
        return bool(changed) and changed <= self._written | self._touched

    def reads(self, digests: bool) -> list[FileState]:
        """Return what was read and is not among the arguments.

        Without digests, files are told by their stamps alone, so that none is read again.
        """
        files = [
            _state(name, stamp, digests)
            for name, stamp in self._read.items()
            if not (self._is_known(name) or (stamp is None and name in self._written))
        ]
        files += [
            FileState(name, self._names_now(name, digest), "names")
            for name, digest in self._listed.items()
            if not self._is_known(name)
        ]
        found = [each for state in files for each in self._as_given(state)]
        found += [
            FileState(name, variable_digest(value), "variable", left=self._variable_left(name))
            for name, value in self._variables_read()
        ]
        return found

    def _variable_left(self, name: str) -> str | None:
        return variable_digest(self._left[name]) if name in self._left else None

    def _variables_read(self) -> list[tuple[str, str | None]]:
        """Return the variables that were read other than by copying the whole environment."""
        for names in self._copied:
            if all(self._counts[name] for name in names):
                self._counts.subtract(names)
        return [item for item in self._variables.items() if self._counts[item[0]] > 0]

    def written(self, digests: bool) -> list[FileState]:
        """Return what was written and is still there."""
        files = [
            _state(name, stamp, digests)
            for name in sorted(self._written)
            if not self._is_temporary(name) and (stamp := stamp_of(name)) is not None
        ]
        return [each for state in files for each in self._as_given(state)]

    def _names_now(self, folder: str, before: str) -> str:
        """Return the names in a folder, those included that the step itself made there."""
        mine = any(os.path.dirname(name) == folder for name in self._written)
        return names_within(folder) if mine else before

    def _is_known(self, name: str) -> bool:
        return self._is_temporary(name) or any(_within(name, path) for path in self._given)

    def _is_temporary(self, name: str) -> bool:
        return any(_within(name, path) for path in self._temporary)


def _within(name: str, folder: str) -> bool:
    return bool(folder) and name.startswith(folder) and name[len(folder) :][:1] in ("", os.sep)


@lru_cache(maxsize=4096)
def _is_users(path: str) -> bool:
    return origin_of_file(path) == "own"


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""


def _state(name: str, stamp: Stamp | str | None, digests: bool) -> FileState:
    if isinstance(stamp, str):  # the digest, taken in time
        return FileState(name, stamp)
    if stamp is None:
        return FileState(name, "")
    settled = is_settled(stamp)
    if digests or (not settled and stamp[0] <= _SMALL):
        return FileState(name, _digest(name), stamp=list(stamp) if settled else None)
    return FileState(name, stamp=list(stamp))


# What Python tells --------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def watch_files() -> None:
    """Begin to watch what the steps of this process read and write."""
    # When the interpreter ends, a module's names are gone before the last file is closed.
    events, active = _EVENTS, ACTIVE

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        note = events.get(event)
        if note is not None and active:
            _notice(note, arguments, currentframe())

    # For good: an audit hook cannot be taken away.
    sys.addaudithook(notice)
    os.environ.__class__ = _WatchedEnvironment
    if os.supports_bytes_environ:
        os.environb.__class__ = _WatchedEnvironment


def _notice(note: Callable[..., None], arguments: tuple[Any, ...], frame: FrameType | None) -> None:
    with suppress(Exception):  # it must not fail what the user does
        if (here := _files_here()) and _is_of_interest(frame):
            for files in here:
                note(files, *arguments)
                files.noted = True


def _files_here() -> list[ObservedFiles]:
    """Return what the step that runs here reads and writes.

    A thread of no step may have been started by any of those that run: it counts for each.
    """
    step = CURRENT.get()
    if step is not None:
        steps = [step]
    else:
        steps = [] if threading.current_thread() is threading.main_thread() else list(ACTIVE)
    return [step.files for step in steps if step.files is not None and step.halted is None]


def _is_of_interest(frame: FrameType | None) -> bool:
    """Whether it is not we who read, nor Python on its way to the source of code."""
    frame = frame and frame.f_back
    while frame is not None:
        top = _top(frame)
        if top in _NOT_READERS or (top in _FOR_SOURCES and not _gives_data(frame)):
            return False
        if top not in _FOR_PYTHON:
            return True
        frame = frame.f_back
    return True


_DATA = ("importlib.resources.", "pkgutil.get_data", "linecache.getline")


def _gives_data(frame: FrameType) -> bool:
    """Whether what reads source code for Python was asked for data, by the user's code."""
    asked, caller = "", cast("FrameType | None", frame)
    while caller is not None and _top(caller) in _FOR_SOURCES:
        function = caller.f_code.co_name
        if function in ("_find_and_load", "get_code"):  # an import
            return False
        asked, caller = f"{caller.f_globals['__name__']}.{function}", caller.f_back
    by_user = caller is not None and _is_users(caller.f_code.co_filename)
    return by_user and asked.startswith(_DATA)


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_by_library(frame: FrameType | None) -> bool:
    """Whether the first code that is not Python's own belongs to an installed package."""
    while frame is not None:
        top = _top(frame)
        if top not in sys.stdlib_module_names and top not in _NOT_READERS:
            return not _is_users(frame.f_code.co_filename)
        frame = frame.f_back
    return False


_EVENTS: dict[str, Callable[..., None]] = {
    "open": lambda files, path, mode, flags: files.opened(path, flags, mode),
    "os.listdir": lambda files, path: files.listed(path),
    "os.scandir": lambda files, path: files.listed(path),
    "os.rename": lambda files, old, new, *folders: files.moved(new, old),
    "os.remove": lambda files, path, folder: files.removed(path),
    "os.link": lambda files, old, new, *folders: files.moved(new),
    "sqlite3.connect": lambda files, database: files.connected(database),
    "tempfile.mkstemp": lambda files, path: files.made_temporary(path),
    "tempfile.mkdtemp": lambda files, path: files.made_temporary(path),
}


class _WatchedEnvironment(type(os.environ)):  # type: ignore[misc]  # private to os
    """The process's environment, which tells the step that runs here what it reads."""

    def __getitem__(self, name: Any) -> Any:
        if not ACTIVE:
            return super().__getitem__(name)
        value = None
        try:
            value = super().__getitem__(name)
            return value
        finally:
            if isinstance(name, (str, bytes)) and _is_of_interest(currentframe()):
                for files in _files_here():
                    files.noted = True
                    files.variable(os.fsdecode(name), None if value is None else os.fsdecode(value))

    def __setitem__(self, name: Any, value: Any) -> None:
        super().__setitem__(name, value)
        self._tell(name, value)

    def __delitem__(self, name: Any) -> None:
        super().__delitem__(name)
        self._tell(name, None)

    @staticmethod
    def _tell(name: Any, value: Any) -> None:
        """Tell the step of a library's own default; what the user's code sets is not one."""
        if ACTIVE and isinstance(name, str) and _is_by_library(currentframe()):
            for files in _files_here():
                files.variable_set(name, value)

    def __iter__(self) -> Any:
        names = list(super().__iter__())
        if ACTIVE and (here := _files_here()) and _is_of_interest(currentframe()):
            get = super().__getitem__
            values = {os.fsdecode(name): os.fsdecode(get(name)) for name in names}
            meant = variables_meant(values, cast("FrameType", currentframe()).f_back)
            for files in here:
                files.gone_through(values, meant)
        return iter(names)


def without_secrets(states: Sequence[FileState], secrets: Sequence[Secret]) -> list[FileState]:
    """Return what was read or written, but for files and variables that quote a secret."""
    return [each for each in states if not quoted(_text_of(each), secrets)]


def _text_of(state: FileState) -> str:
    return value_of_variable(state.name) or "" if state.kind == "variable" else state.name
