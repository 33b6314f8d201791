"""The state of the Git repository that the user's work is in.

Commit, branch, remote (without credentials), the changes to tracked files, and the digests of
untracked files, both without what looks like secrets. Whatever cannot be told is said as a note;
nothing here raises.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any, cast

from daskperiment.capture.environment.secret_looks import SecretFinder
from daskperiment.locked_files import reading

__all__ = ["Repository", "find_repository", "read_state", "without_credentials"]

DIFF_LIMIT = 2 * 1024 * 1024
"""At most so many bytes of a diff are kept."""
UNTRACKED_LIMIT = 200
"""At most so many untracked files are digested."""
FILE_LIMIT = 16 * 1024 * 1024
"""Larger untracked files are named with their size only."""
TIMEOUT = 20.0
"""Seconds that one git command may take."""

_WORDS = 1 << 16
"""At most so many bytes are kept of what git complains of."""
_NO_GIT = "the git program is not there, or does not start"
_STORE = "daskperiment_cache"
# Looking must not write the index (diff refreshes it, whatever the locks), and must start no file
# monitor.
_SETTINGS = ("core.fsmonitor=false", "diff.autoRefreshIndex=false")
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)
_READ_ONLY = ("--no-optional-locks", *(word for s in _SETTINGS for word in ("-c", s)))


@dataclass(frozen=True, slots=True)
class Repository:
    """Where the parts of a repository lie."""

    root: str
    """The working folder of the repository."""
    folder: str
    """The ``.git`` folder of this worktree."""
    common: str
    """The ``.git`` folder that all worktrees share."""

    def files(self) -> list[str]:
        """Return the files that change when the repository's state does."""
        names = [os.path.join(self.folder, name) for name in ("HEAD", "index")]
        names += [os.path.join(self.common, name) for name in ("packed-refs", "config")]
        head = _read(names[0])
        if head.startswith("ref: "):
            names.append(os.path.join(self.common, head[5:].strip()))
        return names


def find_repository(start: str) -> Repository | None:
    """Return the repository that a folder is in, by looking at the folders alone."""
    here = Path(os.path.abspath(start))
    for folder in map(str, (here, *here.parents)):
        inner = os.path.join(folder, ".git")
        if os.path.isdir(inner):
            return Repository(folder, inner, inner)
        if os.path.isfile(inner):
            return _linked(folder, _read(inner))
    return None


def _linked(root: str, text: str) -> Repository | None:
    """The repository of a submodule or another worktree, by the text of its file ``.git``."""
    if not text.startswith("gitdir: "):
        return None
    folder = os.path.normpath(os.path.join(root, text[8:].strip()))
    common = _read(os.path.join(folder, "commondir")).strip()
    return Repository(root, folder, os.path.normpath(os.path.join(folder, common)))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""


def read_state(repository: Repository | None) -> dict[str, str]:
    """Return a repository's state, and a ``note`` for what is missing.

    That is ``commit``, ``branch``, ``remote``, ``dirty`` (``yes`` or ``no``: whether tracked files
    differ from the commit), ``diff`` and ``untracked``.
    """
    if repository is None:
        return {"note": "not in a Git repository"}
    try:
        return _RepositoryReader(repository.root).read()
    except OSError:
        return {"note": _NO_GIT}
    except Exception as error:
        return {"note": f"the repository cannot be read: {_clean(str(error))}"}


class _RepositoryReader:
    """Asks git; each question is one short process, and none stays."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._notes: list[str] = []
        self._secrets = SecretFinder()

    def read(self) -> dict[str, str]:
        # Both at once: there are processors enough.
        with self._begun(_STATUS) as status, self._begun(_REMOTES) as remotes:
            found = _Status(self._answer(status))
            remote = _remote(self._answer(remotes))
        facts = {"commit": found.commit, "branch": _clean(found.branch), "remote": remote}
        if not found.commit and not self._notes:
            self._notes.append("no commit yet")
        elif found.commit and not found.branch:
            self._notes.append("detached HEAD")
        if found.commit:
            facts |= self._changes() if found.is_dirty else {"dirty": "no"}
        facts["untracked"] = self._untracked(found.untracked)
        facts["note"] = "; ".join(filter(None, [*self._notes, _clean(self._secrets.note())]))
        return {name: text for name, text in facts.items() if text}

    def _changes(self) -> dict[str, str]:
        diff = self._short_diff() or self._long_diff()
        if diff is None:
            self._notes.append("the changes could not be read")
            return {}
        shown = self._secrets.without_secrets(diff.text())
        if diff.size > DIFF_LIMIT:
            # A short secret could be guessed by a digest of what is left out.
            digest = "" if self._secrets.names else f", SHA-256 {diff.digest.hexdigest()}"
            self._notes.append(
                f"the diff is cut off after {DIFF_LIMIT} bytes; "
                f"all of it: {diff.size} bytes{digest}"
            )
        return {"dirty": "yes" if diff.size else "no", "diff": shown}

    def _untracked(self, names: list[str]) -> str:
        # What this library writes is no part of the user's work.
        own = sorted(name for name in names if _STORE not in name.split("/"))
        files = [name for name in own if not self._secrets.leaves_out(name)]
        shown = files[:UNTRACKED_LIMIT]
        lines = [f"{_file_digest(os.path.join(self._root, n))}  {_clean(n)}" for n in shown]
        if len(files) > UNTRACKED_LIMIT:
            self._notes.append(
                f"{len(files)} untracked files, the first {UNTRACKED_LIMIT} were digested"
            )
        return "\n".join(lines)

    def _begun(self, command: tuple[str, ...], complaints: int = PIPE) -> Popen[bytes]:
        # Not by GitPython, which takes longer to import than many a trial does.
        words = [_program(), *_READ_ONLY, "-C", self._root, *command]
        return Popen(
            words, stdin=DEVNULL, stdout=PIPE, stderr=complaints, creationflags=_NO_WINDOW,
            env={**os.environ, "LANGUAGE": "C", "LC_ALL": "C", **self._variables()},
        )  # fmt: skip

    def _variables(self) -> dict[str, str]:
        # Nothing above the repository is meant, should its own folder be broken.
        known = os.environ.get("GIT_CEILING_DIRECTORIES")
        above = os.pathsep.join(filter(None, [os.path.dirname(self._root), known]))
        return {"GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": above}

    def _answer(self, process: Popen[bytes]) -> str:
        """Return what a git command answers; nothing if it fails, with a note why."""
        try:
            answer, words = process.communicate(timeout=TIMEOUT)
        except TimeoutExpired:
            process.kill()
            process.wait()
            answer = words = b""  # what it started may hold the pipes open
        if process.returncode:
            self._explain(process.returncode, words[:_WORDS].decode(errors="replace"))
            return ""
        # Names of files may be of any bytes.
        return answer.decode("utf-8", "surrogateescape")

    def _short_diff(self) -> _LimitedOutput | None:
        """Return the changes, unless they are long or git fails."""
        diff = _LimitedOutput(DIFF_LIMIT)
        with self._begun(_DIFF, complaints=DEVNULL) as process, _patience(process):
            diff.write(cast(IO[bytes], process.stdout).read(DIFF_LIMIT + 1))
            if diff.size > DIFF_LIMIT:
                process.kill()
            process.wait()
        return diff if process.returncode == 0 and diff.size <= DIFF_LIMIT else None

    def _long_diff(self) -> _LimitedOutput | None:
        """Return the beginning of the changes, of which all is counted, by way of GitPython.

        It listens to what git complains of at the same time: a git that does so at length waits
        until somebody listens.
        """
        try:
            # Not at the top: importing GitPython starts a process, and fails without the program.
            import git  # noqa: PLC0415
        except Exception:
            return None
        diff, words = _LimitedOutput(DIFF_LIMIT), _LimitedOutput(_WORDS)
        command = ["git", *_READ_ONLY, *_DIFF]
        # Typed for text, though it hands over what it reads as it is.
        process: Any = git.Git(self._root).execute(command, as_process=True, env=self._variables())
        listen: Any = git.cmd.handle_process_output
        try:
            # Its own patience would wait for ever in some versions of GitPython.
            with _patience(process.proc):
                listen(process, diff.write, words.write, decode_streams=False)
                process.wait()
        except git.GitCommandError as error:
            self._explain(error.status, words.text())
            return None
        return diff

    def _explain(self, status: Any, words: str) -> None:
        words = words or f"it ended with {status}, maybe after {TIMEOUT:g} seconds"
        note = f"git says: {_clean(words.strip())[:300]}"
        # Status 1 is an answer: there is no such thing. Others are trouble, said once.
        if status != 1 and note not in self._notes:
            self._notes.append(note)


def _program() -> str:
    """Return what starts git: what GitPython was told to start, if anything."""
    told: str | None = os.environ.get("GIT_PYTHON_GIT_EXECUTABLE")
    loaded = getattr(sys.modules.get("git.cmd"), "Git", None)  # or it is half imported
    told = getattr(loaded, "GIT_PYTHON_GIT_EXECUTABLE", None) or told
    if os.name != "nt" or (told and told != "git"):
        return told or "git"
    # The system would look into the working folder first, and anybody's program may lie there.
    for folder in os.get_exec_path():
        if os.path.isfile(program := os.path.join(os.path.abspath(folder), "git.exe")):
            return program
    raise FileNotFoundError("git")


@contextmanager
def _patience(process: Popen[Any]) -> Iterator[None]:
    """End a process that takes too long."""
    timer = threading.Timer(TIMEOUT, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "HEAD")
_STATUS = (
    "-c", "status.aheadBehind=false",
    "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames",
)  # fmt: skip
# As written in the configuration: instead-of rules may put a password in.
_REMOTES = ("config", "--null", "--get-regexp", r"^remote\..*\.url$")


class _Status:
    """What ``git status`` says."""

    def __init__(self, text: str) -> None:
        self.commit = self.branch = ""
        self.untracked: list[str] = []
        self.is_dirty = False
        """Whether a tracked file may differ from the commit."""
        for line in text.split("\0"):
            kind, _, rest = line.partition(" ")
            name, _, value = rest.partition(" ")
            if kind == "?":
                self.untracked.append(rest)
            elif kind in ("1", "2", "u"):
                self.is_dirty = True
            elif name == "branch.oid" and value != "(initial)":
                self.commit = value
            elif name == "branch.head" and value != "(detached)":
                self.branch = value


def _remote(listed: str) -> str:
    """Return the address of ``origin``, or of the first remote, without passwords."""
    # Of several addresses of one remote the last counts.
    urls = dict(pair.split("\n", 1) for pair in listed.split("\0") if "\n" in pair)
    names = ["remote.origin.url", *sorted(urls)]
    return without_credentials(_clean(next((urls[name] for name in names if name in urls), "")))


class _LimitedOutput:
    """A stream for the output of a command, of which it keeps the beginning."""

    def __init__(self, limit: int = sys.maxsize) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        self._kept += data[: max(0, self._limit - len(self._kept))]
        return len(data)

    def text(self, errors: str = "replace") -> str:
        return self._kept.decode("utf-8", errors)


def _clean(text: str) -> str:
    """The text without what is not Unicode, such as bytes of a file name in another encoding."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _file_digest(path: str) -> str:
    try:
        status = os.lstat(path)
        if status.st_size > FILE_LIMIT:
            return f"({status.st_size} bytes)"
        if os.path.islink(path):
            return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
        with reading(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"(cannot be read: {error.strerror})"


def without_credentials(url: str) -> str:
    """Return a repository's address without user names, passwords and tokens.

    Examples
    --------
    >>> without_credentials("https://me:secret@host/repo.git?token=1")
    'https://host/repo.git'
    >>> without_credentials("git@host:group/repo.git")
    'git@host:group/repo.git'
    """
    scheme, colon, rest = url.partition("://")
    if not colon:
        # The form of scp, user@host:path, has no place for a password but one somebody invented.
        return re.sub(r"^([^@/:]+):[^@/]*@", r"\1@", url)
    # The last @ before the path: a password may contain others.
    host, slash, path = rest.partition("/")
    port = host.rpartition("@")[2].partition(":")[2]
    if "@" in path and port and re.fullmatch(r"\d+|.*\]|.*\]:\d+", port) is None:
        # Not a port, but the beginning of a password with a slash in it.
        host, slash, path = rest.rpartition("@")[2].partition("/")
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
