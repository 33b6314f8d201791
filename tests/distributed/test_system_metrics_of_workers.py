"""What trials use of the machines of a cluster's workers."""

from __future__ import annotations

from pathlib import Path

import dask

from tests.distributed.clusters import wait_until


def test_each_worker_has_its_own(ex, client, tmp_path):
    """Each worker that runs a step for long has a series of its own, under its name."""
    a, gate = ex.parameter("a", default=1), tmp_path / "gate"

    @ex
    def wait(a, gate):
        import time

        while not Path(gate).exists():
            time.sleep(0.02)
        return a

    @ex.result
    def last(x, y):
        return x + y

    def series():
        names = ex.get_metrics(1, system=True) if len(ex.get_history(running=True)) else []
        return [one for one in names if one.endswith("/memory_mb")]

    workers = client.scheduler_info()["workers"]
    steps = []
    for address in workers:
        with dask.annotate(workers=[address], allow_other_workers=False):
            steps.append(wait(a, str(gate)))
    with dask.config.set({"daskperiment.system-metrics": 1}):
        future = client.compute(last(*steps))
        try:
            wait_until(lambda: len(series()) == 2)
        finally:
            gate.touch()
        assert future.result() == 2
    assert {name.split("/")[1] for name in series()} == {one["name"] for one in workers.values()}
    assert all(len(ex.load_metric(name, 1)) >= 1 for name in series())
