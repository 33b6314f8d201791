"""A server that takes connections and never answers."""

from __future__ import annotations

import threading

import dask
import numpy as np
import pytest

import daskperiment
from daskperiment.codec import decode
from daskperiment.errors import StoreUnavailableError, StoreWarning
from daskperiment.history.trial_records import PointBatch
from tests.helpers.awake import AwakeTime
from tests.shared.conftest import open_again
from tests.shared.stalling import StallingProxy
from tests.store.patience import once_back

POINTS = 1000


@pytest.fixture(params=["redis", "mongo"])
def proxy(request, make_place):
    """Run a proxy before a server; its attribute `place` is a backend behind it."""
    place = make_place(request.param)
    with StallingProxy(place.server.port) as proxy:
        proxy.place = place.backend.replace(str(place.server.port), str(proxy.port))
        yield proxy
        proxy.resume()
        daskperiment.recording.registry.close_recorders()


def test_save_metric_never_waits(proxy):
    """Points are saved while the delivery of others hangs."""
    ex = daskperiment.Experiment("stalled", backend=proxy.place)
    hanging = threading.Thread(target=ex.flush)

    @ex.result
    def train():
        ex.save_metric("loss", 0, 0)
        proxy.stall()
        hanging.start()
        assert proxy.held.wait(60)
        for epoch in range(1, POINTS):
            ex.save_metric("loss", epoch, epoch)
        still = hanging.is_alive()
        proxy.resume()
        return still

    with dask.config.set({"daskperiment.timeout": 60}):
        assert train().compute(), "the delivery did not hang"
        hanging.join()
    assert ex.load_metric("loss", 1)[1].tolist() == list(range(POINTS))


def test_trial_ends_without_answer(proxy):
    """A trial whose server stops answering gives its result, warns once and loses nothing.

    The limit is also that of what the trial asks before the server stalls.
    """
    dask.config.set({"daskperiment.timeout": 12})  # until the end of the test
    ex = daskperiment.Experiment("stalled", backend=proxy.place)

    @ex.persist
    def train():
        proxy.stall()
        for epoch in range(POINTS):
            ex.save_metric("loss", epoch, epoch)
        return np.arange(1000)

    @ex.result
    def total(array):
        return int(array.sum())

    with pytest.warns(StoreWarning, match="in time") as caught:
        assert total(train()).compute() == 499_500
    assert len(caught) == 1
    assert "waiting" in repr(ex)
    proxy.resume()
    ex.flush(timeout=60)
    ex = open_again("stalled", proxy.place)
    assert ex.get_history()["Result"].tolist() == [499_500]
    assert ex.load_metric("loss", 1)[1].tolist() == list(range(POINTS))
    saved = [decode(one.body, PointBatch) for one in ex._store.read("points")]
    assert sum(len(list(batch.each())) for batch in saved) == POINTS
    assert ex.get_persisted("train", 1).sum() == 499_500


def test_trial_does_not_begin_without_answer(proxy):
    """A trial cannot begin while its store does not answer; that is told soon."""
    with dask.config.set({"daskperiment.timeout": 0.5}):
        ex = daskperiment.Experiment("stalled", backend=proxy.place)

        @ex.result
        def one():
            return 1

        proxy.stall()
        with AwakeTime() as taken, pytest.raises(StoreUnavailableError, match="in time"):
            one().compute()
        # The limit is half a second: several attempts in a row would take several times as long.
        assert taken.seconds < 5
        proxy.resume()
    assert once_back(lambda: one().compute()) == 1
