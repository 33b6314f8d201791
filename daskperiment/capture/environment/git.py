"""The state of the Git repository that the user's work is in.

Commit, branch, remote (without credentials), the changes to tracked files, and the digests of
untracked files, both without what looks like secrets. Whatever cannot be told is said as a note;
nothing here raises.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from daskperiment.capture.environment.secret_looks import SecretFinder

__all__ = ["Repository", "find_repository", "load_ahead", "read_state", "without_credentials"]

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
_READ_ONLY = ("git", "--no-optional-locks", *(word for s in _SETTINGS for word in ("-c", s)))


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


@cache
def load_ahead() -> None:
    """Begin to import GitPython in the background, which takes longer than a short trial does.

    Who declares an experiment in a repository will read its state at the first trial.
    """
    with suppress(OSError):  # the working folder is gone
        if "git" in sys.modules or find_repository(os.getcwd()) is None:
            return
        thread = threading.Thread(target=_load, name="daskperiment-git", daemon=True)
        if hasattr(os, "register_at_fork"):
            # A forked child would wait for ever for a module that was half imported.
            os.register_at_fork(before=partial(thread.join, TIMEOUT))
        thread.start()


def _load() -> None:
    with suppress(Exception):  # who reads the state is told
        import git  # noqa: F401, PLC0415


def read_state(repository: Repository | None) -> dict[str, str]:
    """Return a repository's state, and a ``note`` for what is missing.

    That is ``commit``, ``branch``, ``remote``, ``dirty`` (``yes`` or ``no``: whether tracked files
    differ from the commit), ``diff`` and ``untracked``.
    """
    if repository is None:
        return {"note": "not in a Git repository"}
    try:
        # Not at the top: importing GitPython starts a process, and fails without the git program.
        import git  # noqa: PLC0415
    except Exception:
        return {"note": _NO_GIT}
    try:
        return _RepositoryReader(git.cmd, repository.root).read()
    except git.GitCommandNotFound:
        return {"note": _NO_GIT}
    except Exception as error:
        return {"note": f"the repository cannot be read: {_clean(str(error))}"}


class _RepositoryReader:
    """Asks git; each question is one short process, and none stays."""

    def __init__(self, git: Any, root: str) -> None:
        self._git = git
        """GitPython's module of commands."""
        self._root = root
        self._notes: list[str] = []
        self._secrets = SecretFinder()

    def read(self) -> dict[str, str]:
        found = _Status(self._ask(_STATUS) or "")
        facts = {
            "commit": found.commit,
            "branch": _clean(found.branch),
            "remote": _remote(self._ask(_REMOTES) or ""),
        }
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
        diff = _LimitedOutput(DIFF_LIMIT)
        if not self._answered(_DIFF, diff):
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

    def _ask(self, command: tuple[str, ...]) -> str | None:
        """Return what a git command answers; ``None`` if it fails, with a note why."""
        answer = _LimitedOutput()
        # Names of files may be of any bytes.
        return answer.text("surrogateescape") if self._answered(command, answer) else None

    def _answered(self, command: tuple[str, ...], answer: _LimitedOutput) -> bool:
        # Nothing above the repository is meant, should its own folder be broken.
        known = os.environ.get("GIT_CEILING_DIRECTORIES")
        above = os.pathsep.join(filter(None, [os.path.dirname(self._root), known]))
        env = {"GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": above}
        words = _LimitedOutput(_WORDS)
        process = self._git.Git(self._root).execute(
            [*_READ_ONLY, *command], as_process=True, env=env
        )
        # Its own patience would wait for ever in some versions of GitPython.
        patience = threading.Timer(TIMEOUT, process.proc.kill)
        patience.daemon = True
        patience.start()
        try:
            # Both at once: a git that complains at length waits until somebody listens.
            self._git.handle_process_output(
                process, answer.write, words.write, decode_streams=False
            )
            process.wait()
        except Exception as error:
            self._explain(error, words.text())
            return False
        finally:
            patience.cancel()
        return True

    def _explain(self, error: Any, words: str) -> None:
        status = getattr(error, "status", None)
        words = words or f"it ended with {status}, maybe after {TIMEOUT:g} seconds"
        note = f"git says: {_clean(words.strip())[:300]}"
        # Status 1 is an answer: there is no such thing. Others are trouble, said once.
        if status != 1 and note not in self._notes:
            self._notes.append(note)


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
        with open(path, "rb") as file:
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
