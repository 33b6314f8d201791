"""File systems with ways of their own: layers, user space, one that is read-only at times."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import dask
import pytest

import daskperiment
from daskperiment.errors import StoreError
from daskperiment.recording.pending_objects import PendingObjects
from daskperiment.recording.registry import close_recorders
from daskperiment.store.file import FileStore
from tests.survival.processes import kill_at_random_moments, nursery


class Mounts:
    """Mounts file systems under a folder; a test is skipped where this user may not."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def folder(self, name: str) -> Path:
        """Make a folder."""
        made = self._folder / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def mount(self, *order: str | Path) -> Path:
        """Run a command whose last word is where something is mounted then."""
        program = str(order[0])
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
        found = subprocess.run(list(map(str, order)), capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"this user may not mount that: {found.stderr.strip()}")
        place = Path(order[-1])
        # A test may have unmounted it by itself.
        self._stack.callback(subprocess.run, ["umount", "-l", str(place)], check=False)
        return place

    def overlay(self) -> Path:
        """Mount layers, as containers have them, over whatever the folder `lower` has."""
        self.mount("mount", "-t", "tmpfs", "tmpfs", self.folder("upper"))
        upper, work = self.folder("upper/upper"), self.folder("upper/work")
        layers = f"lowerdir={self.folder('lower')},upperdir={upper},workdir={work}"
        return self.mount("mount", "-t", "overlay", "overlay", "-o", layers, self.folder("merged"))

    def passed_through(self, *options: str) -> Path:
        """Mount a folder once more by a program in user space."""
        return self.mount("bindfs", *options, self.folder("lower"), self.folder("mounted"))

    def image(self) -> Path:
        """Mount a file that holds a file system."""
        self._make_image()
        return self.mounted_image()

    def mounted_image(self) -> Path:
        """Mount the file system that `image` made, another time."""
        image = self._folder / "image"
        return self.mount("mount", "-o", "loop", image, self.folder("mounted"))

    def _make_image(self) -> None:
        image = self.folder(".") / "image"
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("there is no mkfs.ext4 here")
        subprocess.run(["mkfs.ext4", "-q", image], check=True)


@pytest.fixture
def mounts(tmp_path):
    """Mount what a test needs, and unmount it."""
    with ExitStack() as stack:
        yield Mounts(tmp_path / "mounts", stack)
        close_recorders()


@pytest.fixture(scope="module")
def processes():
    with nursery() as place:
        yield place


KINDS = ["overlay", "lower layer", "user space", "no shared memory", "image"]


def made(kind: str, mounts: Mounts, processes) -> Path:
    """Mount a file system of a kind, and return a folder of it."""
    if kind == "lower layer":
        old = mounts.folder("lower") / "store"
        assert processes.join(processes.start("squares", old, 500, 3)) == 0
    if kind in ("overlay", "lower layer"):
        return mounts.overlay()
    if kind == "image":
        return mounts.image()
    return mounts.passed_through(*(["-o", "direct_io"] if kind == "no shared memory" else []))


@pytest.mark.parametrize("kind", KINDS)
def test_processes_that_are_killed(kind, mounts, processes, tmp_path):
    """4 processes at once, and SIGKILL at 6 moments: nothing is missing or mixed."""
    store = made(kind, mounts, processes) / "store"
    pids = [processes.start("squares", store, 100 * i, 8) for i in range(4)]
    assert [processes.join(pid) for pid in pids] == [0] * 4
    history = daskperiment.Experiment("many", backend=store).get_history()
    count = 32 + 3 * (kind == "lower layer")
    assert history.index.tolist() == list(range(1, count + 1))
    assert (history["Result"] == history["a"] ** 2).all()
    args = (store, tmp_path / "logs", 6, random.Random(7), 2)
    assert kill_at_random_moments(processes, *args, least=4) > 3


def mode(store: Path) -> str:
    with closing(sqlite3.connect(store / "records.sqlite")) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.mark.parametrize("left", [False, True])
def test_store_from_elsewhere_without_shared_memory(mounts, left):
    """A store with a write-ahead log opens where processes share no memory, a left log included.

    A value that waits on such a file system is delivered from there as well.
    """
    old = FileStore(mounts.folder("lower") / "ex")
    old.allocate("token", b"{}")
    if left:  # as a killed process leaves its log
        shutil.copytree(old.folder, old.folder.with_name("copy"))
        old.close()
        shutil.rmtree(old.folder)
        old.folder.with_name("copy").rename(old.folder)
    old.close()
    assert (old.folder / "records.sqlite-wal").exists() == left
    folder = mounts.passed_through("-o", "direct_io") / "ex"
    store = FileStore(folder)
    assert [one.trial for one in store.read("trials")] == [1]
    assert store.allocate("another", b"{}").trial == 2
    assert mode(folder) == "delete"
    pending = PendingObjects(folder / "spool")
    pending.keep("ab", [b"value"])
    pending.deliver(store)
    assert bytes(store.get("ab")) == b"value"
    store.close()


def test_comes_back_from_read_only(mounts):
    """While it may only be read all is shown and a trial is refused; then the process goes on."""
    disk = mounts.mount("mount", "-t", "tmpfs", "tmpfs", mounts.folder("disk"))
    ex = daskperiment.Experiment("readonly", backend=disk / "store")
    ran = []

    @ex.result
    def one(a):
        ran.append(a)
        ex.save_metric("loss", 0, float(a))
        return a

    result = one(ex.parameter("a"))
    result.bind(a=1).compute()
    close_recorders()
    for way, refused in (("ro", True), ("rw", False), ("ro", True), ("rw", False)):
        ex._store.close()  # else the disk is busy
        subprocess.run(["mount", "-o", f"remount,{way}", str(disk)], check=True)
        if refused:
            with pytest.raises(StoreError, match="read-only"):
                result.bind(a=9).compute()
        else:
            result.bind(a=2).compute()
        count = len(ran)
        assert ex.get_history()["a"].tolist() == ran == [1, 2, 2][:count]
        assert ex.load_metric("loss", list(range(1, count + 1))).shape == (1, count)
        close_recorders()


GIVES_UP = """
import os, subprocess, sys
from pathlib import Path
import numpy as np
import daskperiment

disk = Path(sys.argv[1])
ex = daskperiment.Experiment("gives_up", backend=disk / "store")
n = ex.parameter("n", default=1)

@ex.persist
def keep(n):
    return np.arange(200_000) + n

@ex.result
def last(n, kept):
    ex.save_metric("loss", 0, n)
    if n == 2:
        os.sync()
        subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)
    for epoch in range(1, 20):
        ex.save_metric("loss", epoch, n)
    return 10 * n

for number in (1, 2, 3):
    print(last(n, keep(n)).bind(n=number).compute())
"""


def test_read_only_in_the_middle_of_a_trial(mounts, tmp_path, monkeypatch):
    """A disk that gives up while a trial runs costs no result, and what came after it waits.

    It is delivered when the disk is mounted for writing again.
    """
    disk = mounts.image()
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path / "journals"))
    order = [sys.executable, "-c", GIVES_UP, str(disk)]
    said = subprocess.run(order, capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["10", "20"]  # no further trial begins
    assert "StoreError" in said.stderr
    assert "mounted read-only" in said.stderr
    assert "wait in" in said.stderr
    subprocess.run(["umount", "-l", str(disk)], check=True)
    subprocess.run(["e2fsck", "-p", str(tmp_path / "mounts" / "image")], check=False)
    mounts.mounted_image()
    with dask.config.set({"daskperiment.journal": str(tmp_path / "journals")}):
        ex = daskperiment.Experiment("gives_up", backend=disk / "store")
        history = ex.get_history(verbose=True, running=True)
        assert history["Result"].tolist() == [10, 20]
        assert history["Status"].tolist() == ["succeeded"] * 2
        assert [len(ex.load_metric("loss", trial)) for trial in (1, 2)] == [20, 20]
        assert [ex.get_persisted("keep", trial)[0] for trial in (1, 2)] == [1, 2]
        close_recorders()
