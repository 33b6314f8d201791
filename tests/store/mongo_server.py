"""Starts real MongoDB servers for the tests, on free ports and in temporary folders."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import PyMongoError

from tests.helpers.ports import free_port

__all__ = ["MongoServer", "mongod", "running"]

_PATIENCE = 60.0


def mongod() -> str:
    """Give the server's program; without one the test is skipped, but fails in CI."""
    spec = importlib.util.find_spec("fiftyone")
    for folder in spec.submodule_search_locations or () if spec else ():
        program = Path(folder) / "db" / "bin" / "mongod"
        if program.exists():
            return str(program)
    found = shutil.which("mongod")
    if found is None:
        message = "no mongod: install the test extra, or set DASKPERIMENT_TEST_MONGO_URL"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class MongoServer:
    """One mongod, that can be killed and started again on the same port and data."""

    def __init__(self, folder: Path, *, replica_set: str = "", auth: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self._replica_set = replica_set
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None
        self.alone = True
        """Whether it is the only member of its replica set, which it then makes itself."""
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, database: str) -> str:
        options = f"?replicaSet={self._replica_set}" if self._replica_set else ""
        return f"mongodb://{self.host}/{database}{options}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it takes writes."""
        command = [mongod(), "--dbpath", str(self.folder), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--journalCommitInterval", "2"]
        command += ["--setParameter", "enableTestCommands=1"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        command += ["--replSet", self._replica_set] if self._replica_set else []
        command += ["--auth"] if self._auth else []
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def kill(self) -> None:
        """End it as a crash would: with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Lose all data, while it does not run."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def _wait(self) -> None:
        client: Any = pymongo.MongoClient(
            self.host, directConnection=True, serverSelectionTimeoutMS=500
        )
        deadline = time.monotonic() + _PATIENCE
        with client:
            while not self._is_ready(client):
                gone = self._process is None or self._process.poll() is not None
                if gone or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-3000:])
                time.sleep(0.05)

    def _is_ready(self, client: Any) -> bool:
        try:
            hello = client.admin.command("hello")
            if not self.alone:
                return True
            if hello.get("isreplicaset"):
                members = [{"_id": 0, "host": self.host}]
                config = {"_id": self._replica_set, "members": members}
                client.admin.command("replSetInitiate", config)
                return False
            return bool(hello["isWritablePrimary"])
        except PyMongoError:
            return False


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[MongoServer]:
    """Start a server and stop it."""
    server = MongoServer(folder, **options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        # It sets aside 300 MB, and a run of all tests starts it often.
        shutil.rmtree(folder / "journal", ignore_errors=True)
