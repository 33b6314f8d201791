"""Servers that run from the first test that needs them to the last of the session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import dask
import pytest

import daskperiment
from daskperiment import experiment
from daskperiment.recording.registry import close_recorders
from tests.shared.places import FolderPlace, MongoPlace, Place, RedisPlace
from tests.store.mongo_server import MongoServer
from tests.store.mongo_server import running as mongo_server
from tests.store.redis_server import RedisServer, redis_server, server_of_wheel

KINDS = ["folder", "redis", "mongo", "mongo-set"]
_NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def journal_root(tmp_path, monkeypatch):
    """Journals of servers' writers are in a folder of the test's own, for its processes too.

    A server that is there may take its time, as on a machine that stands still for a while.
    """
    monkeypatch.chdir(tmp_path)  # not in a repository, which may change meanwhile
    root = tmp_path / "journals"
    monkeypatch.setenv("DASK_DASKPERIMENT__JOURNAL", str(root))
    monkeypatch.setenv("DASK_DASKPERIMENT__TIMEOUT", "60")
    with dask.config.set({"daskperiment.journal": str(root), "daskperiment.timeout": 60}):
        yield root
        close_recorders()


@pytest.fixture(scope="session")
def redis_of_wheel(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(server_of_wheel(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_alone(tmp_path_factory) -> Iterator[MongoServer]:
    with mongo_server(tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(scope="session")
def mongo_set(tmp_path_factory) -> Iterator[MongoServer]:
    with mongo_server(tmp_path_factory.mktemp("mongo-set"), replica_set="rs") as server:
        yield server


@pytest.fixture
def make_place(request, tmp_path) -> Iterator[Callable[[str], Place]]:
    """Make empty places of the kinds of KINDS."""
    made: list[Place] = []

    def make(kind: str) -> Place:
        number = next(_NUMBERS)
        if kind == "folder":
            place: Place = FolderPlace(tmp_path / f"folder{number}")
        elif kind == "redis":
            place = RedisPlace(request.getfixturevalue("redis_of_wheel"), number % 16)
        else:
            fixture = {"mongo": "mongo_alone", "mongo-set": "mongo_set"}[kind]
            place = MongoPlace(request.getfixturevalue(fixture), f"test{number}", kind)
        place.clear()
        made.append(place)
        return place

    yield make
    close_recorders()
    for place in made:
        place.clear()


@pytest.fixture(params=KINDS)
def place(request, make_place) -> Place:
    """Make an empty place of each kind in turn."""
    return make_place(request.param)


@pytest.fixture
def forget() -> Callable[[], None]:
    """Make this process a fresh one, as far as experiments are concerned."""

    def forget() -> None:
        close_recorders()
        experiment._EXPERIMENTS.clear()

    return forget


def open_again(id: str, backend: object) -> daskperiment.Experiment:
    """Open an experiment as a later process would."""
    close_recorders()
    experiment._EXPERIMENTS.clear()
    return daskperiment.Experiment(id, backend=backend)
