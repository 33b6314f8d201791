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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskperiment.capture.environment.secret_looks import SecretFinder

__all__ = ["Repository", "find_repository", "read_state", "without_credentials"]

DIFF_LIMIT = 2 * 1024 * 1024
"""At most so many bytes of a diff are kept."""
UNTRACKED_LIMIT = 200
"""At most so many untracked files are digested."""
FILE_LIMIT = 16 * 1024 * 1024
"""Larger untracked files are named with their size only."""
TIMEOUT = 20.0
"""Seconds that one git command may take."""

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
        return {"note": "the git program is not there, or does not start"}
    try:
        with git.Repo(repository.root) as repo:
            return _RepositoryReader(repo.git, repository.root).read()
    except Exception as error:
        return {"note": f"the repository cannot be read: {_clean(str(error))}"}


class _RepositoryReader:
    """Asks git; each question is one short process, and none stays."""

    def __init__(self, git: Any, root: str) -> None:
        self._git = git
        self._root = root
        self._notes: list[str] = []
        self._secrets = SecretFinder()

    def read(self) -> dict[str, str]:
        commit = self._ask("rev-parse", "--verify", "--quiet", "HEAD")
        facts = {
            "commit": commit or "",
            "branch": _clean(self._ask("symbolic-ref", "--short", "--quiet", "HEAD") or ""),
            "remote": self._remote(),
        }
        if not commit and not self._notes:
            self._notes.append("no commit yet")
        elif commit and not facts["branch"]:
            self._notes.append("detached HEAD")
        facts |= self._changes(bool(commit))
        facts["note"] = "; ".join(filter(None, [*self._notes, _clean(self._secrets.note())]))
        return {name: text for name, text in facts.items() if text}

    def _remote(self) -> str:
        names = (self._ask("remote") or "").split()
        if not names:
            return ""
        name = "origin" if "origin" in names else names[0]
        # As written in the configuration: instead-of rules may put a password in.
        url = self._ask("config", "--get", f"remote.{name}.url") or ""
        return without_credentials(_clean(url))

    def _changes(self, committed: bool) -> dict[str, str]:
        if not committed:
            return {"untracked": self._untracked()}
        diff = _LimitedOutput(DIFF_LIMIT)
        options = ("--no-ext-diff", "--no-textconv", "--no-color", "--full-index")
        if self._ask("diff", *options, "HEAD", output_stream=diff) is None:
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
        dirty = "yes" if diff.size else "no"
        return {"dirty": dirty, "diff": shown, "untracked": self._untracked()}

    def _untracked(self) -> str:
        names = self._ask("ls-files", "--others", "--exclude-standard", "-z") or ""
        # What this library writes is no part of the user's work.
        own = sorted(n for n in names.split("\0") if n and _STORE not in n.split("/"))
        files = [name for name in own if not self._secrets.leaves_out(name)]
        shown = files[:UNTRACKED_LIMIT]
        lines = [f"{_file_digest(os.path.join(self._root, n))}  {_clean(n)}" for n in shown]
        if len(files) > UNTRACKED_LIMIT:
            self._notes.append(
                f"{len(files)} untracked files, the first {UNTRACKED_LIMIT} were digested"
            )
        return "\n".join(lines)

    def _ask(self, *command: str, output_stream: Any = None) -> str | None:
        """Run one git command; ``None`` if it fails."""
        timeout: dict[str, Any] = {} if sys.platform == "win32" else {"kill_after_timeout": TIMEOUT}
        try:
            answer = self._git.execute(
                [*_READ_ONLY, *command],
                output_stream=output_stream,
                env={"GIT_TERMINAL_PROMPT": "0"},
                **timeout,
            )
        except Exception as error:
            self._explain(error)
            return None
        return answer if isinstance(answer, str) else ""

    def _explain(self, error: Exception) -> None:
        # Status 1 is an answer: there is no such thing. Others are trouble, said once.
        if getattr(error, "status", None) != 1:
            words = str(getattr(error, "stderr", "") or error).strip().removeprefix("stderr: ")
            note = f"git says: {_clean(words).strip(chr(39))[:300]}"
            if note not in self._notes:
                self._notes.append(note)


class _LimitedOutput:
    """A stream for the output of a command, of which it keeps the beginning."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        self._kept += data[: max(0, self._limit - len(self._kept))]
        return len(data)

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


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
