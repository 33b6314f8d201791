"""Trials that a cluster computed are signed and numbered by each of its workers."""

from __future__ import annotations

import time

import dask
import pytest
from dask.distributed import wait

from daskperiment.cli.signature_check import SignatureCheck

KEY = "a secret of the tests"


def lines(store):
    """Check the signatures of a store."""
    check = SignatureCheck(store, KEY.encode(), lambda: False)
    return [f"{one.place}: {one.what}" for one in check.run()]


def test_whoever_computes_and_ends_a_trial_leaves_no_gap(ex, client, tmp_path):
    """Reused, shared, retried, failed, cancelled and swept trials of two workers look whole."""
    n, gate = ex.parameter("n", default=1), tmp_path / "gate"

    @ex.persist(reuse=True)
    def first(n):
        return n + 1

    @ex
    def each(value, number):
        return value + number

    @ex.result
    def last(values, n):
        if n < 0:
            raise ValueError("negative")
        while n > 50 and not gate.exists():
            time.sleep(0.02)
        return sum(values)

    s = last([each(first(n), number) for number in range(6)], n)
    own = {"daskperiment.signing-key": KEY, "daskperiment.journal": str(tmp_path / "journals")}
    with dask.config.set(own):
        futures = client.compute([s, s.bind(n=2)], retries=1)
        wait(futures)
        assert s.compute() == 27
        for future in (client.compute(s.bind(n=-1)), client.compute(s.bind(n=-2), retries=1)):
            with pytest.raises(ValueError, match="negative"):
                future.result()
        s.sweep({"n": [1, 2, 3, 4]})
        cancelled = client.compute(s.bind(n=60))
        while ex.get_history(running=True).index.max() < 10:
            time.sleep(0.05)
        client.cancel(cancelled)
        del cancelled
        while (ex.get_history(True, running=True)["Status"] == "running").any():
            time.sleep(0.05)
        gate.touch()
        assert len(ex.get_history()) == 10
        assert lines(ex._store) == []
        runs = ex.get_steps().groupby("Trial ID")["Worker"].nunique()
        assert runs.max() == 2
