"""Ctrl-C, and computations that nobody waits for any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest

import daskperiment
from tests.helpers.garbage import collect

PROGRAM = """
import sys, time, pathlib, daskperiment
ex = daskperiment.Experiment("interrupted", backend=pathlib.Path(sys.argv[1]))
@ex.result
def slow():
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(60)
try:
    slow().compute(scheduler=sys.argv[3])
except KeyboardInterrupt:
    print(ex.get_history(verbose=True)["Status"].tolist(), flush=True)
    import os; os._exit(3)  # a thread still sleeps
"""


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_ctrl_c(tmp_path, scheduler):
    """Ctrl-C while a step runs reaches the user, and the trial is interrupted at once."""
    marker = tmp_path / "marker"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), str(marker), scheduler],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not marker.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert out.strip() == "['interrupted']"


def test_trials_beside_a_failing_one(ex):
    """Of trials computed together, those that a failure cut off are interrupted, not running."""
    a = ex.parameter("a")
    started = threading.Event()

    @ex
    def maybe(a):
        if a == 0:
            started.wait(30)
            raise ValueError("zero")
        started.set()
        return a

    @ex.result
    def use(x):
        return x

    result = use(maybe(a))
    with pytest.raises(ValueError, match="zero"):
        dask.compute(result.bind(a=0), result.bind(a=1), scheduler="threads", num_workers=2)
    deadline = time.monotonic() + 60
    statuses = {"running"}
    while "running" in statuses:  # as long as a thread of Dask's ends the step that it is in
        assert time.monotonic() < deadline
        collect()
        statuses = set(ex.get_history(verbose=True, running=True)["Status"])
    assert "failed" in statuses


def test_running_trial_is_shown_on_request(ex):
    """While a trial runs it is in the history only if running trials are asked for."""
    inside, go_on = threading.Event(), threading.Event()

    @ex.result
    def wait():
        inside.set()
        assert go_on.wait(30)
        return 1

    thread = threading.Thread(target=wait().compute)
    thread.start()
    assert inside.wait(30)
    assert ex.get_history().empty
    assert ex.get_history(running=True, verbose=True)["Status"].tolist() == ["running"]
    assert ex.trial_id == 1
    go_on.set()
    thread.join()
    assert ex.get_history(verbose=True)["Status"].tolist() == ["succeeded"]


def test_same_id_after_a_finished_process(tmp_path):
    """A process that ends in the ordinary way leaves no journal behind."""
    code = (
        "import sys, pathlib, daskperiment\n"
        "ex = daskperiment.Experiment('tidy', backend=pathlib.Path(sys.argv[1]))\n"
        "@ex.result\n"
        "def one():\n"
        "    ex.save_metric('m', 0, 1.0)\n"
        "    return 1\n"
        "one().compute()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path)], env=environment, check=True
        )
    ex = daskperiment.Experiment("tidy", backend=tmp_path)
    assert not list((tmp_path / "tidy" / "journal").glob("*.journal"))
    assert ex.load_metric("m", [1, 2]).to_numpy().tolist() == [[1.0, 1.0]]
