"""What killed processes began to write beside journals goes, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import daskperiment
from daskperiment.recording.unfinished import clear_unfinished, unfinished

BEGIN = """
import os, sys
from pathlib import Path
import daskperiment.recording.{module} as module
def die(*args):
    os._exit(0)
{patch}
{act}
"""
WRITERS = {
    "journal": {
        "module": "journal",
        "patch": "module.os.rename = die",
        "act": "module.JournalFile(Path(sys.argv[1]))",
    },
    "object": {
        "module": "pending_objects",
        "patch": "module.os.replace = die",
        "act": "module.PendingObjects(Path(sys.argv[1])).keep('ab', [b'x' * 100])",
    },
}


@pytest.mark.parametrize("writer", WRITERS)
def test_left_by_a_killed_process(writer: str, tmp_path: Path) -> None:
    """A journal or an object that was being written when its process died is removed."""
    code = BEGIN.format(**WRITERS[writer])
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    [left] = tmp_path.iterdir()
    assert left.name.endswith(".part")
    assert clear_unfinished(tmp_path) == [left]
    assert list(tmp_path.iterdir()) == []


def test_being_written_is_left_alone(tmp_path: Path) -> None:
    """What this process, or a process of another host, writes at this moment stays."""
    ours = unfinished(tmp_path / "ab.object")
    theirs = tmp_path / "ab.object.0123456789ab-1-01234567.part"
    older = tmp_path / "cd.0123456789abcdef.part"  # as an earlier version called them
    whole = tmp_path / "ab.object"
    for path in (ours, theirs, older, whole):
        path.write_bytes(b"x")
    assert clear_unfinished(tmp_path, tmp_path / "absent") == []
    a_day_ago = time.time() - 90_000
    for path in (ours, theirs, older, whole):
        os.utime(path, (a_day_ago, a_day_ago))
    assert set(clear_unfinished(tmp_path)) == {theirs, older}
    assert set(tmp_path.iterdir()) == {ours, whole}


def test_the_next_process_clears_up(tmp_path: Path) -> None:
    """Whoever opens the experiment removes what is left beside journals and among objects."""
    ex = daskperiment.Experiment("left", backend=tmp_path)
    spool = tmp_path / "left" / "journal" / "spool"
    spool.mkdir(parents=True)
    code = BEGIN.format(**WRITERS["object"])
    subprocess.run([sys.executable, "-c", code, str(spool)], check=True)
    assert len(list(spool.iterdir())) == 1
    ex.flush()
    assert list(spool.iterdir()) == []
