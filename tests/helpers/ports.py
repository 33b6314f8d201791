"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket
import threading

__all__ = ["free_port"]

# Below those that the kernel gives to outgoing connections. One of these may be given away before
# its server listens, or while the server is down: even to a client that asks for it, which then is
# connected to itself, and keeps the server from coming back. A node of a Redis cluster talks to
# others at its port + 10000, which is below them, too.
_FIRST, _LAST = 10_240, 20_240

_GIVEN: set[int] = set()
_LOCK = threading.Lock()
_RANDOM = random.Random()
"""Not the generator of all, which tests seed: processes shall not choose the same ports."""


def free_port() -> int:
    """Find a loopback port that nobody listens on, and that this process gave to nobody."""
    with _LOCK:
        while True:
            port = _RANDOM.randrange(_FIRST, _LAST)
            if port not in _GIVEN and _is_free(port) and _is_free(port + 10_000):
                _GIVEN.add(port)
                return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
