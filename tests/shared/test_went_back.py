"""Real servers that come back with less than they had, while a process goes on recording."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymongo
import pytest
import redis
from pymongo.errors import PyMongoError

import daskperiment
from daskperiment.errors import StoreWarning
from tests.shared.conftest import open_again
from tests.shared.losses import check_rows, experiment, only, stranger, told
from tests.store.mongo_server import MongoServer
from tests.store.redis_server import (
    CountingProxy,
    RedisServer,
    server_of_wheel,
    server_on_path,
)


class CutServer:
    """A server whose append-only file loses its last third, by a crash."""

    def __init__(self, program: str, folder: Path) -> None:
        options = ("--appendonly", "yes", "--appendfsync", "always")
        self._server = RedisServer(program, folder, *options)
        self.backend = self._server.url

    def start(self) -> None:
        """Start it."""
        self._server.start()

    def fall_behind(self) -> None:
        """Nothing: the end of the file is what will be missing."""

    def lose(self) -> None:
        self._server.kill()
        # The file of version 6, or the one of version 7 to which it appends.
        names = ("appendonly.aof", "appendonlydir/*.incr.aof")
        [file] = [file for name in names for file in self._server.folder.glob(name)]
        with open(file, "rb+") as handle:
            handle.truncate(int(file.stat().st_size * 0.7))
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class LaggingReplica:
    """A server whose replica takes over, after it had not heard of it for a while."""

    def __init__(self, program: str, folder: Path) -> None:
        self._primary = RedisServer(program, folder / "primary")
        self._line = CountingProxy(self._primary.port)
        place = ("--replicaof", "127.0.0.1", str(self._line.port))
        self._replica = RedisServer(program, folder / "replica", *place)
        self._way = CountingProxy(self._primary.port)
        self.backend = f"redis://127.0.0.1:{self._way.port}/0"

    def start(self) -> None:
        """Start both."""
        self._primary.start()
        self._replica.start()

    def fall_behind(self) -> None:
        """From now on the replica hears nothing."""
        with redis.Redis(port=self._primary.port) as primary, self._client() as replica:
            here, there = "master_repl_offset", "slave_repl_offset"
            deadline = time.monotonic() + 60
            while replica.info("replication").get(there) != primary.info("replication")[here]:
                assert time.monotonic() < deadline, "the replica does not catch up"
                time.sleep(0.01)
        self._line.close()

    def lose(self) -> None:
        """The primary dies, and its clients are sent to the replica."""
        self._primary.kill()
        with self._client() as replica:
            replica.execute_command("REPLICAOF", "NO", "ONE")
        self._way.lead_to(self._replica.port)

    def stop(self) -> None:
        self._way.close()
        self._line.close()
        self._replica.stop()
        self._primary.stop()

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self._replica.port)


class RolledBack:
    """A replica set whose primary was alone with what it took, and is followed by another.

    Its URL asks for one confirmation only: with the usual majority nothing could be lost.
    """

    def __init__(self, folder: Path) -> None:
        names = ("primary", "secondary", "arbiter")
        self._members = [MongoServer(folder / name, replica_set="rs") for name in names]
        first, second, _ = self._members
        hosts = f"{first.host},{second.host}"
        self.backend = f"mongodb://{hosts}/weather?replicaSet=rs&w=1&serverSelectionTimeoutMS=20000"

    def start(self) -> None:
        """Start all, and make them a set."""
        for member in self._members:
            member.alone = False
            member.start()
        configured = [
            {"_id": n, "host": member.host, "priority": (2, 1, 0)[n], "arbiterOnly": n == 2}
            for n, member in enumerate(self._members)
        ]
        config = {"_id": "rs", "members": configured, "settings": {"electionTimeoutMillis": 1000}}
        with self._client(self._members[0]) as client:
            # Refused as long as one of them, which answers already, is not ready to be a member.
            self._wait(
                lambda: client.admin.command("replSetInitiate", config, allowable_errors=[23])
            )
            self._wait(lambda: client.admin.command("hello")["isWritablePrimary"])
            # An arbiter counts for what is the majority, and keeps nothing.
            default = {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}}
            self._wait(lambda: client.admin.command(default))

    def fall_behind(self) -> None:
        """From now on the other member hears nothing."""
        first, second, _ = self._members
        with self._client(first) as primary, self._client(second) as secondary:
            self._wait(lambda: len(set(map(self._reached, (primary, secondary)))) == 1)
            secondary.admin.command({"configureFailPoint": "stopReplProducer", "mode": "alwaysOn"})

    def lose(self) -> None:
        """The primary dies, the other member takes over; the primary comes back as its follower."""
        first, second, _ = self._members
        first.kill()
        with self._client(second) as client:
            client.admin.command({"configureFailPoint": "stopReplProducer", "mode": "off"})
            self._wait(lambda: client.admin.command("hello")["isWritablePrimary"])
        first.start()
        with self._client(first) as client:
            self._wait(lambda: client.admin.command("hello").get("secondary"))

    def stop(self) -> None:
        for member in self._members:
            member.kill()

    @staticmethod
    def _client(member: MongoServer) -> Any:
        return pymongo.MongoClient(member.host, directConnection=True)

    @staticmethod
    def _reached(client: Any) -> Any:
        return client.admin.command("hello")["lastWrite"]["opTime"]["ts"]

    @staticmethod
    def _wait(done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while True:
            with suppress(PyMongoError):
                if done():
                    return
            assert time.monotonic() < deadline
            time.sleep(0.05)


REDIS = ["cut", "cut-7", "replica"]
CASES = [(kind, when) for kind in REDIS for when in ("between trials", "in a trial")]


@pytest.fixture
def weather(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Run a server that can lose what it took last."""
    if request.param == "rolled back":
        made: Any = RolledBack(tmp_path / "servers")
    else:
        program = server_on_path() if request.param == "cut-7" else server_of_wheel()
        kind = LaggingReplica if request.param == "replica" else CutServer
        made = kind(program, tmp_path / "server")
    try:
        made.start()
        yield made
        daskperiment.recording.registry.close_recorders()
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("weather", "when"), [*CASES, ("rolled back", "in a trial")], indirect=["weather"]
)
def test_server_went_back(weather: Any, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running process notices, and writes what is its own under ids of its own.

    Others got some of the ids meanwhile; they keep them, and no row mixes two trials. That the
    process has begun another journal since what is lost was delivered makes no difference.
    """
    monkeypatch.setattr("daskperiment.recording.journal.LONG", 5_000)
    place = SimpleNamespace(backend=weather.backend)

    def lose() -> None:
        weather.lose()
        for n in (-1, -2, -3):
            stranger(place, n)

    def during(n: int) -> None:
        if n == 15 and when == "in a trial":
            lose()

    ex, result = experiment(place, during)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(1, 9):
            result.bind(n=n).compute()
        ex.flush()
        weather.fall_behind()
        for n in range(9, 15):
            result.bind(n=n).compute()
        ex.flush()
        if when == "between trials":
            lose()
        for n in (15, 16):
            assert result.bind(n=n).compute() == f"ours of {n}"
        ex.flush()
    text = only(told(caught))
    assert "went back to trial" in text
    found = open_again("gone", weather.backend)
    history = found.get_history()
    assert history.index.tolist() == list(range(1, 20))
    assert sorted(history["n"]) == [-3, -2, -1, *range(1, 17)]
    assert history["n"].tolist()[:8] == list(range(1, 9))
    check_rows(found, history["n"].tolist())


@pytest.mark.parametrize("weather", REDIS, indirect=True)
def test_kept_values_come_back(weather: Any) -> None:
    """What steps kept, and the store lost, is there again as long as it is small."""
    ex = daskperiment.Experiment("kept", backend=weather.backend)
    n = ex.parameter("n", default=0)

    @ex.persist(reuse=True)
    def keep(n: int) -> Any:
        return np.arange(1000) + n

    @ex.result
    def first(values: Any) -> int:
        return int(values[0])

    result = first(keep(n))
    assert result.bind(n=1).compute() == 1
    ex.flush()
    weather.fall_behind()
    for n in range(2, 9):
        assert result.bind(n=n).compute() == n
    ex.flush()
    weather.lose()
    with pytest.warns(StoreWarning, match="went back to trial"):
        assert result.bind(n=9).compute() == 9
    ex.flush()
    found = open_again("kept", weather.backend)
    history = found.get_history(verbose=True)
    assert sorted(history["n"]) == list(range(1, 10))
    assert set(history["Status"]) == {"succeeded"}
    assert [found.get_persisted("keep", trial)[0] for trial in history.index] == list(history["n"])
