"""Trials that are gone on with on a cluster, and steps that a cluster runs again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from distributed import Client

from tests.distributed.clusters import wait_until
from tests.reproduce.loops import BREAK, EPOCHS, define


def test_on_a_cluster(ex, client, monkeypatch):
    """A trial that failed here is gone on with on workers, with the draws that were to come."""
    result = define(ex)
    monkeypatch.setenv(BREAK, "7")
    with pytest.raises(RuntimeError, match="broken at 7"):
        result.compute(scheduler="synchronous", seed=5)
    monkeypatch.delenv(BREAK)
    found = result.resume(1)
    assert found == result.compute(scheduler="synchronous", seed=5)
    assert ex.load_metric("loss", 2).index.tolist() == list(range(1, EPOCHS + 1))
    history = ex.get_history(verbose=True)
    assert history.loc[2, "Resumes"] == 1


def test_a_worker_is_killed(ex, cluster, tmp_path):
    """A step whose worker died goes on elsewhere in the same trial from its own checkpoint."""
    names = [cluster.add(), cluster.add()]
    inside = str(tmp_path / "inside")

    @ex.result
    def train(inside):
        drawn, last = ex.restore(default=([], 0))
        for epoch in range(last + 1, 6):
            drawn = [*drawn, float(ex.rng.random())]
            ex.save_metric("begun", epoch, last)
            ex.checkpoint(drawn, epoch)
            if epoch == 3 and not last:
                time.sleep(1.2)  # its journal is delivered once a second
                with open(inside, "w") as file:
                    file.write(str(os.getpid()))
                time.sleep(60)
        return drawn

    with Client(cluster.address) as client:
        future = client.compute(train(inside))
        pid = int(wait_until(lambda: os.path.exists(inside) and Path(inside).read_text()))
        os.kill(pid, signal.SIGKILL)
        drawn = future.result(timeout=60)
    assert names
    assert len(set(drawn)) == 5
    assert ex.trial_id == 1
    assert ex.load_metric("begun", 1)[1].tolist() == [0, 0, 0, 3, 3]
