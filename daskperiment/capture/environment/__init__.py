"""The environment of a trial: category -> name -> text."""

from __future__ import annotations

import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from daskperiment.capture.environment.git import Repository, find_repository, read_state
from daskperiment.capture.environment.machine import CATEGORIES, installed
from daskperiment.capture.origin import origin_of_file
from daskperiment.records import Environment

__all__ = ["EnvironmentCapture", "changes", "describe", "packages_text"]

# Seconds within which most stamps are not looked at again.
_PAUSE = 0.2
# A repository in a folder that changes all the time is read for one part in so many of the time.
_SHARE = 20
_LONG = ("diff", "untracked", "packages")
_GONE = {"note": "the working folder is gone"}


class EnvironmentCapture:
    """Captures the environment of this process, and remembers it while nothing changes.

    What is looked at on every call: the working folder; the repository's ``HEAD``, index,
    configuration and current branch. At most five times a second: the folders of installed
    packages; the stamps of the user's loaded source files; the stamps of the working folder and
    of the repository's top folder, which change when a file appears or goes. If one of them
    differs, the repository or the list of packages is read again. A folder that changes all the
    time, as one that trials write files to, makes it read the repository for a twentieth of the
    time at most. An edit to a file that is not loaded (and is not in the index) is seen at the
    next of these occasions. Platform, processor, memory and Python are asked once.

    Safe for any number of threads.
    """

    def __init__(self, pause: float = _PAUSE) -> None:
        self._lock = threading.Lock()
        self._pause = pause
        self._static: dict[str, dict[str, str]] | None = None
        self._packages = _CachedFacts(pause, _package_stamps, installed)
        self._git = _GitCache(pause)
        self._last: Environment | None = None
        self._parts: tuple[Any, Any] = (None, None)

    def capture(self) -> Environment:
        """Return the environment; the same object as the last time if nothing changed."""
        with self._lock:
            if self._static is None:
                self._static = self._gather()
            parts = (self._packages.get(), self._git.get())
            if self._last is None or any(map(operator.is_not, parts, self._parts)):
                self._parts, self._last = parts, self._assemble(self._static, *parts)
            return self._last

    def _gather(self) -> dict[str, dict[str, str]]:
        """Return what never changes; git's processes, which are waited for, run beside it."""
        reading = threading.Thread(target=self._git.get_ahead, name="daskperiment-git", daemon=True)
        started = False
        with suppress(RuntimeError):  # there are too many threads: it is read afterwards
            reading.start()
            started = True
        self._packages.get()
        found = {name: _safely(gather) for name, gather in CATEGORIES.items()}
        if started:
            reading.join()
        return found

    def _assemble(
        self, static: dict[str, dict[str, str]], packages: dict[str, str], git: dict[str, str]
    ) -> Environment:
        everything = {**static, "git": git, "requirements": packages}
        new = Environment({name: facts for name, facts in everything.items() if facts})
        return self._last if self._last == new else new


def _safely(gather: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return gather()
    except Exception as error:
        return {"note": f"could not be read: {error!r}"}


class _CachedFacts:
    """Facts that are gathered again when stamps differ."""

    def __init__(
        self, pause: float, stamps: Callable[[], Any], gather: Callable[[], dict[str, str]]
    ) -> None:
        self._pause = pause
        self._make_stamps = stamps
        self._gather = gather
        self._stamps: Any = None
        self._facts: dict[str, str] | None = None
        self._next = 0.0

    def get(self) -> dict[str, str]:
        """Return the facts as they are now, or were a moment ago."""
        now = time.monotonic()
        if self._facts is not None and now < self._next:
            return self._facts
        self._next = now + self._pause
        stamps = self._make_stamps()
        if self._facts is None or stamps != self._stamps:
            self._facts, self._stamps = _safely(self._gather), stamps
        return self._facts


def _package_stamps() -> Any:
    # The order counts: of two folders that have a package, the first one wins.
    return list(_stamps(sys.path).items())


def _stamps(paths: Iterable[str]) -> dict[str, tuple[int, int, int] | None]:
    """Return what tells that files changed, in one pass: there may be hundreds."""
    found: dict[str, tuple[int, int, int] | None] = {}
    for path in paths:
        try:
            status = os.stat(path or ".")
        except (OSError, ValueError, TypeError):
            found[path] = None
        else:
            found[path] = status.st_mtime_ns, status.st_size, status.st_ino
    return found


class _RepositoryStamps(NamedTuple):
    """What one reading of a repository rests on."""

    cwd: str
    repository: Repository | None
    files: dict[str, Any]
    sources: dict[str, Any]
    folders: dict[str, Any]


class _GitCache:
    """The state of the repository, read again when there is reason to."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._sources = _LoadedSources()
        self._watched: _RepositoryStamps | None = None
        self._facts: dict[str, str] = {}
        self._next = 0.0
        self._next_folders = 0.0

    def get(self) -> dict[str, str]:
        """Return the state as it is now, or was a moment ago."""
        try:
            cwd = os.getcwd()
        except OSError:
            return _GONE
        if self._watched is None or self._is_stale(self._watched, cwd):
            self._read(cwd)
        return self._facts

    def get_ahead(self) -> None:
        """Do what `get` does, for who gets it next, and meets whatever went wrong."""
        with suppress(Exception):
            self.get()

    def _is_stale(self, watched: _RepositoryStamps, cwd: str) -> bool:
        if cwd != watched.cwd or _stamps(watched.files) != watched.files:
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._pause
        if self._sources.stamps(watched.repository) != watched.sources:
            return True
        return now >= self._next_folders and _stamps(watched.folders) != watched.folders

    def _read(self, cwd: str) -> None:
        start = time.monotonic()
        repository = find_repository(cwd) or _repository_of_script()
        # Stamps first: what changes while git reads is seen the next time.
        watched = _RepositoryStamps(
            cwd,
            repository,
            files=_stamps(repository.files() if repository is not None else ()),
            sources=self._sources.stamps(repository),
            folders=_stamps([cwd] if repository is None else [cwd, repository.root]),
        )
        facts = read_state(repository)
        self._watched = watched  # not before: what failed is tried again
        # The same object as before shows that nothing changed.
        if facts != self._facts:
            self._facts = facts
        end = time.monotonic()
        self._next = end + self._pause
        self._next_folders = end + max(self._pause, (end - start) * _SHARE * bool(self._pause))


def _repository_of_script() -> Repository | None:
    """The repository of the script, for one that is started from elsewhere."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(file, str) or origin_of_file(file) != "own":
        return None
    return find_repository(os.path.dirname(os.path.abspath(file)))


class _LoadedSources:
    """The user's loaded source files; modules are looked at once, as they are loaded."""

    def __init__(self) -> None:
        self._count = -1
        self._root = ""
        self._seen: dict[str, int] = {}
        self._files: list[str] = []

    def stamps(self, repository: Repository | None) -> dict[str, Any]:
        """Return the stamps of the loaded files that lie in the repository."""
        if repository is None:
            return {}
        if repository.root != self._root:
            self._count, self._root, self._seen, self._files = -1, repository.root, {}, []
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            self._add_loaded(os.path.join(repository.root, ""))
        return _stamps(self._files)

    def _add_loaded(self, root: str) -> None:
        for name, module in list(sys.modules.items()):
            if self._seen.get(name) == id(module):
                continue
            self._seen[name] = id(module)
            file = vars(module).get("__file__") if hasattr(module, "__dict__") else None
            path = os.path.abspath(file) if isinstance(file, str) else ""
            # This package is not the user's code, wherever it lies.
            ours = name.partition(".")[0] == "daskperiment"
            if path.startswith(root) and not ours and origin_of_file(path) == "own":
                self._files.append(path)


def describe(environment: Environment, category: str | None = None) -> str:
    """Return an environment as text: one category in full, or all of them in short.

    Of a category that does not apply here, such as ``conda`` elsewhere than in conda, it is said
    that nothing was found. ValueError if there is no such category.
    """
    known = environment.categories
    if category is None:
        return "\n\n".join(_summary(name, facts) for name, facts in known.items())
    every = {*CATEGORIES, "git", "requirements", *known}
    if category not in every:
        raise ValueError(
            f"There is no category {category!r}. Give one of {', '.join(sorted(every))}."
        )
    if category not in known:
        return f"no {category} was found"
    if category == "requirements":
        return packages_text(environment)
    facts = known[category].items()
    return "\n".join(f"{n}:\n{text}" if n in _LONG else f"{n}: {text}" for n, text in facts)


def _summary(name: str, facts: dict[str, str]) -> str:
    if name == "requirements":
        return f"requirements\n  {len(facts)} installed packages"
    lines = [name]
    for fact, text in facts.items():
        shown = f"{len(text.splitlines())} lines" if fact in _LONG else text
        lines.append(f"  {fact}: {shown}")
    return "\n".join(lines)


def packages_text(environment: Environment) -> str:
    """Return the installed packages, as ``name==version`` lines in alphabetical order."""
    packages = environment.categories.get("requirements", {})
    names = sorted(packages, key=lambda name: (name.lower(), name))
    return "\n".join(f"{name}=={packages[name]}" for name in names)


def changes(old: Environment, new: Environment) -> list[str]:
    """Return what differs between two environments, a line each.

    Examples
    --------
    >>> old = Environment({"requirements": {"numpy": "2.1.0"}})
    >>> new = Environment({"requirements": {"numpy": "2.2.0", "x": "1"}})
    >>> changes(old, new)
    ['numpy 2.1.0 -> 2.2.0', 'added x==1']
    """
    before, after = old.categories, new.categories
    packages = after.get("requirements", {})
    lines = _package_changes(before.get("requirements", {}), packages)
    for category in dict.fromkeys([*before, *after]):
        if category != "requirements":
            pair = before.get(category, {}), after.get(category, {})
            lines += _fact_changes(category, *pair, packages)
    return lines


def _package_changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    both = [name for name in old if name in new and old[name] != new[name]]
    lines = [f"{name} {old[name]} -> {new[name]}" for name in both]
    lines += [f"added {name}=={new[name]}" for name in new if name not in old]
    return lines + [f"removed {name}=={old[name]}" for name in old if name not in new]


def _fact_changes(
    category: str, old: dict[str, str], new: dict[str, str], packages: dict[str, str]
) -> list[str]:
    lines = []
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        # The version of a listed package is among the changes of packages.
        if before == after or (name == "version" and category in packages):
            continue
        # "python 3.11.7 -> 3.12.1" needs no more words.
        subject = category if name == "version" else f"{category} {name}"
        change = "changed" if name in _LONG else f"{_brief(before, name)} -> {_brief(after, name)}"
        lines.append(f"{subject} {change}")
    return lines


def _brief(text: str | None, name: str) -> str:
    if text is None:
        return "none"
    return text[:10] if name == "commit" else text
