"""The power goes at each moment of a program, and the disk forgets what was not synchronised."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import daskperiment
from daskperiment import experiment
from daskperiment.cli.checkup import examine
from daskperiment.errors import DaskperimentError, MetricNotFoundError, StoreWarning
from daskperiment.recording.registry import close_recorders
from daskperiment.store.opening import open_store
from tests.survival.power import Disk, record

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import daskperiment

ex = daskperiment.Experiment("cut", backend=Path(sys.argv[1]))

@ex.persist
def keep(a):
    for epoch in range(4):
        ex.save_metric("loss", epoch, a + epoch)
    return np.full(200_000 if a == 2 else 1000, float(a))

@ex.result
def score(kept, a):
    return {"a": a}

result = score(keep(ex.parameter("a")), ex.parameter("a"))
for a in range(1, 6):
    result.bind(a=a).compute(scheduler="synchronous")
    print("trial", a, flush=True)
"""
LARGE = 2
"""The trial that keeps so much that it is a file of its own."""


class Recorded(NamedTuple):
    """What the program did, and where."""

    folder: Path
    operations: list


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Run the program, and have all that it wrote."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    root = tmp_path_factory.mktemp("power")
    program, folder = root / "program.py", root / "store"
    program.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(program), str(folder)]
    operations = record(folder, root / "log", command, {**env, "OPENBLAS_NUM_THREADS": "1"})
    whole = Disk(folder)
    for operation in operations:
        whole.do(operation)
    assert whole.matches(folder)  # nothing was overlooked
    return Recorded(folder, operations)


def trials_said(text: str) -> list[int]:
    return [int(number) for number in re.findall("^trial (.)$", text, re.MULTILINE)]


def look(folder: Path, *, whole: bool) -> list[int]:
    """Return the trials of what is left that succeeded; all that is there is true.

    Of a journal that lost something in its midst single points and records may be missing, so that
    not all of a trial is there that succeeded.
    """
    close_recorders()
    experiment._EXPERIMENTS.clear()
    ex = daskperiment.Experiment("cut", backend=folder)
    history = ex.get_history(verbose=True, running=True)
    assert history.index.tolist() == list(range(1, len(history) + 1))
    done = []
    for trial, row in history.iterrows():
        assert row["Status"] in ("succeeded", "lost")
        missing = _missing(ex, trial, row["a"])
        if row["Status"] == "succeeded":
            assert row["Result"] == {"a": row["a"]}
            assert not (missing and whole), (trial, missing)
            done.append(row["a"])
    return sorted(done)


def _missing(ex: daskperiment.Experiment, trial: int, a: int) -> list[str]:
    """Return what is missing of a trial; what is there is its own."""
    missing = []
    try:
        points = ex.load_metric("loss", trial)[trial]
        assert points.tolist() == [a + epoch for epoch in points.index]
        missing += ["points"] * (len(points) < 4)
    except MetricNotFoundError:
        missing.append("points")
    if a != LARGE:
        try:
            assert np.array_equal(ex.get_persisted("keep", trial), np.full(1000, float(a)))
        except DaskperimentError:
            missing.append("value")
    return missing


def moments(operations: list, step: int) -> list[int]:
    """Return after how many operations the power goes: some writes, and all else but readings."""
    writes = [i for i, one in enumerate(operations, 1) if one.call == "write"]
    others = [
        i for i, one in enumerate(operations, 1) if one.call not in ("write", "close", "lseek")
    ]
    return sorted({*writes[::step], *others, len(operations)})


@pytest.mark.parametrize("left", ["what is safe", "any part of the rest", "another part"])
def test_power_cut(recorded, left, tmp_path):
    """The store opens after each, ids have no gaps, no row is mixed, and no trial is half there.

    What a process left that ended before the last synchronisation is there as a whole.
    """
    step = int(os.environ.get("DASKPERIMENT_POWER_STEP", "12"))
    disk, done = Disk(recorded.folder), 0
    for moment in moments(recorded.operations, step):
        for operation in recorded.operations[done:moment]:
            disk.do(operation)
        done = moment
        rng = None if left == "what is safe" else random.Random(f"{left} {moment}")
        disk.lay_out(tmp_path / "left", rng)
        with warnings.catch_warnings():
            # A journal with holes, or of a trial that the database has no more: what can be read of
            # it is delivered, and that is told.
            for told in ("bytes of it cannot be read", "lacks what was written here since"):
                warnings.filterwarnings("ignore", f".*{told}", StoreWarning)
            found = look(tmp_path / "left", whole=rng is None)
        assert set(found) <= {1, 2, 3, 4, 5}
        assert len(set(found)) == len(found)
        assert look(tmp_path / "left", whole=rng is None) == found
    assert found == [1, 2, 3, 4, 5]  # the program had ended, and closed its database


def test_large_value_that_was_cut_off(recorded, tmp_path):
    """A value that is a file of its own may not be whole: it is refused, and a check names it."""
    disk = Disk(recorded.folder)
    for operation in recorded.operations:
        disk.do(operation)
    disk.lay_out(tmp_path / "left", None)
    assert look(tmp_path / "left", whole=True) == [1, 2, 3, 4, 5]
    ex = daskperiment.Experiment("cut", backend=tmp_path / "left")
    with pytest.raises(DaskperimentError):
        ex.get_persisted("keep", LARGE)
    (finding,) = examine(open_store(tmp_path / "left", "cut")).findings
    assert f"of trial {LARGE}" in finding.what
