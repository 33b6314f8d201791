"""What steps say on a cluster's workers."""

from __future__ import annotations

import dask


def test_heard_on_workers(ex, client):
    """Lines are there when the result is, of steps that ran at once too; the client decides."""
    a = ex.parameter("a", default=1)

    @ex
    def fit(a, name):
        print("fitting", name)
        return a

    @ex.result
    def last(x, y):
        print("last")
        return x + y

    result = last(fit(a, "x"), fit(a, "y"))
    assert client.compute(result).result() == 2
    lines = [line[24:] for line in ex.get_log(1).splitlines()]
    assert sorted(lines[:2]) == ["fit stdout: fitting x", "fit#2 stdout: fitting y"]
    assert lines[2:] == ["last stdout: last"]
    with dask.config.set({"daskperiment.logs": False}):
        assert client.compute(result).result() == 2
    assert ex.get_log(2) == ""
