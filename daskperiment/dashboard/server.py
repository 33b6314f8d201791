"""The dashboard as a web server in a thread of its own."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.parse import urlencode

from tornado.httpserver import HTTPServer

from daskperiment.dashboard.api import DashboardAPI, Source
from daskperiment.dashboard.connections import HEADER_SECONDS, Connections
from daskperiment.dashboard.guard import Guard, Guesses
from daskperiment.dashboard.handlers import HandlerContext, application

__all__ = ["Frame", "Server"]

_THREADS = 3
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class Frame:
    """A dashboard inside a notebook.

    Parameters
    ----------
    url : str
        Its address.
    height : int
        In pixels.
    """

    def __init__(self, url: str, height: int = 700) -> None:
        self.url = url
        self.height = height

    def __repr__(self) -> str:
        return f"dashboard at {self.url}"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{escape(self.url)}" title="daskperiment dashboard" width="100%" '
            f'height="{int(self.height)}" style="border: 1px solid rgba(128,128,128,.3)"></iframe>'
        )


class Server:
    """A running dashboard.

    Attributes
    ----------
    url : str
        Its address, with the token if there is one.
    port : int
        Where it listens: the port that was asked for, or a free one if that was taken.
    """

    def __init__(
        self, source: Source, *, experiment: str | None, host: str, port: int, token: str | None
    ) -> None:
        guard = Guard(host, token)
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.url = _url(host, self.port, experiment, token)
        self._stopped = threading.Event()
        self._api = DashboardAPI(source)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="dashboard-reader")
        cookie = f"daskperiment_token_{self.port}"
        self._context = HandlerContext(
            self._api, guard, self._executor, cookie, Connections(self._socket), Guesses()
        )
        ready = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(ready),), name="dashboard-server", daemon=True
        )
        self._thread.start()
        ready.wait()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else self.url
        return f"Server({state})"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def frame(self, height: int = 700) -> Frame:
        """Return the dashboard as a notebook shows it."""
        return Frame(self.url, height)

    def wait(self) -> None:
        """Wait until the server is stopped; Ctrl-C stops it."""
        try:
            # In pieces, because a wait without end cannot be interrupted everywhere.
            while not self._stopped.wait(1.0):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop answering, and let go of the port and of the store. Again, it does nothing."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        # First, or questions that wait for a long history would be waited for, too.
        self._api.stop_reading()
        self._loop.call_soon_threadsafe(self._ask_to_end.set)
        self._thread.join()
        self._executor.shutdown(cancel_futures=True)
        self._api.close()

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return not self._stopped.is_set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._ask_to_end = asyncio.Event()
        server = HTTPServer(
            application(self._context), idle_connection_timeout=HEADER_SECONDS, body_timeout=10.0
        )
        self._context.connections.serve(server)
        ready.set()
        await self._ask_to_end.wait()
        self._context.connections.close()
        await server.close_all_connections()
        await _answers_end()


async def _answers_end(patience: float = 5.0) -> None:
    """Wait for questions that are still being answered, though not for ever."""
    end = time.monotonic() + patience
    current = asyncio.current_task()
    while (rest := asyncio.all_tasks() - {current}) and time.monotonic() < end:
        await asyncio.wait(rest, timeout=0.1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno not in _TAKEN or not port:
            raise
        bound = socket.create_server((host, 0), family=family)
    bound.setblocking(False)
    return bound


def _url(host: str, port: int, experiment: str | None, token: str | None) -> str:
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    query = {"token": token, "experiment": experiment}
    given = urlencode({name: value for name, value in query.items() if value})
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?{given}" if given else "")
