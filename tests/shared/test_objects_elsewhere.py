"""Large objects in a bucket or folder of their own, with each store: kept, found, never lost."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import fsspec
import numpy as np
import pytest
from dask import config

import daskperiment
from daskperiment.cli.checkup import examine
from daskperiment.copying import copy
from daskperiment.errors import PersistedResultNotFoundError, StoreWarning
from daskperiment.store import buckets
from daskperiment.store.opening import open_store
from tests.shared.conftest import open_again

_NUMBERS = itertools.count()


@pytest.fixture
def url() -> str:
    return f"memory://shared{next(_NUMBERS)}"


@pytest.fixture(scope="module")
def s3():
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    from tests.shared.s3_server import s3_server

    with s3_server() as server:
        yield server


def compute(ex, a=1):
    """Compute a trial with a large output, a large artifact and a small one."""

    @ex.persist(reuse=True)
    def grow(a):
        return np.arange(50_000) + a

    @ex.result
    def total(array):
        ex.save("double", array * 2)
        ex.save("note", "small")
        return int(array.sum())

    return total(grow(ex.parameter("a", default=1))).bind(a=a).compute()


def stored(url, **options):
    files, root = fsspec.core.url_to_fs(url, **options)
    names = {path.rpartition("/")[2]: path for path in files.find(root)}
    return {name: path for name, path in names.items() if len(name) == 32}


def check_values(ex, trial=1, a=1):
    assert np.array_equal(ex.load("double", trial), (np.arange(50_000) + a) * 2)
    assert np.array_equal(ex.get_persisted("grow", trial), np.arange(50_000) + a)
    assert ex.load("note", trial) == "small"


def test_large_objects_stand_in_the_place(place, url, tmp_path):
    """What is large is there, not in the store; who opens the store finds, copies, deletes it."""
    ex = daskperiment.Experiment("away", backend=place.backend, objects=url)
    assert compute(ex) == compute(ex)
    large = set(stored(url))
    assert len(large) == 2
    assert not large & set(place.objects("away"))
    later = open_again("away", place.backend)
    check_values(later)
    assert examine(open_store(place.backend, "away")).findings == []
    copy("away", place.backend, tmp_path / "copy")
    copied = daskperiment.Experiment("away", backend=tmp_path / "copy")
    assert list(copied._store.read("places")) == []
    later.delete()
    assert stored(url) == {}
    check_values(copied)


def test_pruned_and_missed(place, url):
    """Pruning drops what is in the place, too; what is gone from there is found by a check."""
    ex = daskperiment.Experiment("pruned", backend=place.backend, objects=url)
    compute(ex)
    gone = ex.prune(max_bytes=0)
    assert len(gone) == 1
    assert len(stored(url)) == 1
    with pytest.raises(PersistedResultNotFoundError):
        ex.get_persisted("grow", 1)
    assert compute(ex) == compute(ex)
    kept = ex.get_artifacts(1).set_index("Name")["Digest"]["double"]
    fsspec.filesystem("memory").rm_file(stored(url)[kept])
    (finding,) = examine(open_store(place.backend, "pruned")).findings
    assert kept in finding.place
    assert "missing" in finding.what


def test_orphans_and_deleted_trials(tmp_path, url):
    """What no record names is found in the place by a check, and goes with the last trial of it."""
    ex = daskperiment.Experiment("orphans", backend=tmp_path, objects=url)
    compute(ex)
    ex._store.put("ab" * 16, [bytes(200_000)])
    (finding,) = examine(open_store(tmp_path, "orphans")).findings
    assert "1 objects of 200,000 bytes that no record names" in finding.what
    finding.mend()
    assert len(stored(url)) == 2
    ex.delete_trials(1)
    assert stored(url) == {}


def test_configured_and_kept(tmp_path, url):
    """The place may be configured, and an experiment that is asked for again keeps it."""
    with config.set({"daskperiment.objects": url}):
        ex = daskperiment.Experiment("configured", backend=tmp_path)
    assert daskperiment.Experiment("configured", backend=tmp_path) is ex
    compute(pickle.loads(pickle.dumps(ex)))
    compute(ex, a=2)
    assert len(stored(url)) == 4


@pytest.fixture
def bucket(s3, monkeypatch):
    """Make a bucket of S3 that this process and its children can reach."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = f"bucket{next(_NUMBERS)}"
    s3.make_bucket(name)
    with config.set({"daskperiment.objects-options": {"endpoint_url": s3.endpoint}}):
        yield f"s3://{name}/team"


PROGRAM = """
import sys
import daskperiment
from tests.shared.test_objects_elsewhere import check_values
check_values(daskperiment.Experiment("s3", backend=sys.argv[1]))
"""


def run(*arguments, **environment):
    given = {**os.environ, "PYTHONPATH": str(Path(daskperiment.__file__).parents[1]), **environment}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=given,
        timeout=120, check=False,
    )  # fmt: skip


def test_s3(tmp_path, bucket, s3, monkeypatch):
    """A bucket of a real server keeps them; others read them, and a deletion takes them."""
    ex = daskperiment.Experiment("s3", backend=tmp_path, objects=bucket)
    assert compute(ex) == compute(ex)
    check_values(ex)
    assert len(stored(bucket, **s3.options)) == 2
    assert examine(open_store(tmp_path, "s3")).findings == []
    found = run("-c", PROGRAM, tmp_path)
    assert found.returncode == 0, found.stderr
    # Large ones are written and read in several parts.
    monkeypatch.setattr(buckets, "_AT_ONCE", 5 << 20)
    large = np.arange(3 << 20, dtype="f4")
    ex.save("larger", large, trial_id=1)
    assert np.array_equal(ex.load("larger", 1), large)
    ex.delete()
    assert stored(bucket, **s3.options) == {}


def test_s3_on_workers(tmp_path, bucket, s3):
    """Tasks of processes write to the bucket; their options go along, and are written nowhere."""
    from dask.multiprocessing import get

    secret = f"s3://{s3.options['key']}:{s3.options['secret']}@{bucket.partition('://')[2]}"
    ex = daskperiment.Experiment("workers", backend=tmp_path, objects=secret)

    @ex.result
    def total(a):
        ex.save("double", np.full(50_000, a))
        return a

    os.environ.pop("AWS_SECRET_ACCESS_KEY")
    assert total(ex.parameter("a", default=2)).compute(scheduler=get, num_workers=1) == 2
    assert np.array_equal(ex.load("double", 1), np.full(50_000, 2))
    text = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hunter2" not in text
    assert b"hunter2" not in pickle.dumps(ex.get_history())


AWAY = """
import os, signal, sys, warnings
import numpy as np
import daskperiment
warnings.simplefilter("ignore")
ex = daskperiment.Experiment("late", backend=sys.argv[1], objects=sys.argv[2])

@ex.result
def total(a):
    ex.save("double", np.full(50_000, a))
    os.kill(os.getpid(), signal.SIGKILL)

total(ex.parameter("a", default=2)).compute()
"""


def test_bucket_that_is_away(tmp_path, monkeypatch):
    """The trial runs on with one warning, questions are answered; then the objects arrive.

    So do those of a process that was killed right after its ``ex.save`` had returned.
    """
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    from tests.shared.s3_server import S3Server

    server = S3Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    killed = run("-c", AWAY, tmp_path, "s3://late/team")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with config.set({"daskperiment.objects-options": {"endpoint_url": server.endpoint}}):
        ex = daskperiment.Experiment("late", backend=tmp_path, objects="s3://late/team")
        with warnings.catch_warnings(record=True, action="always") as caught:
            assert compute(ex) == 1_250_025_000
            assert ex.get_history()["Result"].tolist()[-1] == 1_250_025_000
        (warning,) = (one for one in caught if issubclass(one.category, StoreWarning))
        assert "s3://late/team/late-" in str(warning.message)
        assert "cannot be reached" in str(warning.message)
        server.start()
        try:
            server.make_bucket("late")
            ex.flush()
            check_values(ex, 2)
            assert np.array_equal(ex.load("double", 1), np.full(50_000, 2))
            assert len(stored("s3://late/team", **server.options)) == 3
        finally:
            server.stop()
