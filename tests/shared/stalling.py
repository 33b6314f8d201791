"""A proxy before a server, that can be told to hold everything back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

__all__ = ["StallingProxy"]


class StallingProxy:
    """Passes on what it gets; once stalled, it takes connections and requests and says nothing."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._flowing = threading.Event()
        self._flowing.set()
        self.held = threading.Event()
        """Set when something is held back."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> StallingProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.resume()
        # First, so that no connection is begun which nobody ends.
        _end(self._listener)
        self._threads[0].join()
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join()

    def stall(self) -> None:
        """Hold everything back from now on."""
        self.held.clear()
        self._flowing.clear()

    def resume(self) -> None:
        """Let go of what was held back, and hold nothing any more."""
        self._flowing.set()

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
            for source, sink in ((near, far), (far, near)):
                pump = threading.Thread(target=self._pump, args=(source, sink))
                self._threads.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self._flowing.is_set():
                    self.held.set()
                    self._flowing.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
