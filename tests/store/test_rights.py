"""Several people with accounts of their own use one folder: real users, real rights."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import daskperiment

ROOT = Path(daskperiment.__file__).parent.parent
GROUP = 54_000
ANNE, BOB, EVE = 54_001, 54_002, 54_003
"""Anne and Bob are in the group, Eve is not."""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become other users"
)

# Each action is a forked child that becomes its user; what was open before stays with the parent.
PLAY = """
import json, os, sys, tempfile, warnings
warnings.simplefilter("error")
import daskperiment
from pathlib import Path
from daskperiment.recording.journal import Journal
from daskperiment.store.file import FileStore
from daskperiment.store.opening import list_experiments
from daskperiment.store.protocol import Record

folder, umask, group = Path(sys.argv[1]), int(sys.argv[2], 8), int(sys.argv[3])
journal = folder / "shared" / "journal"
def write(n):
    store = FileStore(folder / "shared")
    store.append([Record("steps", 1, os.urandom(4).hex(), b'{}')])
    store.put(f"{n:04x}", [bytes(2_000_000)])
    store.state()
    return store

def count():
    store = FileStore(folder / "shared")
    found = len(list(store.read("steps")))
    store.close()
    return found

def trial(n, folder=folder):
    ex = daskperiment.Experiment("shared", backend=folder)
    size = ex.parameter("size", default=300_000 + n)
    @ex.persist(reuse=True)
    def big(size):
        import numpy
        return numpy.zeros(size)
    @ex.result
    def total(x):
        ex.save_metric("m", 0, 1.0)
        return float(x.sum())
    total(big(size)).compute(scheduler="sync")
    ex.load_metric("m", 1)
    seen = len(ex.get_history())
    ex.prune(max_bytes=0)
    return seen

def act(what, n):
    if what == "write":
        write(n).close()
    elif what == "killed":
        write(n)
        os._exit(0)
    elif what == "journal":
        step = Record("steps", 1, os.urandom(4).hex(), b'{}')
        Journal(journal, FileStore(folder / "shared")).write(step)
        os._exit(0)
    elif what == "recover":
        return Journal(journal, FileStore(folder / "shared")).recover()
    elif what == "read":
        return count()
    elif what == "list":
        return list_experiments(folder)
    elif what == "history":
        return len(daskperiment.Experiment("shared", backend=folder).get_history(running=True))
    elif what == "trial":
        return trial(n)

actions = json.loads(sys.argv[4])
if any(what in ("trial", "history") for _, what in actions):
    # Another user may not be able to read this Python's own files: everything is loaded before.
    with tempfile.TemporaryDirectory() as warm:
        trial(0, Path(warm))

for n, (user, what) in enumerate(actions):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.umask(umask)
        os.setgroups([])
        os.setgid(group if user != 54_003 else 54_999)
        os.setuid(user)
        try:
            print(json.dumps([user, what, act(what, n)]), flush=True)
        except BaseException as error:
            print(json.dumps([user, what, f"{type(error).__name__}: {error}"]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody can reach; that of pytest is root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "lab"
        path.mkdir()
        yield path


def give(folder: Path, mode: int, owner: int = 0) -> None:
    os.chown(folder, owner, GROUP)
    os.chmod(folder, mode)


def _environment() -> dict[str, str]:
    """Of users without a home, who share no folder of the tests' own."""
    own = {name: value for name, value in os.environ.items() if name != "XDG_STATE_HOME"}
    return own | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}


def play(folder: Path, *actions: tuple[int, str], umask: str = "022") -> list[object]:
    """Let users act one after another, and return what each got."""
    arguments = [str(folder), umask, str(GROUP), json.dumps(actions)]
    ran = subprocess.run(
        [sys.executable, "-c", PLAY, *arguments],
        cwd="/",
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not ran.stderr, ran.stderr
    return [json.loads(line)[2] for line in ran.stdout.splitlines()]


def modes(folder: Path) -> dict[str, int]:
    found = list(folder.rglob("*"))
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in found}


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="where users cannot read this Python's files, all of an older NumPy is looked through",
)
@pytest.mark.parametrize("umask", ["002", "077"])
def test_trials_of_two_people(shared: Path, umask: str) -> None:
    """In a folder of their group both record, read, reuse and prune, whatever their umask is."""
    give(shared, 0o2775)
    got = play(shared, (ANNE, "trial"), (BOB, "trial"), (ANNE, "trial"), umask=umask)
    assert got == [1, 2, 3]
    for name, mode in modes(shared).items():
        needed = 0o070 if (shared / name).is_dir() else 0o060
        assert mode & needed == needed, name


@pytest.mark.parametrize("mode", [0o2775, 0o2770, 0o775, 0o777])
def test_any_folder_in_which_both_may_write(shared: Path, mode: int) -> None:
    """With and without setgid, for a group and for everybody: the second one can write."""
    give(shared, mode)
    got = play(shared, (ANNE, "write"), (BOB, "write"), (ANNE, "read"))
    assert got == [None, None, 2]


def test_a_look_locks_nobody_out(shared: Path) -> None:
    """After a colleague only read, also while the writer was gone without closing, all goes on."""
    give(shared, 0o2775)
    got = play(
        shared, (ANNE, "killed"), (BOB, "read"), (ANNE, "write"), (BOB, "recover"),
        (BOB, "list"), (ANNE, "write"), (ANNE, "read"), umask="002",
    )  # fmt: skip
    assert got == [1, None, 0, ["shared"], None, 3]


@pytest.mark.parametrize("left", ["write", "killed"])
def test_reader_without_the_right_to_write(shared: Path, left: str) -> None:
    """A database that a reader may not write to, in a folder that he may: he leaves no file."""
    give(shared, 0o2775)
    play(shared, (ANNE, left), umask="002")
    for suffix in ("", "-wal", "-shm"):
        file = shared / "shared" / f"records.sqlite{suffix}"
        if file.exists():
            file.chmod(0o644)
    before = modes(shared)
    assert play(shared, (BOB, "read"), umask="002") == [1]
    assert modes(shared) == before
    assert play(shared, (ANNE, "write"), (ANNE, "read"), umask="002") == [None, 2]


def test_who_was_locked_out_gets_in_again(shared: Path) -> None:
    """An empty log and its index that somebody else left do not keep the owner out."""
    give(shared, 0o2775)
    play(shared, (ANNE, "write"))
    for suffix in ("-wal", "-shm"):
        file = shared / "shared" / f"records.sqlite{suffix}"
        file.touch(0o644)
        os.chown(file, BOB, GROUP)
    assert play(shared, (ANNE, "write"), (ANNE, "read")) == [None, 2]


def test_store_of_an_earlier_version_is_shared_by_its_owner(shared: Path) -> None:
    """A database that was made without rights for the group gets them when its owner writes."""
    give(shared, 0o2775)
    play(shared, (ANNE, "write"))
    (shared / "shared" / "records.sqlite").chmod(0o644)
    got = play(shared, (ANNE, "write"), (BOB, "write"), (BOB, "read"))
    assert got == [None, None, 3]


def test_what_is_ones_own_stays_so(shared: Path) -> None:
    """In one's own folder others may read as the umask says; the journals are private."""
    give(shared, 0o755, ANNE)
    play(shared, (ANNE, "write"), (ANNE, "journal"))
    found = modes(shared)
    assert found["shared/records.sqlite"] == 0o644
    assert found["shared/journal"] == 0o700
    assert {mode for name, mode in found.items() if name.endswith(".journal")} == {0o600}
    assert play(shared, (EVE, "read"), (EVE, "recover"), (EVE, "list")) == [1, 0, ["shared"]]
    refused = play(shared, (EVE, "write"))[0]
    assert str(refused).startswith("StoreError")
    assert "may write" in str(refused)


def test_journal_of_a_group_is_delivered_by_another_member(shared: Path) -> None:
    """What a dead process of one left is adopted by the other; nobody else may read it."""
    give(shared, 0o2770)
    play(shared, (ANNE, "write"), (ANNE, "journal"))
    found = modes(shared)
    assert found["shared/journal"] & 0o777 == 0o770
    assert {mode for name, mode in found.items() if name.endswith(".journal")} == {0o660}
    assert play(shared, (BOB, "recover"), (BOB, "read")) == [1, 2]


def test_sticky_folder_gives_no_rights(shared: Path) -> None:
    """In a folder such as /tmp each has files of their own."""
    give(shared, 0o1777)
    play(shared, (ANNE, "write"), umask="077")
    assert modes(shared)["shared"] == 0o700
    assert play(shared, (BOB, "list")) == [[]]
