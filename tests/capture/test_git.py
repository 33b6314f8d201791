from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import suppress

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


@pytest.fixture
def asked(monkeypatch):
    """Return which programs are started, as it happens, and by whom git is asked."""
    seen = []

    class Noted(subprocess.Popen):
        def __init__(self, words, **more):
            seen.append(words[0])
            super().__init__(words, **more)

    execute = git_python.Git.execute

    def executed(self, words, **more):
        seen.append("GitPython")
        return execute(self, words, **more)

    monkeypatch.setattr(git_module, "Popen", Noted)
    monkeypatch.setattr(git_python.Git, "execute", executed)
    return seen


def test_few_questions(repo, asked, monkeypatch):
    """A clean repository costs two short processes, one with changes a third, and no GitPython.

    A diff that is longer than what is kept is left to it.
    """
    state(repo)
    assert asked == ["git"] * 2
    (repo / "train.py").write_text("x = 2\n")
    assert state(repo)["dirty"] == "yes"
    assert asked == ["git"] * 5
    whole = state(repo)["diff"]
    del asked[:]
    monkeypatch.setattr(git_module, "DIFF_LIMIT", len(whole))
    assert state(repo)["diff"] == whole
    assert asked == ["git"] * 3
    monkeypatch.setattr(git_module, "DIFF_LIMIT", len(whole) - 1)
    assert state(repo)["diff"] == whole[:-1]
    assert asked == ["git"] * 6 + ["GitPython"]


@pytest.mark.parametrize("told", ["in the environment", "to GitPython"])
def test_other_program(repo, asked, monkeypatch, tmp_path_factory, told):
    """Git is the program that GitPython was told to use, which need not be on the path."""
    program = tmp_path_factory.mktemp("bin") / "my-git"
    program.symlink_to(shutil.which("git"))
    if told == "to GitPython":
        monkeypatch.setattr(git_python.Git, "GIT_PYTHON_GIT_EXECUTABLE", str(program))
    else:
        monkeypatch.delitem(sys.modules, "git.cmd")
        monkeypatch.setenv("GIT_PYTHON_GIT_EXECUTABLE", str(program))
    assert state(repo)["branch"] == "main"
    assert asked == [str(program)] * 2


def test_no_program_of_the_folder(monkeypatch, tmp_path):
    """On Windows the program is looked for on the path, and not in the working folder before it."""
    (tmp_path / "bin").mkdir()
    for folder in (tmp_path, tmp_path / "bin"):
        (folder / "git.exe").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = git_module._program()
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError):
        git_module._program()
    monkeypatch.undo()
    assert found == str(tmp_path / "bin" / "git.exe")


@pytest.mark.parametrize("waits", ["exec sleep 600", "cat pipe"])
def test_git_that_hangs(repo, monkeypatch, tmp_path, waits):
    """A git that does not answer is ended, as a note says, without a wait for what it started."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{waits}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(git_module, "TIMEOUT", 0.05)
    assert "after 0.05 seconds" in state(repo)["note"]
    with suppress(OSError):  # it was ended before it started anything
        os.close(os.open("pipe", os.O_WRONLY | os.O_NONBLOCK))


def test_changes_that_git_complains_of_at_length(git, repo, monkeypatch):
    """Thousands of warnings do not stand in the way of the answer, though it is long itself."""
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
    monkeypatch.setattr(git_module, "DIFF_LIMIT", 1000)
    shortened = state(repo)
    assert shortened["diff"] == found["diff"][:1000]
    assert f"all of it: {len(found['diff'])} bytes" in shortened["note"]


def test_changes_that_cannot_be_read(repo, git):
    """Where git cannot tell the changes, it is said why."""
    (repo / "train.py").write_text("x = 2\n")
    blob = git("rev-parse", "HEAD:train.py")
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    found = state(repo)
    assert "the changes could not be read" in found["note"]
    assert "git says: " in found["note"]
    assert "dirty" not in found


def test_index_is_not_written(repo):
    """Looking leaves the repository's files alone."""
    # Another time but equal content is what makes git refresh its index.
    os.utime(repo / "train.py", (1, 1))
    before = (repo / ".git" / "index").stat().st_mtime_ns
    state(repo)
    assert (repo / ".git" / "index").stat().st_mtime_ns == before
