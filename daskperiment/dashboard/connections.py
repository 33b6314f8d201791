"""The connections of a server: no more than it can bear, and none that only waits.

Whoever opens connections and asks nothing is the first to go when room is needed, so that the
server goes on answering those who ask. Its log tells of it in one line.
"""

from __future__ import annotations

import errno
import logging
import socket

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

__all__ = ["HEADER_SECONDS", "Connections"]

HEADER_SECONDS = 10.0
"""How long a connection may take for a request, and be idle before the next one."""
_MOST = 256
_AT_ONCE = 64
"""Connections that are taken before others get their turn."""
_PAUSE = 0.5
"""Seconds without new connections when the process has no file descriptor left."""
_LARGEST_REQUEST = 1_000_000

logger = logging.getLogger(__name__)


class Connections:
    """Takes the connections to a socket, and hands them to a server.

    Parameters
    ----------
    listening : socket.socket
        Not blocking.
    most : int, optional
        How many there may be at once; as a default, a part of the files that the process may open.
    """

    def __init__(self, listening: socket.socket, most: int | None = None) -> None:
        self._listening = listening
        self._most = _room() if most is None else most
        self._open: dict[IOStream, None] = {}
        self._warned = False

    def serve(self, server: HTTPServer) -> None:
        """Begin to take connections, which this server answers."""
        self._server = server
        self._loop = IOLoop.current()
        self._listen()

    def close(self) -> None:
        """Take no more connections."""
        if self._listening.fileno() >= 0:
            self._loop.remove_handler(self._listening)
            self._listening.close()

    def _listen(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_handler(self._listening, self._take, IOLoop.READ)

    def _take(self, listening: socket.socket, events: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._wait()
                return
            self._add(connection, address)

    def _wait(self) -> None:
        # It would be told of the connection again and again, though it cannot take it.
        self._drop_oldest()
        self._loop.remove_handler(self._listening)
        self._loop.call_later(_PAUSE, self._listen)

    def _add(self, connection: socket.socket, address: tuple[str, int]) -> None:
        if len(self._open) >= self._most:
            self._open = {stream: None for stream in self._open if not stream.closed()}
        if len(self._open) >= self._most:
            self._drop_oldest()
        connection.setblocking(False)
        stream = IOStream(connection, max_buffer_size=_LARGEST_REQUEST)
        self._open[stream] = None
        self._server.handle_stream(stream, address)

    def _drop_oldest(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%d connections to the dashboard are open, and there is no room for more: those "
                "that asked nothing for longest are closed. This is said once.",
                len(self._open),
            )
        if self._open:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.close()

    def has_asked(self, stream: IOStream) -> None:
        """Note that a request came on a connection: it is the last one to go now."""
        if stream in self._open:
            self._open[stream] = self._open.pop(stream)


def _room() -> int:
    """Return how many connections leave enough files for all else in this process."""
    try:
        import resource  # noqa: PLC0415  # Unix has it
    except ImportError:
        return _MOST
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files < 0 else max(8, min(_MOST, files // 3))
