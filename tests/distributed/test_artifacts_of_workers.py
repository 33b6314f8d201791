"""Artifacts that are saved on a cluster's workers."""

from __future__ import annotations

import numpy as np


def test_saved_on_workers(ex, client):
    """They are there when the result is, with reused steps too."""
    a = ex.parameter("a", default=1)

    @ex.persist(reuse=True)
    def fit(a):
        ex.save("weights", np.full(10, a))
        return a

    @ex.result
    def last(a):
        ex.save("report", {"a": a})
        return a

    result = last(fit(a))
    assert client.compute(result).result() == 1
    assert client.compute(result).result() == 1
    for trial in (1, 2):
        assert ex.get_artifacts(trial)["Name"].tolist() == ["weights", "report"]
        assert ex.load("weights", trial)[0] == 1
