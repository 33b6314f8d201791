"""Disks that are really full: of bytes, or of files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("full_disk.py")


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk, where this user may."""
    folder = tmp_path / "disk"
    folder.mkdir()
    order = ["mount", "-t", "tmpfs", "-o", "size=24m,nr_inodes=60", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(order, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def run(disk, *arguments):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    order = [sys.executable, str(PROGRAM), str(disk), *arguments]
    found = subprocess.run(order, env=env, capture_output=True, text=True, check=False)
    expected = -signal.SIGKILL if "killed" in arguments else 0
    assert found.returncode == expected, found.stderr
    return found


WHOLE = "succeeded 42 points 300 steps 4 kept 2000 400000"


@pytest.mark.parametrize(
    ("what", "cause"), [("bytes", "No space is left"), ("files", "inodes are used up")]
)
def test_full_for_a_moment(disk, what, cause):
    """A disk that fills in a step and has room after the trial: all of it is on record.

    What waits meanwhile is shown, and the cause is named once.
    """
    found = run(disk, "trial", what)
    assert found.stdout.splitlines() == ["42", "waiting"]
    assert found.stderr.count("StoreWarning") == 1
    assert cause in found.stderr
    assert run(disk, "ask").stdout.strip() == WHOLE
    # And it can be read by whoever is the first to come when the disk is full once more.
    assert run(disk, "ask", what, "full").stdout.strip() == WHOLE


@pytest.mark.parametrize("how", ["trial", "stay", "killed"])
def test_artifacts_and_logs_on_a_full_disk(disk, tmp_path, monkeypatch, how):
    """What is saved and said while the disk is full arrives when there is room.

    It waits on another disk meanwhile, though the process is killed.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run(disk, "trial", "bytes", "artifacts", "much", how)
    for path in (disk / "ballast").iterdir() if how != "trial" else ():
        path.unlink()
    found = run(disk, "artifacts", "much").stdout.strip()
    assert found == "199999.0 {'accuracy': 0.5} True 300 True"
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_artifacts_that_no_disk_takes(disk, monkeypatch):
    """Where no disk takes what is saved, it is said of each that it waits in memory alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(disk / "state"))
    said = run(disk, "trial", "bytes", "artifacts", "nowhere").stderr
    for name in ("weights", "report"):
        assert f"Artifact {name!r} of trial 1 waits in memory alone" in said
    found = run(disk, "artifacts").stdout.strip()
    assert found == "199999.0 {'accuracy': 0.5} True 300"


@pytest.mark.parametrize("place", ["state", "temporary"])
def test_full_at_the_end(disk, tmp_path, monkeypatch, place):
    """What a process cannot write before it ends waits on another disk, and comes from there.

    One line says where it is, and the next process that asks finds all.
    """
    away = tmp_path / "away"
    away.mkdir()
    state = away if place == "state" else disk
    monkeypatch.setenv("XDG_STATE_HOME", str(state / "state"))
    monkeypatch.setenv("TMPDIR", str(away))
    found = run(disk, "trial", "bytes", "stay")
    assert found.stdout.splitlines() == ["42", "waiting"]
    [line] = [line for line in found.stderr.splitlines() if "did not take all" in line]
    assert "No space is left" in line
    assert "lost with this process" not in line
    parent = away / "state" / "daskperiment" if place == "state" else away
    assert f"and {str(parent)!r}"[:-1] in line
    assert run(disk, "look").stdout.strip() == "1"  # the disk is full still: it goes on waiting
    for path in (disk / "ballast").iterdir():
        path.unlink()
    assert run(disk, "ask").stdout.strip() == WHOLE
    assert [path for path in away.rglob("*") if path.is_file()] == []


def test_full_everywhere_at_the_end(disk, monkeypatch):
    """A process that ends while no disk takes anything says in one line what is lost with it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(disk / "state"))
    found = run(disk, "trial", "bytes", "stay", "nowhere")
    assert found.stdout.splitlines() == ["42", "waiting"]
    lines = [line for line in found.stderr.splitlines() if "lost with this process" in line]
    assert len(lines) == 1
    assert "No space is left" in lines[0]
