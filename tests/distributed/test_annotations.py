"""What annotations ask of the cluster is done, and tried again means tried again."""

from __future__ import annotations

from pathlib import Path

import dask
import pytest
from distributed import Client, Event

from tests.distributed.clusters import wait_until


def status(ex):
    return ex.get_history(verbose=True, running=True)["Status"].tolist()


@pytest.fixture
def flaky(ex, tmp_path):
    """Make a result whose step fails as often as a parameter says, for each value of another."""
    failures = ex.parameter("failures", 1)
    number = ex.parameter("number", 0)

    @ex
    def shaky(failures, number, folder):
        mine = Path(folder) / str(number)
        mine.mkdir(exist_ok=True)
        attempt = len(list(mine.iterdir()))
        (mine / str(attempt)).touch()
        if attempt < failures:
            raise OSError(f"attempt {attempt}")
        return attempt

    @ex.result
    def last(x):
        return x

    def make(**annotations):
        (tmp_path / "attempts").mkdir(exist_ok=True)
        with dask.annotate(**annotations):
            return last(shaky(failures, number, str(tmp_path / "attempts")))

    return make


@pytest.mark.parametrize("way", ["annotate", "compute", "keyword"])
def test_retries(ex, flaky, client, way):
    """A step that fails and is tried again makes a trial that succeeded, never one that failed."""
    if way == "annotate":
        assert client.compute(flaky(retries=2)).result() == 1
    elif way == "compute":
        assert flaky(retries=2).compute(optimize_graph=False) == 1
    else:
        assert client.compute(flaky(), retries=2).result() == 1
    assert status(ex) == ["succeeded"]
    stored = [record.id for record in ex._store.read("trials", [1])]
    assert stored == ["begun", "ended-succeeded"]
    steps = ex.get_steps(1)
    assert steps["Step"].tolist() == ["shaky", "shaky", "last"]
    assert steps["Status"].tolist() == ["failed", "succeeded", "succeeded"]


def test_retries_in_vain(ex, flaky, client):
    """A step that fails at every try: the trial is failed, and says in which step and why."""
    future = client.compute(flaky(retries=2).bind(failures=9))
    with pytest.raises(OSError, match="attempt 2"):
        future.result()
    assert status(ex) == ["failed"]
    history = ex.get_history()
    assert history["Description"].tolist() == ["OSError(attempt 2)"]
    assert ex.get_steps(1)["Status"].tolist() == ["failed"] * 3
    (ended,) = (r for r in ex._store.read("trials", [1]) if r.id.startswith("ended"))
    assert b'"step":"shaky"' in bytes(ended.body).replace(b" ", b"")


def test_retried_by_hand(ex, client, tmp_path):
    """A future that failed and is tried again by its user is another trial."""

    @ex.result
    def exists(path):
        return Path(path).read_text()

    future = client.compute(exists(ex.parameter("path", str(tmp_path / "file"))))
    with pytest.raises(FileNotFoundError):
        future.result()
    assert status(ex) == ["failed"]
    (tmp_path / "file").write_text("here")
    future.retry()
    assert future.result() == "here"
    assert status(ex) == ["failed", "succeeded"]


def test_resources_and_workers(ex, cluster):
    """A step goes to the worker that has the resource, or that is named."""
    plain, able = cluster.add(), cluster.add(resources="GPU=1")
    a = ex.parameter("a", 1)

    @ex
    def heavy(a):
        return a

    @ex.result
    def light(x, y):
        return x + y

    with dask.annotate(resources={"GPU": 1}):
        first = heavy(a)
    with dask.annotate(workers=[plain]):
        second = heavy(a)
    with Client(cluster.address) as client:
        assert client.compute(light(first, second)).result() == 2
    places = ex.get_steps(1).set_index("Key")["Worker Name"]
    assert places["heavy"] == able
    assert places["heavy#2"] == plain


def _waiting(dask_scheduler):
    return sum(key.startswith("keep") for key in dask_scheduler.tasks)


def test_priority(ex, cluster):
    """Of trials that wait for one worker, those with a higher priority run first."""
    cluster.add()
    number = ex.parameter("number")

    @ex.result
    def keep(number):
        return number

    result = keep(number)
    with Client(cluster.address) as client:
        gate = client.submit(lambda: Event("go").wait(60), pure=False)
        low = client.compute([result.bind(number=i) for i in range(3)], priority=-1)
        high = client.compute([result.bind(number=i) for i in range(3, 6)], priority=1)
        wait_until(lambda: client.run_on_scheduler(_waiting) == 6)
        Event("go").set()
        assert gate.result()
        client.gather([*low, *high])
    steps = ex.get_steps()
    order = ex.get_history().loc[steps.sort_values("Started")["Trial ID"], "number"].tolist()
    # One of the others was on its way to the worker already.
    assert set(order[-2:]) <= {0, 1, 2}
