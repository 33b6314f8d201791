"""Secret parameters on a cluster: workers have the value, and no record has it."""

from __future__ import annotations

import dask
import pytest

import daskperiment
from daskperiment.recording.registry import close_recorders

TEXT = "hunter2-Zq9"


@pytest.fixture
def total(ex):
    """Make a result that fails with its secret's text, if it is asked to."""
    dsn = ex.parameter("dsn", secret=True)
    mode = ex.parameter("mode", default="work")

    @ex.parameter
    def url(dsn):
        return f"db://{dsn['password']}@host"

    @ex.persist(reuse=True)
    def size(dsn, part, url):
        assert url == f"db://{part}@host"
        return len(dsn["password"])

    @ex.result
    def total(size, url, mode):
        if mode == "fail":
            raise ConnectionError(f"no {url}")
        return size

    return total(size(dsn, dsn["password"], url), url, mode)


def everything(folder):
    """Give all that stands in files."""
    return b"\0".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["compute", "dask.compute", "client.compute", "lists", "sweep"])
def test_no_way_to_a_cluster_leaves_a_secret(ex, total, client, tmp_path, way):
    """Trials succeed and fail on workers, and their records have the secret in no text."""
    s = total.bind(dsn={"password": TEXT})
    bad = s.bind(mode="fail")
    if way == "compute":
        assert s.compute() == len(TEXT)
        with pytest.raises(ConnectionError, match=TEXT):
            bad.compute()
    elif way == "dask.compute":
        assert dask.compute(s) == (len(TEXT),)
        with pytest.raises(ConnectionError):
            dask.compute(bad)
    elif way == "client.compute":
        assert client.compute(s).result() == len(TEXT)
        with pytest.raises(ConnectionError):
            client.compute(bad, retries=1).result()
    elif way == "lists":
        futures = client.compute([s, bad])
        assert futures[0].result() == len(TEXT)
        with pytest.raises(ConnectionError):
            futures[1].result()
    else:
        space = {"dsn": [{"password": TEXT}], "mode": ["work", "fail"]}
        assert set(total.sweep(space)["Success"]) == {True, False}
    history = ex.get_history()
    ex.flush()
    close_recorders()
    # The client, which writes what a task that is tried again cannot, knows parameters only.
    hidden = "db://<secret>@host" if way == "client.compute" else "<secret>"
    assert f"ConnectionError(no {hidden})" in history["Description"].tolist()
    assert len(everything(tmp_path)) > 10_000
    assert TEXT.encode() not in everything(tmp_path)


def test_workers_mark_with_the_key_of_who_submits(ex, total, client):
    """What a worker recorded is a hit and comparable here, though it has no key of its own."""
    with dask.config.set({"daskperiment.secret-key": "one of the client alone"}):
        s = total.bind(dsn={"password": TEXT})
        s.compute()
        assert ex.explain(s).steps[0].verdict == "hit"
        assert s.compute(scheduler="synchronous", reuse=False) == len(TEXT)
        assert ex.compare(1, 2).identical


def test_processes_have_secrets_too(ex, total):
    """A pool of processes gets the value, and a hit is one there."""
    s = total.bind(dsn={"password": TEXT})
    assert s.compute(scheduler="processes") == len(TEXT)
    assert s.compute(scheduler="threads") == len(TEXT)
    assert ex.get_steps(2)["Reused From"].tolist()[0] == 1
    assert isinstance(ex, daskperiment.Experiment)
