"""The recipe for SLURM with Dask's workers as jobs, with an sbatch that starts jobs right here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue")
from distributed import Client

from tests.distributed.clusters import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SBATCH = """#!/bin/bash
cp "$1" "$JOBS/script-$$"
setsid bash "$JOBS/script-$$" >"$JOBS/out-$$" 2>&1 &
echo $! >"$JOBS/$$"
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/bash
for id in "$@"; do [ -f "$JOBS/$id" ] && kill -- -"$(cat "$JOBS/$id")" 2>/dev/null; done
exit 0
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Put programs of a queue first on the path; return the folder of its jobs."""
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    for folder in (programs, jobs):
        folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("JOBS", str(jobs))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.getcwd()]))
    return jobs


def test_a_sweep_by_jobs_of_a_queue(ex, queue, tmp_path):
    """A cluster of jobs grows for a sweep, computes all points in its jobs, and ends them."""
    from dask_jobqueue import SLURMCluster

    @ex.result
    def double(a):
        return 2 * a, os.environ.get("JOBS") is not None, os.getpid()

    s = double(ex.parameter("a"))
    with SLURMCluster(
        queue="short", cores=1, memory="1GB", walltime="00:10:00", interface="lo",
        python=sys.executable, local_directory=str(tmp_path), log_directory=str(tmp_path),
        worker_extra_args=["--lifetime", "8m", "--no-dashboard"],
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    ) as cluster, Client(cluster):  # fmt: skip
        cluster.adapt(minimum=0, maximum=2)
        frame = s.sweep({"a": list(range(6))}, progress=False)
    found = frame["Result"].tolist()
    assert [each[:2] for each in found] == [(2 * a, True) for a in frame["a"]]
    assert os.getpid() not in {each[2] for each in found}
    scripts = [path.read_text() for path in queue.glob("script-*")]
    assert 1 <= len(scripts) <= 2
    assert all("#SBATCH -p short" in text and "--lifetime 8m" in text for text in scripts)
    pids = [int(path.read_text()) for path in queue.iterdir() if "-" not in path.name]
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid: int) -> bool:
    """Whether a process of a job is there; one that ended waits for nobody here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it went as it was read
        return False
