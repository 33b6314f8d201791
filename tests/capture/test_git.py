from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import git as git_python
import pytest

from daskperiment.capture.environment import git as git_module
from daskperiment.capture.environment.git import find_repository, read_state, without_credentials


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Run git in a fresh repository that knows nothing of the person's configuration."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def run(*command, cwd=tmp_path):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *command], cwd=cwd, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return run


@pytest.fixture
def repo(git, tmp_path):
    """Make a repository with one commit."""
    (tmp_path / "train.py").write_text("x = 1\n")
    git("add", "train.py")
    git("commit", "-q", "-m", "first")
    return tmp_path


def state(path):
    return read_state(find_repository(str(path)))


def test_clean(git, repo):
    """A clean repository shows commit and branch, and nothing that is not there."""
    assert state(repo) == {"commit": git("rev-parse", "HEAD"), "branch": "main", "dirty": "no"}


def test_dirty_and_untracked(repo):
    """Changes come as a diff that can be applied, untracked files as digests."""
    (repo / "train.py").write_text("x = 2\n")
    (repo / "neu\nä.py").write_text("y")
    (repo / "daskperiment_cache").mkdir()
    (repo / "daskperiment_cache" / "db").write_text("ours")
    found = state(repo)
    assert found["dirty"] == "yes"
    assert "-x = 1\n+x = 2\n" in found["diff"]
    assert found["untracked"] == f"{hashlib.sha256(b'y').hexdigest()}  neu\nä.py"


def test_diff_can_be_applied(git, repo):
    """The recorded diff brings a checkout of the commit to the state of the trial."""
    (repo / "train.py").write_text("x = 2\n")
    diff = state(repo)["diff"]
    git("checkout", "train.py")
    (repo / "saved.diff").write_text(diff)
    git("apply", "saved.diff")
    assert (repo / "train.py").read_text() == "x = 2\n"


def test_staged_and_ignored(git, repo):
    """Staged changes are part of the diff; ignored files are left out."""
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "a.log").write_text("")
    git("add", ".gitignore")
    found = state(repo)
    assert "+*.log" in found["diff"]
    assert "untracked" not in found


def test_long_diff(repo, monkeypatch):
    """A long diff is cut off, and a note gives its size and a digest of the whole."""
    monkeypatch.setattr(git_module, "DIFF_LIMIT", 1000)
    (repo / "train.py").write_text("x = 2\n" * 10_000)
    found = state(repo)
    assert len(found["diff"]) == 1000
    (repo / "train.py").write_text("x = 2\n" * 9_999 + "x = 3\n")
    assert "cut off after 1000 bytes" in found["note"]
    assert state(repo)["note"] != found["note"]


def test_many_untracked(repo, monkeypatch):
    """Of very many untracked files some are digested, and the number is noted."""
    monkeypatch.setattr(git_module, "UNTRACKED_LIMIT", 3)
    for number in range(5):
        (repo / f"{number}.txt").write_text("")
    found = state(repo)
    assert len(found["untracked"].splitlines()) == 3
    assert "5 untracked files" in found["note"]


def test_large_and_odd_untracked(repo, monkeypatch):
    """Large files are named with their size, dangling links by where they point."""
    monkeypatch.setattr(git_module, "FILE_LIMIT", 10)
    (repo / "large").write_text("x" * 11)
    (repo / "link").symlink_to("nowhere")
    with open(os.fsencode(repo) + b"/\xff", "w"):
        pass
    lines = state(repo)["untracked"].splitlines()
    assert lines[0] == "(11 bytes)  large"
    assert lines[1] == f"{hashlib.sha256(b'nowhere').hexdigest()}  link"
    assert lines[2].endswith("  \ufffd")


def test_remote_without_credentials(git, repo):
    """The remote's address is there, its password and token nowhere."""
    git("remote", "add", "origin", "https://me:s3cret@host.org/a/b.git?token=s3cret")
    found = state(repo)
    assert found["remote"] == "https://host.org/a/b.git"
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a.git", "https://host/a.git"),
        ("https://s3cret@host:8080/a.git", "https://host:8080/a.git"),
        ("https://me:p@s3cret@host/a.git", "https://host/a.git"),
        ("https://me:s3/cret@host/a.git", "https://host/a.git"),
        ("https://host/@scope/a.git", "https://host/@scope/a.git"),
        ("https://me:s3cret@[::1]:80/@a", "https://[::1]:80/@a"),
        ("https://host/a.git#s3cret", "https://host/a.git"),
        ("ssh://git:s3cret@host/a", "ssh://host/a"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("me:s3cret@host:a/b.git", "me@host:a/b.git"),
        ("/folder/a.git", "/folder/a.git"),
        ("file:///folder/a.git", "file:///folder/a.git"),
    ],
)
def test_addresses(url, expected):
    """Credentials are removed from every form of address, and nothing else is."""
    assert without_credentials(url) == expected


def test_empty_repository(git, tmp_path):
    """A repository without a commit says so."""
    (tmp_path / "a").write_text("")
    found = state(tmp_path)
    assert found["branch"] == "main"
    assert found["note"] == "no commit yet"
    assert "commit" not in found
    assert found["untracked"].endswith("  a")


def test_detached(git, repo):
    """A detached HEAD has a commit, no branch, and a note."""
    git("checkout", "-q", "--detach")
    found = state(repo)
    assert found["note"] == "detached HEAD"
    assert "branch" not in found
    assert len(found["commit"]) == 40


def test_linked_worktree(git, repo, tmp_path):
    """Another worktree has its own branch, which is seen when it moves."""
    git("worktree", "add", "-q", "-b", "side", "tree")
    found = state(tmp_path / "tree")
    assert found["branch"] == "side"
    place = find_repository(str(tmp_path / "tree"))
    assert all(os.path.exists(file) for file in place.files() if "packed" not in file)


@pytest.mark.parametrize("kind", ["none", "bare", "broken", "strange file"])
def test_no_repository(git, tmp_path, kind):
    """Where there is no repository that can be read there is a note, and no exception."""
    folder = tmp_path / "inner"
    if kind == "bare":
        git("init", "-q", "--bare", "inner")
    else:
        folder.mkdir()
    if kind == "broken":
        (folder / ".git").mkdir()
    if kind == "strange file":
        (folder / ".git").write_text("something else")
    os.rename(tmp_path / ".git", tmp_path / "moved")
    assert state(folder)["note"]
    assert "commit" not in state(folder)


def test_no_git_program(repo, monkeypatch):
    """Without the git program there is a note."""
    monkeypatch.setenv("PATH", str(repo))
    missing = {"note": "the git program is not there, or does not start"}
    assert state(repo) == missing
    monkeypatch.setitem(sys.modules, "git", None)
    assert state(repo) == missing


def test_few_questions(repo, monkeypatch):
    """A clean repository costs two short processes, and one with changes a third."""
    asked = []
    execute = git_python.Git.execute

    def noted(self, words, **more):
        asked.append(words)
        return execute(self, words, **more)

    monkeypatch.setattr(git_python.Git, "execute", noted)
    state(repo)
    assert len(asked) == 2
    (repo / "train.py").write_text("x = 2\n")
    assert state(repo)["dirty"] == "yes"
    assert len(asked) == 5


def test_git_that_hangs(repo, monkeypatch, tmp_path):
    """A git that does not answer is ended, and a note says so."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(git_module, "TIMEOUT", 0.05)
    assert "after 0.05 seconds" in state(repo)["note"]


def test_changes_that_git_complains_of_at_length(git, repo):
    """Thousands of warnings do not stand in the way of the answer."""
    git("config", "core.autocrlf", "input")
    git("config", "core.safecrlf", "warn")
    for n in range(1500):
        (repo / f"{'long' * 20}{n}.txt").write_bytes(b"a\n")
    git("add", ".")
    git("commit", "-q", "-m", "many")
    for n in range(1500):
        (repo / f"{'long' * 20}{n}.txt").write_bytes(b"b\r\n")
    found = state(repo)
    assert found["dirty"] == "yes"
    assert found["diff"].count("\n+b") == 1500


def test_index_is_not_written(repo):
    """Looking leaves the repository's files alone."""
    # Another time but equal content is what makes git refresh its index.
    os.utime(repo / "train.py", (1, 1))
    before = (repo / ".git" / "index").stat().st_mtime_ns
    state(repo)
    assert (repo / ".git" / "index").stat().st_mtime_ns == before
