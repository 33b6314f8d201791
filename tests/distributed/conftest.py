"""What the tests on clusters share."""

from __future__ import annotations

import pytest
from distributed import Client

from tests.distributed.clusters import cluster as make_cluster
from tests.distributed.clusters import wait_until


@pytest.fixture(scope="session")
def steady(tmp_path_factory):
    """Make a cluster of two workers that no test harms."""
    with make_cluster(tmp_path_factory.mktemp("steady"), workers=2) as made:
        yield made


@pytest.fixture
def client(steady):
    """Connect to the steady cluster, of which no step of a test before takes a worker."""
    with Client(steady.address) as connected:
        yield connected
        wait_until(lambda: not any(connected.run(_at_work).values()))


def _at_work(dask_worker):
    state = dask_worker.state
    return sorted(str(task.key) for task in state.executing | state.long_running)


@pytest.fixture
def cluster(tmp_path):
    """Make a cluster without workers, for one test."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with make_cluster(folder) as made:
        yield made


@pytest.fixture
def place(tmp_path):
    """Make the folder where the trials of a sweep leave files."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder
