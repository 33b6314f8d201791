"""What the tests of reuse share."""

from __future__ import annotations

import pytest
from distributed import Client, LocalCluster

import daskperiment
from daskperiment import experiment
from daskperiment.recording.registry import close_recorders
from tests.shared.conftest import (
    journal_root,
    make_place,
    mongo_alone,
    mongo_set,
    redis_of_wheel,
)

__all__ = ["journal_root", "make_place", "mongo_alone", "mongo_set", "redis_of_wheel"]


@pytest.fixture
def log(tmp_path):
    """Give the file in which steps write down that they run."""
    return str(tmp_path / "log")


@pytest.fixture
def open_again():
    """Open an experiment as a later process would: with nothing in memory."""

    def open_again(id, backend, **options):
        close_recorders()
        experiment._EXPERIMENTS.clear()
        return daskperiment.Experiment(id, backend=backend, **options)

    return open_again


@pytest.fixture(scope="session")
def steady():
    """Make a cluster of two workers."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as made:
        yield made


@pytest.fixture
def client(steady):
    """Connect to the cluster."""
    with Client(steady.scheduler_address) as connected:
        yield connected
