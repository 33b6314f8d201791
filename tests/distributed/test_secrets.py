"""Secret parameters on a cluster: workers have the value, and no record has it."""

from __future__ import annotations

import traceback
from contextlib import suppress

import dask
import pytest
import redis

import daskperiment
from daskperiment.recording.registry import close_recorders
from tests.store.redis_server import redis_server, server_of_wheel

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
    """Give all that stands in files; workers that rest remove some meanwhile."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found += [path.read_bytes()] if path.is_file() else []
    return b"\0".join(found)


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


def test_a_store_with_a_password_reaches_workers(client, tmp_path, caplog):
    """Workers write to a server by its URL; its password is in no log, text, name or record."""
    with redis_server(server_of_wheel(), tmp_path / "server", "--requirepass", TEXT) as server:
        url = f"redis://:{TEXT}@127.0.0.1:{server.port}/0"
        ex = daskperiment.Experiment("remote", backend=url)
        step, fail = ex(lambda a: a + 1), ex.result(lambda a: 1 / a)
        a = ex.parameter("a", default=0)
        s = fail(step(a))
        with caplog.at_level("DEBUG"):
            assert client.compute(s).result() == 1.0
            with pytest.raises(ZeroDivisionError) as caught:
                client.compute(s.bind(a=-1)).result()
            client.compute(s.bind(a=1)).cancel()
        told = [
            repr(client.get_worker_logs()), repr(client.get_scheduler_logs()), caplog.text,
            repr(client.scheduler_info()), repr(client.story(*client.who_has())),
            repr(ex), repr(s), repr(dict(s.dask)),
            "".join(traceback.format_exception(caught.value)),
            ex.get_history(verbose=True).to_string(), ex.get_steps(1).to_string(), ex.get_code(1),
            repr(ex.get_environment(1)),
        ]  # fmt: skip
        assert ex.get_steps(1)["Worker"].notna().all()
        with redis.Redis.from_url(url) as raw:
            told.append(repr([raw.dump(key) for key in raw.scan_iter()]))
        close_recorders()
    assert len("".join(told)) > 10_000
    assert [text for text in told if TEXT in text] == []
