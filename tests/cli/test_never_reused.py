"""``daskperiment explain SCRIPT`` lists what is never reused before anything has run."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.conftest import process

SCRIPT = """
import sqlite3

import daskperiment

ex = daskperiment.Experiment("never")
CONNECTION = sqlite3.connect(":memory:")
COUNT = 0

@ex.persist(reuse=True)
def ask():
    return CONNECTION.execute("SELECT 1").fetchone()

@ex.persist(reuse=True)
def count():
    global COUNT
    COUNT += 1
    return COUNT

@ex.persist(reuse=True)
def take(connection):
    return 1

@ex.persist(reuse=True)
def fine(*values):
    return 1

@ex.result
def last(value):
    return value

result = last(fine(ask(), count(), take(CONNECTION)))
"""


def test_before_the_first_run(tmp_path: Path) -> None:
    """Each step that never is reused is listed with reason and cure, and no other is."""
    (tmp_path / "never.py").write_text(SCRIPT)
    done = process("explain", "never.py", env={**os.environ, "COLUMNS": "400"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    told = {line.split()[0]: line for line in lines if "never reused: " in line}
    assert set(told) == {"ask", "count", "take"}
    made = "make it in the step, or say what counts of its class with"
    assert "CONNECTION, which its code reads, has no fingerprint" in told["ask"]
    assert made in told["ask"]
    assert "COUNT, which its code reads, is changed by the code; make it an" in told["count"]
    assert "an argument has no fingerprint" in told["take"]
    assert made in told["take"]
    assert "before it, ask: CONNECTION, which its code reads" in next(
        line for line in lines if line.split()[0] == "fine"
    )
