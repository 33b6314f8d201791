"""A web page that shows the experiments of a store. It needs the extra ``dashboard``.

A store comes in; pages, and answers in JSON to what they ask, go out over HTTP. It only reads, and
nothing is unpickled. All that it needs is served from this machine. `Experiment` and the command
line call it.
"""

from __future__ import annotations

import sys
import webbrowser
from typing import TYPE_CHECKING, Any

from daskperiment.formatting import install_command
from daskperiment.store.opening import resolve

try:
    from daskperiment.dashboard.server import Frame, Server
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("bokeh", "pygments", "tornado"):
        raise
    raise ImportError(
        f"The dashboard needs the package {error.name!r}, which is not installed. "
        f"Install what the extra needs: {install_command('dashboard')}",
        name=error.name,
    ) from error

from daskperiment.dashboard.api import Source
from daskperiment.dashboard.guard import MadeToken, is_loopback

if TYPE_CHECKING:
    from daskperiment.store.protocol import Store

__all__ = ["Frame", "Server", "in_notebook", "launch", "serve", "start"]


def start(
    backend: Any = None,
    *,
    experiment: str | None = None,
    port: int = 5000,
    host: str = "127.0.0.1",
    token: str | None = None,
) -> Server:
    """Start a dashboard in the background.

    Parameters
    ----------
    backend : str, pathlib.Path, redis.Redis, pymongo Database or Store, optional
        As for an experiment. A store in a folder stands for all the experiments of that folder,
        any other store for its own one.
    experiment : str, optional
        The experiment to open first.
    port : int
        Where to listen. If it is taken, a free one is used.
    host : str
        Address to listen on. Any but this machine's own needs a token.
    token : str, optional
        What a browser must know: a part of the address at first, then a cookie.

    Returns
    -------
    Server
        With ``url``, ``port`` and ``stop()``.

    Raises
    ------
    ValueError
        If other machines could ask without a token, or the backend names no store.

    Examples
    --------
    >>> import tempfile
    >>> from daskperiment import dashboard
    >>> server = dashboard.start(tempfile.mkdtemp(), port=0)
    >>> server.url == f"http://127.0.0.1:{server.port}/"
    True
    >>> server.stop()
    """
    source = Source(backend, experiment)
    return Server(source, experiment=experiment, host=host, port=port, token=token)


def serve(
    backend: Any = None,
    *,
    experiment: str | None = None,
    port: int = 5000,
    host: str = "127.0.0.1",
    token: str | None = None,
    open_browser: bool = False,
) -> None:
    """Run a dashboard until Ctrl-C.

    Parameters
    ----------
    backend, experiment, port, host
        As in `start`.
    token : str, optional
        As in `start`. Where other machines could ask, one is made if none is given, and is shown
        in the address this once.
    open_browser : bool
        Whether to open the page in the default browser.
    """
    resolve(backend)
    if token is None and not is_loopback(host):
        token = MadeToken.new()
    server = start(backend, experiment=experiment, port=port, host=host, token=token)
    if server.port != port and port:
        print(f"Port {port} is taken; using {server.port}.")
    print(f"The dashboard is at {server.url}  (Ctrl-C stops it)", flush=True)
    if open_browser:
        webbrowser.open(server.url)
    server.wait()


def launch(
    store: Store, experiment: str, *, port: int = 5000, blocking: bool | None = None
) -> Server | None:
    """Show one experiment, as ``Experiment.start_dashboard`` does.

    Returns the running dashboard, or None once it was waited for: without `blocking`, a script
    waits for Ctrl-C and a notebook does not.
    """
    if in_notebook() if blocking is None else not blocking:
        return start(store, experiment=experiment, port=port)
    serve(store, experiment=experiment, port=port)
    return None


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
