"""What trials use of the machines of a cluster's workers."""

from __future__ import annotations

import dask


def test_each_worker_has_its_own(ex, client):
    """Each worker that runs a step for long has a series of its own, under its name."""
    a = ex.parameter("a", default=1)

    @ex
    def wait(a, name):
        import time

        time.sleep(3.5)
        return a

    @ex.result
    def last(x, y):
        return x + y

    with dask.config.set({"daskperiment.system-metrics": 1}):
        assert client.compute(last(wait(a, "x"), wait(a, "y"))).result() == 2
    names = [one for one in ex.get_metrics(1, system=True) if one.endswith("/memory_mb")]
    workers = {each["name"] for each in client.scheduler_info()["workers"].values()}
    assert {name.split("/")[1] for name in names} == workers
    assert all(len(ex.load_metric(name, 1)) >= 1 for name in names)
