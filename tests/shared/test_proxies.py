"""What stands before a server in tests is as good as the server itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.ports import free_port
from tests.shared.stalling import StallingProxy
from tests.store.redis_server import CountingProxy


def told(port: int) -> bytes:
    """Connect, and read until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            return connection.recv(100)
        except ConnectionError:
            return b""


@pytest.mark.parametrize("kind", [CountingProxy, StallingProxy])
def test_a_server_that_comes_later(kind: Callable[[int], Any]) -> None:
    """Whoever comes before the server is there is sent away, and nobody after that."""
    port, before = free_port(), set(threading.enumerate())
    with kind(port) as proxy:
        assert told(proxy.port) == told(proxy.port) == b""
        with socket.create_server(("127.0.0.1", port)) as server:
            here = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
            there, _ = server.accept()
            there.sendall(b"hello")
            assert here.recv(100) == b"hello"
            here.close()
            there.close()
    assert set(threading.enumerate()) <= before  # some of other tests may have ended
