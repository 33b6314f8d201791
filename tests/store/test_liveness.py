"""Whether a process is still there."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from msgspec.structs import replace

from daskperiment.store.liveness import current_origin, is_gone

SAY_ORIGIN = (
    "import pickle, sys; from daskperiment.store.liveness import current_origin\n"
    "print(pickle.dumps(current_origin()).hex(), flush=True); sys.stdin.read()"
)


@pytest.fixture
def other():
    """Start another process, and give it with its origin."""
    with subprocess.Popen(
        [sys.executable, "-c", SAY_ORIGIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as process:
        yield process, pickle.loads(bytes.fromhex(process.stdout.readline()))
        process.kill()


def test_origin_is_computed_once():
    """The origin of a process is the same object each time, and names this process."""
    origin = current_origin()
    assert origin is current_origin()
    assert origin.pid == os.getpid()
    assert origin.host
    assert origin.boot
    assert origin.user


def test_this_process_is_there():
    """A process that asks for itself is there."""
    assert is_gone(current_origin()) is False


def test_live_and_dead_process(other):
    """Another process is there until it ends; also before its parent has noticed the end."""
    process, origin = other
    assert origin.pid == process.pid
    assert is_gone(origin) is False
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
    assert is_gone(origin) is True
    process.wait()
    assert is_gone(origin) is True


@pytest.mark.parametrize("seconds", [-5.0, 5.0])
def test_pid_that_was_given_out_again(other, seconds):
    """A process with the same pid that started at another time is another process."""
    for origin in (other[1], current_origin()):
        assert is_gone(replace(origin, born=origin.born + seconds)) is True


def test_other_boot():
    """Processes of an earlier run of the kernel are gone, whatever their pid."""
    origin = current_origin()
    assert is_gone(replace(origin, boot="another")) is True


def test_other_host():
    """Of another host's processes nothing is known."""
    assert is_gone(replace(current_origin(), host="elsewhere")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces of pids")
def test_container_on_this_host():
    """Of a container on the same host, whose pids are its own, nothing is known."""
    origin = current_origin()
    assert "." in origin.boot
    assert is_gone(replace(origin, boot=origin.boot + "0", pid=1)) is None


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_is_another_process():
    """A forked child does not take its parent's origin for its own."""
    parent = current_origin()
    child = os.fork()
    if child == 0:
        mine = current_origin()
        os._exit(0 if mine.pid == os.getpid() != parent.pid and not is_gone(parent) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_user_without_a_name(monkeypatch):
    """Where the user has no name, as in some containers, the number stands for it."""
    from daskperiment.store import liveness

    def fail():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(liveness.getpass, "getuser", fail)
    assert liveness._user() == str(os.getuid())
