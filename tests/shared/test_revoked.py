"""The rights of a server's user are taken away while a trial runs, and given back."""

from __future__ import annotations

import warnings

import numpy as np
import pymongo
import pytest
import redis

import daskperiment
from daskperiment.errors import StoreError, StoreWarning
from tests.shared.conftest import open_again
from tests.store.mongo_server import running as mongo_server
from tests.store.redis_server import redis_server, server_of_wheel


class RedisRights:
    """A user of a Redis server who may write, or not."""

    remedy = "check user and password"

    def __init__(self, server):
        self._client = redis.Redis(port=server.port)
        self.backend = f"redis://lab:secret@127.0.0.1:{server.port}/0"
        self.give()

    def give(self):
        self._client.execute_command("ACL SETUSER lab on >secret ~daskperiment:* +@all")

    def take(self):
        self._client.execute_command("ACL SETUSER lab -@write -@scripting")

    def close(self):
        self._client.close()


class MongoRights:
    """The same of MongoDB."""

    remedy = "role readWrite"

    def __init__(self, server):
        with pymongo.MongoClient(server.host) as client:
            client.admin.command("createUser", "admin", pwd="pw", roles=["root"])
        self._client = pymongo.MongoClient(f"mongodb://admin:pw@{server.host}/?authSource=admin")
        self._client["lab"].command("createUser", "lab", pwd="secret", roles=["readWrite"])
        self.backend = f"mongodb://lab:secret@{server.host}/lab"

    def give(self):
        self._client["lab"].command("updateUser", "lab", roles=["readWrite"])

    def take(self):
        self._client["lab"].command("updateUser", "lab", roles=["read"])

    def close(self):
        self._client.close()


@pytest.fixture(params=["redis", "mongo"])
def rights(request, tmp_path):
    """Run a server with a user whose rights can be taken."""
    if request.param == "redis":
        running, kind = redis_server(server_of_wheel(), tmp_path / "server"), RedisRights
    else:
        running, kind = mongo_server(tmp_path / "server", auth=True), MongoRights
    with running as server:
        found = kind(server)
        yield found
        daskperiment.recording.registry.close_recorders()
        found.close()


def test_rights_are_taken_in_a_trial(rights):
    """The trial ends for its user; all of it waits, one line says why, and it is there later."""
    ex = daskperiment.Experiment("revoked", backend=rights.backend)

    @ex.persist
    def keep():
        ex.save_metric("loss", 0, 1.0)
        rights.take()
        ex.save_metric("loss", 1, 2.0)
        return np.arange(300_000)

    @ex.result
    def total(values):
        return int(values.sum())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert total(keep()).compute() == 44_999_850_000
        with pytest.raises(StoreError, match="refused us"):
            total(keep()).compute()
        assert "records for the store" in repr(ex)
    told = [str(each.message) for each in caught if issubclass(each.category, StoreWarning)]
    assert len(told) == 1
    assert "refused us" in told[0]
    assert rights.remedy in told[0]
    assert "waits in" in told[0]
    assert "secret" not in told[0]
    rights.give()
    found = open_again("revoked", rights.backend)
    history = found.get_history(verbose=True, running=True)
    assert history["Status"].tolist() == ["succeeded"]
    assert found.load_metric("loss", 1)[1].tolist() == [1.0, 2.0]
    assert found.get_persisted("keep", 1).tolist() == list(range(300_000))
