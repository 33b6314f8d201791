"""Sweeps that go on when their client has ended, and that others follow."""

from __future__ import annotations

import pytest
from distributed import Client

import daskperiment
from daskperiment.sweep.detached import conductor_of
from daskperiment.sweep.sweep_plan import known_sweeps
from tests.distributed.clusters import wait_until
from tests.distributed.programs import noted, runs

pytestmark = pytest.mark.filterwarnings(
    "ignore::daskperiment.errors.CodeChangedWarning",
    "ignore::daskperiment.errors.EnvironmentChangedWarning",
)


@pytest.fixture
def ex(tmp_path):
    return daskperiment.Experiment("swept", backend=tmp_path / "store")


@pytest.fixture
def result(ex, place):
    """Return the result that the client's program has, too."""

    @ex.result
    def double(a, folder):
        return noted(a, folder)

    return double(ex.parameter("a"), ex.parameter("folder", str(place)))


def test_the_client_may_end(cluster, tmp_path, place, ex, result):
    """A detached sweep goes on without its client, and another one follows it by its id."""
    cluster.add()
    pid = cluster.start("sweep", cluster.address, str(tmp_path / "store"), str(place), True)
    wait_until(lambda: len(runs(place)) > 3)
    assert cluster.join(pid) == 0
    (id,) = known_sweeps(ex._store)
    with Client(cluster.address) as client:
        now = result.sweep(resume=id, detach=True)
        assert now.attrs["sweep"] == id
        assert len(now) <= 3 < 6
        (place / "gate").touch()
        frame = result.sweep(resume=id, progress=False)
        assert conductor_of(client, id) is None
    assert frame["Result"].tolist() == [2 * a for a in frame["a"]]
    assert sorted(frame["a"]) == list(range(6))
    assert runs(place) == dict.fromkeys(range(6), 1)
    assert frame.attrs["sweep"] == id


def test_the_worker_that_conducts_may_die(cluster, place, ex, result, monkeypatch):
    """When its worker is killed, another one goes on with the sweep: every point succeeds."""
    cluster.add()
    with Client(cluster.address) as client:
        frame = result.sweep({"a": list(range(4))}, progress=False, detach=True)
        wait_until(lambda: len(runs(place)) > 3)
        cluster.kill()
        (place / "gate").touch()
        cluster.add()
        frame = result.sweep(resume=frame.attrs["sweep"], progress=False)
        assert conductor_of(client, frame.attrs["sweep"]) is None
    assert sorted(frame.loc[frame["Success"], "a"]) == list(range(4))


def test_what_ends_a_detached_sweep_is_raised_where_it_is_followed(client, ex):
    """A trial that fails ends a sweep with on_error="raise", for whoever follows it, once."""

    @ex.result
    def fail(a):
        raise ZeroDivisionError(a)

    result = fail(ex.parameter("a"))
    id = result.sweep({"a": [1]}, on_error="raise", detach=True, progress=False).attrs["sweep"]
    with pytest.raises(ZeroDivisionError):
        result.sweep(resume=id, progress=False)
    assert conductor_of(client, id) is None
    assert len(result.sweep(resume=id, progress=False)) == 1


def test_detaching_needs_a_cluster(ex, result):
    """Without a cluster, and with a wrong value, nothing is run; the error says what to do."""
    with pytest.raises(ValueError, match=r"distributed\.Client"):
        result.sweep({"a": [1]}, detach=True)
    with pytest.raises(TypeError, match="detach is 1; expected True or False"):
        result.sweep({"a": [1]}, detach=1)
    assert known_sweeps(ex._store) == []
