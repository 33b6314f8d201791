"""Workers need a store that they reach: a folder must be the same folder for them."""

from __future__ import annotations

import dask
import pytest
from distributed import Client

import daskperiment
from daskperiment.errors import StoreError
from daskperiment.recording.registry import close_recorders
from tests.distributed.clusters import can_hide
from tests.store.redis_server import redis_server, server_of_wheel


@pytest.fixture
def doubled(ex):
    a = ex.parameter("a", 2)

    @ex
    def double(a):
        return 2 * a

    @ex.result
    def last(x):
        return x

    return last(double(a))


@pytest.fixture
def elsewhere(cluster, ex):
    """Add a worker that sees nothing in the experiment's folder, which exists for it."""
    folder = ex._store.folder
    folder.mkdir(parents=True)
    if not can_hide(folder):
        pytest.skip("this user may not unshare mounts")
    return cluster.add(hidden=folder)


def test_worker_that_sees_another_folder(ex, doubled, cluster, elsewhere):
    """The trial fails before its first step, and says which folder, which worker and what to do."""
    with Client(cluster.address) as client:
        (address,) = client.scheduler_info(n_workers=-1)["workers"]
        with pytest.raises(StoreError) as caught:
            client.compute(doubled).result(timeout=60)
        message = str(caught.value)
        assert repr(str(ex._store.folder)) in message
        assert address in message
        assert "redis://" in message
        assert "mongodb://" in message
        assert client.run(_content, str(ex._store.folder)) == {address: []}
        assert "running" not in ex.get_history(verbose=True, running=True)["Status"].tolist()
        assert ex.get_steps().empty


def test_worker_with_an_experiment_of_its_own_there(ex, doubled, cluster, tmp_path):
    """A worker that has another experiment in a folder of this name writes nothing into it."""
    folder = ex._store.folder
    folder.mkdir(parents=True)
    if not can_hide(folder):
        pytest.skip("this user may not unshare mounts")
    cluster.add(hidden=folder, stranger=True)
    with Client(cluster.address) as client:
        (address,) = client.scheduler_info(n_workers=-1)["workers"]
        with pytest.raises(StoreError, match="this name is another one") as caught:
            client.compute(doubled).result(timeout=60)
        assert repr(str(folder)) in str(caught.value)
        assert address in str(caught.value)
        assert client.run(_trials_there, str(folder)) == {address: [1]}
    assert ex.get_steps().empty


def _trials_there(folder):
    import os

    import daskperiment

    mine = daskperiment.Experiment(os.path.basename(folder), os.path.dirname(folder))
    return mine.get_history(running=True, verbose=True).index.tolist()


def test_step_on_a_worker_that_sees_another_folder(ex, cluster, elsewhere):
    """Begun where the folder is seen, the trial fails on the worker that does not see it."""
    near, a = cluster.add(), ex.parameter("a", 2)

    @ex
    def here(a):
        return a

    @ex.result
    def there(x):
        return x

    with Client(cluster.address) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"].items()
        address = next(at for at, worker in workers if worker["name"] == elsewhere)
        first = here(a)
        with dask.annotate(workers=[elsewhere]):
            result = there(first)
        with pytest.raises(StoreError, match=address):
            client.compute(result, workers=[near]).result(timeout=60)
        history = ex.get_history(verbose=True)
    assert history["Status"].tolist() == ["failed"]
    assert history["Description"][1].startswith("StoreError(The experiment is kept in the folder")
    assert ex.get_steps(1)["Step"].tolist() == ["here"]


def test_server_instead_of_a_folder(cluster, tmp_path, monkeypatch):
    """Workers that share no folder with the client record in a server that all reach."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path / "journal"))
    with redis_server(server_of_wheel(), tmp_path / "redis") as server:
        ex = daskperiment.Experiment("remote", backend=server.url)
        cluster.add()

        @ex.result(persist=True)
        def last(a):
            ex.save_metric("loss", 0, 0.5)
            return [a]

        with Client(cluster.address) as client:
            assert client.compute(last(ex.parameter("a", 2))).result(timeout=60) == [2]
        assert ex.get_history(verbose=True)["Status"].tolist() == ["succeeded"]
        assert ex.load_metric("loss", 1)[1].tolist() == [0.5]
        assert ex.get_persisted("last", 1) == [2]
        close_recorders()


def _content(folder):
    import os

    return os.listdir(folder)


def test_worker_in_another_directory(tmp_path, cluster, monkeypatch):
    """A folder that was named relative to one directory is the same for a worker in another."""
    monkeypatch.chdir(tmp_path)
    ex = daskperiment.Experiment("relative", backend="here")
    cluster.add()

    @ex.result
    def one():
        return 1

    with Client(cluster.address) as client:
        assert client.compute(one()).result(timeout=60) == 1
    assert (tmp_path / "here" / "relative" / "records.sqlite").exists()
    assert ex.get_history()["Result"].tolist() == [1]
    assert list((tmp_path / "cluster").rglob("records.sqlite")) == []
